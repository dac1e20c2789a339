"""Codes -> codes with a better rate-distortion trade-off: the encoder's search. Any decoder reads the result.

In: codes [G, h, w] of a picture. Out: codes whose decoded picture has a smaller distortion + lambda * bits, with the
actual bits of the prior.

The code that is nearest to a latent is not always the best code for the decoded picture. So each round takes a gradient
step: it moves the latents to reduce the distortion of the *decoded* picture, and then quantises them again with the
rate term. This is proximal gradient descent on the codes (Beck & Teboulle 2009, section 2.2).

All positions of a unit move at once, but each position also affects the pixels of its neighbours. The longest step that
still helps therefore differs between positions, and each position adapts its own step length:

- If the 3 x 3 neighbourhood of a position improved, the position keeps its new code and takes a longer step next.
- Otherwise it returns to its old code and takes a shorter step next.

The next round needs errors and gradients of the codes that were kept. They are put together from those of the old and
the new codes, position by position, instead of decoding once more. Where kept and rejected positions meet, that is an
approximation. It saves a quarter of the time, and a twentieth of the gain, which the step lengths below win back.

The last round limits all steps to a small length, because no later round can correct them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqcodec.codec.code_prices import LEVEL_BITS, levels_taken, prices
from vqcodec.coding.integer_prior import Codes, IntegerPrior
from vqcodec.progress import Progress, share_of
from vqcodec.threads import Workers
from vqcodec.windows import Window, cover

if TYPE_CHECKING:
    from vqcodec.nn.tiled import Tiled

__all__ = ["Search", "refine"]

Samples = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]  # one value per position: [h, w]

FIRST_STEP, LONGEST, LONGEST_AT_LAST = 0.9, 4.0, 0.65
SHORTER, LONGER = 0.5, 1.3
# The price of a bit in the search, as a share of lambda. A share of 1 gains a little PSNR but loses more MS-SSIM.
RATE = 0.8
# Positions around a unit that are decoded with it. The decoder's reach is larger, but more positions gave no better
# codes.
SURROUNDINGS = 2
UNITS_PER_THREAD = 2  # with fewer, the threads share the work on each unit instead


@dataclass(frozen=True)
class Search:
    """The settings of a search. `unit`: the side of a unit of coding in positions; `rounds`: gradient steps."""

    prior: IntegerPrior
    unit: int
    rounds: int
    workers: Workers


def refine(
    codes: Codes,
    pixels: Samples,
    networks: Tiled,
    search: Search,
    progress: Progress | None = None,
    stored: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Improve codes [G, h, w] of pixels [H, W, 3] in place. Units all of whose positions are `stored` are left out.

    Each unit of coding is searched by itself, among the codes around it as they were before. So the result does not
    depend on the order of the units, nor on the number of threads.
    """
    _, height, width = codes.shape
    before = codes.copy()

    def improve(window: Window, progress: Progress | None = None) -> None:
        around = before[(slice(None), *window.outer())].copy()
        part = pixels[window.outer(networks.stride)]
        _Unit(around, part, window.inner(), networks, search.prior).run(search.rounds, progress)
        codes[(slice(None), *window.core())] = around[(slice(None), *window.inner())]

    windows = list(cover(height, width, search.unit, SURROUNDINGS))
    if stored is not None:
        windows = [window for window in windows if not stored[window.core()].all()]
    if len(windows) >= UNITS_PER_THREAD * search.workers.count:
        search.workers.map(improve, windows, progress)
        return
    for index, window in enumerate(windows):
        part = share_of(progress, index / len(windows), (index + 1) / len(windows))
        search.workers.map(partial(improve, progress=part), [window])


class _Unit:
    """The search in one unit: `codes` [G, h, w] with those around it, which stay as they are, and their pixels."""

    def __init__(
        self, codes: Codes, pixels: Samples, unit: tuple[slice, slice], networks: Tiled, prior: IntegerPrior
    ) -> None:
        self.codes, self.pixels, self.unit, self.networks = codes, pixels, unit, networks
        self.inner = (slice(None), *unit)
        # Computed once, before the first round: the search changes the prices little.
        self.prices = prices(prior, codes[self.inner])

    def run(self, rounds: int, progress: Progress | None) -> None:
        """Improve the codes in place."""
        current = self.networks.slopes(self.codes, self.pixels)
        steps = np.full(self.codes.shape[1:], FIRST_STEP, np.float32)
        for index in range(rounds):
            last = index == rounds - 1
            np.minimum(steps, LONGEST_AT_LAST if last else LONGEST, out=steps)
            moved = current.latents - steps[:, :, None] * current.gradient
            candidate = self._quantised(moved, steps)
            if last:
                found = None
                errors = self.networks.errors(candidate, self.pixels)
            else:
                found = self.networks.slopes(candidate, self.pixels)
                errors = found.errors
            better = _sum_3x3(current.errors - errors + self._saved(candidate)) > 0
            np.copyto(self.codes, candidate, where=better)
            if found is not None:
                current = found.where(better, current)
            steps = np.where(better, LONGER * steps, SHORTER * steps).astype(np.float32)
            if progress:
                progress((index + 1) / rounds)

    def _quantised(self, latents: npt.NDArray[np.float32], steps: Map) -> Codes:
        """The codes [G, h, w] for latents [h, w, D] that moved by these steps; outside the unit those there were."""
        scale = (RATE * LEVEL_BITS * steps[self.unit]).astype(np.float32)
        candidate = self.codes.copy()
        candidate[self.inner] = self.networks.choose(latents[self.unit], [each.level for each in self.prices], scale)
        return candidate

    def _saved(self, candidate: Codes) -> Map:
        """The price [h, w] of the bits that the candidate saves, in the unit of the errors."""
        saved = np.zeros(candidate.shape[1:], np.float32)
        levels = levels_taken(self.prices, self.codes[self.inner]) - levels_taken(self.prices, candidate[self.inner])
        saved[self.unit] = levels.sum(0) * np.float32(RATE * LEVEL_BITS * self.networks.price)
        return saved


def _sum_3x3(values: Map) -> Map:
    """The sum over the 3 x 3 neighbourhood of each position [h, w]; positions outside the grid count as 0."""
    padded = np.pad(values, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    total: Map = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return total
