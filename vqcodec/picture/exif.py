"""EXIF -> EXIF that still holds for the picture it will lie in. Bytes in, bytes out; only the standard library.

EXIF is a TIFF file without a picture: directories of entries (tag, type, values), which point to each other by
offsets. It is read entry by entry and written anew, so that nothing gets along that was not looked at: entries of the
Exif standard (3.0) are copied, byte for byte, and everything else is left out:

- the location (the GPS directory), unless it is asked for;
- the thumbnail: it shows the picture as it was before it was cropped or retouched;
- what describes the samples of the old file: strips, compression, primaries, the subject's place in pixels;
- entries of makers and programs (MakerNote, DNG, GeoTIFF): they hold offsets and locations that nobody can find.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["PREFIX", "into_tiff", "rewrite", "without_orientation"]

PREFIX = b"Exif\0\0"  # what a JPEG writes before the TIFF file

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}  # bytes by type
_NUMBERS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}  # bytes of what has an order of bytes
_SHORT, _LONG = 3, 4
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0xA002, 0xA003
_GPS = 0x8825
_DIRECTORIES = {(0, 0x8769): 0x8769, (0, _GPS): _GPS, (0x8769, 0xA005): 0xA005}  # (where, tag of the pointer)
# By directory (0: the first), ranges of tags that are kept.
_KEPT = {
    0: (
        (0x010E, 0x0110), (0x0112, 0x0112), (0x011A, 0x011B), (0x0128, 0x0128), (0x0131, 0x0132), (0x013B, 0x013C),
        (0x4746, 0x4746), (0x4749, 0x4749), (0x8298, 0x8298), (0x9C9B, 0x9C9F),
    ),
    0x8769: (
        (0x829A, 0x829A), (0x829D, 0x829D), (0x8822, 0x8822), (0x8824, 0x8824), (0x8827, 0x8828), (0x8830, 0x8835),
        (0x9000, 0x9000), (0x9003, 0x9004), (0x9010, 0x9012), (0x9101, 0x9102), (0x9201, 0x920A), (0x9286, 0x9286),
        (0x9290, 0x9292), (0x9400, 0x9405), (0xA000, 0xA004), (0xA20B, 0xA213), (0xA215, 0xA217), (0xA300, 0xA302),
        (0xA401, 0xA40C), (0xA420, 0xA420), (0xA430, 0xA43C), (0xA460, 0xA462), (0xA500, 0xA500),
    ),
    _GPS: ((0x0000, 0x001F),),
    0xA005: ((0x0001, 0x0002),),
}  # fmt: skip
# Left out without a word: SubjectArea and SubjectLocation (pixels of the old file), a colour profile, padding.
_DESCRIBES_THE_FILE = frozenset({0x8773, 0x9214, 0xA214, 0xEA1C})
_FIRST_PRIVATE = 0x8000  # the tags below it are TIFF's own
_TOO_LONG = "it is too long"

Entry = tuple[int, bytes]  # type and values
Directory = dict[int, "Entry | Directory"]


def rewrite(data: bytes, width: int, height: int, *, location: bool, limit: int) -> tuple[bytes, frozenset[str]]:
    """EXIF for an upright picture of width x height, b"" where nothing is left, and what was lost on the way.

    That is some of "location", "private" (entries of makers and programs) and "damaged" (entries that cannot be
    read). Raises `ValueError` for data that is no EXIF at all, or of which more than `limit` bytes would be kept.
    """
    while data.startswith(PREFIX):
        data = data[len(PREFIX) :]
    reader = _Reader(data, location, limit)
    first = reader.directory(reader.start, 0)
    if not first:
        return b"", frozenset(reader.lost)
    if _ORIENTATION in first:
        first[_ORIENTATION] = _SHORT, struct.pack(reader.order + "H", 1)
    inner = first.get(0x8769)
    if isinstance(inner, dict):
        for tag, number in ((_WIDTH, width), (_HEIGHT, height)):
            if tag in inner:
                inner[tag] = _LONG, struct.pack(reader.order + "I", number)
    rewritten = _whole(first, data)
    if len(rewritten) > limit:
        raise ValueError(_TOO_LONG)
    return rewritten, frozenset(reader.lost)


def without_orientation(data: bytes) -> bytes:
    """Rewritten EXIF without its entry for the orientation, which says nothing in an upright picture."""
    reader = _Reader(data, True, len(data))
    first = reader.directory(reader.start, 0)
    first.pop(_ORIENTATION, None)
    return _whole(first, data) if first else b""


def into_tiff(file: bytes, data: bytes) -> bytes:
    """A TIFF file with the entries of EXIF data: a new first directory lies at its end, the rest stays where it is."""
    reader, source = _Reader(file, True, len(file)), _Reader(data, True, len(data))
    own: Directory = {tag: (kind, file[start:end]) for tag, kind, start, end in reader.entries(reader.start)}
    added = source.directory(source.start, 0)
    if source.order != reader.order:
        added = _swapped(added)
    at = len(file) + len(file) % 2
    head = file[:4] + struct.pack(reader.order + "I", at) + file[8:]
    return head.ljust(at, b"\0") + _written(added | own, at, reader.order)


class _Reader:
    """The directories of EXIF data; what is kept of them, and what was lost. Raises `ValueError` for other data."""

    def __init__(self, data: bytes, location: bool, limit: int) -> None:
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
        if order is None or len(data) < 8:
            raise ValueError("it is no EXIF data")
        self.data, self.order, self.location, self.room = data, order, location, limit
        self.start: int = struct.unpack_from(order + "I", data, 4)[0]  # of the first directory
        self.lost: set[str] = set()

    def directory(self, at: int, where: int) -> Directory:
        found: Directory = {}
        seen: set[int] = set()
        for tag, kind, start, end in self.entries(at):
            if tag in seen:
                continue  # else a hostile file could have one directory read thousands of times
            seen.add(tag)
            if tag == _GPS and not self.location:
                self.lost.add("location")
            elif (where, tag) in _DIRECTORIES:
                if kind == _LONG and end - start == 4:
                    (place,) = struct.unpack_from(self.order + "I", self.data, start)
                    below = self.directory(place, _DIRECTORIES[where, tag])
                    if below:
                        found[tag] = below
                else:
                    self.lost.add("damaged")
            elif any(low <= tag <= high for low, high in _KEPT[where]):
                self.room -= end - start
                if self.room < 0:  # entries may share their values: a little data can become very much
                    raise ValueError(_TOO_LONG)
                found[tag] = kind, self.data[start:end]
            elif tag >= _FIRST_PRIVATE and tag not in _DESCRIBES_THE_FILE:
                self.lost.add("private")
        return found

    def entries(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """The entries of a directory: tag, type, and where the values begin and end."""
        if at + 2 > len(self.data):
            self.lost.add("damaged")
            return
        (count,) = struct.unpack_from(self.order + "H", self.data, at)
        for start in range(at + 2, at + 2 + 12 * count, 12):
            if start + 12 > len(self.data):
                self.lost.add("damaged")
                return
            tag, kind, number = struct.unpack_from(self.order + "HHI", self.data, start)
            size = number * _SIZES.get(kind, 0)
            place = start + 8 if size <= 4 else struct.unpack_from(self.order + "I", self.data, start + 8)[0]
            if size == 0 or place + size > len(self.data):
                self.lost.add("damaged")
            else:
                yield tag, kind, place, place + size


def _whole(first: Directory, data: bytes) -> bytes:
    """EXIF data with a first directory, in the order of bytes of other data."""
    order = "<" if data.startswith(b"II") else ">"
    return data[:4] + struct.pack(order + "I", 8) + _written(first, 8, order)


def _swapped(directory: Directory) -> Directory:
    """A directory in the other order of bytes."""
    other: Directory = {}
    for tag, entry in directory.items():
        if isinstance(entry, dict):
            other[tag] = _swapped(entry)
        else:
            kind, values = entry
            size = _NUMBERS.get(kind, 1)
            other[tag] = kind, b"".join(values[at : at + size][::-1] for at in range(0, len(values), size))
    return other


def _written(directory: Directory, at: int, order: str) -> bytes:
    """A directory that will lie at the offset `at`, followed by its values and by the directories below it."""
    table = struct.pack(order + "H", len(directory))
    start, body = at + len(table) + 12 * len(directory) + 4, b""
    for tag in sorted(directory):
        entry = directory[tag]
        if isinstance(entry, dict):
            kind, count, values = _LONG, 1, _written(entry, start + len(body), order)
        else:
            kind, values = entry
            count = len(values) // _SIZES[kind]
        table += struct.pack(order + "HHI", tag, kind, count)
        if isinstance(entry, dict) or len(values) > 4:
            table += struct.pack(order + "I", start + len(body))
            body += values + bytes(len(values) % 2)  # offsets are even
        else:
            table += values.ljust(4, b"\0")
    return table + bytes(4) + body  # no directory comes after it: that would be the thumbnail's
