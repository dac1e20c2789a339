"""Codes -> better codes for their bits: the encoder's search, which any decoder may be ignorant of.

In: codes [G, h, w] of a picture. Out: codes whose decoded picture has a smaller distortion + lambda * bits, with the
prior's real bits. A code that is nearest in the latents need not be best in the picture: so the latents go a gradient
step down the error of the *decoded* picture and are quantised anew (proximal gradient descent, Beck & Teboulle 2009,
section 2.2). How long a step may be depends on the decoder and the place; so a unit goes back where it got worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqcodec.coding.integer_prior import Codes, IntegerPrior
from vqcodec.progress import Progress, share_of
from vqcodec.windows import split

if TYPE_CHECKING:
    from vqcodec.nn.tiled import Tiled

__all__ = ["refine"]

Samples = npt.NDArray[np.uint8]
Latents = npt.NDArray[np.float32]


def refine(
    codes: Codes,
    pixels: Samples,
    networks: Tiled,
    prior: IntegerPrior,
    unit: int,
    steps: Sequence[float],
    progress: Progress | None = None,
) -> Codes:
    """Codes [G, h, w] of pixels [H, W, 3], improved in place by steps of the given lengths; returns them."""
    if not steps:
        return codes
    costs = _costs(codes, pixels, networks, prior, unit, None)
    share = 1 / len(steps)  # of a step; two thirds for the descent, one for its judgement
    for index, step in enumerate(steps):
        start, middle = index * share, (index + 2 / 3) * share
        before = codes.copy()  # a window must not see what was chosen in others
        for place, latents in networks.descend(before, pixels, step, unit, share_of(progress, start, middle)):
            for grid, target in _units(unit, codes[(slice(None), *place)], latents):
                grid[:] = networks.choose(target, prior.bits(grid), step)
        found = _costs(codes, pixels, networks, prior, unit, share_of(progress, middle, start + share))
        grids = _units(unit, codes, before)
        for place_index, (grid, earlier) in enumerate(grids):
            if found[place_index] >= costs[place_index]:
                grid[:] = earlier
            else:
                costs[place_index] = found[place_index]
    return codes


def _costs(
    codes: Codes,
    pixels: Samples,
    networks: Tiled,
    prior: IntegerPrior,
    unit: int,
    progress: Progress | None,
) -> list[float]:
    """distortion + lambda * bits of each unit, row-major."""
    errors = networks.errors(codes, pixels, progress)
    costs = []
    for grid, error in _units(unit, codes, errors[None]):
        prices = prior.bits(grid)
        bits = sum(float(each[np.arange(len(each)), grid[g].ravel()].sum()) for g, each in enumerate(prices))
        costs.append(float(error.sum()) + networks.price * bits)
    return costs


def _units(unit: int, *grids: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Grids [C, h, w] of one h and w, cut into units of coding; row-major, the same place of each."""
    return zip(*(chain(*split(grid, unit)) for grid in grids), strict=True)
