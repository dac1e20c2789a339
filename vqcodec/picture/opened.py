"""A stream -> an open Pillow image that may be converted, whatever kind of file it is.

In: a seekable stream. Out: `Opened`. The first bytes say what the file is. By its kind, a plugin is registered with
Pillow, chunks that Pillow would stumble over are left out, or another library reads it. Files that hold no picture
that can be read are refused with their kind.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from vqcodec.picture import jxl, png_chunks, tiff
from vqcodec.picture.failures import Refused, about
from vqcodec.picture.kinds import START, Kind, kind_of
from vqcodec.picture.plugins import prepare

__all__ = ["Opened", "opened"]

_HDR_CURVES = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273


@dataclass
class Opened:
    """An image that is not loaded yet, and notices."""

    image: Image.Image
    notices: list[str] = field(default_factory=list)
    metadata_notices: list[str] = field(default_factory=list)  # matter only where metadata is kept


@contextmanager
def opened(stream: BinaryIO, max_pixels: int) -> Iterator[Opened]:
    """Open the picture of a stream; the image is closed after the block. Errors in the block name the kind of file.

    Raises `Refused` for what cannot be read, `DecompressionBombError` above `max_pixels`, and what Pillow raises for
    files of no kind that is known.
    """
    start = stream.read(START)
    stream.seek(0)
    if not start:
        raise Refused("the file is empty")
    kind = kind_of(start)
    if kind is not None and kind.refusal is not None:
        raise Refused(f"{kind.name}: {kind.refusal}")
    if kind is not None:
        prepare(kind)
    with about(kind):
        found = _open(stream, kind, max_pixels)
        with found.image:
            yield found


def _open(stream: BinaryIO, kind: Kind | None, max_pixels: int) -> Opened:
    """Open the image by its kind, and check its size."""
    name = None if kind is None else kind.format
    if name == "PNG":
        found = _open_png(stream, kind)
    elif name == "TIFF":
        found = _open_tiff(stream, kind, max_pixels)
    elif name == "JXL":
        found = _open_jxl(stream, kind, max_pixels)
    else:
        found = Opened(_identified(stream, kind))
    _check_size(found.image.size, max_pixels)
    if found.image.format == "EPS":
        # Pillow would start Ghostscript, which executes the file as a program.
        raise Refused("EPS is a drawing; please convert it to PNG first")
    if found.image.format == "VQ":  # `import vqcodec` registers this format with Pillow
        raise Refused("this is a .vq file; decompress it first")
    if found.image.format == "HEIF":
        found.notices += _depth_of_heic(found.image)
    return found


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise Image.DecompressionBombError(f"{size[0]}x{size[1]}, over the limit of {max_pixels} pixels")


def _identified(stream: BinaryIO, kind: Kind | None) -> Image.Image:
    """Open an image with Pillow; where it does not identify a file whose kind is known, with the reason of its plugin.

    Raises what Pillow raises.
    """
    try:
        return Image.open(stream)
    except UnidentifiedImageError:
        if kind is None or kind.format not in Image.OPEN:
            raise
        stream.seek(0)
        Image.OPEN[kind.format][0](io.BytesIO(stream.read()), "")  # raises what `Image.open` has hidden
        raise


def _open_png(stream: BinaryIO, kind: Kind | None) -> Opened:
    read = png_chunks.readable(stream)
    image = _identified(read.stream, kind)
    if read.profile is not None:
        image.info["icc_profile"] = read.profile
    return Opened(image, list(read.notices), list(read.text_notices))


def _open_tiff(stream: BinaryIO, kind: Kind | None, max_pixels: int) -> Opened:
    tags = tiff.tags_of(stream)
    if tags is not None and tags.raw is not None:
        raise Refused(
            f"{tags.raw}: please develop it to JPEG or TIFF first; what programs show of it is a small preview"
        )
    try:
        return Opened(_identified(stream, kind))
    except (UnidentifiedImageError, SyntaxError, NotImplementedError):
        if tags is None:
            raise
    stream.seek(0)
    return Opened(*tiff.open_tiff(stream, tags, max_pixels))


def _open_jxl(stream: BinaryIO, kind: Kind | None, max_pixels: int) -> Opened:
    size = jxl.size_of(stream)
    if size is None:
        raise ValueError("it has no codestream")
    _check_size(size, max_pixels)  # the plugin decodes the picture when it opens it
    xmp, packed = jxl.xmp_of(stream)
    found = Opened(_identified(stream, kind))
    if not getattr(found.image, "jpeg", False):  # the samples are upright already, whatever the EXIF data says
        with suppress(Exception):  # EXIF may be damaged; then there is no orientation either
            found.image.getexif().pop(ExifTags.Base.Orientation, None)
    if xmp and "xmp" not in found.image.info:
        found.image.info["xmp"] = xmp
    if packed:
        found.metadata_notices.append("metadata compressed with Brotli was dropped")
    return found


def _depth_of_heic(image: Image.Image) -> list[str]:
    """Notices about samples of more than 8 bits, which the plugin reduces, and about HDR curves."""
    notices = []
    depth = image.info.get("bit_depth", 8)
    if isinstance(depth, int) and depth > 8:
        notices.append(f"{depth} bits per channel were reduced to 8")
    curve = _HDR_CURVES.get((image.info.get("nclx_profile") or {}).get("transfer_characteristics", 0))
    if curve and not image.info.get("icc_profile"):
        notices.append(f"an HDR picture ({curve}): its brightness was not converted, so it may look dull")
    return notices
