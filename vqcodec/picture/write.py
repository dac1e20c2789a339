"""`Picture` -> a PIL image, or the bytes of a picture file.

`fitted` drops metadata that a format cannot hold and adds a notice. Other losses are errors. Nothing is dropped
silently.
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

_ALPHA_FORMATS = frozenset(["AVIF", "DDS", "IM", "JPEG2000", "PNG", "QOI", "SGI", "TGA", "TIFF", "WEBP"])
# Pillow has writers for these formats, but they shrink the picture, drop or damage colours, or always fail. VQ is
# registered by vqcodec itself.
_UNSUITABLE_FORMATS = frozenset(
    ["BLP", "BUFR", "GIF", "GRIB", "HDF5", "ICNS", "ICO", "MPO", "MSP", "PALM", "SPIDER", "VQ", "WMF", "XBM"]
)
_STORED_AS_COLOUR = frozenset({("QOI", "L"), ("QOI", "LA"), ("SGI", "LA")})
# A decoded picture must not lose much more quality when it is written, as it would with Pillow's defaults.
_SAVE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},  # alpha is exact at 100 only
    "JPEG": {"quality": 95, "subsampling": 0},
    "PDF": {"quality": 95},
    "PNG": {"compress_level": 4},  # half the time of the default level 6, for files that are 2 to 5 % larger
    "WEBP": {"lossless": True, "exact": True},
}


def to_image(picture: Picture) -> Image.Image:
    """Convert to a PIL image of mode L, RGB, LA or RGBA, with the valid metadata in `info`.

    Grey is the rounded mean of the three channels, because the decoder leaves them slightly unequal.
    """
    image = _samples_only(picture)
    image.info.update(image_info(_with_valid_metadata(picture).metadata))
    return image


def _samples_only(picture: Picture) -> Image.Image:
    samples = picture.pixels
    if picture.mode == "L":
        samples = grey_of(samples)
    if picture.alpha is not None:
        samples = np.dstack([samples, picture.alpha])
    return Image.fromarray(samples)


def fitted(picture: Picture, format: str) -> Picture:  # noqa: A002 (Pillow's own name for it)
    """Keep only metadata that is valid and that a Pillow format can hold; notices report what was dropped.

    If the format cannot hold the colour profile, the colours are converted to sRGB.
    """
    picture = _with_valid_metadata(picture)
    reasons = unfit(picture.metadata, format)
    notices = [f"the {NAMES[kind]} was left out: {reason}" for kind, reason in reasons.items() if kind != "icc"]
    if "icc" in reasons:
        colour, noted = to_srgb(_samples_only(replace(picture, alpha=None)), picture.metadata.icc)
        notices += [f"the colour profile was left out ({reasons['icc']}): {notice}" for notice in noted]
        picture = replace(picture, pixels=np.array(colour.convert("RGB")))
    metadata = replace(picture.metadata, **dict.fromkeys(reasons, b""))
    return replace(picture, metadata=metadata, notices=(*picture.notices, *notices))


def sound_metadata(metadata: Metadata, width: int, height: int, mode: str) -> tuple[Metadata, list[str]]:
    """Sanitise metadata from an untrusted file for a picture of mode RGB or L; notices report what was dropped.

    The location is kept. A colour profile that does not fit the mode is dropped.
    """
    metadata, notices = cleaned(metadata, width, height, location=True)
    if metadata.icc and not profile_fits(metadata.icc, mode):
        metadata = replace(metadata, icc=b"")
        notices.append("the colour profile cannot be used and was dropped")
    return metadata, notices


def _with_valid_metadata(picture: Picture) -> Picture:
    metadata, notices = sound_metadata(picture.metadata, picture.width, picture.height, picture.mode)
    return replace(picture, metadata=metadata, notices=(*picture.notices, *notices))


def image_file(picture: Picture, format: str) -> bytes:  # noqa: A002
    """Encode a picture as a file of a Pillow format such as "PNG", with as little loss as the format allows.

    Raises `UsageError` if the format cannot hold the picture (see `fitted`), `OutputError` if writing fails.
    """
    _check_writable(format)
    if picture.alpha is not None and format not in _ALPHA_FORMATS:
        raise UsageError(f"{format} cannot hold the transparency of this picture; choose PNG, for example")
    if kinds := ", ".join(NAMES[kind] for kind in unfit(picture.metadata, format)):
        raise UsageError(f"{format} cannot hold this picture's metadata ({kinds}); choose PNG, for example")
    image = _samples_only(picture)
    if (format, image.mode) in _STORED_AS_COLOUR:
        image = image.convert("RGB" if image.mode == "L" else "RGBA")
    try:
        with no_warnings():
            return save(image, picture.metadata, format, _SAVE_OPTIONS.get(format, {}))
    except Exception as error:  # Pillow's writers also raise almost any exception type
        raise OutputError(f"cannot write the picture as {format}: {one_line(reason(error))}") from error


def format_for(path: Path) -> str:
    """The Pillow format of a file name's suffix. Raises `UsageError` if it is unknown or cannot be written."""
    suffix = path.suffix.lower()
    name = one_line(str(path))
    if suffix == ".vq":
        raise UsageError(f"{name}: .vq is not a picture format; choose one, such as .png")
    Image.preinit()  # the common formats; all of them take a tenth of a second
    if suffix not in Image.EXTENSION:
        Image.init()
    format_name = Image.EXTENSION.get(suffix)
    if format_name is None:
        raise UsageError(f"{name}: the suffix is not a known picture format; choose .png, for example")
    _check_writable(format_name)
    return format_name


def _check_writable(format_name: str) -> None:
    if format_name not in Image.SAVE:
        Image.init()
    if format_name not in Image.SAVE or format_name in _UNSUITABLE_FORMATS:
        raise UsageError(f"{one_line(format_name)} cannot hold every picture; choose PNG, for example")
