"""The outermost boxes of an ISO base media file (ISO/IEC 14496-12, section 4.2), such as a HEIC or a JPEG XL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["boxes"]

_MOST_BOXES = 10000


def boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(type, length of the content) of each box; the stream then is at the content."""
    end = stream.seek(0, 2)
    place = 0
    for _ in range(_MOST_BOXES):
        if place + 8 > end:
            return
        stream.seek(place)
        head = stream.read(8)
        size, start = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, start = int.from_bytes(stream.read(8), "big"), 16
        elif size == 0:
            size = end - place
        if size < start:
            return
        yield head[4:], size - start
        place += size
