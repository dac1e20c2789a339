"""Metadata of a picture: reads EXIF, XMP and the colour profile from a Pillow image, and writes them into one.

Metadata is untrusted in both directions. `cleaned` therefore sanitises it when it is read from a picture and again when
it is written: it drops what is malformed and what does not apply to the upright, decoded picture (see exif.py and
xmp.py). IPTC, extended XMP and comments are not kept. Pillow is imported only where it is needed, because the container
can be read without Pillow.
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
    "present",
    "save",
    "taken",
    "unfit",
]

LIMIT = 2**20  # bytes of each kind; Pillow reads no larger colour profile from a PNG
NAMES = {"exif": "EXIF", "xmp": "XMP", "icc": "colour profile"}
KINDS = tuple(NAMES)

_METADATA_FORMATS = frozenset(["AVIF", "JPEG", "PNG", "TIFF", "WEBP"])
_NO_GREY_FORMATS = frozenset(["AVIF", "WEBP"])
_XMP_START = b"http://ns.adobe.com/xap/1.0/\0"  # prefix of an XMP segment of a JPEG
_SEGMENT = 65533  # payload bytes of a JPEG segment; a colour profile may use several
_JPEG_CAPACITY = {"exif": _SEGMENT - len(exif.PREFIX), "xmp": _SEGMENT - len(_XMP_START), "icc": 255 * (_SEGMENT - 14)}
_XMP_TAG = 700  # the tag of XMP in a TIFF
_LOSS_NOTICES = {
    "location": "the location was removed; --keep-location keeps it",
    "private": "proprietary entries (such as maker notes) were dropped because they cannot be rewritten safely",
    "beside": "XMP entries about a film, a gain map or a depth map in the same file were dropped",
    "extended": "the extended part of the XMP was dropped",
    "damaged": "damaged EXIF entries were dropped",
}


@dataclass(frozen=True)
class Keep:
    """What to keep besides the samples. Raises `UsageError` for a location without the other metadata."""

    metadata: bool = False  # EXIF, XMP and the colour profile; if False, the colours are converted to sRGB
    location: bool = False  # the location entries of EXIF and XMP
    hidden_colours: bool = True  # the colours under alpha 0; if False, they continue the visible ones (see hidden.py)

    def __post_init__(self) -> None:
        if self.location and not self.metadata:
            raise UsageError("the location is a part of the metadata; give --keep-metadata too")


KEEP_NOTHING = Keep()


@dataclass(frozen=True)
class Metadata:
    """Metadata of a picture; b"" for each kind that is absent."""

    exif: bytes = b""  # a TIFF file without a picture, as in the eXIf chunk of a PNG
    xmp: bytes = b""  # a packet, UTF-8
    icc: bytes = b""  # the profile of the samples' colour space; without one they are sRGB

    def sizes(self) -> dict[str, int]:
        """Length in bytes of each kind that is present."""
        return {kind: len(getattr(self, kind)) for kind in KINDS if getattr(self, kind)}


assert tuple(field.name for field in fields(Metadata)) == KINDS


def taken(image: Image) -> tuple[Metadata, list[str]]:
    """Read the metadata of an image without sanitising it; a notice reports EXIF that cannot be read.

    Loads the image, except a TIFF.
    """
    notices = []
    # A PNG may store metadata after its samples, so it is loaded first. Loading a TIFF would release its file.
    if not hasattr(image, "tag_v2"):
        image.load()
    try:
        found = image.info.get("exif") if not hasattr(image, "tag_v2") else _tiff_bytes(image)
        if not isinstance(found, bytes):
            entries = image.getexif()
            found = entries.tobytes() if entries else b""
    except Exception:  # Pillow's EXIF reader raises almost any exception type on damaged bytes
        found = b""
        notices.append("the EXIF data is damaged and was ignored")
    icc = image.info.get("icc_profile")
    return Metadata(found, _find_xmp(image), icc if isinstance(icc, bytes) else b""), notices


def present(image: Image) -> tuple[str, ...]:
    """The kinds of metadata of a loaded image, out of "EXIF" and "XMP", as `NAMES` has them.

    EXIF counts if it says more than how the samples are shown (orientation, resolution).
    """
    try:
        says_more = any(exif.says_more(tag) for tag in image.getexif())
    except Exception:  # Pillow's EXIF reader raises almost any exception type on damaged bytes
        says_more = False
    return (NAMES["exif"],) * says_more + (NAMES["xmp"],) * bool(_find_xmp(image))


def _tiff_bytes(image: Image) -> bytes | None:
    """All bytes of a TIFF file that is not loaded yet, or None if they are not accessible.

    A TIFF file has the structure of EXIF data. Pillow's EXIF reader would lose text that is not ASCII.
    """
    file = getattr(image, "fp", None)
    if file is None or image.tell() != 0:
        return None
    place = file.tell()
    file.seek(0)
    data: bytes = file.read()
    file.seek(place)
    return data


def _find_xmp(image: Image) -> bytes:
    """The XMP of an image, b"" if there is none. Versions of Pillow store it in different places."""
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
    """Sanitise metadata for an upright picture of width x height pixels; notices report what was dropped.

    The location is dropped unless `location` is set. The colour profile is passed through unchecked.
    """
    kept: dict[str, bytes] = {}
    lost: set[str] = set()
    notices = []
    for kind, data in (("exif", metadata.exif), ("xmp", metadata.xmp)):
        try:
            if data and kind == "exif":
                data, dropped = exif.rewrite(data, width, height, location=location, limit=LIMIT)
                lost |= dropped
            elif data:
                data, dropped = xmp.rewrite(data, location=location, limit=LIMIT)
                lost |= dropped
        except ValueError as error:
            data = b""
            notices.append(f"the {NAMES[kind]} was dropped: {error}")
        kept[kind] = data
    notices += [_LOSS_NOTICES[kind] for kind in sorted(lost)]
    return Metadata(**kept, icc=metadata.icc), notices


def unfit(metadata: Metadata, format: str) -> dict[str, str]:  # noqa: A002 (Pillow's own name for it)
    """The kinds of metadata that a file of this Pillow format cannot hold, each with the reason."""
    sizes = metadata.sizes()
    if format not in _METADATA_FORMATS:
        return dict.fromkeys(sizes, f"{format} cannot hold it")
    reasons = {}
    if format == "JPEG":
        reasons = {kind: "it is too long for JPEG" for kind, size in sizes.items() if size > _JPEG_CAPACITY[kind]}
    elif format in _NO_GREY_FORMATS and metadata.icc[16:20] == b"GRAY":
        reasons = {"icc": f"{format} stores grey pictures as RGB, which a grey profile does not fit"}
    return reasons


def image_info(metadata: Metadata) -> dict[str, bytes]:
    """Metadata as the entries that Pillow's readers put into `Image.info`."""
    found = {"exif": metadata.exif and exif.PREFIX + metadata.exif, "xmp": metadata.xmp, "icc_profile": metadata.icc}
    return {name: data for name, data in found.items() if data}


def save(image: Image, metadata: Metadata, format: str, options: Mapping[str, Any]) -> bytes:  # noqa: A002
    """Write an image and its metadata as a file of a Pillow format; works with all supported Pillow versions.

    The metadata must fit the format (see `unfit`). Raises whatever Pillow's writer raises.
    """
    buffer = io.BytesIO()
    image.save(buffer, format, **options, **_options(metadata, format))
    if format == "TIFF" and metadata.exif:
        return exif.into_tiff(buffer.getvalue(), metadata.exif)
    return buffer.getvalue()


def _options(metadata: Metadata, format: str) -> dict[str, Any]:  # noqa: A002
    """Options for `Image.save`. They keep Pillow from rewriting EXIF, which would lose text that is not ASCII."""
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
