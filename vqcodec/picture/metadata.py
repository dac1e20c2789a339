"""Metadata of a picture: EXIF, XMP and its colour profile, out of a Pillow image and into one.

Metadata is untrusted on both ways, so it is `cleaned` when it is taken from a picture and again when it is given back:
what is not sound, or does not hold for the picture as it now is, is left out (see exif.py and xmp.py). Other kinds
(IPTC, extended XMP, comments) are not kept. Pillow is not imported before it is needed: a file is read without it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from vqcodec.errors import UsageError
from vqcodec.picture import exif, xmp

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "KEEP_NOTHING",
    "KINDS",
    "LIMIT",
    "NAMES",
    "Keep",
    "Metadata",
    "cleaned",
    "image_info",
    "save",
    "taken",
    "unfit",
]

LIMIT = 2**20  # bytes of each kind; Pillow reads no larger colour profile from a PNG
NAMES = {"exif": "EXIF", "xmp": "XMP", "icc": "colour profile"}
KINDS = tuple(NAMES)

_HOLDERS = frozenset(["AVIF", "JPEG", "PNG", "TIFF", "WEBP"])
_COLOUR_ONLY = frozenset(["AVIF", "WEBP"])
_XMP_START = b"http://ns.adobe.com/xap/1.0/\0"  # of a JPEG's segment
_SEGMENT = 65533  # bytes in a segment of a JPEG; a colour profile may fill several
_JPEG_ROOM = {"exif": _SEGMENT - len(exif.PREFIX), "xmp": _SEGMENT - len(_XMP_START), "icc": 255 * (_SEGMENT - 14)}
_XMP_TAG = 700  # in a TIFF
_LOST = {
    "location": "the location was removed; --keep-location keeps it",
    "private": "entries of makers and programs, which cannot be rewritten, were dropped",
    "extended": "the extended part of the XMP was dropped",
    "damaged": "damaged EXIF entries were dropped",
}


@dataclass(frozen=True)
class Keep:
    """What to keep beside the samples. Raises `UsageError`."""

    metadata: bool = False  # EXIF, XMP and the colour profile; without them the colours become sRGB
    location: bool = False  # that EXIF and XMP tell

    def __post_init__(self) -> None:
        if self.location and not self.metadata:
            raise UsageError("a location is kept only together with the other metadata; give --keep-metadata too")


KEEP_NOTHING = Keep()


@dataclass(frozen=True)
class Metadata:
    """What a picture says about itself; b"" where it says nothing."""

    exif: bytes = b""  # a TIFF file without a picture, as in the eXIf chunk of a PNG
    xmp: bytes = b""  # a packet, UTF-8
    icc: bytes = b""  # the profile that the picture's samples are in; without one they are sRGB

    def sizes(self) -> dict[str, int]:
        """Bytes of the kinds that are there."""
        return {kind: len(getattr(self, kind)) for kind in KINDS if getattr(self, kind)}


assert tuple(field.name for field in fields(Metadata)) == KINDS


def taken(image: Image) -> tuple[Metadata, list[str]]:
    """Metadata as it lies in an image, and a notice where it cannot be read. Loads the image."""
    notices = []
    if not hasattr(image, "tag_v2"):  # a PNG may have metadata behind its samples, but a TIFF forgets where its own is
        image.load()
    try:
        found = image.info.get("exif") if not hasattr(image, "tag_v2") else _file_of(image)
        if not isinstance(found, bytes):
            entries = image.getexif()
            found = entries.tobytes() if entries else b""
    except Exception:  # the EXIF reader raises nearly anything on damaged bytes
        found = b""
        notices.append("the EXIF data is damaged and was ignored")
    icc = image.info.get("icc_profile")
    return Metadata(found, _xmp_of(image), icc if isinstance(icc, bytes) else b""), notices


def _file_of(image: Image) -> bytes | None:
    """All bytes of a TIFF that is not loaded yet. It is EXIF data itself; Pillow would lose what is not ASCII."""
    file = getattr(image, "fp", None)
    if file is None or image.tell() != 0:
        return None
    place = file.tell()
    file.seek(0)
    data: bytes = file.read()
    file.seek(place)
    return data


def _xmp_of(image: Image) -> bytes:
    """XMP where any version of Pillow may have put it."""
    places: list[Any] = [image.info.get("xmp"), image.info.get("XML:com.adobe.xmp")]
    places.append(getattr(image, "tag_v2", {}).get(_XMP_TAG))
    places += [data[len(_XMP_START) :] for _, data in getattr(image, "applist", ()) if data.startswith(_XMP_START)]
    for found in places:
        if isinstance(found, str):
            return found.encode("utf-8", "replace")
        if isinstance(found, bytes):
            return found
    return b""


def cleaned(metadata: Metadata, width: int, height: int, *, location: bool) -> tuple[Metadata, list[str]]:
    """Metadata for an upright picture of width x height, without a location unless that is wanted, and notices.

    The colour profile is not looked at here.
    """
    kept: dict[str, bytes] = {}
    lost: set[str] = set()
    notices = []
    for kind, data in (("exif", metadata.exif), ("xmp", metadata.xmp)):
        try:
            if data and kind == "exif":
                data, gone = exif.rewrite(data, width, height, location=location, limit=LIMIT)
                lost |= gone
            elif data:
                data, gone = xmp.rewrite(data, location=location, limit=LIMIT)
                lost |= gone
        except ValueError as error:
            data = b""
            notices.append(f"the {NAMES[kind]} was dropped: {error}")
        kept[kind] = data
    notices += [_LOST[what] for what in sorted(lost)]
    return Metadata(**kept, icc=metadata.icc), notices


def unfit(metadata: Metadata, format: str) -> dict[str, str]:  # noqa: A002 (Pillow's own name for it)
    """The kinds that a file of a Pillow format cannot hold, each with the reason."""
    sizes = metadata.sizes()
    if format not in _HOLDERS:
        return dict.fromkeys(sizes, f"{format} cannot hold it")
    reasons = {}
    if format == "JPEG":
        reasons = {kind: "it is too long for JPEG" for kind, size in sizes.items() if size > _JPEG_ROOM[kind]}
    elif format in _COLOUR_ONLY and metadata.icc[16:20] == b"GRAY":
        reasons = {"icc": f"{format} makes a grey picture one with colours"}
    return reasons


def image_info(metadata: Metadata) -> dict[str, bytes]:
    """Metadata in the form in which Pillow's readers put it into `Image.info`."""
    found = {"exif": metadata.exif and exif.PREFIX + metadata.exif, "xmp": metadata.xmp, "icc_profile": metadata.icc}
    return {name: data for name, data in found.items() if data}


def save(image: Image, metadata: Metadata, format: str, options: Mapping[str, Any]) -> bytes:  # noqa: A002
    """A file of a Pillow format with metadata that fits it (see `unfit`), written by any version of Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options, **_options(metadata, format))
    if format == "TIFF" and metadata.exif:
        return exif.into_tiff(buffer.getvalue(), metadata.exif)
    return buffer.getvalue()


def _options(metadata: Metadata, format: str) -> dict[str, Any]:  # noqa: A002
    """Options of `Image.save`. Pillow must not rewrite EXIF: it would lose what is not ASCII."""
    options: dict[str, Any] = image_info(metadata)
    packet = options.pop("xmp", b"")
    if format == "TIFF":
        options.pop("exif", None)
    elif format == "AVIF" and metadata.exif:
        options["exif"] = exif.without_orientation(metadata.exif)
    if packet and format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", packet.decode())
    elif packet and format == "JPEG":
        body = _XMP_START + packet
        options["extra"] = b"\xff\xe1" + (2 + len(body)).to_bytes(2, "big") + body
    elif packet and format == "TIFF":
        options["tiffinfo"] = {_XMP_TAG: packet}
    elif packet:
        options["xmp"] = packet
    return options
