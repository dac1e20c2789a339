"""TIFFs that Pillow does not read: floats in several channels, 10, 12 and 14 bits, 16-bit palettes, rare compressions.

In: a stream. Out: an image of mode L, LA, RGB or RGBA and notices, read with tifffile and imagecodecs where these are
installed (`pip install 'vqcodec[formats]'`); otherwise an error that says what the TIFF holds. Raw photos are TIFFs
too, but the picture that readers find in them is a small preview, so they are refused.
"""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from vqcodec.picture.depth import Deep, eight_bits
from vqcodec.picture.failures import Refused, logged
from vqcodec.picture.plugins import EXTRA

__all__ = ["Tags", "describe", "open_tiff", "tags_of"]

Samples = NDArray[np.uint8]

_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}
_COLOURS = {3: "a palette", 4: "a mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab"}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = range(4)
_SENSOR = {32803, 34892}  # photometric interpretations of raw photos: colour filter array, linear raw
_ASSOCIATED = 1  # alpha by which the colours are multiplied already
_ALPHAS = (_ASSOCIATED, 2)
_READS = "which Pillow does not read"


class _NotHandled(Exception):
    """Samples that tifffile reads, but that are no picture of a kind that is handled here."""


class Tags(NamedTuple):
    """The first directory of a TIFF, as far as it says what the samples are."""

    bits: tuple[int, ...]
    sample_format: int
    channels: int
    photometric: int
    compression: int
    raw: str | None  # "a DNG" or the like if the picture is the raw samples of a sensor


def tags_of(stream: BinaryIO) -> Tags | None:
    """What the first directory says, or None if it is damaged. The stream is at its beginning before and after."""
    try:
        head = stream.read(8)
        if head[2:3] == b"+" or head[3:4] == b"+":
            head += stream.read(8)
        directory = TiffImagePlugin.ImageFileDirectory_v2(head)
        stream.seek(directory.next)
        directory.load(stream)
        get = directory.get
        if not (get(256) and get(257)):
            return None
        bits, kinds = _numbers(get(258, (1,))), _numbers(get(339, (1,)))
        photometric = int(get(262, 1))
        channels = int(get(277, 1))
        return Tags(bits, kinds[0], channels, photometric, int(get(259, 1)), _raw_name(directory, photometric))
    except Exception:  # Pillow's reader raises almost any exception type on damaged bytes
        return None
    finally:
        stream.seek(0)


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),)


def _raw_name(directory: Any, photometric: int) -> str | None:
    if 50706 in directory:  # DNGVersion
        return "a DNG"
    if photometric in _SENSOR:
        return "a raw photo"
    is_preview = bool(int(directory.get(254, 0)) & 1)
    return "a raw photo, or a TIFF that begins with a preview" if is_preview and 330 in directory else None  # SubIFDs


def describe(tags: Tags) -> str:
    """What the samples are, such as "a TIFF of 32-bit floats in 3 channels"."""
    bits = "/".join(map(str, sorted(set(tags.bits))))
    kind = _FORMATS.get(tags.sample_format, f"samples of format {tags.sample_format}")
    colours = _COLOURS.get(tags.photometric)
    text = f"a TIFF of {bits}-bit {kind} in {tags.channels} channel{'s' * (tags.channels != 1)}"
    if colours is not None:
        text += f" ({colours})"
    return text + (f" with compression {tags.compression}" if tags.compression not in (1, 5, 8, 32773, 32946) else "")


def open_tiff(stream: BinaryIO, tags: Tags, max_pixels: int) -> tuple[Image.Image, list[str]]:
    """Read the first page with tifffile: an 8-bit image, with profile, XMP and EXIF in its `info`, and notices.

    Raises `Refused` that says what the TIFF is, if tifffile is not installed or cannot read it either.
    """
    try:
        import tifffile
    except ImportError as error:
        raise Refused(f"{describe(tags)}, {_READS}; run: {EXTRA}, or convert it first") from error
    try:
        with logged("tifffile") as warnings, tifffile.TiffFile(stream) as file:
            page = file.pages[0]
            size = f"{page.imagewidth}x{page.imagelength}"
            if page.imagewidth * page.imagelength * max(1, page.imagedepth) > max_pixels:
                raise Image.DecompressionBombError(f"{size}, over the limit of {max_pixels} pixels")
            if page.imagedepth > 1 or page.samplesperpixel > 16 or page.bitspersample > 64:
                raise _NotHandled
            samples = page.asarray()
            samples = samples if page.axes != "SYX" else np.moveaxis(samples, 0, 2)
            samples = np.atleast_3d(samples)
            image, notices = _to_image(samples, tags, page)
            image.info.update(_metadata(stream, page))
            if _has_second_page(file):
                notices.append("several frames or pages: only the first one is kept")
            return image, notices + [f"tifffile warns: {warning}" for warning in dict.fromkeys(warnings)]
    except (Image.DecompressionBombError, MemoryError):
        raise
    except _NotHandled as error:
        raise Refused(f"{describe(tags)}, which is not read; convert it first") from error
    except Exception as error:  # tifffile and its codecs raise almost any type on what they do not know
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refused(f"{describe(tags)}, damaged or not supported ({detail}); convert it first") from error


def _to_image(samples: NDArray[Any], tags: Tags, page: Any) -> tuple[Image.Image, list[str]]:
    """Samples [H, W, C] as an 8-bit image. Raises `_NotHandled` for colours that are not handled."""
    if tags.photometric == _PALETTE and samples.shape[2] == 1:
        colours = np.asarray(page.colormap)  # [3, 2 ** bits], 16 bits
        samples, bits = np.moveaxis(colours[:, samples[:, :, 0]], 0, 2), 16
    elif tags.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        bits = page.bitspersample
    else:
        raise _NotHandled
    count = 3 if tags.photometric in (_RGB, _PALETTE) else 1
    if samples.shape[2] < count:
        raise _NotHandled
    colour, notices = _to_eight_bits(samples[:, :, :count], bits)
    if tags.photometric == _WHITE_IS_ZERO:
        colour = 255 - colour
    extra = tuple(int(kind) for kind in page.extrasamples)
    alpha = None
    if samples.shape[2] > count and extra and extra[0] in _ALPHAS:
        alpha = _alpha(samples[:, :, count], bits)
        if extra[0] == _ASSOCIATED:
            whole = np.maximum(alpha, 1)[:, :, None].astype(np.uint16)
            colour = np.minimum(255, (colour.astype(np.uint16) * 255 + whole // 2) // whole).astype(np.uint8)
    left = samples.shape[2] - count - (alpha is not None)
    if left:
        notices.append(f"{left} further channel{'s were' if left > 1 else ' was'} left out")
    planes = colour if alpha is None else np.dstack([colour, alpha])
    return Image.fromarray(np.ascontiguousarray(planes.squeeze(2) if planes.shape[2] == 1 else planes)), notices


def _to_eight_bits(samples: NDArray[Any], bits: int) -> tuple[Samples, list[str]]:
    """Reduce samples [H, W, C] to 8 bits: unsigned ones of up to 16 bits by their full range, others as in `depth`."""
    if samples.dtype.kind == "u" and bits <= 16:
        notices = [f"{bits} bits per channel were reduced to 8"] if bits > 8 else []
        return _scaled(samples, bits), notices
    if samples.dtype.kind not in "uif":
        raise _NotHandled
    return eight_bits(Deep(samples.astype(np.float64) if samples.dtype.itemsize > 4 else samples))


def _alpha(samples: NDArray[Any], bits: int) -> Samples:
    if samples.dtype.kind != "u" or bits > 16:
        top = 1.0 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max
        samples = samples / np.float64(top)
        return np.floor(np.clip(np.nan_to_num(samples), 0, 1) * 255 + 0.5).astype(np.uint8)
    return _scaled(samples, bits)


def _scaled(samples: NDArray[Any], bits: int) -> Samples:
    """Scale 0 to 2 ** bits - 1 to 0 to 255; halves are rounded up."""
    top = 2**bits - 1
    scaled: Samples = np.minimum((samples.astype(np.uint32) * 510 + top) // (2 * top), 255).astype(np.uint8)
    return scaled


def _metadata(stream: BinaryIO, page: Any) -> dict[str, bytes]:
    """Profile, XMP and EXIF as entries of `Image.info`."""
    found = {}
    for name, code in (("icc_profile", 34675), ("xmp", 700)):
        tag = page.tags.get(code)
        if tag is not None and isinstance(tag.value, bytes):
            found[name] = tag.value
    stream.seek(0)
    data = stream.read()
    if data[2:4] in (b"*\0", b"\0*"):  # the file has the structure of EXIF data; a BigTIFF has not
        found["exif"] = b"Exif\0\0" + data
    elif (turned := page.tags.get(274)) is not None:
        exif = Image.Exif()
        exif[274] = int(turned.value)
        found["exif"] = exif.tobytes()
    return found


def _has_second_page(file: Any) -> bool:
    try:
        return file.pages[1] is not None
    except IndexError:
        return False
