"""A grid of positions in tiles of 4 x 4, and the strips of neighbouring tiles that are computed at once.

In: the size of a grid, or a part of it that is wanted. Out: arrays with margins, strips, memory for temporary values.

The tiles of a grid are computed in strips that fit into the caches. The strips depend on the size of the grid alone, so
that results do not depend on the number of threads that share them.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqcodec.windows import bounds

__all__ = ["TILE", "WHOLE", "Area", "Floats", "Scratch", "Strip", "Tiles", "aligned"]

Floats = npt.NDArray[np.float32]

TILE = 4  # positions along a side of a tile
STRIP = 18  # tiles of a strip, about: with 160 channels, 36 values of each take 400 KB
LINE = 64  # bytes of a cache line
Area = tuple[slice, slice]  # rows and columns of positions
WHOLE: Area = (slice(None), slice(None))


class Scratch(threading.local):
    """Arrays for temporary values, kept for the next strip: each thread has its own."""

    def __init__(self) -> None:
        self._arrays: dict[str, Floats] = {}

    def array(self, name: str, *shape: int) -> Floats:
        """An array of that shape with any values. It is valid until the thread asks for the same name again."""
        size = math.prod(shape)
        found = self._arrays.get(name)
        if found is None or found.size < size:
            found = self._arrays[name] = aligned(size)
        return found[:size].reshape(shape)


@dataclass(frozen=True)
class Strip:
    """Neighbouring tiles of a grid: rows and columns of tiles, with exclusive ends."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return self.bottom - self.top, self.right - self.left

    @property
    def count(self) -> int:
        """The number of tiles, T."""
        return self.shape[0] * self.shape[1]


class Tiles:
    """A grid of h x w positions in tiles.

    The arrays of `new` have a margin of one position at the top and left, and at least one at the bottom and right, so
    that the tiles are whole. Where a convolution reads them, the margins are 0.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.rows, self.columns = -(-height // TILE), -(-width // TILE)

    def strips(self, wanted: Area = WHOLE, margin: int = 0) -> list[Strip]:
        """The strips that cover an area of positions and `margin` positions around it, row by row."""
        spans = [_in_tiles(part, size, margin) for part, size in zip(wanted, (self.height, self.width), strict=True)]
        (top, bottom), (left, right) = spans
        across = -(-(right - left) // -(-(right - left) // (STRIP + STRIP // 4)))
        down = max(1, round(STRIP / across))
        return [
            Strip(top + first, top + last, left + start, left + end)
            for first, last in bounds(bottom - top, down)
            for start, end in bounds(right - left, across)
        ]

    def new(self, channels: int) -> Floats:
        """Zeros [4 * rows + 2, 4 * columns + 2, C]."""
        array = aligned(TILE * self.rows + 2, TILE * self.columns + 2, channels)
        array[...] = 0
        return array

    def inside(self, x: Floats) -> Floats:
        """The view [h, w, C] of an array from `new` without its margins."""
        return x[1 : 1 + self.height, 1 : 1 + self.width]

    def clear(self, x: Floats) -> None:
        """Set the lower and right margins, which `own` may have filled, to 0."""
        x[1 + self.height :] = 0
        x[:, 1 + self.width :] = 0

    @staticmethod
    def own(x: Floats, strip: Strip) -> Floats:
        """The view [4, 4, rows, columns, C] of the positions of a strip: row and column in the tile come first."""
        rows, columns = strip.shape
        part = x[1 + TILE * strip.top : 1 + TILE * strip.bottom, 1 + TILE * strip.left : 1 + TILE * strip.right]
        return part.reshape(rows, TILE, columns, TILE, -1).transpose(1, 3, 0, 2, 4)


def _in_tiles(part: slice, size: int, margin: int) -> tuple[int, int]:
    """First and last tile (exclusive) of a part of `size` positions with a margin on each side."""
    first, last, _ = part.indices(size)
    return max(0, first - margin) // TILE, -(-min(size, last + margin) // TILE)


def aligned(*shape: int) -> Floats:
    """An array with any values that starts with a cache line."""
    size = math.prod(shape)
    memory = np.empty(size + LINE // 4, np.float32)
    start = -memory.ctypes.data % LINE // 4
    return memory[start : start + size].reshape(shape)
