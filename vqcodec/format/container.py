"""The .vq file: named numbers and payloads <-> bytes, with a checksum over every byte.

In comes a `VqFile` (what to decode with, the size of the picture, one payload per unit of coding); out go
the bytes of a file, and back. What a payload means is no business of this module. Only the standard
library is used, so that a file can be examined without numpy and without torch.

    file     = header, then units in row-major order, then chunks
    header   = magic    4 bytes   89 56 51 0A ("\\x89VQ\\n"; a transfer as text would break it)
               version  u8        1
               digest   8 bytes   of the model that wrote the file and can read it
               flags    u8        bit 0: a grey picture; bit 1: chunks follow the units; the others are 0
               width, height, quality, unit, rows, cols           six varints
               length of each of the rows * cols unit payloads    varints
               if bit 1: number of chunks (a varint), then per chunk  type u8, length varint
               checksum u32       CRC-32 of all bytes above
    part     = checksum u32       CRC-32 of (header checksum u32, index u32, payload)
               payload            as many bytes as the header says
    varint   = unsigned LEB128, 1 to 5 bytes, below 2**32, in the shortest form only

Units and chunks are both parts; `index` counts parts from 0, chunks after units. Every u32 is little endian.
The checksum of a part binds it to its place and to its header: two parts swapped, or one taken from a file
with another header, differ in at most 32 adjacent bits of the checked bytes, which CRC-32 always notices.

Chunk types below 128 are critical (a reader that does not know one must refuse the file), the others may be
skipped. Each of these types stands at most once in a file:

    1    alpha channel: a PNG of 8-bit grey (mode L), of exactly the picture's size
    2    weights of the model's post-filter (coding/weights.py), with which the colours are decoded
    129  EXIF: a TIFF file without a picture, as in the eXIf chunk of a PNG
    130  XMP: a packet in UTF-8
    131  ICC profile of the samples' colour space, which is RGB (grey for a grey picture); without it they are sRGB

Types 129 to 131 are one zlib stream (RFC 1950) each, of 1 to 2**20 bytes once inflated. They hold for the picture
as it is decoded, upright. A reader must treat what is inside as untrusted.
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

_BINDING = struct.Struct("<II")  # header checksum, index: what a part's checksum covers before its payload


@dataclass(frozen=True)
class VqFile(Frame):
    """A whole file. units: rows * cols payloads, row-major; alpha: a PNG of mode L and the same size.

    postfilter: the weights that the model's post-filter takes, packed.
    """

    units: tuple[bytes, ...]
    alpha: bytes | None = None
    postfilter: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)


def pack(file: VqFile) -> bytes:
    """The bytes of a .vq file. ValueError if the fields contradict each other or do not fit the format."""
    if len(file.model_digest) != 8 or file.mode not in ("RGB", "L"):
        raise ValueError(f"a digest of {len(file.model_digest)} bytes (8 are needed), mode {file.mode!r} (RGB or L)")
    if wrong := contradiction(file):
        raise ValueError(wrong)
    if len(file.units) != file.rows * file.cols:
        raise ValueError(f"{file.rows} x {file.cols} units are needed, not {len(file.units)}")
    if file.alpha is not None and (wrong := alpha_fault(file.alpha, file.width, file.height)):
        raise ValueError(wrong)

    chunks = chunks_of(file.alpha, file.postfilter, file.metadata)
    parts = [*file.units, *(payload for _, payload in chunks)]
    header, checksum = write_header(file, file.units, chunks)
    pieces = [header]
    for index, payload in enumerate(parts):
        pieces += (CRC.pack(_part_checksum(checksum, index, payload)), payload)
    return b"".join(pieces)


def unpack(data: bytes, limits: Limits = DEFAULT_LIMITS) -> VqFile:
    """Read a whole file and check all of it; any `BadFile` (see errors.py) if it is not entirely sound."""
    header = read_header(data, limits)
    payloads = tuple(_part(data, header, index) for index in range(len(header.lengths)))
    frame = {field.name: getattr(header, field.name) for field in fields(Frame)}
    units, alpha = payloads[: header.rows * header.cols], alpha_payload(data, header)
    postfilter = postfilter_payload(data, header)
    return VqFile(**frame, units=units, alpha=alpha, postfilter=postfilter, metadata=read_metadata(data, header))


def unit_payload(data: bytes, header: Header, index: int) -> bytes:
    """The payload of one unit (index: row * cols + col); DamagedFile if it is cut off or not sound."""
    if not 0 <= index < header.rows * header.cols:
        raise IndexError(f"unit {index} of {header.rows * header.cols}")
    return _part(data, header, index)


def alpha_payload(data: bytes, header: Header) -> bytes | None:
    """The alpha chunk alone, None where the file has none; DamagedFile as for a unit."""
    payload = _chunk(data, header, ALPHA)
    if payload is not None and (wrong := alpha_fault(payload, header.width, header.height)):
        raise damaged(wrong)
    return payload


def postfilter_payload(data: bytes, header: Header) -> bytes | None:
    """The post-filter's weights, packed; None where the file has none. DamagedFile as for a unit."""
    return _chunk(data, header, POSTFILTER)


def read_metadata(data: bytes, header: Header) -> Metadata:
    """All metadata; DamagedFile as for a unit."""
    return Metadata(**{kind: metadata_payload(data, header, kind) for kind in KINDS})


def metadata_payload(data: bytes, header: Header, kind: str) -> bytes:
    """One kind of metadata, inflated, b"" where the file has none; DamagedFile as for a unit."""
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
        raise DamagedFile(f"the file is truncated: {_name_of(header, index)} is cut off")
    payload = data[start:end]
    if CRC.unpack_from(data, start - CRC.size)[0] != _part_checksum(header.checksum, index, payload):
        raise damaged(f"the checksum of {_name_of(header, index)} does not match")
    return payload


def _name_of(header: Header, index: int) -> str:
    units = header.rows * header.cols
    if index < units:
        return f"unit {index} (row {index // header.cols}, column {index % header.cols})"
    return f"the chunk of type {header.chunk_types[index - units]}"


def _part_checksum(header_checksum: int, index: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_BINDING.pack(header_checksum, index)))
