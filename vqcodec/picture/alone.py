"""`read_picture` for processes that read one picture at a time: what libraries print or log becomes notices.

libtiff, libjpeg and others write warnings to file descriptor 2 by themselves, without the name of the file. Here the
descriptor leads to a temporary file while a picture is read. It belongs to the whole process, so this is for the
commands and their workers; `read_picture`, which the Python functions use from any thread, leaves it alone. What Python
writes to `sys.stderr` in the meantime, such as a progress bar in another thread, still goes to the terminal.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, BinaryIO

from vqcodec.errors import BadPicture
from vqcodec.limits import DEFAULT_LIMITS
from vqcodec.picture.failures import one_line
from vqcodec.picture.metadata import KEEP_NOTHING, Keep
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture

__all__ = ["read_alone"]

_STDERR = 2
_MOST = 1 << 14  # bytes that are looked at
_MOST_LINES = 3


def read_alone(
    source: str | Path | BinaryIO, keep: Keep = KEEP_NOTHING, max_pixels: int = DEFAULT_LIMITS.pixels
) -> Picture:
    """As `read_picture`; what libraries print becomes notices, or a part of the error. Not for several threads."""
    said: list[str] = []
    try:
        with _caught(said):
            picture = read_picture(source, keep, max_pixels)
    except BadPicture as error:
        if said:
            raise BadPicture(f"{error} ({'; '.join(said)})") from error
        raise
    if said:
        picture = replace(picture, notices=(*picture.notices, f"a library warns: {'; '.join(said)}"))
    return picture


@contextmanager
def _caught(said: list[str]) -> Iterator[None]:
    """Redirect file descriptor 2 in the block; at its end, `said` has the first lines that were written to it."""
    with ExitStack() as stack:
        _redirect_log(stack, said)
        with suppress(OSError):  # descriptor 2 is closed, or there is no place for a temporary file
            file = stack.enter_context(tempfile.TemporaryFile())
            stack.callback(_read_lines, file, said)
            _redirect(stack, file)
        yield


class _Lines(logging.Handler):
    """Collects the first log messages."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        line = one_line(record.getMessage().strip())
        if line not in self.said and len(self.said) < _MOST_LINES:
            self.said.append(line)


def _redirect_log(stack: ExitStack, said: list[str]) -> None:
    """Collect what Pillow logs, which Python would print to standard error."""
    logger, handler = logging.getLogger("PIL"), _Lines(said)
    stack.callback(setattr, logger, "propagate", logger.propagate)
    logger.propagate = False
    logger.addHandler(handler)
    stack.callback(logger.removeHandler, handler)


def _redirect(stack: ExitStack, file: IO[bytes]) -> None:
    saved = os.dup(_STDERR)
    stack.callback(os.close, saved)
    python, ours = sys.stderr, None
    with suppress(OSError, ValueError, AttributeError):  # not a file: a test or a notebook has replaced it
        python.flush()
        if python.fileno() == _STDERR:
            ours = open(  # noqa: SIM115 (closed by the stack)
                saved, "w", buffering=1, encoding=python.encoding, errors=python.errors, closefd=False
            )
    stack.callback(os.dup2, saved, _STDERR)
    if ours is not None:
        stack.callback(setattr, sys, "stderr", python)
        stack.callback(ours.flush)
        sys.stderr = ours
    os.dup2(file.fileno(), _STDERR)


def _read_lines(file: IO[bytes], said: list[str]) -> None:
    file.seek(0)
    lines = file.read(_MOST).decode("utf-8", "replace").splitlines()
    found = list(dict.fromkeys(one_line(line.strip()).rstrip(".") for line in lines if line.strip()))
    said += found[:_MOST_LINES]
    if len(found) > _MOST_LINES:
        said.append(f"and {len(found) - _MOST_LINES} more lines")
