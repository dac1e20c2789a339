"""Pixels <-> bytes, lossless. In: pixels [H, W, 3], uint8. Out: a lossless WebP bitstream (VP8L, RFC 9649, section 3).

The RIFF header of a WebP file, 20 bytes, is left out. The bitstream begins with its own width and height, which are
checked before anything is decoded.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from vqcodec.errors import DamagedFile, UnsupportedFile, VqError

__all__ = ["BY_EFFORT", "FAST", "FASTEST", "LONGEST_SIDE", "Setting", "is_available", "pack_pixels", "unpack_pixels"]

Samples = npt.NDArray[np.uint8]

LONGEST_SIDE = 16383  # pixels; RFC 9649, section 3.4
Setting = tuple[int, int]  # (quality, method) of libwebp: how long it searches. Both only change the size
# Seconds of 512 x 512 pixels and bits per pixel, mean of 93 screenshots and drawings: 0.02 and 0.93; 0.06 and 0.82;
# then 0.37 and 0.80; 2.8 and 0.79.
FASTEST: Setting = (20, 2)
FAST: Setting = (75, 4)
BY_EFFORT: tuple[Setting, ...] = (FAST, (100, 5), (100, 6), (100, 6))
_RIFF = struct.Struct("<4sI4s4sI")
_START = struct.Struct("<BI")  # signature; 14 bits width - 1, 14 bits height - 1, 1 bit alpha, 3 bits version
_SIGNATURE = 0x2F


def is_available() -> bool:
    """Whether this installation of Pillow has WebP. Its wheels have; a build of one's own may not."""
    return bool(features.check("webp"))


def pack_pixels(pixels: Samples, setting: Setting) -> bytes:
    """Encode pixels [H, W, 3], with sides of at most `LONGEST_SIDE`.

    Raises `UnsupportedFile` if Pillow has no WebP.
    """
    _require_webp()
    quality, method = setting
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    image.save(stream, "WEBP", lossless=True, quality=quality, method=method, exact=True)
    data = stream.getvalue()
    riff, _, webp, kind, size = _RIFF.unpack_from(data)
    payload = data[_RIFF.size : _RIFF.size + size]
    if (riff, webp, kind) != (b"RIFF", b"WEBP", b"VP8L") or not payload.startswith(_start(*pixels.shape[:2])):
        raise VqError("Pillow wrote a WebP of an unknown layout; nothing was saved")
    return payload


def unpack_pixels(payload: bytes, height: int, width: int) -> Samples:
    """Decode a bitstream to pixels [height, width, 3].

    Raises `DamagedFile` if it cannot be decoded or has another size, and `UnsupportedFile` if Pillow has no WebP.
    """
    _require_webp()
    if not payload.startswith(_start(height, width)):
        raise DamagedFile("stored pixels have the wrong size; the file is damaged")
    padding = bytes(len(payload) % 2)
    size = len(payload) + len(padding) + _RIFF.size - 8
    data = _RIFF.pack(b"RIFF", size, b"WEBP", b"VP8L", len(payload)) + payload + padding
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DamagedFile(f"stored pixels cannot be read ({error}); the file is damaged") from None
    if pixels.shape != (height, width, 3):
        raise DamagedFile("stored pixels have the wrong size; the file is damaged")
    return pixels


def _start(height: int, width: int) -> bytes:
    """The first bytes of the bitstream of an opaque picture."""
    return _START.pack(_SIGNATURE, width - 1 | height - 1 << 14)


def _require_webp() -> None:
    if not is_available():
        raise UnsupportedFile("stored pixels need Pillow with WebP, as its wheels have it: pip install pillow")
