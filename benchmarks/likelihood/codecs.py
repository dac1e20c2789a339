"""Lossless codecs that people use, on the same pictures: bits per dimension of the bytes of real files.

Each picture is a file of its own, as a user would have it, and all of them together are one picture in rows: a file of
32 x 32 pixels is in good part its header, and no model in the table has one.
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
    """The formats that can be written here."""
    try:
        import pillow_jxl  # noqa: F401 -- teaches Pillow the format
    except ImportError:
        Image.init()
    found = ["PNG"] + ["WEBP"] * features.check("webp") + ["JXL"] * ("JXL" in Image.SAVE)
    return found


def bits_per_dim(form: str, x: Tensor) -> dict[str, float]:
    """Of pictures x [B, C, H, W], uint8, as files of their own and as one sheet."""
    images = x.permute(0, 2, 3, 1).numpy()
    each = sum(_size(form, image) for image in images)
    columns = math.ceil(len(images) ** 0.5)
    blank = np.zeros((-len(images) % columns, *images.shape[1:]), np.uint8)  # fills the last row
    sheet = np.concatenate([images, blank]).reshape(-1, columns, *images.shape[1:]).transpose(0, 2, 1, 3, 4)
    together = _size(form, sheet.reshape(-1, columns * images.shape[2], images.shape[3]))
    return {"a file each": 8 * each / x.numel(), "all in one file": 8 * together / x.numel()}


def _size(form: str, pixels: np.ndarray) -> int:
    """Bytes of the file of pixels [H, W, C]."""
    image = Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]))
    stream = io.BytesIO()
    image.save(stream, form, **OPTIONS[form])
    stream.seek(0)
    with Image.open(stream) as again:  # a codec that loses something does not belong here
        if not np.array_equal(np.asarray(again.convert(image.mode)), np.asarray(image)):
            raise AssertionError(f"{form} did not keep the picture")
    return stream.getbuffer().nbytes
