"""EXIF -> sanitised EXIF that is valid for the upright, re-encoded picture.

In: bytes. Out: bytes. Only the standard library is used.
EXIF is a TIFF file without a picture: directories of entries (tag, type, values) that refer to each other by offset.
The module parses it entry by entry and writes it again from an allow-list, so no unchecked byte is copied. Values of
entries of the Exif standard (3.0) are copied byte for byte. Everything else is dropped:

- the location (the GPS directory), unless the caller asks for it;
- the thumbnail, because it may show the picture before it was cropped or retouched;
- entries that describe the samples of the old file: strips, compression, primaries, the subject's position in pixels;
- proprietary entries of camera makers and programs (MakerNote, DNG, GeoTIFF): they may contain offsets and locations
  in undocumented places.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["PREFIX", "into_tiff", "rewrite", "says_more", "without_orientation"]

PREFIX = b"Exif\0\0"  # precedes the TIFF file in a JPEG segment

# Bytes by type. _NUMBER_SIZES has the types whose values depend on the byte order, with the bytes of one number.
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
_NUMBER_SIZES = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
_SHORT, _LONG = 3, 4
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0xA002, 0xA003
_RESOLUTION = (0x011A, 0x011B, 0x0128)  # in x and y, and its unit
_GPS = 0x8825
# (parent directory, tag of the pointer): directory.
_DIRECTORIES = {(0, 0x8769): 0x8769, (0, _GPS): _GPS, (0x8769, 0xA005): 0xA005}
# By directory (0: the first one): the ranges of tags that are kept.
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
# Dropped without a notice: SubjectArea and SubjectLocation (pixels of the old file), a colour profile, padding.
_DROPPED_SILENTLY = frozenset({0x8773, 0x9214, 0xA214, 0xEA1C})
_FIRST_PRIVATE = 0x8000  # tags below this belong to TIFF itself
_TOO_LONG = "it is too long"

Entry = tuple[int, bytes]  # type, values
Directory = dict[int, "Entry | Directory"]


def rewrite(data: bytes, width: int, height: int, *, location: bool, limit: int) -> tuple[bytes, frozenset[str]]:
    """Rewrite EXIF for an upright picture of width x height pixels.

    Returns the new EXIF (b"" if nothing is left) and what was dropped: a subset of "location", "private" (proprietary
    entries) and "damaged" (unreadable entries). Raises `ValueError` if the data is not EXIF, or if more than `limit`
    bytes would be kept.
    """
    while data.startswith(PREFIX):
        data = data[len(PREFIX) :]
    reader = _Reader(data, location, limit)
    first = reader.directory(reader.start, 0)
    if not first:
        return b"", frozenset(reader.lost)
    if _ORIENTATION in first:
        first[_ORIENTATION] = _SHORT, struct.pack(reader.order + "H", 1)
    exif = first.get(0x8769)
    if isinstance(exif, dict):
        for tag, number in ((_WIDTH, width), (_HEIGHT, height)):
            if tag in exif:
                exif[tag] = _LONG, struct.pack(reader.order + "I", number)
    rewritten = _serialise(first, data)
    if len(rewritten) > limit:
        raise ValueError(_TOO_LONG)
    return rewritten, frozenset(reader.lost)


def says_more(tag: int) -> bool:
    """Whether an entry of the first directory is kept by `rewrite`, or is a directory, and is not about showing it."""
    shown = tag == _ORIENTATION or tag in _RESOLUTION
    return not shown and ((0, tag) in _DIRECTORIES or any(low <= tag <= high for low, high in _KEPT[0]))


def without_orientation(data: bytes) -> bytes:
    """Remove the orientation entry from EXIF that `rewrite` made. It is redundant for an upright picture."""
    reader = _Reader(data, True, len(data))
    first = reader.directory(reader.start, 0)
    first.pop(_ORIENTATION, None)
    return _serialise(first, data) if first else b""


def into_tiff(file: bytes, data: bytes) -> bytes:
    """Add the entries of EXIF data to a TIFF file.

    The merged first directory is appended at the end of the file; all other bytes except the offset of that directory
    stay unchanged. On a conflict the file's own entry wins.
    """
    reader, source = _Reader(file, True, len(file)), _Reader(data, True, len(data))
    own: Directory = {tag: (kind, file[start:end]) for tag, kind, start, end in reader.entries(reader.start)}
    added = source.directory(source.start, 0)
    if source.order != reader.order:
        added = _byte_swapped(added)
    at = len(file) + len(file) % 2
    head = file[:4] + struct.pack(reader.order + "I", at) + file[8:]
    return head.ljust(at, b"\0") + _serialise_directory(added | own, at, reader.order)


class _Reader:
    """Parses EXIF data: the entries to keep, and in `lost` what was dropped. Raises `ValueError` for other data."""

    def __init__(self, data: bytes, location: bool, limit: int) -> None:
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
        if order is None or len(data) < 8:
            raise ValueError("it is not EXIF data")
        self.data, self.order, self.location, self.bytes_left = data, order, location, limit
        self.start: int = struct.unpack_from(order + "I", data, 4)[0]  # of the first directory
        self.lost: set[str] = set()

    def directory(self, at: int, where: int) -> Directory:
        """The entries to keep of the directory at offset `at`; `where` is its key in `_KEPT`.

        Raises `ValueError` if their values exceed the limit.
        """
        found: Directory = {}
        seen: set[int] = set()
        for tag, kind, start, end in self.entries(at):
            if tag in seen:
                continue  # otherwise a hostile file could have one directory parsed thousands of times
            seen.add(tag)
            if tag == _GPS and not self.location:
                self.lost.add("location")
            elif (where, tag) in _DIRECTORIES:
                if kind == _LONG and end - start == 4:
                    (offset,) = struct.unpack_from(self.order + "I", self.data, start)
                    child = self.directory(offset, _DIRECTORIES[where, tag])
                    if child:
                        found[tag] = child
                else:
                    self.lost.add("damaged")
            elif any(low <= tag <= high for low, high in _KEPT[where]):
                self.bytes_left -= end - start
                if self.bytes_left < 0:  # entries may share their values, so a small input could become a huge output
                    raise ValueError(_TOO_LONG)
                found[tag] = kind, self.data[start:end]
            elif tag >= _FIRST_PRIVATE and tag not in _DROPPED_SILENTLY:
                self.lost.add("private")
        return found

    def entries(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """Readable entries of the directory at offset `at`: tag, type, and the start and end offsets of the values."""
        if at + 2 > len(self.data):
            self.lost.add("damaged")
            return
        (count,) = struct.unpack_from(self.order + "H", self.data, at)
        for start in range(at + 2, at + 2 + 12 * count, 12):
            if start + 12 > len(self.data):
                self.lost.add("damaged")
                return
            tag, kind, number = struct.unpack_from(self.order + "HHI", self.data, start)
            size = number * _TYPE_SIZES.get(kind, 0)
            offset = start + 8 if size <= 4 else struct.unpack_from(self.order + "I", self.data, start + 8)[0]
            if size == 0 or offset + size > len(self.data):
                self.lost.add("damaged")
            else:
                yield tag, kind, offset, offset + size


def _serialise(first: Directory, data: bytes) -> bytes:
    """Serialise EXIF from its first directory, in the byte order of `data`."""
    order = "<" if data.startswith(b"II") else ">"
    return data[:4] + struct.pack(order + "I", 8) + _serialise_directory(first, 8, order)


def _byte_swapped(directory: Directory) -> Directory:
    """Swap the byte order of all values of a directory and of its subdirectories."""
    other: Directory = {}
    for tag, entry in directory.items():
        if isinstance(entry, dict):
            other[tag] = _byte_swapped(entry)
        else:
            kind, values = entry
            size = _NUMBER_SIZES.get(kind, 1)
            other[tag] = kind, b"".join(values[at : at + size][::-1] for at in range(0, len(values), size))
    return other


def _serialise_directory(directory: Directory, at: int, order: str) -> bytes:
    """Serialise a directory for the offset `at`: its table, then its values and subdirectories."""
    table = struct.pack(order + "H", len(directory))
    start, body = at + len(table) + 12 * len(directory) + 4, b""
    for tag in sorted(directory):
        entry = directory[tag]
        if isinstance(entry, dict):
            kind, count, values = _LONG, 1, _serialise_directory(entry, start + len(body), order)
        else:
            kind, values = entry
            count = len(values) // _TYPE_SIZES[kind]
        table += struct.pack(order + "HHI", tag, kind, count)
        if isinstance(entry, dict) or len(values) > 4:
            table += struct.pack(order + "I", start + len(body))
            body += values + bytes(len(values) % 2)  # TIFF requires even offsets
        else:
            table += values.ljust(4, b"\0")
    return table + bytes(4) + body  # offset 0: no next directory, which would hold the thumbnail
