"""The first bytes of a file -> what kind of file it is.

In: at least `START` bytes. Out: a `Kind`, or None for bytes that are not known. Suffixes play no part, since they are
often wrong. Nothing is imported here: a folder run asks about every file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["START", "Kind", "kind_of"]

START = 512  # bytes that `kind_of` looks at


@dataclass(frozen=True)
class Kind:
    """A kind of file: what it is called, and how it is read or why it is not."""

    name: str  # with its article, for messages: "a PNG"
    format: str | None = None  # Pillow's name
    plugin: str | None = None  # what Pillow needs to read it: a key of `plugins.PLUGINS`, or "avif"
    refusal: str | None = None  # why such a file is never read, and what to do


_DRAWING = "please convert it to PNG first"
_RAW = "it holds the raw samples of a sensor; please develop it to JPEG or TIFF first"
_NO_PICTURE = "it is not a picture"
_CONVERT = "Pillow does not read this format; please convert it to PNG first"
_FILM = "films are not read; please take a frame out of it first"

_HEIC = Kind("a HEIC", "HEIF", "heif")
_JXL = Kind("a JPEG XL", "JXL", "jxl")
_AVIF = Kind("an AVIF", "AVIF", "avif")
_FILM_FILE = Kind("a film", refusal=_FILM)
# By the brand of an ISO base media file (ISO/IEC 14496-12): bytes 8 to 12, or one of the compatible brands behind.
_BRANDS = {
    b"avif": _AVIF, b"avis": _AVIF, b"heic": _HEIC, b"heix": _HEIC, b"heim": _HEIC, b"heis": _HEIC, b"hevc": _HEIC,
    b"hevx": _HEIC, b"hevm": _HEIC, b"hevs": _HEIC, b"crx ": Kind("a raw file of Canon (CR3)", refusal=_RAW),
    b"jp2 ": Kind("a JPEG 2000", "JPEG2000"), b"jpx ": Kind("a JPEG 2000", "JPEG2000"), b"jxl ": _JXL,
}  # fmt: skip
_ANY_BRAND = (b"mif1", b"msf1", b"mif2")  # a still picture or a sequence of any codec
_RIFF = {
    b"WEBP": Kind("a WebP", "WEBP"), b"AVI ": _FILM_FILE, b"WAVE": Kind("a sound (WAVE)", refusal=_NO_PICTURE),
    b"CDR": Kind("a CorelDRAW file", refusal=_DRAWING),
}  # fmt: skip
_MAGIC = (  # the longest first where one begins like another
    (b"\x89PNG\r\n\x1a\n", Kind("a PNG", "PNG")),
    (b"\x8aMNG\r\n\x1a\n", Kind("an MNG animation", refusal=_CONVERT)),
    (b"\xff\xd8\xff", Kind("a JPEG", "JPEG")),
    (b"\xff\xd8", Kind("a JPEG", "JPEG")),
    (b"II*\0\x10\0\0\0CR", Kind("a raw file of Canon (CR2)", refusal=_RAW)),
    (b"II*\0", Kind("a TIFF", "TIFF")),
    (b"MM\0*", Kind("a TIFF", "TIFF")),
    (b"II+\0", Kind("a TIFF", "TIFF")),
    (b"MM\0+", Kind("a TIFF", "TIFF")),
    (b"IIU\0", Kind("a raw file of Panasonic (RW2)", refusal=_RAW)),
    (b"IIRO", Kind("a raw file of Olympus (ORF)", refusal=_RAW)),
    (b"IIRS", Kind("a raw file of Olympus (ORF)", refusal=_RAW)),
    (b"MMOR", Kind("a raw file of Olympus (ORF)", refusal=_RAW)),
    (b"FUJIFILMCCD-RAW", Kind("a raw file of Fujifilm (RAF)", refusal=_RAW)),
    (b"FOVb", Kind("a raw file of Sigma (X3F)", refusal=_RAW)),
    (b"\0MRM", Kind("a raw file of Minolta (MRW)", refusal=_RAW)),
    (b"II\xbc", Kind("a JPEG XR", refusal=_CONVERT)),
    (b"GIF87a", Kind("a GIF", "GIF")),
    (b"GIF89a", Kind("a GIF", "GIF")),
    (b"BM", Kind("a BMP", "BMP")),
    (b"8BPS\0\1", Kind("a PSD", "PSD")),
    (b"8BPS\0\2", Kind("a PSB (a large PSD)", refusal=_CONVERT)),
    (b"\xff\x4f\xff\x51", Kind("a JPEG 2000", "JPEG2000")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Kind("a JPEG 2000", "JPEG2000")),
    (b"\0\0\0\x0cJXL \r\n\x87\n", _JXL),
    (b"\xff\x0a", _JXL),
    (b"qoif", Kind("a QOI", "QOI")),
    (b"DDS ", Kind("a DDS", "DDS")),
    (b"\0\0\1\0", Kind("an ICO", "ICO")),
    (b"icns", Kind("an ICNS", "ICNS")),
    (b"SIMPLE  =", Kind("a FITS", "FITS")),
    (b"gimp xcf", Kind("a drawing of GIMP (XCF)", refusal=_DRAWING)),
    (b"\x76\x2f\x31\x01", Kind("an OpenEXR", refusal=_CONVERT)),
    (b"#?RADIANCE", Kind("a Radiance HDR", refusal=_CONVERT)),
    (b"#?RGBE", Kind("a Radiance HDR", refusal=_CONVERT)),
    (b"BPG\xfb", Kind("a BPG", refusal=_CONVERT)),
    (b"FLIF", Kind("a FLIF", refusal=_CONVERT)),
    (b"AT&TFORM", Kind("a DjVu", refusal=_CONVERT)),
    (b"%!PS", Kind("an EPS", refusal="EPS is a drawing; please convert it to PNG first")),
    (b"\xc5\xd0\xd3\xc6", Kind("an EPS", refusal="EPS is a drawing; please convert it to PNG first")),
    (b"%PDF-", Kind("a PDF", refusal=_DRAWING)),
    (b"\0\0\1\xba", _FILM_FILE),
    (b"\0\0\1\xb3", _FILM_FILE),
    (b"\x1a\x45\xdf\xa3", _FILM_FILE),
    (b"OggS", Kind("a film or a sound (Ogg)", refusal=_FILM)),
    (b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file", refusal=_NO_PICTURE)),
    (b"GRIB", Kind("a GRIB file", refusal=_NO_PICTURE)),
    (b"BUFR", Kind("a BUFR file", refusal=_NO_PICTURE)),
    (b"PK\3\4", Kind("a ZIP archive, or a file made of one", refusal=_NO_PICTURE)),
    (b"\x1f\x8b", Kind("a gzip file", refusal="please unpack it first")),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", refusal=_NO_PICTURE)),
    (b"Rar!\x1a\7", Kind("a RAR archive", refusal=_NO_PICTURE)),
)
_SVG = re.compile(rb"\s*((<\?xml[^>]*>|<!--((?!-->).)*-->|<!DOCTYPE\s+svg[^>]*>)\s*)*<svg[:\s>]", re.DOTALL)
_HTML = re.compile(rb"\s*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE)


def kind_of(start: bytes) -> Kind | None:
    """The kind of a file that begins with these bytes; None if no kind is known that begins like this."""
    if start[4:8] == b"ftyp":
        return _by_brand(start)
    if start[:4] == b"RIFF":
        return _RIFF.get(start[8:12]) or _RIFF.get(start[8:11])
    for magic, kind in _MAGIC:
        if start.startswith(magic) and (magic != b"BM" or start[6:10] == bytes(4)):  # text may begin with BM
            return kind
    text = start[:START].removeprefix(b"\xef\xbb\xbf")
    if _SVG.match(text):
        return Kind("an SVG", refusal=_DRAWING)
    return Kind("a web page (HTML)", refusal=_NO_PICTURE) if _HTML.match(text) else None


def _by_brand(start: bytes) -> Kind:
    """The kind of an ISO base media file by its brands. A file of no brand that is known is taken for a film."""
    if start[8:12] in _BRANDS:
        return _BRANDS[start[8:12]]
    end = min(int.from_bytes(start[:4], "big"), START)
    compatible = [start[place : place + 4] for place in range(16, end - 3, 4)]
    known = [_BRANDS[brand] for brand in compatible if brand in _BRANDS]
    if start[8:12] in _ANY_BRAND or any(brand in _ANY_BRAND for brand in compatible):
        return known[0] if known else _HEIC
    return _FILM_FILE
