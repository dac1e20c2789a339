"""`Picture` -> a PIL image, or the bytes of a picture file.

What a format cannot hold is left out with a notice (`fitted`), or an error; nothing is left out silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vqcodec.errors import OutputError, UsageError
from vqcodec.picture.colours import profile_fits, to_srgb
from vqcodec.picture.failures import no_warnings, one_line, reason
from vqcodec.picture.metadata import NAMES, Metadata, cleaned, image_info, save, unfit
from vqcodec.picture.picture import Picture, grey_of

__all__ = ["fitted", "format_for", "image_file", "sound_metadata", "to_image"]

_KEEPS_ALPHA = frozenset(["AVIF", "DDS", "IM", "JPEG2000", "PNG", "QOI", "SGI", "TGA", "TIFF", "WEBP"])
# Pillow has writers of these names, but they shrink the picture, drop colours, damage them or always fail. VQ is ours.
_CANNOT_HOLD = frozenset(
    ["BLP", "BUFR", "GIF", "GRIB", "HDF5", "ICNS", "ICO", "MPO", "MSP", "PALM", "SPIDER", "VQ", "WMF", "XBM"]
)
_NEEDS_COLOUR = frozenset({("QOI", "L"), ("QOI", "LA"), ("SGI", "LA")})
# The picture has lost enough already: writing it out must not lose much more, as Pillow's defaults would.
_SAVE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},  # alpha is exact at 100 only
    "JPEG": {"quality": 95, "subsampling": 0},
    "PDF": {"quality": 95},
    "WEBP": {"lossless": True, "exact": True},
}


def to_image(picture: Picture) -> Image.Image:
    """Give a picture back as a PIL image of mode L, RGB, LA or RGBA, with its metadata in `info` where that is sound.

    A grey picture is the rounded mean of its three channels, since decoders leave them slightly unequal.
    """
    image = _samples_only(picture)
    image.info.update(image_info(_sound(picture).metadata))
    return image


def _samples_only(picture: Picture) -> Image.Image:
    samples = picture.pixels
    if picture.mode == "L":
        samples = grey_of(samples)
    if picture.alpha is not None:
        samples = np.dstack([samples, picture.alpha])
    return Image.fromarray(samples)


def fitted(picture: Picture, format: str) -> Picture:  # noqa: A002 (Pillow's own name for it)
    """The picture with the metadata that is sound and that a Pillow format can hold; notices say what was lost.

    Where it cannot hold the colour profile the colours become sRGB.
    """
    picture = _sound(picture)
    reasons = unfit(picture.metadata, format)
    notices = [f"the {NAMES[kind]} was left out: {reason}" for kind, reason in reasons.items() if kind != "icc"]
    if "icc" in reasons:
        colour, noted = to_srgb(_samples_only(replace(picture, alpha=None)), picture.metadata.icc)
        notices += [f"the colour profile was left out ({reasons['icc']}): {notice}" for notice in noted]
        picture = replace(picture, pixels=np.array(colour.convert("RGB")))
    metadata = replace(picture.metadata, **dict.fromkeys(reasons, b""))
    return replace(picture, metadata=metadata, notices=(*picture.notices, *notices))


def sound_metadata(metadata: Metadata, width: int, height: int, mode: str) -> tuple[Metadata, list[str]]:
    """Metadata of a picture of mode RGB or L without what is damaged, as from a hostile file, and notices."""
    metadata, notices = cleaned(metadata, width, height, location=True)
    if metadata.icc and not profile_fits(metadata.icc, mode):
        metadata = replace(metadata, icc=b"")
        notices.append("the colour profile cannot be used and was dropped")
    return metadata, notices


def _sound(picture: Picture) -> Picture:
    metadata, notices = sound_metadata(picture.metadata, picture.width, picture.height, picture.mode)
    return replace(picture, metadata=metadata, notices=(*picture.notices, *notices))


def image_file(picture: Picture, format: str) -> bytes:  # noqa: A002
    """Encode a picture as a file of a Pillow format, such as "PNG", losing as little as the format allows.

    Raises `UsageError` if the format cannot hold the picture (see `fitted`), `OutputError` if writing fails.
    """
    _check_writable(format)
    if picture.alpha is not None and format not in _KEEPS_ALPHA:
        raise UsageError(f"{format} cannot hold the transparency of this picture; choose PNG, for example")
    if kinds := ", ".join(NAMES[kind] for kind in unfit(picture.metadata, format)):
        raise UsageError(f"{format} cannot hold this picture's metadata ({kinds}); choose PNG, for example")
    image = _samples_only(picture)
    if (format, image.mode) in _NEEDS_COLOUR:
        image = image.convert("RGB" if image.mode == "L" else "RGBA")
    try:
        with no_warnings():
            return save(image, picture.metadata, format, _SAVE_OPTIONS.get(format, {}))
    except Exception as error:  # writers, too, raise nearly anything
        raise OutputError(f"cannot write the picture as {format}: {one_line(reason(error))}") from error


def format_for(path: Path) -> str:
    """The Pillow format a file name's suffix stands for. Raises `UsageError` if it is not one to write."""
    suffix = path.suffix.lower()
    name = one_line(str(path))
    if suffix == ".vq":
        raise UsageError(f"{name}: .vq is not a picture format; choose one, such as .png")
    format_name = Image.registered_extensions().get(suffix)
    if format_name is None:
        raise UsageError(f"{name}: the suffix does not tell a picture format; choose .png, for example")
    _check_writable(format_name)
    return format_name


def _check_writable(format_name: str) -> None:
    Image.init()
    if format_name not in Image.SAVE or format_name in _CANNOT_HOLD:
        raise UsageError(f"{one_line(format_name)} cannot hold every picture; choose PNG, for example")
