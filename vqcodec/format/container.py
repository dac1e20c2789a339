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
from itertools import accumulate
from typing import Literal

from vqcodec.errors import DamagedFile, LimitExceeded, UnsupportedFile
from vqcodec.format.chunks import (
    ALPHA,
    ANCILLARY,
    CRITICAL,
    NAMES_BY_TYPE,
    POSTFILTER,
    TYPES,
    alpha_fault,
    chunks_of,
    inflated,
)
from vqcodec.format.magic import MAGIC, check_magic
from vqcodec.limits import DEFAULT_LIMITS, Limits
from vqcodec.picture.metadata import KINDS, Metadata

__all__ = [
    "MAGIC", "Frame", "Header", "VqFile", "alpha_payload", "metadata_payload", "pack", "postfilter_payload",
    "read_header", "read_metadata", "unit_payload", "unpack",
]  # fmt: skip

_VERSION = 1
_GREY, _CHUNKS = 0x01, 0x02  # the flag bits
_MAX_CHUNKS = 255
_CRC = struct.Struct("<I")
_BINDING = struct.Struct("<II")  # header checksum, index: what a part's checksum covers before its payload


@dataclass(frozen=True)
class Frame:
    """What a file says about its picture."""

    model_digest: bytes  # 8 bytes
    width: int  # pixels
    height: int
    mode: Literal["RGB", "L"]  # what the picture is given back as
    quality: int  # on the model's own scale, from 0
    unit: int  # side of a unit of coding, in latent positions
    rows: int  # of the grid of units
    cols: int


@dataclass(frozen=True)
class VqFile(Frame):
    """A whole file. units: rows * cols payloads, row-major; alpha: a PNG of mode L and the same size.

    postfilter: the weights that the model's post-filter takes, packed.
    """

    units: tuple[bytes, ...]
    alpha: bytes | None = None
    postfilter: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)


@dataclass(frozen=True)
class Header(Frame):
    """What is known before any payload is read; lengths and offsets are in bytes.

    lengths[i] and offsets[i] describe the payload of part i (units row-major, then chunks);
    chunk_types[i] is the type of part rows * cols + i.
    """

    lengths: tuple[int, ...]
    offsets: tuple[int, ...]
    chunk_types: tuple[int, ...]
    checksum: int  # of the header

    @property
    def header_bytes(self) -> int:
        """Length of the header with its checksum."""
        return self.offsets[0] - _CRC.size

    @property
    def unit_lengths(self) -> tuple[int, ...]:
        return self.lengths[: self.rows * self.cols]

    @property
    def chunk_lengths(self) -> tuple[int, ...]:
        return self.lengths[self.rows * self.cols :]

    @property
    def alpha_bytes(self) -> int:
        """Length of the alpha payload; 0 where there is none."""
        return self._lengths_by_type.get(ALPHA, 0)

    @property
    def postfilter_bytes(self) -> int:
        """Length of the post-filter's weights; 0 where there are none."""
        return self._lengths_by_type.get(POSTFILTER, 0)

    @property
    def _lengths_by_type(self) -> dict[int, int]:
        return dict(zip(self.chunk_types, self.chunk_lengths, strict=True))

    @property
    def metadata_bytes(self) -> dict[str, int]:
        """Lengths of the metadata payloads that are there, by kind."""
        lengths = self._lengths_by_type
        return {kind: lengths[TYPES[kind]] for kind in KINDS if TYPES[kind] in lengths}

    @property
    def total_bytes(self) -> int:
        """Length of the whole file."""
        return self.offsets[-1] + self.lengths[-1]


def pack(file: VqFile) -> bytes:
    """The bytes of a .vq file. ValueError if the fields contradict each other or do not fit the format."""
    if len(file.model_digest) != 8 or file.mode not in ("RGB", "L"):
        raise ValueError(f"a digest of {len(file.model_digest)} bytes (8 are needed), mode {file.mode!r} (RGB or L)")
    if wrong := _contradiction(file):
        raise ValueError(wrong)
    if len(file.units) != file.rows * file.cols:
        raise ValueError(f"{file.rows} x {file.cols} units are needed, not {len(file.units)}")
    if file.alpha is not None and (wrong := alpha_fault(file.alpha, file.width, file.height)):
        raise ValueError(wrong)

    chunks = chunks_of(file.alpha, file.postfilter, file.metadata)
    flags = (_GREY if file.mode == "L" else 0) | (_CHUNKS if chunks else 0)
    header = bytearray(MAGIC + bytes([_VERSION]) + file.model_digest + bytes([flags]))
    for number in (file.width, file.height, file.quality, file.unit, file.rows, file.cols):
        header += _varint(number)
    for payload in file.units:
        header += _varint(len(payload))
    if chunks:
        header += _varint(len(chunks))
    for kind, payload in chunks:
        header += bytes([kind]) + _varint(len(payload))
    parts = [*file.units, *(payload for _, payload in chunks)]
    checksum = zlib.crc32(header)
    pieces = [bytes(header), _CRC.pack(checksum)]
    for index, payload in enumerate(parts):
        pieces += (_CRC.pack(_part_checksum(checksum, index, payload)), payload)
    return b"".join(pieces)


def unpack(data: bytes, limits: Limits = DEFAULT_LIMITS) -> VqFile:
    """Read a whole file and check all of it; any `BadFile` (see errors.py) if it is not entirely sound."""
    header = read_header(data, limits)
    payloads = tuple(_part(data, header, index) for index in range(len(header.lengths)))
    frame = {field.name: getattr(header, field.name) for field in fields(Frame)}
    units, alpha = payloads[: header.rows * header.cols], alpha_payload(data, header)
    postfilter = postfilter_payload(data, header)
    return VqFile(**frame, units=units, alpha=alpha, postfilter=postfilter, metadata=read_metadata(data, header))


def read_header(data: bytes, limits: Limits = DEFAULT_LIMITS, *, partial: bool = False) -> Header:
    """Read and check the header alone, and that the file has exactly the length the header declares.

    With `partial` the length does not matter: the sound units of a cut file can still be had, one by one.
    Memory and time are bounded by len(data) and by `limits`, whatever the header says.
    """
    check_magic(data)
    reader = _Reader(data, len(MAGIC))
    version = reader.byte()
    if version != _VERSION:
        raise (_too_new if version > _VERSION else _damaged)(f"format version {version}")
    digest, flags = reader.take(8), reader.byte()
    if flags & ~(_GREY | _CHUNKS):
        raise _too_new(f"flags {flags:#04x}")
    width, height, quality, unit, rows, cols = (reader.varint() for _ in range(6))
    frame = Frame(digest, width, height, "L" if flags & _GREY else "RGB", quality, unit, rows, cols)
    if wrong := _contradiction(frame):
        raise _damaged(wrong)
    # The table of units is the one thing allocated before the checksum can be checked: cap it first.
    _check_limit(f"{rows} x {cols} units", rows * cols, "units", limits)
    lengths = [reader.varint() for _ in range(rows * cols)]
    types = _read_chunk_table(reader, lengths) if flags & _CHUNKS else ()
    checksum = zlib.crc32(memoryview(data)[: reader.at])
    if checksum != _CRC.unpack(reader.take(_CRC.size))[0]:
        raise _damaged("the checksum of its header does not match")

    _check_limit(f"{width} x {height} pixels", width * height, "pixels", limits)
    _check_limit(f"{width} x {height} pixels", max(width, height), "side", limits)
    if unknown := [kind for kind in types if kind not in CRITICAL and kind < ANCILLARY]:
        raise _too_new(f"a chunk of type {unknown[0]}")
    if doubled := [name for kind, name in NAMES_BY_TYPE.items() if types.count(kind) > 1]:
        raise _damaged(f"it has more than one {doubled[0]}")
    # The checksum of a part begins where the part before it ends.
    *starts, end = accumulate((_CRC.size + length for length in lengths), initial=reader.at)
    if not partial and len(data) < end:
        raise DamagedFile(f"the file is truncated: {len(data)} of {end} bytes are there")
    if not partial and len(data) > end:
        raise _damaged(f"{len(data) - end} bytes follow its end")
    offsets = tuple(start + _CRC.size for start in starts)
    return Header(**vars(frame), lengths=tuple(lengths), offsets=offsets, chunk_types=types, checksum=checksum)


def unit_payload(data: bytes, header: Header, index: int) -> bytes:
    """The payload of one unit (index: row * cols + col); DamagedFile if it is cut off or not sound."""
    if not 0 <= index < header.rows * header.cols:
        raise IndexError(f"unit {index} of {header.rows * header.cols}")
    return _part(data, header, index)


def alpha_payload(data: bytes, header: Header) -> bytes | None:
    """The alpha chunk alone, None where the file has none; DamagedFile as for a unit."""
    payload = _chunk(data, header, ALPHA)
    if payload is not None and (wrong := alpha_fault(payload, header.width, header.height)):
        raise _damaged(wrong)
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
    if _CRC.unpack_from(data, start - _CRC.size)[0] != _part_checksum(header.checksum, index, payload):
        raise _damaged(f"the checksum of {_name_of(header, index)} does not match")
    return payload


def _name_of(header: Header, index: int) -> str:
    units = header.rows * header.cols
    if index < units:
        return f"unit {index} (row {index // header.cols}, column {index % header.cols})"
    return f"the chunk of type {header.chunk_types[index - units]}"


def _part_checksum(header_checksum: int, index: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_BINDING.pack(header_checksum, index)))


def _read_chunk_table(reader: _Reader, lengths: list[int]) -> tuple[int, ...]:
    """The types of the chunks; their lengths go to the end of `lengths`."""
    count = reader.varint()
    if not 1 <= count <= _MAX_CHUNKS:
        raise _damaged(f"it declares {count} chunks")
    types = []
    for _ in range(count):
        types.append(reader.byte())
        lengths.append(reader.varint())
    return tuple(types)


def _damaged(reason: str) -> DamagedFile:
    return DamagedFile(f"the file is damaged: {reason}")


def _too_new(feature: str) -> UnsupportedFile:
    return UnsupportedFile(f"the file was written by a newer version of vqcodec, please upgrade ({feature})")


def _check_limit(what: str, size: int, name: str, limits: Limits) -> None:
    if size > getattr(limits, name):
        over = f"the file declares {what}, over the limit of {getattr(limits, name)} ({name})"
        option = f"--max-pixels {size}, or " if name == "pixels" else ""
        raise LimitExceeded(f"{over}: if you trust it, raise the limit ({option}Limits({name}={size}))")


def _contradiction(frame: Frame) -> str | None:
    """Why no picture can be so, in words, or None."""
    for name in ("width", "height", "unit", "rows", "cols"):
        if getattr(frame, name) < 1:
            return f"{name} is below 1"
    # A latent position stands for one pixel at least, and only the last unit of a row may be partly filled.
    if frame.rows > -(-frame.height // frame.unit) or frame.cols > -(-frame.width // frame.unit):
        return f"{frame.rows} x {frame.cols} units are too many for {frame.width} x {frame.height} pixels"
    return None


def _varint(number: int) -> bytes:
    if not 0 <= number < 2**32:
        raise ValueError(f"{number} is not in 0 .. 2**32 - 1")
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes(out) + bytes([number])


class _Reader:
    """A position in the header; running off the end is a DamagedFile."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise DamagedFile(f"the file is truncated: its {len(self.data)} bytes end within the header")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        number = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if number >= 2**32 or (byte == 0 and shift > 0):
                    break
                return number
        raise _damaged("a number in its header is malformed")
