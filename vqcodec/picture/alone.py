"""`read_picture` for processes that read one picture at a time: what libraries print or log becomes notices.

libtiff, libjpeg and others write warnings to file descriptor 2 by themselves, without the name of the file. Here the
descriptor leads to a temporary file while a picture is read. It belongs to the whole process, so this is for the
commands and their workers; `read_picture`, which the Python functions use from any thread, leaves it alone. What Python
writes to `sys.stderr` in the meantime, such as a progress bar in another thread, still goes to the terminal.
"""

from __future__ import annotations

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
from vqcodec.picture.failures import logged, one_line
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
    """At the end of the block, `said` has the first lines that libraries wrote to descriptor 2 or Pillow logged."""
    lines: list[str] = []
    try:
        with ExitStack() as stack:
            with suppress(OSError):  # descriptor 2 is closed, or there is no place for a temporary file
                file = stack.enter_context(tempfile.TemporaryFile())
                stack.callback(_read_lines, file, lines)
                _redirect(stack, file)
            messages = stack.enter_context(logged("PIL"))
            stack.callback(lambda: lines.extend(messages))
            yield
    finally:
        found = list(dict.fromkeys(lines))
        said += found[:_MOST_LINES]
        if len(found) > _MOST_LINES:
            said.append(f"and {len(found) - _MOST_LINES} more lines")


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


def _read_lines(file: IO[bytes], lines: list[str]) -> None:
    file.seek(0)
    text = file.read(_MOST).decode("utf-8", "replace")
    lines += [one_line(line.strip()).rstrip(".") for line in text.splitlines() if line.strip()]
