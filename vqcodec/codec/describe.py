"""The header of a .vq file -> its fields, model name and rates. Needs neither torch nor the model's weights.

In: the bytes of a file, which may be truncated. Out: an `Info`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from vqcodec.errors import BadFile, ModelError
from vqcodec.format import container
from vqcodec.format.header import Header
from vqcodec.format.rates import bits_per_dim, bits_per_pixel, compression_ratio
from vqcodec.format.units import unpack_unit
from vqcodec.limits import ANY_SIZE
from vqcodec.model.store import find

__all__ = ["Info", "describe"]


@dataclass(frozen=True)
class Info:
    """The contents of a file's header; nothing is decoded."""

    model_digest: str  # hexadecimal
    model: str | None  # name, if the model ships with the package
    width: int
    height: int
    mode: Literal["RGB", "L"]
    alpha: bool
    quality: int  # from 1
    unit: int  # side of a unit of coding, in latent positions
    rows: int  # of the grid of units
    cols: int
    unit_bytes: tuple[int, ...]  # row-major
    stored: float  # share of the blocks whose pixels are stored without loss, 0 to 1; of the units that are intact
    stored_bytes: int  # of their pixels
    header_bytes: int
    alpha_bytes: int
    postfilter_bytes: int  # weights of the post-filter
    metadata_bytes: dict[str, int]  # keys "exif", "xmp" and "icc", as far as present
    total_bytes: int

    @property
    def channels(self) -> int:
        """Number of colour channels, without alpha."""
        return 3 if self.mode == "RGB" else 1

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return bits_per_pixel(self.total_bytes, self.height, self.width)

    @property
    def bits_per_dim(self) -> float:
        """Bits per pixel and colour channel of the whole file."""
        return bits_per_dim(self.total_bytes, self.height, self.width, self.channels)

    @property
    def ratio(self) -> float:
        """Compression ratio: bytes of the uncompressed samples divided by the bytes of the file."""
        return compression_ratio(self.total_bytes, self.height, self.width, self.channels)


def describe(data: bytes, *, partial: bool = False) -> Info:
    """Read the header of a .vq file; `partial`: the file may be truncated. Raises `BadFile`."""
    header = container.read_header(data, ANY_SIZE, partial=partial)
    try:
        name = find(header.model_digest).name
    except ModelError:
        name = None
    stored, stored_bytes = _stored(data, header)
    return Info(
        model_digest=header.model_digest.hex(),
        model=name,
        width=header.width,
        height=header.height,
        mode=header.mode,
        alpha=header.alpha_bytes > 0,
        quality=header.quality + 1,
        unit=header.unit,
        rows=header.rows,
        cols=header.cols,
        unit_bytes=header.unit_lengths,
        stored=stored,
        stored_bytes=stored_bytes,
        header_bytes=header.header_bytes,
        alpha_bytes=header.alpha_bytes,
        postfilter_bytes=header.postfilter_bytes,
        metadata_bytes=header.metadata_bytes,
        total_bytes=len(data),
    )


def _stored(data: bytes, header: Header) -> tuple[float, int]:
    """The share of the blocks that are stored, and the bytes of their pixels; units that are damaged do not count."""
    if not header.stored:
        return 0.0, 0
    stored, blocks, size = 0, 0, 0
    for index in range(header.rows * header.cols):
        with suppress(BadFile):
            unit = unpack_unit(container.unit_payload(data, header, index))
            stored += unit.stored
            blocks += unit.blocks[0] * unit.blocks[1]
            size += len(unit.pixels)
    return stored / max(1, blocks), size
