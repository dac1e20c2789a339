"""Common lossless codecs on the same pictures: bits per dimension, from the sizes of real files.

Two measurements: every picture as a separate file, as users store them, and all pictures tiled into one large picture.
A large part of a file of 32 x 32 pixels is its header, and none of the models in the table has a header.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, features
from torch import Tensor

OPTIONS = {
    "PNG": {"optimize": True},
    "WEBP": {"lossless": True, "quality": 100, "method": 6},
    "JXL": {"lossless": True, "effort": 9},
}
TITLES = {"PNG": "PNG, optimised", "WEBP": "WebP, lossless", "JXL": "JPEG XL, lossless"}


def available() -> list[str]:
    """The formats that this Pillow can write."""
    try:
        import pillow_jxl  # noqa: F401 -- registers the format with Pillow
    except ImportError:
        Image.init()
    found = ["PNG"] + ["WEBP"] * features.check("webp") + ["JXL"] * ("JXL" in Image.SAVE)
    return found


def bits_per_dim(form: str, x: Tensor) -> dict[str, float]:
    """Bits per dimension of pictures x [B, C, H, W], uint8, as separate files and as one tiled picture."""
    images = x.permute(0, 2, 3, 1).numpy()
    each = sum(_size(form, image) for image in images)
    columns = math.ceil(len(images) ** 0.5)
    blank = np.zeros((-len(images) % columns, *images.shape[1:]), np.uint8)  # fills the last row
    sheet = np.concatenate([images, blank]).reshape(-1, columns, *images.shape[1:]).transpose(0, 2, 1, 3, 4)
    together = _size(form, sheet.reshape(-1, columns * images.shape[2], images.shape[3]))
    return {"a file each": 8 * each / x.numel(), "all in one file": 8 * together / x.numel()}


def _size(form: str, pixels: np.ndarray) -> int:
    """The size in bytes of the file of pixels [H, W, C]."""
    image = Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]))
    stream = io.BytesIO()
    image.save(stream, form, **OPTIONS[form])
    stream.seek(0)
    with Image.open(stream) as again:  # make sure that the codec is lossless
        if not np.array_equal(np.asarray(again.convert(image.mode)), np.asarray(image)):
            raise AssertionError(f"{form} did not keep the picture")
    return stream.getbuffer().nbytes
