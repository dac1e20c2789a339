"""Alpha channel <-> bytes, lossless. In: alpha [H, W], uint8. Out: a PNG of mode L (8-bit grey)."""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from vqcodec.errors import DamagedFile

__all__ = ["pack_alpha", "unpack_alpha"]

Samples = npt.NDArray[np.uint8]
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")  # length and name, followed by the payload and its CRC
_CRC_BYTES = 4


def pack_alpha(alpha: Samples) -> bytes:
    """Encode alpha [H, W] as a PNG of mode L."""
    stream = io.BytesIO()
    Image.fromarray(alpha).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def unpack_alpha(data: bytes, height: int, width: int) -> Samples:
    """Decode a PNG of mode L to alpha [height, width].

    Raises `DamagedFile` if it cannot be decoded or has another mode or size.
    """
    try:
        # Image.open would apply Pillow's own size limit. The container has already checked the size against ours.
        with PngImagePlugin.PngImageFile(io.BytesIO(_essential_chunks(data))) as image:
            if image.mode != "L" or image.size != (width, height):
                raise DamagedFile("the alpha channel has the wrong mode or size; the file is damaged")
            return np.array(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DamagedFile(f"the alpha channel cannot be read ({error}); the file is damaged") from None


def _essential_chunks(data: bytes) -> bytes:
    """Reduce a PNG to its IHDR, IDAT and IEND chunks.

    Text, profile and animation chunks may be decompression bombs. Raises `DamagedFile` if there is no IEND.
    """
    pieces, at = [data[: len(_SIGNATURE)]], len(_SIGNATURE)
    while at + _CHUNK.size <= len(data):
        length, name = _CHUNK.unpack_from(data, at)
        end = at + _CHUNK.size + length + _CRC_BYTES
        if name in (b"IDAT", b"IEND") or (name == b"IHDR" and len(pieces) == 1):
            pieces.append(data[at:end])
        if name == b"IEND":
            return b"".join(pieces)
        at = end
    raise DamagedFile("the alpha channel is truncated; the file is damaged")
