"""A large latent grid -> overlapping windows for the networks, or disjoint units for coding.

In: the size of a latent grid and the reach of a network (the radius of its receptive field, in latent positions).
Out: windows whose cores tile the grid.

The networks process one window at a time, so memory does not grow with the picture. A window extends beyond its core by
the reach, but not beyond the grid. So the result in each core equals that of a pass over the whole picture, and there
are no visible seams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Window", "bounds", "cover", "split"]


Grids = TypeVar("Grids", bound=npt.NDArray[np.generic])


@dataclass(frozen=True)
class Window:
    """A rectangle of latent positions to compute (the core), and the input that its computation needs (the outer)."""

    top: int  # core, in positions of the whole grid; bottom and right are exclusive
    bottom: int
    left: int
    right: int
    outer_top: int
    outer_bottom: int
    outer_left: int
    outer_right: int

    def core(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the core in the whole grid, `scale` samples per position."""
        return slice(self.top * scale, self.bottom * scale), slice(self.left * scale, self.right * scale)

    def outer(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the outer rectangle in the whole grid, `scale` samples per position."""
        rows = slice(self.outer_top * scale, self.outer_bottom * scale)
        return rows, slice(self.outer_left * scale, self.outer_right * scale)

    def inner(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the core within the outer rectangle, `scale` samples per position."""
        top, left = self.top - self.outer_top, self.left - self.outer_left
        rows = slice(top * scale, (top + self.bottom - self.top) * scale)
        return rows, slice(left * scale, (left + self.right - self.left) * scale)


def cover(height: int, width: int, side: int, reach: int) -> Iterator[Window]:
    """Windows with cores of at most side x side positions that tile a height x width grid, row by row."""
    for top in range(0, height, side):
        bottom = min(top + side, height)
        for left in range(0, width, side):
            right = min(left + side, width)
            yield Window(
                top,
                bottom,
                left,
                right,
                max(0, top - reach),
                min(height, bottom + reach),
                max(0, left - reach),
                min(width, right + reach),
            )


def split(grids: Grids, unit: int) -> list[list[Grids]]:
    """Codes [G, h, w], or any array on that grid -> rows of units [G, <= unit, <= unit]. The units are views."""
    _, height, width = grids.shape
    return [
        [grids[:, top:bottom, left:right] for left, right in bounds(width, unit)]  # type: ignore[misc]
        for top, bottom in bounds(height, unit)
    ]


def bounds(length: int, unit: int) -> list[tuple[int, int]]:
    """(start, end) of the units along a side of `length` positions."""
    return [(start, min(start + unit, length)) for start in range(0, length, unit)]
