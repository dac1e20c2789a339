"""Chunks of a PNG that Pillow must not see, because it would refuse the whole picture for them.

In: a stream. Out: the same stream, or one in memory without those chunks, and the colour profile if it was among them.
Pillow inflates every compressed text and refuses a file in which one is longer than 1 MiB, although vqcodec keeps only
XMP and EXIF. The limits against bombs stay: nothing here is inflated beyond `_MOST_TEXT` or `_MOST_PROFILE`.
Layout of a chunk: length (4 bytes), type (4), data, CRC-32 of type and data (4).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["Readable", "readable", "walk"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_TEXT = 1 << 20  # bytes of a text once inflated, as in Pillow
_MOST_TEXTS = 1 << 24  # bytes of all texts that are kept, once inflated; Pillow refuses files with more than 2**26
_MOST_PROFILE = 1 << 24  # bytes of a colour profile once inflated; real ones have up to some 4 MB
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_USED = (b"XML:com.adobe.xmp", b"Raw profile type exif")  # keywords of the texts that are read: XMP and EXIF
_CANNOT = "the colour profile cannot be used and was ignored"


@dataclass
class Readable:
    """A stream for Pillow, at its beginning. `profile`: a colour profile to use instead of the file's."""

    stream: BinaryIO
    profile: bytes | None = None
    notices: tuple[str, ...] = ()
    text_notices: tuple[str, ...] = ()  # matter only where metadata is kept


def readable(stream: BinaryIO) -> Readable:
    """The PNG without the chunks for which Pillow would refuse it. `stream` is at its beginning, and so is the result.

    A damaged file is returned as it is, for Pillow to refuse.
    """
    result = Readable(stream)
    dropped: list[tuple[int, int]] = []  # first byte of each dropped chunk, and the first behind it
    budget = _MOST_TEXTS
    profiles = 0
    for kind, start, length in walk(stream):
        if kind == b"iCCP":
            profiles += 1
            drop = profiles > 1 or _take_profile(stream.read(length), result)
        elif kind in _TEXTS:
            size, used = _text_size(kind, stream.read(min(length, _MOST_TEXT + 1000)), length)
            budget -= size or 0
            drop = size is None or budget < 0
            if drop and used:
                result.text_notices = ("a part of the XMP or EXIF was dropped: it is too long or damaged",)
        else:
            continue
        if drop:
            dropped.append((start, start + length + 12))
    stream.seek(0)
    if dropped:
        result.stream = _without(stream, dropped)
        stream.seek(0)
    return result


def walk(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(type, position, length of the data) of each chunk; the stream then is at the data. Ends where the file does."""
    stream.seek(0)
    if stream.read(len(SIGNATURE)) != SIGNATURE:
        return
    place = len(SIGNATURE)
    while True:
        stream.seek(place)
        head = stream.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or not kind.isalpha():
            return
        yield kind, place, length
        if kind == b"IEND":
            return
        place += length + 12


def _take_profile(data: bytes, result: Readable) -> bool:
    """Whether Pillow must not see this colour profile; if so, it is put into `result`, or a notice about it."""
    _, separator, rest = data.partition(b"\0")
    try:
        if not separator or rest[:1] != b"\0":
            raise zlib.error("unknown compression")
        profile = _inflated(rest[1:], _MOST_PROFILE)
    except zlib.error:
        profile = None
    if profile is None:
        result.notices = (_CANNOT,)
    elif len(profile) > _MOST_TEXT:
        result.profile = profile
    return profile is None or len(profile) > _MOST_TEXT


def _text_size(kind: bytes, data: bytes, length: int) -> tuple[int | None, bool]:
    """(length once inflated, whether it is XMP or EXIF) of a text; the length is None if the text must be dropped.

    A compressed text of which nothing is kept is dropped without inflating it.
    """
    keyword, _, rest = data.partition(b"\0")
    used = keyword in _USED
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return (length if used or length <= _MOST_TEXT else None), used
    if not used or len(data) < length:
        return None, used
    if kind == b"iTXt":  # flag, method, language, 0, translated keyword, 0, text
        method, packed = rest[1:2], rest[2:].split(b"\0", 2)[-1]
    else:
        method, packed = rest[:1], rest[1:]
    try:
        text = _inflated(packed, _MOST_TEXT) if method == b"\0" else None
    except zlib.error:
        return None, used
    return (None if text is None else len(text)), used


def _inflated(data: bytes, most: int) -> bytes | None:
    """Inflate at most `most` bytes; None if there are more. Raises `zlib.error`."""
    inflater = zlib.decompressobj()
    found = inflater.decompress(data, most + 1)
    return found if len(found) <= most else None


def _without(stream: BinaryIO, dropped: list[tuple[int, int]]) -> BinaryIO:
    """A copy of the stream in memory without these ranges of bytes."""
    kept = io.BytesIO()
    place = 0
    for start, end in [*dropped, (None, None)]:
        stream.seek(place)
        kept.write(stream.read() if start is None else stream.read(start - place))
        place = place if end is None else end
    kept.seek(0)
    return kept
