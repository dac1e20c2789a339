"""The header of a .vq file <-> named numbers. The docstring of container.py shows the layout.

Writing: a `Frame` and the payloads that follow -> the bytes of the header.
Reading: the bytes of a file -> a `Header`, which has the offset and length of each part.
Only the standard library is used.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from vqcodec.errors import DamagedFile, LimitExceeded, UnsupportedFile
from vqcodec.format.chunks import ALPHA, ANCILLARY, CRITICAL, NAMES_BY_TYPE, POSTFILTER, TYPES
from vqcodec.format.magic import MAGIC, check_magic
from vqcodec.format.varint import ByteReader, varint
from vqcodec.limits import DEFAULT_LIMITS, Limits
from vqcodec.picture.metadata import KINDS

__all__ = ["CRC", "Frame", "Header", "contradiction", "damaged", "read_header", "write_header"]

_VERSION = 1
_GREY, _CHUNKS, _STORED = 0x01, 0x02, 0x04  # the flag bits
_MAX_CHUNKS = 255
CRC = struct.Struct("<I")


@dataclass(frozen=True)
class Frame:
    """The fixed fields of a header: the model, the picture and the grid of units."""

    model_digest: bytes  # 8 bytes
    width: int  # pixels
    height: int
    mode: Literal["RGB", "L"]  # mode of the decoded picture
    quality: int  # index on the model's scale, from 0
    unit: int  # side of a unit of coding, in latent positions
    rows: int  # rows and columns of the grid of units
    cols: int
    stored: bool = field(default=False, kw_only=True)  # units may hold pixels without loss: see `units`


@dataclass(frozen=True)
class Header(Frame):
    """Everything that is known before a payload is read. Lengths and offsets are in bytes.

    lengths[i] and offsets[i] describe the payload of part i (units row-major, then chunks);
    chunk_types[i] is the type of part rows * cols + i.
    """

    lengths: tuple[int, ...]
    offsets: tuple[int, ...]
    chunk_types: tuple[int, ...]
    checksum: int  # of the header

    @property
    def header_bytes(self) -> int:
        """Length of the header, including its checksum."""
        return self.offsets[0] - CRC.size

    @property
    def unit_lengths(self) -> tuple[int, ...]:
        """Lengths of the unit payloads, row-major."""
        return self.lengths[: self.rows * self.cols]

    @property
    def chunk_lengths(self) -> tuple[int, ...]:
        """Lengths of the chunk payloads, in file order."""
        return self.lengths[self.rows * self.cols :]

    @property
    def alpha_bytes(self) -> int:
        """Length of the alpha payload; 0 if there is none."""
        return self._lengths_by_type.get(ALPHA, 0)

    @property
    def postfilter_bytes(self) -> int:
        """Length of the packed post-filter weights; 0 if there are none."""
        return self._lengths_by_type.get(POSTFILTER, 0)

    @property
    def _lengths_by_type(self) -> dict[int, int]:
        return dict(zip(self.chunk_types, self.chunk_lengths, strict=True))

    @property
    def metadata_bytes(self) -> dict[str, int]:
        """Lengths of the (deflated) metadata payloads that are present, by kind."""
        lengths = self._lengths_by_type
        return {kind: lengths[TYPES[kind]] for kind in KINDS if TYPES[kind] in lengths}

    @property
    def total_bytes(self) -> int:
        """Length of the whole file."""
        return self.offsets[-1] + self.lengths[-1]


def write_header(frame: Frame, units: Sequence[bytes], chunks: Sequence[tuple[int, bytes]]) -> tuple[bytes, int]:
    """Serialise a header. Returns its bytes, including the checksum, and the checksum.

    Raises `ValueError` for numbers that do not fit the format.
    """
    flags = (_GREY if frame.mode == "L" else 0) | (_CHUNKS if chunks else 0) | (_STORED if frame.stored else 0)
    header = bytearray(MAGIC + bytes([_VERSION]) + frame.model_digest + bytes([flags]))
    for number in (frame.width, frame.height, frame.quality, frame.unit, frame.rows, frame.cols):
        header += varint(number)
    for payload in units:
        header += varint(len(payload))
    if chunks:
        header += varint(len(chunks))
    for kind, payload in chunks:
        header += bytes([kind]) + varint(len(payload))
    checksum = zlib.crc32(header)
    return bytes(header) + CRC.pack(checksum), checksum


def read_header(data: bytes, limits: Limits = DEFAULT_LIMITS, *, partial: bool = False) -> Header:
    """Parse and check the header, and check that the file has exactly the length that the header declares.

    With `partial`, the length is not checked, so that intact units of a truncated file can still be read one by one.
    Memory and time are bounded by len(data) and by `limits`, whatever the header declares.

    Raises `NotAVqFile`, `DamagedFile`, `UnsupportedFile` (a newer version, flag or critical chunk) or `LimitExceeded`.
    """
    check_magic(data)
    reader = ByteReader(data, len(MAGIC), "the header")
    version = reader.byte()
    if version != _VERSION:
        raise (_too_new if version > _VERSION else damaged)(f"format version {version}")
    digest, flags = reader.take(8), reader.byte()
    if flags & ~(_GREY | _CHUNKS | _STORED):
        raise _too_new(f"flags {flags:#04x}")
    width, height, quality, unit, rows, cols = (reader.varint() for _ in range(6))
    mode: Literal["RGB", "L"] = "L" if flags & _GREY else "RGB"
    frame = Frame(digest, width, height, mode, quality, unit, rows, cols, stored=bool(flags & _STORED))
    if fault := contradiction(frame):
        raise damaged(fault)
    # The table of lengths must be read before the checksum can be checked, so limit its size first.
    _check_limit(f"{rows} x {cols} units", rows * cols, "units", limits)
    lengths = [reader.varint() for _ in range(rows * cols)]
    types = _read_chunk_table(reader, lengths) if flags & _CHUNKS else ()
    checksum = zlib.crc32(memoryview(data)[: reader.at])
    if checksum != CRC.unpack(reader.take(CRC.size))[0]:
        raise damaged("the checksum of its header does not match")

    _check_limit(f"{width} x {height} pixels", width * height, "pixels", limits)
    _check_limit(f"{width} x {height} pixels", max(width, height), "side", limits)
    if unknown := [kind for kind in types if kind not in CRITICAL and kind < ANCILLARY]:
        raise _too_new(f"a chunk of type {unknown[0]}")
    if doubled := [name for kind, name in NAMES_BY_TYPE.items() if types.count(kind) > 1]:
        raise damaged(f"it has more than one {doubled[0]}")
    # The checksum of a part follows the payload of the previous part.
    *starts, end = accumulate((CRC.size + length for length in lengths), initial=reader.at)
    if not partial and len(data) < end:
        raise DamagedFile(f"the file is truncated: {len(data)} of {end} bytes are present")
    if not partial and len(data) > end:
        raise damaged(f"{len(data) - end} bytes follow its end")
    offsets = tuple(start + CRC.size for start in starts)
    return Header(**vars(frame), lengths=tuple(lengths), offsets=offsets, chunk_types=types, checksum=checksum)


def _read_chunk_table(reader: ByteReader, lengths: list[int]) -> tuple[int, ...]:
    """Read the table of chunks. Returns the types and appends the lengths to `lengths`. Raises `DamagedFile`."""
    count = reader.varint()
    if not 1 <= count <= _MAX_CHUNKS:
        raise damaged(f"it declares {count} chunks")
    types = []
    for _ in range(count):
        types.append(reader.byte())
        lengths.append(reader.varint())
    return tuple(types)


def damaged(reason: str) -> DamagedFile:
    """The exception for a damaged file; `reason` completes its message."""
    return DamagedFile(f"the file is damaged: {reason}")


def _too_new(feature: str) -> UnsupportedFile:
    return UnsupportedFile(f"the file was written by a newer version of vqcodec, please upgrade ({feature})")


def _check_limit(what: str, size: int, name: str, limits: Limits) -> None:
    if size > getattr(limits, name):
        over = f"the file declares {what}, over the limit of {getattr(limits, name)} ({name})"
        option = f"--max-pixels {size}, or " if name == "pixels" else ""
        raise LimitExceeded(f"{over}: if you trust it, raise the limit ({option}Limits({name}={size}))")


def contradiction(frame: Frame) -> str | None:
    """Why the fields of a header contradict each other, as text for a message, or None if they do not."""
    for name in ("width", "height", "unit", "rows", "cols"):
        if getattr(frame, name) < 1:
            return f"{name} is below 1"
    # A latent position covers at least one pixel, and only the last unit of a row or column may be partly filled.
    if frame.rows > -(-frame.height // frame.unit) or frame.cols > -(-frame.width // frame.unit):
        return f"{frame.rows} x {frame.cols} units are too many for {frame.width} x {frame.height} pixels"
    return None
