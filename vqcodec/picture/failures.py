"""Exceptions, warnings and log messages of Pillow and others -> one-line messages. Warnings are suppressed."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from PIL import Image, UnidentifiedImageError

from vqcodec.errors import BadPicture
from vqcodec.picture.kinds import Kind

__all__ = ["Refused", "about", "explained", "logged", "no_warnings", "one_line", "reason"]

_WARNINGS_LOCK = RLock()
_BYTES = re.compile(r"\bb'(\w+)'")  # the name of a chunk, as Python prints it
# Words of Pillow's plugins about files that are sound, but not supported.
_UNSUPPORTED = re.compile(
    r"unsupported|not support|cannot handle|not implemented|unknown|unrecogni[sz]ed", re.IGNORECASE
)


class Refused(OSError):
    """A file that is not read. The message says what it is and what to do, so nothing is added to it."""


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Convert every exception in the block to a `BadPicture` with a one-line message, and suppress warnings.

    `name` is the file's name, which starts the message.
    """
    try:
        with no_warnings():
            yield
    except Exception as error:  # Pillow's readers raise almost any exception type on damaged bytes
        raise BadPicture(one_line(f"{name}: {reason(error)}")) from error


@contextmanager
def about(kind: Kind | None) -> Iterator[None]:
    """Convert exceptions about the content of a file of this kind to `Refused`: "a damaged PNG: ...".

    Errors of the system, too large pictures and a lack of memory pass as they are, and so does everything if the kind
    is not known.
    """
    try:
        yield
    except (Refused, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # Pillow's readers raise almost any exception type on damaged bytes
        if kind is None or getattr(error, "errno", None) is not None:
            raise
        what = kind.name.split(" ", 1)[1]
        detail = _BYTES.sub(r"\1", str(error)) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its text only names the stream
            raise Refused(f"a damaged {what}") from error
        if isinstance(error, NotImplementedError) or _UNSUPPORTED.search(detail):
            raise Refused(f"{kind.name} that is not supported: {detail}") from error
        raise Refused(f"a damaged {what}: {detail}") from error


@contextmanager
def no_warnings() -> Iterator[None]:
    """Suppress all warnings in the block. Only one thread at a time can be inside.

    Warning filters belong to the process, so two threads would restore each other's filters.
    """
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def logged(name: str) -> Iterator[list[str]]:
    """The warnings and errors that a library logs in the block. Python would print them on standard error."""
    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(one_line(record.getMessage()))

    logger, handler = logging.getLogger(name), Handler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def reason(error: Exception) -> str:
    """A short description of an exception of Pillow, for an error message."""
    if isinstance(error, Image.DecompressionBombError):
        return f"too large ({error}); if you trust it, raise the limit with --max-pixels"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture, or in an unknown format"
    if isinstance(error, MemoryError):
        return "not enough memory for this picture"
    if isinstance(error, OSError):
        return error.strerror or str(error) or "reading or writing failed"
    return f"damaged or not supported ({str(error) or type(error).__name__})"


def one_line(text: str) -> str:
    """Escape control characters and lone surrogates, which could disturb a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
