"""The chunks of a .vq file: alpha, weights and metadata <-> (type, payload). Only the standard library is used.

What a payload of each type must be stands in container.py, with the rest of the format.
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
ANCILLARY = 128  # the first type that a reader may skip
TYPES = dict(zip(KINDS, (129, 130, 131), strict=True))  # of metadata
NAMES_BY_TYPE = {ALPHA: "alpha channel", POSTFILTER: "set of weights"} | {
    TYPES[kind]: name for kind, name in NAMES.items()
}
_PNG_START = struct.Struct(">8sI4sIIBB")  # signature, length and name of the first chunk, its first fields


def chunks_of(alpha: bytes | None, postfilter: bytes | None, metadata: Metadata) -> tuple[tuple[int, bytes], ...]:
    """All chunks, by rising type. Raises `ValueError` for metadata that is too long."""
    chunks = [(kind, payload) for kind, payload in ((ALPHA, alpha), (POSTFILTER, postfilter)) if payload is not None]
    for kind, size in metadata.sizes().items():
        if size > LIMIT:
            raise ValueError(f"{size} bytes of {NAMES[kind]} are more than {LIMIT}")
        chunks.append((TYPES[kind], zlib.compress(getattr(metadata, kind), 9)))
    return tuple(chunks)


def alpha_fault(payload: bytes, width: int, height: int) -> str | None:
    """Why a payload cannot be a picture's alpha channel, or None; a PNG of another size may be a bomb."""
    start = _PNG_START.pack(b"\x89PNG\r\n\x1a\n", 13, b"IHDR", width, height, 8, 0)
    return None if payload.startswith(start) else "its alpha channel is not a PNG of mode L and the same size"


def inflated(payload: bytes, name: str) -> bytes:
    """The metadata in a payload. Never takes more memory than the limit; raises `DamagedFile`."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(payload, LIMIT + 1)
    except zlib.error:
        data = b""
    if not stream.eof or stream.unused_data or not 0 < len(data) <= LIMIT:
        raise DamagedFile(f"the file is damaged: its {name} is not one zlib stream of 1 to {LIMIT} bytes")
    return data
