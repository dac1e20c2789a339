"""Alpha <-> bytes, without loss. In: alpha [H, W], uint8. Out: a PNG of mode L, which any program can read."""

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
_CHUNK = struct.Struct(">I4s")  # length and name; the payload and its checksum follow
_CRC_BYTES = 4


def pack_alpha(alpha: Samples) -> bytes:
    """The bytes of a PNG of alpha [H, W]."""
    stream = io.BytesIO()
    Image.fromarray(alpha).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def unpack_alpha(data: bytes, height: int, width: int) -> Samples:
    """Alpha [height, width] of the bytes of a PNG. Raises `DamagedFile`."""
    try:
        # Not Image.open, which would apply its own limit: the container has checked the size against ours.
        with PngImagePlugin.PngImageFile(io.BytesIO(_bare(data))) as image:
            if image.mode != "L" or image.size != (width, height):
                raise DamagedFile("the alpha channel does not fit its picture; the file is damaged")
            return np.array(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DamagedFile(f"the alpha channel cannot be read ({error}); the file is damaged") from None


def _bare(data: bytes) -> bytes:
    """A PNG without the chunks that are not its samples: texts, profiles and animations can be bombs."""
    pieces, at = [data[: len(_SIGNATURE)]], len(_SIGNATURE)
    while at + _CHUNK.size <= len(data):
        length, name = _CHUNK.unpack_from(data, at)
        end = at + _CHUNK.size + length + _CRC_BYTES
        if name in (b"IDAT", b"IEND") or (name == b"IHDR" and len(pieces) == 1):
            pieces.append(data[at:end])
        if name == b"IEND":
            return b"".join(pieces)
        at = end
    raise DamagedFile("the alpha channel is cut off; the file is damaged")
