"""A picture file or a PIL image -> `Picture`.

The `notices` of the result list everything that was not carried over unchanged (16 bits, CMYK, a colour profile,
further frames). A picture that cannot be read raises `BadPicture` with the name of the file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from vqcodec.limits import DEFAULT_LIMITS
from vqcodec.picture.appended import noted as beside
from vqcodec.picture.colours import profile_fits, raw_mode, split_image, to_srgb
from vqcodec.picture.failures import explained
from vqcodec.picture.hidden import bled
from vqcodec.picture.layers import layers_and_frames
from vqcodec.picture.metadata import KEEP_NOTHING, LIMIT, Keep, Metadata, cleaned, present, taken
from vqcodec.picture.opened import opened
from vqcodec.picture.picture import Picture
from vqcodec.picture.png_colour import Declared, cicp_chunk, declared

__all__ = ["from_image", "read_picture"]

Samples = NDArray[np.uint8]

_MAX_STREAM = 1 << 30  # bytes read from a pipe, which may be endless


def read_picture(
    source: str | Path | BinaryIO, keep: Keep = KEEP_NOTHING, max_pixels: int = DEFAULT_LIMITS.pixels
) -> Picture:
    """Read the first frame of a picture file or binary stream, and apply its EXIF orientation.

    A seekable stream is read from its beginning. Raises `BadPicture`, with the file's name and the reason, unless the
    source is a complete picture in a format of Pillow with at most `max_pixels` pixels. Pillow itself refuses some
    pictures above `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    with explained(_name_of(source)), _open_seekable(source) as stream, opened(stream, max_pixels) as found:
        notices = found.notices + (found.metadata_notices if keep.metadata else [])
        return _convert(found.image, keep, notices)


def from_image(image: Image.Image, keep: Keep = KEEP_NOTHING) -> Picture:
    """Convert the current frame of a PIL image of any mode, and apply its EXIF orientation. Raises `BadPicture`."""
    with explained("the image"):
        return _convert(image, keep, [])


def _name_of(source: str | Path | BinaryIO) -> str:
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and name != "<stdin>" else "standard input"


@contextmanager
def _open_seekable(source: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    """A seekable stream, positioned at its beginning. A stream passed by the caller stays open.

    Raises `OSError` for a folder, and for a pipe with more than `_MAX_STREAM` bytes.
    """
    if isinstance(source, (str, os.PathLike)):
        if Path(source).is_dir():
            raise OSError("this is a folder")  # on Windows, opening it would report a missing permission
        with Path(source).open("rb") as file, _open_seekable(file) as stream:
            yield stream
    elif source.seekable():
        source.seek(0)
        yield source
    else:
        data = source.read(_MAX_STREAM + 1)
        if len(data) > _MAX_STREAM:
            raise OSError(f"longer than the limit of {_MAX_STREAM} bytes for a stream")
        yield io.BytesIO(data)


def _convert(image: Image.Image, keep: Keep, noticed: list[str]) -> Picture:
    """Convert an image that is not loaded yet. `noticed`: what was noticed when it was opened."""
    if 0 in image.size:
        raise OSError("the image has no pixels")
    notices = [*noticed, *beside(image), *layers_and_frames(image)]
    raw, cicp = raw_mode(image), cicp_chunk(image)
    metadata, noted = taken(image) if keep.metadata else (Metadata(), [])
    notices += noted
    image.load()
    colour, alpha, noted = split_image(image, raw)
    notices += noted
    space = declared(image, cicp, "L" if colour.mode == "L" else "RGB")
    colour, icc, noted = _in_known_colours(colour, space, keep)
    metadata = replace(metadata, icc=icc)
    notices += noted
    orientation = _orientation(image)
    if orientation == 0:
        notices.append("the EXIF data is damaged and was ignored")
    pixels = _upright(np.array(colour if colour.mode == "RGB" else colour.convert("RGB")), orientation)
    alpha = None if alpha is None else _upright(alpha, orientation)
    height, width, _ = pixels.shape
    metadata, noted = cleaned(metadata, width, height, location=keep.location)
    notices = list(dict.fromkeys([*notices, *noted]))
    unasked = () if keep.metadata else present(image)
    picture = Picture(pixels, "L" if colour.mode == "L" else "RGB", alpha, tuple(notices), metadata, unasked)
    return picture if keep.hidden_colours else bled(picture)


def _in_known_colours(colour: Image.Image, space: Declared, keep: Keep) -> tuple[Image.Image, bytes, list[str]]:
    """Samples in the colours of a profile that is kept, or else in sRGB; the profile (b"" for sRGB); and notices."""
    notices = list(space.notices)
    if space.wide is not None:
        grey = colour.mode == "L"
        colour = Image.fromarray(space.wide.to_srgb(np.asarray(colour.convert("RGB"))))
        notices.append(f"the colours were converted from high dynamic range ({space.source}) to sRGB")
        return (colour.convert("L") if grey else colour), b"", notices
    if keep.metadata and space.profile and len(space.profile) <= LIMIT and profile_fits(space.profile, colour.mode):
        if space.built:
            notices.append(f"the colours of the picture's {space.source} are kept, as a colour profile")
        return colour, space.profile, notices
    colour, noted = to_srgb(colour, space.profile, space.source)
    return colour, b"", notices + noted


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 of a loaded image; 0 if the EXIF data is damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's EXIF reader raises almost any exception type on damaged bytes
        return 0
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(samples: Samples, orientation: int) -> Samples:
    """Apply an EXIF orientation to samples [H, W, ...]: transpose for orientations 5 to 8, then mirror."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)
