"""Failures and warnings of Pillow -> one line that names the file. No warning of Pillow gets out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from PIL import Image, UnidentifiedImageError

from vqcodec.errors import BadPicture

__all__ = ["explained", "no_warnings", "one_line", "reason"]

_FILTERS = RLock()


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn every failure inside into a `BadPicture` of one line and keep Pillow's warnings in."""
    try:
        with no_warnings():
            yield
    except Exception as error:  # Pillow's readers raise nearly anything when fed with damaged bytes
        raise BadPicture(one_line(f"{name}: {reason(error)}")) from error


@contextmanager
def no_warnings() -> Iterator[None]:
    """One thread at a time: the filters are those of the process, and two threads would put back each other's."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"too large ({error}); if you trust it, raise the limit with --max-pixels"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture, or in a format that is not known"
    if isinstance(error, MemoryError):
        return "not enough memory for this picture"
    if isinstance(error, OSError):
        return error.strerror or str(error) or "reading or writing failed"
    return f"damaged or not supported ({str(error) or type(error).__name__})"


def one_line(text: str) -> str:
    """The text with control characters and broken code points escaped, which could upset a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
