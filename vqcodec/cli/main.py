"""The application: its commands, error handling and exit codes.

Results go to standard output; notes, errors and progress go to standard error. Every `VqError` becomes one line and an
exit code: 1 for bad data, 2 for a usage error. The module of a command is imported when it is run, and imports slow
modules (numpy, Pillow, torch) even later, so that --help is fast.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from vqcodec.cli.commands import Commands
from vqcodec.cli.completion import COMPLETE, prepare_completion
from vqcodec.cli.terminal import fill_closed_streams, print_error, unwind_when_ended
from vqcodec.errors import NO_MEMORY, VqError

__all__ = ["app", "main"]

app = typer.Typer(
    cls=Commands,
    help="Neural image compression. Try `vqcodec demo`. `vqcodec COMMAND --help` describes a command.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain-text help: importing rich takes time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line. Errors are one line on standard error; see the module docstring for exit codes."""
    # The matrix products of coding are too small for several threads, which on a busy machine mostly wait.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy reads it when it is imported, later
    unwind_when_ended()
    fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names may contain characters that the terminal cannot encode
            stream.reconfigure(errors="backslashreplace")
    if COMPLETE in os.environ:
        prepare_completion()
    try:
        try:
            app(prog_name="vqcodec")
        finally:
            sys.stdout.flush()
    except VqError as error:
        print_error(str(error))
        sys.exit(error.exit_code)
    except MemoryError:
        print_error(NO_MEMORY)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # a reader that closed the pipe early is no error
            print_error(f"{error.filename or 'standard output'}: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout again at exit
        sys.exit(1)


def _version(requested: bool) -> None:
    if requested:
        from vqcodec import __version__
        from vqcodec.coding.native import missing
        from vqcodec.coding.payloads import implementation
        from vqcodec.model.store import bundled, open_model
        from vqcodec.nn import native as networks

        print(f"vqcodec {__version__}")
        for name in bundled():
            print(f"{name} {open_model(name).digest.hex()}")
        print(f"range coder: {implementation()}")
        print(f"networks: {networks.implementation()}")
        reasons = {reason for reason in (missing(), networks.missing()) if reason}
        for reason in sorted(reasons):
            print(f"no native code: {reason}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the version, the digests of the models, and the code in use: native or numpy.",
        ),
    ] = False,
) -> None:
    pass
