"""The arguments of the public functions: pictures, files and numbers as users give them -> what the codec takes.

A `str` or an `os.PathLike` is a path: of a picture file for encoding, of a .vq file for decoding.
"""

from __future__ import annotations

import operator
import os
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcodec.errors import BadPicture, UsageError
from vqcodec.limits import Limits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    from vqcodec.picture.metadata import Keep
    from vqcodec.picture.picture import Picture

    Samples = npt.NDArray[np.uint8]
    Source = Image | Samples | str | os.PathLike[str]  # what can be encoded
    File = bytes | str | os.PathLike[str]  # what can be decoded

__all__ = ["as_float", "as_int", "bytes_of", "to_picture"]


def bytes_of(data: File) -> bytes:
    """The bytes of a .vq file that is given by its path; bytes stay as they are. Raises `BadFile`."""
    if not isinstance(data, (str, os.PathLike)):
        return data
    from vqcodec.files.read_write import read

    return read(Path(data))


def to_picture(image: Source, keep: Keep, limits: Limits) -> Picture:
    """A PIL image, an array or a picture file as a `Picture`. Raises `BadPicture`."""
    import numpy as np
    from PIL import Image

    from vqcodec.picture.picture import Picture
    from vqcodec.picture.read import from_image, read_picture

    if isinstance(image, Image.Image):
        return from_image(image, keep)
    if isinstance(image, (str, os.PathLike)):
        return read_picture(Path(image), keep, limits.pixels)
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        raise BadPicture(f"the image must be a PIL image, a numpy array or the path of a picture file, not {kind}")
    grey = image.ndim == 2
    if image.dtype != np.uint8 or not (grey or image.shape[2:] == (3,)) or 0 in image.shape:
        found = f"{image.dtype} [{', '.join(map(str, image.shape))}]"
        raise BadPicture(f"an array must be uint8 [height, width, 3] or [height, width], not {found}")
    # Copy: torch needs positive strides, and the caller may change the array.
    pixels = np.repeat(image[:, :, None], 3, axis=2) if grey else np.array(image, order="C")
    return Picture(pixels, "L" if grey else "RGB")


def as_int(number: Any) -> Any:
    """A quality, an effort or a number of threads as an int; None stays None. Raises `UsageError` for 2.5."""
    try:
        return number if number is None else operator.index(number)
    except TypeError:
        raise UsageError(f"quality, effort and threads must be whole numbers, not {number!r}") from None


def as_float(number: Any) -> float | None:
    """A target as a float; None stays None. Raises `UsageError` for other values, such as "70"."""
    if number is not None and not isinstance(number, Real):
        raise UsageError(f"a target must be a number, not {number!r}")
    return None if number is None else float(number)
