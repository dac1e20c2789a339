"""Codes -> codes with a better rate-distortion trade-off: the encoder's search. Any decoder reads the result.

In: codes [G, h, w] of a picture. Out: codes whose decoded picture has a smaller distortion + lambda * bits, with the
actual bits of the prior.

The code that is nearest to a latent is not always the best code for the decoded picture. So each round takes a gradient
step: it moves the latents to reduce the squared error of the *decoded* picture, and then quantises them again with the
rate term. This is proximal gradient descent on the codes (Beck & Teboulle 2009, section 2.2).

All positions of a unit move at once, but each position also affects the pixels of its neighbours. The longest step that
still helps therefore differs between positions, and each position adapts its own step length:

- If the 3 x 3 neighbourhood of a position improved, the position keeps its new code and takes a longer step next.
- Otherwise it returns to its old code and takes a shorter step next.

The last round limits all steps to a small length, because no later round can correct them.
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
Map = npt.NDArray[np.float32]  # one value per position: [h, w]

FIRST_STEP, LONGEST, LONGEST_AT_LAST = 1.0, 4.0, 0.55
SHORTER, LONGER = 0.6, 1.3
# The price of a bit in the search, as a share of lambda. A share of 1 gains a little PSNR but loses more MS-SSIM.
RATE = 0.8
# Positions around a unit that are decoded with it. The decoder's reach is larger, but more positions gave no better
# codes.
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
    """Improve codes [G, h, w] of pixels [H, W, 3] in place, one unit of coding at a time.

    `unit` is the side of a unit in positions, `rounds` the number of gradient steps.
    """
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
    """Improve the codes [G, h, w] of a unit in place; `unit` is its rows and columns. The codes around it stay."""
    inner = (slice(None), *unit)
    # Computed once, before the first round: the search changes the prices little, and computing them takes as long as
    # two rounds.
    bits = prices(prior, codes[inner])
    steps = np.full(codes.shape[1:], FIRST_STEP, np.float32)
    for index in range(rounds):
        np.minimum(steps, LONGEST_AT_LAST if index == rounds - 1 else LONGEST, out=steps)
        latents, errors = networks.descend(codes, pixels, steps)
        candidate = codes.copy()
        candidate[inner] = networks.choose(latents[inner], bits, RATE * steps[unit])
        gain = errors - networks.errors(candidate, pixels)
        bits_saved = bits_taken(bits, codes[inner]).sum(0) - bits_taken(bits, candidate[inner]).sum(0)
        gain[unit] += RATE * networks.price * bits_saved
        better = _sum_3x3(gain) > 0
        np.copyto(codes, candidate, where=better)
        steps = np.where(better, LONGER * steps, SHORTER * steps)
        if progress:
            progress((index + 1) / rounds)


def _sum_3x3(values: Map) -> Map:
    """The sum over the 3 x 3 neighbourhood of each position [h, w]; positions outside the grid count as 0."""
    padded = np.pad(values, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    total: Map = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return total
