"""Codes -> better codes for their bits: the encoder's search, which any decoder may be ignorant of.

In: codes [G, h, w] of a picture. Out: codes whose decoded picture has a smaller distortion + lambda * bits, with the
prior's real bits. A code that is nearest in the latents need not be best in the picture: so the latents go a gradient
step down the error of the *decoded* picture and are quantised anew (proximal gradient descent, Beck & Teboulle 2009,
section 2.2). All positions move at once, though what one does shows in the pixels of its neighbours, so how long a step
may be depends on the place. There it is found: a position goes back where its neighbourhood got worse, and tries half
the step; where it got better, a longer one. In the last round steps are short, for nothing corrects them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqcodec.coding.integer_prior import Codes, IntegerPrior, bits_taken
from vqcodec.progress import Progress, share_of
from vqcodec.windows import split

if TYPE_CHECKING:
    from vqcodec.nn.tiled import Tiled

__all__ = ["refine"]

Samples = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]  # a number for each position: [h, w]

FIRST_STEP, LONGEST, LONGEST_AT_LAST = 1.0, 4.0, 0.55
SHORTER, LONGER = 0.5, 1.3
# A bit counts for less than lambda: with all of it the PSNR gains a little, but the MS-SSIM loses more.
RATE = 0.8


def refine(
    codes: Codes,
    pixels: Samples,
    networks: Tiled,
    prior: IntegerPrior,
    unit: int,
    rounds: int,
    progress: Progress | None = None,
) -> Codes:
    """Codes [G, h, w] of pixels [H, W, 3], improved in place; returns them."""
    steps = np.full((1, *codes.shape[1:]), FIRST_STEP, np.float32)
    rate = RATE * networks.price
    for index in range(rounds):
        start, end = index / rounds, (index + 1) / rounds
        middle = (start + 2 * end) / 3  # two thirds for the descent, one for its judgement
        np.minimum(steps, LONGEST_AT_LAST if index == rounds - 1 else LONGEST, out=steps)
        tried = codes.copy()
        gain = np.empty_like(steps)  # of distortion + lambda * bits
        descent = networks.descend(codes, pixels, steps[0], unit, share_of(progress, start, middle))
        for place, latents, errors in descent:
            gain[0][place] = errors
            here = (each[(slice(None), *place)] for each in (codes, tried, steps, gain))
            for target, before, after, lengths, saved in _units(unit, latents, *here):
                bits = prior.bits(before)
                after[:] = networks.choose(target, bits, RATE * lengths[0])
                saved += rate * (bits_taken(bits, before) - bits_taken(bits, after))
        gain -= networks.errors(tried, pixels, share_of(progress, middle, end))
        better = _around(gain[0]) > 0
        np.copyto(codes, tried, where=better)
        steps = np.where(better, LONGER * steps, SHORTER * steps)
    return codes


def _around(values: Map) -> Map:
    """The sum of each 3 x 3 neighbourhood, of what lies on the grid."""
    padded = np.pad(values, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    total: Map = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return total


def _units(unit: int, *grids: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Grids [C, h, w] of one h and w, cut into units of coding; row-major, the same place of each."""
    return zip(*(chain(*split(grid, unit)) for grid in grids), strict=True)
