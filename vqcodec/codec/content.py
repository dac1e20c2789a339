"""The units of a file <-> the content of a picture: codes, and pixels that are stored without loss.

In: a `Content` and the prior. Out: one payload for each unit of coding, and back. Reading needs no network and no
floating-point operation that rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vqcodec.coding.integer_prior import Codes, IntegerPrior
from vqcodec.coding.payloads import read_units, write_units
from vqcodec.errors import DamagedFile, UnknownModel, UsageError, VqError
from vqcodec.format.container import Frame, VqFile
from vqcodec.format.units import Map, Unit, block_side, pack_unit, unpack_unit
from vqcodec.model.store import Model
from vqcodec.picture.lossless import unpack_pixels
from vqcodec.progress import Progress
from vqcodec.threads import Workers
from vqcodec.windows import bounds, split

__all__ = [
    "Content", "around", "blocks_of", "coded_positions", "filled", "grid_shape", "map_around", "paste", "payloads_of",
    "read_codes", "read_part", "unit_bounds",
]  # fmt: skip

Mask = npt.NDArray[np.bool_]
Samples = npt.NDArray[np.uint8]
Bounds = tuple[int, int, int, int]  # top, bottom, left, right in positions; bottom and right are exclusive


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class Content:
    """The codes of a picture, and what is stored instead of codes.

    codes: [G, h, w], 0 where a position carries no codes. coded: [h, w], True where it does. stored: [h, w], True where
    the pixels are stored without loss. streams: the bitstreams of stored pixels by index of the unit.
    """

    codes: Codes
    coded: Mask
    stored: Mask
    streams: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, codes: Codes) -> Content:
        """Codes [G, h, w] alone, at every position."""
        return cls(codes, np.ones(codes.shape[1:], bool), np.zeros(codes.shape[1:], bool))


def payloads_of(
    content: Content,
    prior: IntegerPrior,
    unit: int,
    progress: Progress | None = None,
    *,
    prove: bool = True,
    workers: Workers | None = None,
) -> list[bytes]:
    """The payloads of the units, row by row. `prove`: decode the codes again and compare.

    Raises `VqError` if they differ.
    """
    grids = [grid for row in split(content.codes, unit) for grid in row]
    if not content.streams:
        return write_units(prior, grids, progress, prove=prove, workers=workers)
    masks = [mask[0] for row in split(content.coded[None], unit) for mask in row]
    streams = write_units(prior, grids, progress, prove=prove, workers=workers, coded=masks)
    found = []
    for index, (area, codes) in enumerate(zip(_areas(content.stored.shape, unit), streams, strict=True)):
        blocks = map_around(content.stored, area, block_side(unit))
        found.append(pack_unit(Unit(blocks, content.streams.get(index, b""), codes)))
        if prove and not np.array_equal(coded_positions(blocks, area, block_side(unit)), masks[index]):
            raise VqError("a unit's map does not fit its codes; nothing was saved")
    return found


def read_codes(
    file: VqFile,
    model: Model,
    prior: Callable[[int], IntegerPrior] | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> Codes:
    """Codes [G, h, w] of an unpacked file. `prior` returns the prior at a quality (0-based).

    Raises `UnknownModel` if the file was written with another model, `DamagedFile` if it does not fit its model, and
    `UsageError` if parts of the picture are stored without codes.
    """
    content = read_part(file, model, dict(enumerate(file.units)), prior, progress, workers)
    if not content.coded.all():
        share = 1 - content.coded.mean()
        raise UsageError(
            f"{share:.0%} of the picture is stored without loss and has no codes; tokenize the picture itself"
        )
    return content.codes


def read_part(
    frame: Frame,
    model: Model,
    payloads: Mapping[int, bytes],
    prior: Callable[[int], IntegerPrior] | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> Content:
    """The content of only the units that `payloads` (index -> bytes) gives; the others are neither coded nor stored.

    Raises the same errors as `read_codes`, except the last.
    """
    limits = unit_bounds(frame, model)
    areas = [limits[index] for index in payloads]
    units = [_unit_of(payload, area, frame) for payload, area in zip(payloads.values(), areas, strict=True)]
    side = block_side(frame.unit)
    masks = [
        None if unit.stored == 0 else coded_positions(unit.map, area, side)
        for unit, area in zip(units, areas, strict=True)
    ]
    shapes = [(bottom - top, right - left) for top, bottom, left, right in areas]
    if all(mask is not None and not mask.any() for mask in masks):  # the prior is not needed
        grids = [np.zeros((len(model.config.vqvae.codebooks), *shape), np.int32) for shape in shapes]
    else:
        loaded = (prior or model.prior)(frame.quality)
        grids = read_units(loaded, [unit.codes for unit in units], shapes, progress, workers=workers, coded=masks)
    height, width = grid_shape(frame.height, frame.width, model.config.vqvae.stride)
    codes = np.zeros((len(model.config.vqvae.codebooks), height, width), np.int32)
    coded, stored = np.zeros((height, width), bool), np.zeros((height, width), bool)
    for unit, (top, bottom, left, right), mask, grid in zip(units, areas, masks, grids, strict=True):
        place = slice(top, bottom), slice(left, right)
        codes[(slice(None), *place)] = grid
        coded[place] = True if mask is None else mask
        stored[place] = _at_positions(unit.map, (top, bottom, left, right), side)[1:-1, 1:-1]
    streams = {index: unit.pixels for index, unit in zip(payloads, units, strict=True) if unit.pixels}
    return Content(codes, coded, stored, streams)


def paste(pixels: Samples, content: Content, unit: int, stride: int) -> None:
    """Write the stored pixels of a picture over its decoded pixels [H, W, 3], in place.

    Raises `DamagedFile` if stored pixels cannot be decoded.
    """
    areas = _areas(content.stored.shape, unit)
    for index, stream in content.streams.items():
        top, bottom, left, right = areas[index]
        target = pixels[top * stride : bottom * stride, left * stride : right * stride]
        found = unpack_pixels(stream, *target.shape[:2])
        by_pixel = content.stored[top:bottom, left:right].repeat(stride, 0).repeat(stride, 1)
        np.copyto(target, found, where=by_pixel[: target.shape[0], : target.shape[1], None])


def filled(codes: Codes, coded: Mask) -> Codes:
    """Codes [G, h, w] with those of the nearest coded position where `coded` [h, w] is False; as they are if none is.

    This keeps the decoded pixels next to a position without codes free of artefacts. "Nearest" is by Manhattan
    distance. Two passes, along the columns and then along the rows, find it in time proportional to the grid, whatever
    the size of the holes.
    """
    if coded.all() or not coded.any():
        return codes
    height, width = coded.shape
    rows, columns = np.arange(height, dtype=np.int64)[:, None], np.arange(width, dtype=np.int64)
    far = 2 * (height + width)
    above = np.maximum.accumulate(np.where(coded, rows, -far), axis=0)
    below = np.minimum.accumulate(np.where(coded, rows, far)[::-1], axis=0)[::-1]
    row = np.where(rows - above <= below - rows, above, below)  # row of the nearest coded position in the same column
    distance = np.abs(row - rows)
    # Minimise distance[i, k] + |j - k| over all columns k. Each number is distance * width + k, which carries k along.
    before = np.minimum.accumulate((distance - columns) * width + columns, axis=1)
    after = np.minimum.accumulate(((distance + columns) * width + columns)[:, ::-1], axis=1)[:, ::-1]
    column = np.where(before // width + columns <= after // width - columns, before, after) % width
    return codes[:, row[rows, column], column]


def coded_positions(map_: Map, area: Bounds, side: int) -> Mask:
    """Which positions [h, w] of a unit carry codes: those that are not stored, and their eight neighbours.

    `map_`: the map of the unit's blocks, of `side` positions a side, and of those around it.
    """
    return _with_neighbours(~_at_positions(map_, area, side))


def around(positions: Mask) -> Mask:
    """The positions [h, w] and their eight neighbours."""
    return _with_neighbours(np.pad(positions, 1))


def map_around(stored: Mask, area: Bounds, side: int) -> Map:
    """The map of a unit, from the stored positions [h, w] of the picture. Outside of it everything counts as stored."""
    top, bottom, left, right = area
    padded = np.pad(stored, 1, constant_values=True)
    rows = [top, *range(top + 1, bottom + 1, side), bottom + 1]  # one position of each block, in the padded array
    columns = [left, *range(left + 1, right + 1, side), right + 1]
    return tuple(tuple(bool(padded[row, column]) for column in columns) for row in rows)


def blocks_of(area: Bounds, side: int) -> list[Bounds]:
    """The bounds of the blocks of a unit, row by row."""
    top, bottom, left, right = area
    return [
        (top + first, top + last, left + start, left + end)
        for first, last in bounds(bottom - top, side)
        for start, end in bounds(right - left, side)
    ]


def unit_bounds(frame: Frame, model: Model) -> list[Bounds]:
    """The bounds of a file's units in its grid: (top, bottom, left, right) in positions, in row-major order.

    Raises `UnknownModel` if the file was written with another model, `DamagedFile` if it does not fit its model.
    """
    config = model.config
    if frame.model_digest != model.digest:
        raise UnknownModel(
            f"the file was written with another model (digest {frame.model_digest.hex()}), not with {model.name} "
            f"(digest {model.digest.hex()})"
        )
    height, width = grid_shape(frame.height, frame.width, config.vqvae.stride)
    # Check the counts before building the list: the header of a hostile file may declare any size.
    if frame.unit != config.unit or (frame.rows, frame.cols) != grid_shape(height, width, config.unit):
        raise DamagedFile("the file's units do not fit its model; the file is damaged")
    if frame.quality >= config.vqvae.qualities:
        raise DamagedFile(f"the file's model has no quality {frame.quality + 1}; the file is damaged")
    return _areas((height, width), config.unit)


def grid_shape(height: int, width: int, stride: int) -> tuple[int, int]:
    """Latent positions (rows, columns) of a picture of height x width pixels."""
    return -(-height // stride), -(-width // stride)


def _areas(shape: tuple[int, ...], unit: int) -> list[Bounds]:
    """The bounds of the units of a grid of positions, row by row."""
    rows, columns = bounds(shape[0], unit), bounds(shape[1], unit)
    return [(*vertical, *horizontal) for vertical in rows for horizontal in columns]


def _unit_of(payload: bytes, area: Bounds, frame: Frame) -> Unit:
    """The parts of a unit's payload. Raises `DamagedFile` if its map does not have the size of the unit."""
    top, bottom, left, right = area
    blocks = grid_shape(bottom - top, right - left, block_side(frame.unit))
    if not frame.stored:
        return Unit(((False,) * (blocks[1] + 2),) * (blocks[0] + 2), codes=payload)
    unit = unpack_unit(payload)
    if unit.blocks != blocks:
        raise DamagedFile("the map of a unit does not have its size; the file is damaged")
    return unit


def _with_neighbours(positions: Mask) -> Mask:
    """Positions and their eight neighbours: [h + 2, w + 2] -> [h, w]."""
    columns = positions[:, :-2] | positions[:, 1:-1] | positions[:, 2:]
    found: Mask = columns[:-2] | columns[1:-1] | columns[2:]
    return found


def _at_positions(map_: Map, area: Bounds, side: int) -> Mask:
    """The map of a unit at its positions and those next to it: [h + 2, w + 2]."""
    top, bottom, left, right = area
    rows = 1 + np.arange(-1, bottom - top + 1) // side
    columns = 1 + np.arange(-1, right - left + 1) // side
    # The first position beyond the unit lies in a block of the frame, even where the unit's last block is smaller.
    rows[-1], columns[-1] = len(map_) - 1, len(map_[0]) - 1
    return np.array(map_, bool)[np.ix_(rows, columns)]
