"""Films, gain maps and depth maps that phones store beside a picture in the same file; vqcodec keeps the picture only.

In: an image that is not loaded yet, of a JPEG, or of a HEIC. Out: notices about what is left out.

- A motion photo: a film (an ISO base media file, `ftyp`) behind the end of the JPEG, or a box `mpvd` of a HEIC.
- A gain map, which makes an HDR picture of the plain one: a second JPEG behind the first, promised by XMP (`hdrgm`) or
  by an ISO 21496-1 segment, or an auxiliary picture of a HEIC.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from PIL import Image

from vqcodec.picture.boxes import boxes

__all__ = ["noted"]

_FILM = "the film of a motion photo was left out"
_GAIN_MAP = "a gain map (for HDR screens) was left out"
_DEPTH = "a depth map was left out"
_MOST = 1 << 28  # bytes of a file that are searched
_MOST_SEGMENTS = 1 << 18  # bytes at the beginning of a JPEG in which XMP is searched

# The segments of a JPEG are walked by their lengths; in coded samples, FF is followed by 00, by a restart marker
# (D0 to D7) or by another FF. The next marker ends them.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOI, _EOI = 0xD8, 0xD9
_ALONE = {0x01, _SOI, *range(0xD0, 0xD8)}  # markers without a length
_GAIN_MAP_NAMES = re.compile(rb"hdrgm:Version|urn:iso:std:iso:ts:21496:-1|HDRGainMap|:hdrgainmap")


def noted(image: Image.Image) -> list[str]:
    """Notices about what the file of `image` holds beside the picture. The image must not be loaded yet."""
    if image.format in ("JPEG", "MPO"):
        return _beside_jpeg(_bytes_of(image))
    if image.format == "HEIF":
        return _beside_heic(image)
    return []


def _bytes_of(image: Image.Image) -> bytes:
    """The bytes of the image's file, b"" if they are not accessible; its position does not change."""
    file: BinaryIO | None = getattr(image, "fp", None)
    if file is None or (image.format == "MPO" and image.tell() != 0):
        return b""
    try:
        place = file.tell()
        file.seek(0)
        data = file.read(_MOST)
        file.seek(place)
    except (OSError, ValueError):  # closed, or not seekable
        return b""
    return data


def _beside_jpeg(data: bytes) -> list[str]:
    end = end_of_jpeg(data)
    rest = data[end:]
    notices = [_FILM] if _has_film(rest) else []
    # Apple's picture does not promise the gain map; the XMP of the gain map itself says what it is.
    is_second = b"\xff\xd8\xff" in rest and _GAIN_MAP_NAMES.search(rest)
    if is_second or _GAIN_MAP_NAMES.search(data, 0, min(end, _MOST_SEGMENTS)):
        notices.append(_GAIN_MAP)
    return notices


def end_of_jpeg(data: bytes) -> int:
    """The number of bytes of the first picture in a JPEG file; all of them if its end is not found."""
    place = 0
    while True:
        found = _NEXT_MARKER.search(data, place)
        if found is None:
            return len(data)
        marker, place = data[found.start() + 1], found.end()
        if marker == _EOI:
            return place
        if marker not in _ALONE:
            place += int.from_bytes(data[place : place + 2], "big")


def _has_film(rest: bytes) -> bool:
    """Whether an ISO base media file, which begins with its length and "ftyp", is within these bytes."""
    place = rest.find(b"ftyp")
    while place >= 0:
        if place >= 4 and 8 <= int.from_bytes(rest[place - 4 : place], "big") <= 256:
            return True
        place = rest.find(b"ftyp", place + 1)
    return False


def _beside_heic(image: Image.Image) -> list[str]:
    notices = []
    kinds = " ".join(map(str, image.info.get("aux", ())))
    if "hdrgainmap" in kinds.lower():
        notices.append(_GAIN_MAP)
    if image.info.get("depth_images"):
        notices.append(_DEPTH)
    file: BinaryIO | None = getattr(image, "fp", None)
    if file is not None:
        place = file.tell()
        if any(kind == b"mpvd" for kind, _ in boxes(file)):
            notices.append(_FILM)
        file.seek(place)
    return notices
