"""Limits on the size of pictures, checked before decoding: protection against decompression bombs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ANY_SIZE", "DEFAULT_LIMITS", "MOST_HEADER", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Upper bounds that are checked before memory is allocated. Larger pictures raise `LimitExceeded`."""

    pixels: int = 2**27  # width * height; 384 MiB when decoded to RGB, and minutes of decoding
    side: int = 2**20  # width or height; networks pad thin pictures, so a long side costs more than its pixels
    units: int = 2**18  # rows * cols; the table of units takes about 100 bytes of memory per unit


DEFAULT_LIMITS = Limits()
ANY_SIZE = Limits(pixels=2**64, side=2**32)  # for reading only the header: its cost does not depend on the size
MOST_HEADER = 1 << 21  # bytes: larger than any header within the limits
