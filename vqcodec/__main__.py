"""Runs the command line as `python -m vqcodec`, or under torchrun: `torchrun -m -- vqcodec train ...`."""

from vqcodec.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
