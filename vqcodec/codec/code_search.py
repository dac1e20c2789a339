"""Codes -> better codes for their bits: the encoder's search, which any decoder may be ignorant of.

In: codes [G, h, w] of a picture. Out: codes whose decoded picture has a smaller distortion + lambda * bits, with the
prior's real bits. A code that is nearest in the latents need not be best in the picture: so the latents go a gradient
step down the error of the *decoded* picture and are quantised anew (proximal gradient descent, Beck & Teboulle 2009,
section 2.2). All positions of a unit move at once, though what one does shows in the pixels of its neighbours, so how
long a step may be depends on the place. There it is found: a position goes back where its neighbourhood got worse, and
tries a shorter one; where it got better, a longer one. In the last round steps are short, for nothing corrects them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqcodec.codec.code_prices import bits_taken, prices
from vqcodec.coding.integer_prior import Codes, IntegerPrior
from vqcodec.progress import Progress, share_of
from vqcodec.windows import cover

if TYPE_CHECKING:
    from vqcodec.nn.tiled import Tiled

__all__ = ["refine"]

Samples = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]  # a number for each position: [h, w]

FIRST_STEP, LONGEST, LONGEST_AT_LAST = 1.0, 4.0, 0.55
SHORTER, LONGER = 0.6, 1.3
# A bit counts for less than lambda: with all of it the PSNR gains a little, but the MS-SSIM loses more.
RATE = 0.8
# Positions around a unit that are looked at. The decoder looks further, but with more of them no code became better.
SURROUNDINGS = 2


def refine(
    codes: Codes,
    pixels: Samples,
    networks: Tiled,
    prior: IntegerPrior,
    unit: int,
    rounds: int,
    progress: Progress | None = None,
) -> None:
    """Improve codes [G, h, w] of pixels [H, W, 3] in place, one unit of coding after the other."""
    _, height, width = codes.shape
    windows = list(cover(height, width, unit, SURROUNDINGS))
    for index, window in enumerate(windows):
        part = share_of(progress, index / len(windows), (index + 1) / len(windows))
        around = codes[(slice(None), *window.outer())]
        _search(around, pixels[window.outer(networks.stride)], window.inner(), networks, prior, rounds, part)


def _search(
    codes: Codes,
    pixels: Samples,
    unit: tuple[slice, slice],
    networks: Tiled,
    prior: IntegerPrior,
    rounds: int,
    progress: Progress | None,
) -> None:
    """Improve the codes [G, h, w] of a unit in place; those around it stay."""
    inner = (slice(None), *unit)
    bits = prices(prior, codes[inner])  # as they are before the search: they change little by it, and cost two rounds
    steps = np.full(codes.shape[1:], FIRST_STEP, np.float32)
    for index in range(rounds):
        np.minimum(steps, LONGEST_AT_LAST if index == rounds - 1 else LONGEST, out=steps)
        latents, errors = networks.descend(codes, pixels, steps)
        tried = codes.copy()
        tried[inner] = networks.choose(latents[inner], bits, RATE * steps[unit])
        gain = errors - networks.errors(tried, pixels)
        saved = bits_taken(bits, codes[inner]).sum(0) - bits_taken(bits, tried[inner]).sum(0)
        gain[unit] += RATE * networks.price * saved
        better = _around(gain) > 0
        np.copyto(codes, tried, where=better)
        steps = np.where(better, LONGER * steps, SHORTER * steps)
        if progress:
            progress((index + 1) / rounds)


def _around(values: Map) -> Map:
    """The sum of each 3 x 3 neighbourhood, of what lies on the grid."""
    padded = np.pad(values, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    total: Map = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return total
