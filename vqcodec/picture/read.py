"""A picture file or a PIL image -> `Picture`.

Whatever is not carried over as it was (16 bits, CMYK, a colour profile, further frames) is named in the `notices`;
whatever cannot be read is a `BadPicture` that names the file.
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
from vqcodec.picture.colours import profile_fits, raw_mode, split_image, to_srgb
from vqcodec.picture.failures import explained
from vqcodec.picture.metadata import KEEP_NOTHING, LIMIT, Keep, Metadata, cleaned, taken
from vqcodec.picture.picture import Picture

__all__ = ["from_image", "read_picture"]

Samples = NDArray[np.uint8]

_MAX_STREAM = 1 << 30  # bytes taken from a pipe, which may have no end


def read_picture(
    source: str | Path | BinaryIO, keep: Keep = KEEP_NOTHING, max_pixels: int = DEFAULT_LIMITS.pixels
) -> Picture:
    """Read the first frame of a picture file, or of a binary stream from its beginning, turned upright.

    Raises `BadPicture`, with the file's name and the reason, for whatever is not a whole picture in a format
    of Pillow with at most `max_pixels` pixels. Above `PIL.Image.MAX_IMAGE_PIXELS` Pillow itself refuses some.
    """
    with explained(_name_of(source)), _opened(source) as stream:
        if not stream.read(1):
            raise OSError("the file is empty")
        stream.seek(0)
        with Image.open(stream) as image:
            if image.format == "EPS":
                # Pillow would start Ghostscript, that is, run the file as a program.
                raise OSError("EPS is a drawing; please convert it to PNG first")
            if image.format == "VQ":  # which `import vqcodec` makes a format of Pillow's
                raise OSError("this is a .vq file; decompress it first")
            if image.width * image.height > max_pixels:
                size = f"{image.width}x{image.height}"
                raise Image.DecompressionBombError(f"{size}, over the limit of {max_pixels} pixels")
            return _convert(image, keep)


def from_image(image: Image.Image, keep: Keep = KEEP_NOTHING) -> Picture:
    """Convert a PIL image of any mode, its current frame, turned upright. Raises `BadPicture`."""
    with explained("the image"):
        return _convert(image, keep)


def _name_of(source: str | Path | BinaryIO) -> str:
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and name != "<stdin>" else "standard input"


@contextmanager
def _opened(source: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    """A stream that can seek, at its beginning; a given one is left open."""
    if isinstance(source, (str, os.PathLike)):
        if Path(source).is_dir():
            raise OSError("this is a folder")  # Windows would say that permission is denied
        with Path(source).open("rb") as file, _opened(file) as stream:
            yield stream
    elif source.seekable():
        source.seek(0)
        yield source
    else:
        data = source.read(_MAX_STREAM + 1)
        if len(data) > _MAX_STREAM:
            raise OSError(f"longer than the {_MAX_STREAM} bytes that are taken from a stream")
        yield io.BytesIO(data)


def _convert(image: Image.Image, keep: Keep) -> Picture:
    if 0 in image.size:
        raise OSError("the image has no pixels")
    notices = []
    # Some readers look for frames by seeking, which would throw away changes made to a loaded image.
    if (getattr(image, "tile", ()) or "is_animated" in vars(image)) and getattr(image, "is_animated", False):
        which = "current" if image.tell() else "first"
        notices.append(f"several frames or pages: only the {which} one is kept")
    raw = raw_mode(image)
    metadata, noted = taken(image) if keep.metadata else (Metadata(), [])
    notices += noted
    image.load()
    colour, alpha, noted = split_image(image, raw)
    notices += noted
    if not (metadata.icc and len(metadata.icc) <= LIMIT and profile_fits(metadata.icc, colour.mode)):
        metadata = replace(metadata, icc=b"")
        colour, noted = to_srgb(colour, image.info.get("icc_profile"))
        notices += noted
    orientation = _orientation(image)
    if orientation == 0:
        notices.append("the EXIF data is damaged and was ignored")
    pixels = _upright(np.array(colour if colour.mode == "RGB" else colour.convert("RGB")), orientation)
    alpha = None if alpha is None else _upright(alpha, orientation)
    height, width, _ = pixels.shape
    metadata, noted = cleaned(metadata, width, height, location=keep.location)
    notices = list(dict.fromkeys([*notices, *noted]))
    return Picture(pixels, "L" if colour.mode == "L" else "RGB", alpha, tuple(notices), metadata)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 of a loaded image; 0 if the EXIF data is damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the EXIF reader raises nearly anything on damaged bytes
        return 0
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(samples: Samples, orientation: int) -> Samples:
    """Samples [H, W, ...] as they are to be seen: transposed for EXIF orientations 5 to 8, then mirrored."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)
