"""Alpha <-> bytes, without loss. In: alpha [H, W], uint8. Out: a PNG of mode L, which any program can read."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from vqcodec.errors import DamagedFile

__all__ = ["decode_alpha", "encode_alpha"]

Samples = npt.NDArray[np.uint8]


def encode_alpha(alpha: Samples) -> bytes:
    """The bytes of a PNG of alpha [H, W]."""
    stream = io.BytesIO()
    Image.fromarray(alpha).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def decode_alpha(data: bytes, height: int, width: int) -> Samples:
    """Alpha [height, width] of the bytes of a PNG. Raises `DamagedFile`."""
    try:
        # Not Image.open, which would apply its own limit: the container has checked the size against ours.
        with PngImagePlugin.PngImageFile(io.BytesIO(data)) as image:
            if image.mode != "L" or image.size != (width, height):
                raise DamagedFile("the alpha channel does not fit its picture; the file is damaged")
            return np.array(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DamagedFile(f"the alpha channel cannot be read ({error}); the file is damaged") from None
