"""What must be known about a JPEG XL before it is decoded: its size, and metadata that the plugin does not report.

In: a stream. Out: numbers and bytes. The plugin decodes the whole picture when it opens a file, so the limit on pixels
has to be checked before. Layout: ISO/IEC 18181-1, "SizeHeader", and 18181-2 for the boxes around the codestream.
"""

from __future__ import annotations

from typing import BinaryIO

from vqcodec.picture.boxes import boxes

__all__ = ["size_of", "xmp_of"]

_CODESTREAM = b"\xff\x0a"
_HEAD = 16  # bytes of a codestream that hold its size
_MOST_XMP = 1 << 21
_EXTRA_BITS = (9, 13, 18, 30)  # of a side, by a selector of two bits
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height, for ratio 1 to 7


def size_of(stream: BinaryIO) -> tuple[int, int] | None:
    """(width, height) as stored, before any rotation; None if there is no codestream. The stream is rewound."""
    try:
        head = stream.read(_HEAD)
        if not head.startswith(_CODESTREAM):
            head = b""
            for kind, length in boxes(stream):
                if kind in (b"jxlc", b"jxlp") and len(head) < _HEAD:
                    stream.read(4 if kind == b"jxlp" else 0)  # the number of the part
                    head += stream.read(min(_HEAD, max(0, length - (4 if kind == b"jxlp" else 0))))
        return _parsed(head) if head.startswith(_CODESTREAM) and len(head) > 2 else None
    finally:
        stream.seek(0)


def xmp_of(stream: BinaryIO) -> tuple[bytes, bool]:
    """The XMP of the file, b"" if there is none, and whether there is metadata compressed with Brotli, unread."""
    found, packed = b"", False
    for kind, length in boxes(stream):
        if kind == b"xml ":
            found = stream.read(min(length, _MOST_XMP))
        elif kind == b"brob":
            packed = packed or stream.read(4) in (b"xml ", b"Exif")
    stream.seek(0)
    return found, packed


def _parsed(head: bytes) -> tuple[int, int]:
    """The size from the first bytes of a codestream; the bits of a byte are read from the lowest."""
    bits = int.from_bytes(head[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)  # sides in units of 8

    def side() -> int:
        return 8 * (1 + take(5)) if small else 1 + take(_EXTRA_BITS[take(2)])

    height = side()
    ratio = take(3)
    if ratio == 0:
        return side(), height
    over, under = _RATIOS[ratio - 1]
    return height * over // under, height
