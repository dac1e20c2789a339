"""The .vq file: named numbers and payloads <-> bytes. Checksums cover every byte.

In: a `VqFile` (model digest, picture size, one payload per unit of coding, optional chunks). Out: the bytes of a file.
The same in the other direction. The module does not interpret the payloads of units. It uses only the standard
library, so that a file can be examined without numpy and torch.

    file     = header, then units in row-major order, then chunks
    header   = magic    4 bytes   89 56 51 0A ("\\x89VQ\\n"; detects files transferred as text)
               version  u8        1
               digest   8 bytes   of the model that wrote the file; only this model can decode it
               flags    u8        bit 0: a grey picture; bit 1: chunks follow the units; the others are 0
               width, height, quality, unit, rows, cols           six varints
               length of each of the rows * cols unit payloads    varints
               if bit 1: number of chunks (a varint), then per chunk  type u8, length varint
               checksum u32       CRC-32 of all bytes above
    part     = checksum u32       CRC-32 of (header checksum u32, index u32, payload)
               payload            as many bytes as the header says
    varint   = unsigned LEB128, 1 to 5 bytes, below 2**32, in the shortest form only

Units and chunks are both parts. `index` counts the parts from 0, units first, then chunks. Every u32 is little endian.
The checksum of a part binds it to its position and to its header: if two parts are swapped, or if one is copied from a
file with another header, the checked bytes differ in at most 32 adjacent bits, which CRC-32 always detects.

Chunk types below 128 are critical: a reader must refuse a file with a critical type that it does not support. It may
skip chunks of other types. Each of these types occurs at most once in a file:

    1    alpha channel: a PNG of 8-bit grey (mode L), of exactly the picture's size
    2    weights of the model's post-filter (coding/filter_weights.py), which decoding applies to the colours
    129  EXIF: a TIFF file without a picture, as in the eXIf chunk of a PNG
    130  XMP: a packet in UTF-8
    131  ICC profile of the samples' colour space, which is RGB (grey for a grey picture); without it they are sRGB

Types 129 to 131 are one zlib stream (RFC 1950) each, of 1 to 2**20 bytes after inflation. They apply to the decoded
picture, which is upright. A reader must treat their content as untrusted.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field, fields

from vqcodec.errors import DamagedFile
from vqcodec.format.chunks import ALPHA, NAMES_BY_TYPE, POSTFILTER, TYPES, alpha_fault, chunks_of, inflated
from vqcodec.format.header import CRC, Frame, Header, contradiction, damaged, read_header, write_header
from vqcodec.limits import DEFAULT_LIMITS, Limits
from vqcodec.picture.metadata import KINDS, Metadata

__all__ = [
    "Frame", "Header", "VqFile", "alpha_payload", "metadata_payload", "pack", "postfilter_payload", "read_header",
    "read_metadata", "unit_payload", "unpack",
]  # fmt: skip

_PART_PREFIX = struct.Struct("<II")  # header checksum, index: checksummed before the payload of a part


@dataclass(frozen=True)
class VqFile(Frame):
    """The content of a whole file.

    units: rows * cols payloads in row-major order. alpha: a PNG of mode L and the same size, or None.
    postfilter: the packed weights of the model's post-filter, or None.
    """

    units: tuple[bytes, ...]
    alpha: bytes | None = None
    postfilter: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)


def pack(file: VqFile) -> bytes:
    """Serialise a .vq file. Raises `ValueError` if the fields contradict each other or do not fit the format."""
    if len(file.model_digest) != 8 or file.mode not in ("RGB", "L"):
        raise ValueError(f"a digest of {len(file.model_digest)} bytes (8 are needed), mode {file.mode!r} (RGB or L)")
    if fault := contradiction(file):
        raise ValueError(fault)
    if len(file.units) != file.rows * file.cols:
        raise ValueError(f"{file.rows} x {file.cols} units are needed, not {len(file.units)}")
    if file.alpha is not None and (fault := alpha_fault(file.alpha, file.width, file.height)):
        raise ValueError(fault)

    chunks = chunks_of(file.alpha, file.postfilter, file.metadata)
    parts = [*file.units, *(payload for _, payload in chunks)]
    header, checksum = write_header(file, file.units, chunks)
    pieces = [header]
    for index, payload in enumerate(parts):
        pieces += (CRC.pack(_part_checksum(checksum, index, payload)), payload)
    return b"".join(pieces)


def unpack(data: bytes, limits: Limits = DEFAULT_LIMITS) -> VqFile:
    """Parse a whole file and verify all checksums. Raises a subclass of `BadFile` (see errors.py) if it is invalid."""
    header = read_header(data, limits)
    payloads = tuple(_part(data, header, index) for index in range(len(header.lengths)))
    frame = {field.name: getattr(header, field.name) for field in fields(Frame)}
    units, alpha = payloads[: header.rows * header.cols], alpha_payload(data, header)
    postfilter = postfilter_payload(data, header)
    return VqFile(**frame, units=units, alpha=alpha, postfilter=postfilter, metadata=read_metadata(data, header))


def unit_payload(data: bytes, header: Header, index: int) -> bytes:
    """The payload of one unit; index: row * cols + col.

    Raises `DamagedFile` if it is truncated or its checksum does not match, `IndexError` for an index out of range.
    """
    if not 0 <= index < header.rows * header.cols:
        raise IndexError(f"unit {index} of {header.rows * header.cols}")
    return _part(data, header, index)


def alpha_payload(data: bytes, header: Header) -> bytes | None:
    """The payload of the alpha chunk, None if the file has none.

    Raises `DamagedFile` if it is truncated, its checksum does not match, or it is not a PNG of the right size.
    """
    payload = _chunk(data, header, ALPHA)
    if payload is not None and (fault := alpha_fault(payload, header.width, header.height)):
        raise damaged(fault)
    return payload


def postfilter_payload(data: bytes, header: Header) -> bytes | None:
    """The packed weights of the post-filter, None if the file has none. Raises `DamagedFile` like `unit_payload`."""
    return _chunk(data, header, POSTFILTER)


def read_metadata(data: bytes, header: Header) -> Metadata:
    """All metadata, inflated. Raises `DamagedFile` like `metadata_payload`."""
    return Metadata(**{kind: metadata_payload(data, header, kind) for kind in KINDS})


def metadata_payload(data: bytes, header: Header, kind: str) -> bytes:
    """One kind of metadata, inflated; b"" if the file has none.

    Raises `DamagedFile` if the chunk is truncated, its checksum does not match, or it cannot be inflated.
    """
    payload = _chunk(data, header, TYPES[kind])
    return b"" if payload is None else inflated(payload, NAMES_BY_TYPE[TYPES[kind]])


def _chunk(data: bytes, header: Header, kind: int) -> bytes | None:
    if kind not in header.chunk_types:
        return None
    return _part(data, header, header.rows * header.cols + header.chunk_types.index(kind))


def _part(data: bytes, header: Header, index: int) -> bytes:
    start = header.offsets[index]
    end = start + header.lengths[index]
    if end > len(data):
        raise DamagedFile(f"the file is truncated: {_part_name(header, index)} is cut off")
    payload = data[start:end]
    if CRC.unpack_from(data, start - CRC.size)[0] != _part_checksum(header.checksum, index, payload):
        raise damaged(f"the checksum of {_part_name(header, index)} does not match")
    return payload


def _part_name(header: Header, index: int) -> str:
    units = header.rows * header.cols
    if index < units:
        return f"unit {index} (row {index // header.cols}, column {index % header.cols})"
    return f"the chunk of type {header.chunk_types[index - units]}"


def _part_checksum(header_checksum: int, index: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_PART_PREFIX.pack(header_checksum, index)))
