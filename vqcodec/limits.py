"""How large a picture may be before it costs memory or time: the guard against decompression bombs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ANY_SIZE", "DEFAULT_LIMITS", "MOST_HEADER", "Limits"]


@dataclass(frozen=True)
class Limits:
    """What a reader agrees to before it allocates anything; more raises `LimitExceeded`."""

    pixels: int = 2**27  # width * height; 384 MiB once decoded to RGB, and some minutes of work
    side: int = 2**20  # width or height; networks pad a thin picture, so a side costs more than its pixels
    units: int = 2**18  # rows * cols; the table of units takes some 100 bytes of memory for each


DEFAULT_LIMITS = Limits()
ANY_SIZE = Limits(pixels=2**64, side=2**32)  # for a look at the header, which costs the same whatever it declares
MOST_HEADER = 1 << 21  # bytes: more than the header of any file within the limits
