"""The order in which the cells of grids are coded: a traversal where codes are to come, a sweep where they are known.

In: an integer prior, grids of codes [G, H, W] (to be filled by the traversal) and a coder, which is handed the same
counts in the same order by both.

Cells with equal t = j + 2i depend only on cells with smaller t (row i, column j), so all of them are coded at once:

        j  0  1  2  3  4
    i 0    0  1  2  3  4
      1    2  3  4  5  6      t = j + 2i
      2    4  5  6  7  8

A grid takes W + 2(H - 1) waves instead of W * H steps; several grids go through their waves together. Features are
kept sheared: those of one wave are one slab, row i of grid u at slot u * rows + i, so the neighbour (di, dj) lies in
the slab of wave t + dj + 2di at slot + di. Only the last few slabs are ever needed: they form a ring.

Who knows all codes need not go by waves to get the counts: products over all cells at once give the same integers. So a
writer sweeps, which is faster (nearly twice for a picture of few units, whose waves are short), and the proof that
follows, a traversal, checks one way by the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vqcodec.coding.formats import BLOCK_TAPS, ENTRY_TAPS
from vqcodec.coding.integer_prior import Codes, Floats, IntegerPrior, clamp
from vqcodec.progress import Progress

__all__ = ["Coder", "Wave", "sweep", "traverse", "waves"]

ABOVE = 2  # rows of zeros above every grid: the taps reach two rows up
SWEPT = 256  # cells whose counts a sweep holds at a time, about: few enough for the caches


class Coder(Protocol):
    """A writer or a reader: takes the symbols that are known, returns the symbols that are coded."""

    def code(self, unit: int, symbols: Codes, counts: Floats) -> Codes:
        """Code symbols [N] of a unit with counts [N, K]; a writer returns them, a reader returns what it read."""


@dataclass(frozen=True)
class Wave:
    """The cells of one wave. The cells of a grid are neighbours in the lists, from `starts[u]` to `starts[u + 1]`."""

    t: int
    slots: npt.NDArray[np.intp]  # [N], where a cell's features are in a slab
    rows: npt.NDArray[np.intp]  # [N]
    columns: npt.NDArray[np.intp]  # [N]
    starts: tuple[int, ...]  # one more than there are grids


def waves(shapes: Sequence[tuple[int, int]]) -> Iterator[Wave]:
    """The waves of grids with the given (height, width), in order."""
    slots_per_grid = max(height for height, _ in shapes) + ABOVE
    for t in range(max(width + 2 * (height - 1) for height, width in shapes)):
        rows = []
        for height, width in shapes:
            first = max(0, -((width - 1 - t) // 2))  # the smallest i with t - 2i < width
            rows.append(np.arange(first, max(first, min(height, t // 2 + 1)), dtype=np.intp))
        starts = np.cumsum([0, *map(len, rows)])
        slots = np.concatenate([r + ABOVE + u * slots_per_grid for u, r in enumerate(rows)])
        flat = np.concatenate(rows)
        yield Wave(t, slots, flat, t - 2 * flat, tuple(int(s) for s in starts))


class Slabs:
    """A ring of the features of the last waves: [depth, slots, C]."""

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
        """The neighbours of the wave's cells: [N, taps * C]."""
        out = np.empty((len(wave.slots), len(self.taps), self.ring.shape[2]), np.float32)
        for k, (di, dj) in enumerate(self.taps):
            out[:, k] = self.ring[(wave.t + dj + 2 * di) % self.depth, wave.slots + di]
        return out.reshape(len(out), len(self.taps) * self.ring.shape[2])


def sweep(prior: IntegerPrior, grid: Codes, coder: Coder, unit: int, progress: Progress | None = None) -> None:
    """Code a grid [G, H, W] of known codes as the given unit of the coder."""
    books, height, width = grid.shape
    in_order = list(waves([(height, width)]))
    cells = np.concatenate([wave.rows * width + wave.columns for wave in in_order])
    ends = sorted(set(np.cumsum([len(wave.rows) for wave in in_order]).tolist()))  # some waves have no cell
    states = prior.states(grid)[cells]
    codes = grid.reshape(books, -1)[:, cells]
    coded = [g for g in range(books) if not prior.constant(g)]
    begin = 0
    group: list[slice] = []  # of waves
    for first, last in pairwise([0, *ends]):
        group.append(slice(first - begin, last - begin))
        if last - begin < SWEPT and last < len(cells):
            continue
        known = codes[:, begin:last]
        counts = prior.evaluate_cells(states[begin:last], known)
        for wave in group:
            for g in coded:
                coder.code(unit, known[g, wave], counts[g][wave])
        begin, group = last, []
        if progress:
            progress(last / len(cells))


def traverse(prior: IntegerPrior, grids: Sequence[Codes], coder: Coder, progress: Progress | None = None) -> None:
    """Code grids [G, H, W] wave by wave; each grid is a unit of its own for the coder."""
    shapes = [(grid.shape[1], grid.shape[2]) for grid in grids]
    slots = len(grids) * (max(height for height, _ in shapes) + ABOVE)
    channels = prior.layout.channels
    seen = Slabs(ENTRY_TAPS, slots, channels)
    features = [Slabs(BLOCK_TAPS, slots, channels) for _ in prior.blocks]
    total = sum(height * width for height, width in shapes)
    done = 0
    for wave in waves(shapes):
        h = prior.entry(seen.context(wave))
        for block, slabs in zip(prior.blocks, features, strict=True):
            slabs.put(wave, h)
            h = clamp(h + block(slabs.context(wave)))
        state = prior.state(h)
        codes = np.zeros((len(wave.slots), len(prior.layout.sizes)), np.int32)
        for g in range(codes.shape[1]):
            if prior.constant(g):  # nothing to code: 0 everywhere
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
        seen.put(wave, prior.embed(codes))
        done += len(wave.slots)
        if progress:
            progress(done / total)
