"""The coding order of the cells of grids, in two implementations: `traverse` for reading, `sweep` for writing.

In: an integer prior, grids of codes [G, H, W] (filled by `traverse`, complete for `sweep`) and a coder. Both functions
pass the same counts to the coder in the same order.

Cells with equal t = j + 2i (row i, column j) depend only on cells with smaller t, so they form a wave that is coded at
once:

        j  0  1  2  3  4
    i 0    0  1  2  3  4
      1    2  3  4  5  6      t = j + 2i
      2    4  5  6  7  8

A grid takes W + 2(H - 1) waves instead of W * H steps. `traverse` processes the waves of several grids together. The
features are stored sheared: the features of one wave form one slab, with row i of grid u at slot u * rows + i. The
neighbour (di, dj) is therefore in the slab of wave t + dj + 2di, at slot + di. Only the last few slabs are needed, so
they are stored in a ring.

Cells may be left out of a grid: they carry no codes, and are to their neighbours as cells outside of the grid are. They
belong to no wave, and their slots hold zeros.

`sweep` needs all codes in advance. It computes the features of all cells at once, which gives the same integers. This
is faster: nearly twice as fast for a picture of few units, whose waves are short. The verification after encoding uses
`traverse`, so it checks the two implementations against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vqcodec.coding.formats import BLOCK_TAPS, ENTRY_TAPS
from vqcodec.coding.integer_prior import Codes, Floats, IntegerPrior, Mask, clamp
from vqcodec.progress import Progress

__all__ = ["Coder", "Wave", "sweep", "traverse", "waves"]

ROWS_ABOVE = 2  # rows of zeros above every grid, because the taps reach two rows up
SWEEP_CELLS = 256  # approximate number of cells whose counts `sweep` holds at a time: few enough for the CPU caches


class Coder(Protocol):
    """A writer or a reader of range-coded streams."""

    def code(self, unit: int, symbols: Codes, counts: Floats) -> Codes:
        """Code symbols [N] of a unit with counts [N, K]. A writer returns them, a reader the decoded symbols."""


@dataclass(frozen=True)
class Wave:
    """The cells of one wave. Those of grid u are contiguous in the arrays, from `starts[u]` to `starts[u + 1]`."""

    t: int
    slots: npt.NDArray[np.intp]  # [N], index of each cell in a slab
    rows: npt.NDArray[np.intp]  # [N]
    columns: npt.NDArray[np.intp]  # [N]
    starts: tuple[int, ...]  # number of grids + 1 entries


def waves(shapes: Sequence[tuple[int, int]], coded: Sequence[Mask | None] | None = None) -> Iterator[Wave]:
    """The waves of grids with the given (height, width), in coding order. Some may have no cells.

    `coded`: for each grid the cells [H, W] that carry codes; None: all. The others are left out.
    """
    masks = [None] * len(shapes) if coded is None else coded
    slots_per_grid = max(height for height, _ in shapes) + ROWS_ABOVE
    for t in range(max(width + 2 * (height - 1) for height, width in shapes)):
        rows = []
        for (height, width), mask in zip(shapes, masks, strict=True):
            first = max(0, -((width - 1 - t) // 2))  # the smallest i with t - 2i < width
            each = np.arange(first, max(first, min(height, t // 2 + 1)), dtype=np.intp)
            rows.append(each if mask is None else each[mask[each, t - 2 * each]])
        starts = np.cumsum([0, *map(len, rows)])
        slots = np.concatenate([r + ROWS_ABOVE + u * slots_per_grid for u, r in enumerate(rows)])
        flat = np.concatenate(rows)
        yield Wave(t, slots, flat, t - 2 * flat, tuple(int(s) for s in starts))


class Slabs:
    """Ring buffer of the features of the last waves: [depth, slots, C]."""

    def __init__(self, taps: tuple[tuple[int, int], ...], slots: int, channels: int) -> None:
        self.taps = taps
        self.depth = 1 - min(dj + 2 * di for di, dj in taps)
        self.ring = np.zeros((self.depth, slots, channels), np.float32)

    def put(self, wave: Wave, features: Floats) -> None:
        """Store the features [N, C] of a wave; slots without a cell stay zero."""
        slab = self.ring[wave.t % self.depth]
        slab[:] = 0
        slab[wave.slots] = features

    def context(self, wave: Wave) -> Floats:
        """Gather the neighbours of the cells of a wave: [N, taps * C]."""
        out = np.empty((len(wave.slots), len(self.taps), self.ring.shape[2]), np.float32)
        for k, (di, dj) in enumerate(self.taps):
            out[:, k] = self.ring[(wave.t + dj + 2 * di) % self.depth, wave.slots + di]
        return out.reshape(len(out), len(self.taps) * self.ring.shape[2])


def sweep(
    prior: IntegerPrior,
    grid: Codes,
    coder: Coder,
    unit: int,
    progress: Progress | None = None,
    coded: Mask | None = None,
) -> None:
    """Encode a complete grid of codes [G, H, W] as the given unit of the coder.

    `coded`: the cells [H, W] that carry codes, by default all. Elsewhere the grid must hold codes, of any value.
    """
    books, height, width = grid.shape
    in_order = list(waves([(height, width)], [coded]))
    cells = np.concatenate([wave.rows * width + wave.columns for wave in in_order])
    ends = sorted({0, *np.cumsum([len(wave.rows) for wave in in_order]).tolist()})  # some waves have no cells
    states = prior.states(grid, coded)[cells]
    codes = grid.reshape(books, -1)[:, cells]
    variable = [g for g in range(books) if not prior.constant(g)]
    begin = 0
    group: list[slice] = []  # the waves of the current group, relative to `begin`
    for first, last in pairwise(ends):
        group.append(slice(first - begin, last - begin))
        if last - begin < SWEEP_CELLS and last < len(cells):
            continue
        known = codes[:, begin:last]
        counts = prior.evaluate_cells(states[begin:last], known)
        for wave in group:
            for g in variable:
                coder.code(unit, known[g, wave], counts[g][wave])
        begin, group = last, []
        if progress:
            progress(last / len(cells))
    if progress and not len(cells):
        progress(1)


def traverse(
    prior: IntegerPrior,
    grids: Sequence[Codes],
    coder: Coder,
    progress: Progress | None = None,
    coded: Sequence[Mask | None] | None = None,
) -> None:
    """Code grids of codes [G, H, W] wave by wave; grid u is unit u of the coder.

    The grids are filled in place with the symbols that the coder returns. `coded`: for each grid the cells [H, W] that
    carry codes; None: all. Elsewhere the grid stays as it is.
    """
    shapes = [(grid.shape[1], grid.shape[2]) for grid in grids]
    slots = len(grids) * (max(height for height, _ in shapes) + ROWS_ABOVE)
    channels = prior.layout.channels
    embeddings = Slabs(ENTRY_TAPS, slots, channels)
    features = [Slabs(BLOCK_TAPS, slots, channels) for _ in prior.blocks]
    in_order = list(waves(shapes, coded))
    total = sum(len(wave.slots) for wave in in_order)
    done = 0
    for wave in in_order:
        h = prior.entry(embeddings.context(wave))
        for block, slabs in zip(prior.blocks, features, strict=True):
            slabs.put(wave, h)
            h = clamp(h + block(slabs.context(wave)))
        state = prior.state(h)
        codes = np.zeros((len(wave.slots), len(prior.layout.sizes)), np.int32)
        for g in range(codes.shape[1]):
            if prior.constant(g):  # its codes are 0 everywhere and are not coded
                state = prior.advance(g, state, codes[:, g])
                continue
            counts = prior.counts(g, state)
            for unit, grid in enumerate(grids):
                cells = slice(wave.starts[unit], wave.starts[unit + 1])
                if cells.start == cells.stop:
                    continue
                rows, columns = wave.rows[cells], wave.columns[cells]
                grid[g, rows, columns] = codes[cells, g] = coder.code(unit, grid[g, rows, columns], counts[cells])
            state = prior.advance(g, state, codes[:, g])
        embeddings.put(wave, prior.embed(codes))
        done += len(wave.slots)
        if progress:
            progress(done / total if total else 1)
