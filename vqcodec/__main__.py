"""`python -m vqcodec` is the command line; so torchrun can start it: `torchrun -m -- vqcodec train ...`."""

from vqcodec.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
