"""Chunks of a .vq file: alpha, post-filter weights and metadata <-> (type, payload).

Only the standard library is used. The docstring of container.py defines the payload of each type.
"""

from __future__ import annotations

import struct
import zlib

from vqcodec.errors import DamagedFile
from vqcodec.picture.metadata import KINDS, LIMIT, NAMES, Metadata

__all__ = [
    "ALPHA",
    "ANCILLARY",
    "CRITICAL",
    "NAMES_BY_TYPE",
    "POSTFILTER",
    "TYPES",
    "alpha_fault",
    "chunks_of",
    "inflated",
]

CRITICAL = ALPHA, POSTFILTER = 1, 2
ANCILLARY = 128  # types from here on may be skipped by a reader
TYPES = dict(zip(KINDS, (129, 130, 131), strict=True))  # chunk types of the kinds of metadata
NAMES_BY_TYPE = {ALPHA: "alpha channel", POSTFILTER: "set of weights"} | {
    TYPES[kind]: name for kind, name in NAMES.items()
}
_PNG_START = struct.Struct(">8sI4sIIBB")  # signature; length, name and first fields of the IHDR chunk


def chunks_of(alpha: bytes | None, postfilter: bytes | None, metadata: Metadata) -> tuple[tuple[int, bytes], ...]:
    """All chunks as (type, payload), in order of type. Raises `ValueError` for metadata longer than `LIMIT` bytes."""
    chunks = [(kind, payload) for kind, payload in ((ALPHA, alpha), (POSTFILTER, postfilter)) if payload is not None]
    for kind, size in metadata.sizes().items():
        if size > LIMIT:
            raise ValueError(f"the {NAMES[kind]} has {size} bytes, more than the limit of {LIMIT}")
        chunks.append((TYPES[kind], zlib.compress(getattr(metadata, kind), 9)))
    return tuple(chunks)


def alpha_fault(payload: bytes, width: int, height: int) -> str | None:
    """Why a payload is not a valid alpha channel of a picture of this size, or None if it may be one.

    The size is checked before decoding, because a PNG of another size may be a decompression bomb.
    """
    start = _PNG_START.pack(b"\x89PNG\r\n\x1a\n", 13, b"IHDR", width, height, 8, 0)
    return None if payload.startswith(start) else "its alpha channel is not a PNG of mode L and the same size"


def inflated(payload: bytes, name: str) -> bytes:
    """Inflate the payload of a metadata chunk, with memory bounded by `LIMIT`.

    Raises `DamagedFile` unless it is exactly one zlib stream of 1 to `LIMIT` bytes. `name` is for the message.
    """
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(payload, LIMIT + 1)
    except zlib.error:
        data = b""
    if not stream.eof or stream.unused_data or not 0 < len(data) <= LIMIT:
        raise DamagedFile(f"the file is damaged: its {name} is not one zlib stream of 1 to {LIMIT} bytes")
    return data
