"""The encoder's choice of the blocks that are stored without loss instead of as codes.

In: codes [G, h, w] of a picture, and its pixels. Out: the stored positions, and the bitstreams of the units that have
any. Text, drawings and screens are often cheaper without loss than by codes that ruin them.

The choice minimises what the codes minimise, distortion + lambda * bits. Stored pixels have no distortion. So there is
no threshold of its own: with a smaller lambda more blocks are stored, in the end all of them.

The bits of a block are not known before the unit is compressed as a whole. A fast compression of each block by itself
(DEFLATE) says how they are spread over the blocks. A few sets of blocks that follow from it are compressed, and the
cheapest set is taken; to store nothing is one of them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqcodec.codec.code_prices import bits_taken, prices
from vqcodec.codec.content import Bounds, Mask, blocks_of, coded_positions, map_around
from vqcodec.coding.integer_prior import Codes, IntegerPrior
from vqcodec.format.units import block_side
from vqcodec.picture.lossless import BY_EFFORT, FAST, FASTEST, pack_pixels
from vqcodec.progress import Progress
from vqcodec.threads import Workers
from vqcodec.windows import Window, cover

if TYPE_CHECKING:
    from vqcodec.nn.tiled import Tiled

__all__ = ["Choice", "choose", "streams_of"]

Samples = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

# Bits per pixel beyond which a block is not considered. Photographs take 6 to 15, codes 0.1 to 1.5; what makes up for
# more bits than this is a distortion that codes do not leave at their own lambda.
MOST_BPP = 4.0
CODED_BPP = 1.5  # of codes, at most
# WebP takes 1/1.3 to 1/4 of what DEFLATE takes, in the mean of 93 screenshots and drawings less than a half.
DEFLATE = 2.0
SHARES = (0.0, 0.5, 0.7, 1.0, 1.4, 2.0)  # of the estimated cost of a stored block, at which it is taken for a set
SURROUNDINGS = 2  # positions around a unit that are decoded with it, as in the search
UNIT_BYTES = 12  # of a map and what belongs to it, in a file that had none


@dataclass(frozen=True)
class Choice:
    """The settings of a choice. `unit`: the side of a unit of coding in positions."""

    prior: IntegerPrior
    unit: int
    workers: Workers


def choose(codes: Codes, pixels: Samples, networks: Tiled, how: Choice, progress: Progress | None = None) -> Mask:
    """The positions [h, w] of a picture that are worth storing, for codes [G, h, w] of pixels [H, W, 3].

    Each unit is decided by itself, among the codes around it. So the result does not depend on the number of threads.
    """
    _, height, width = codes.shape
    stored = np.zeros((height, width), bool)
    if networks.price <= 0:
        return stored

    def decide(window: Window) -> None:
        stored[window.core()] = _Unit(codes, pixels, window, networks, how).best()

    how.workers.map(decide, list(cover(height, width, how.unit, SURROUNDINGS)), progress)
    return stored


def streams_of(
    pixels: Samples, stored: Mask, how: tuple[int, int, int], workers: Workers, progress: Progress | None = None
) -> dict[int, bytes]:
    """The bitstreams of the units with stored positions, by index. `how`: stride, unit in positions, effort."""
    stride, unit, effort = how
    windows = list(enumerate(cover(stored.shape[0], stored.shape[1], unit, 0)))
    wanted = [(index, window) for index, window in windows if stored[window.core()].any()]

    def compute(item: tuple[int, Window]) -> tuple[int, bytes]:
        index, window = item
        area = pixels[window.core(stride)]
        return index, pack_pixels(_with_fill(area, stored[window.core()], stride), BY_EFFORT[effort])

    return dict(workers.map(compute, wanted, progress))


class _Unit:
    """The choice in one unit."""

    def __init__(self, codes: Codes, pixels: Samples, window: Window, networks: Tiled, how: Choice) -> None:
        self.codes, self.window, self.networks, self.how = codes, window, networks, how
        self.around = pixels[window.outer(networks.stride)]
        self.pixels = pixels[window.core(networks.stride)]
        self.area: Bounds = (0, window.bottom - window.top, 0, window.right - window.left)
        self.side = block_side(how.unit)
        self.blocks = blocks_of(self.area, self.side)

    def best(self) -> Mask:
        """The stored positions [h, w] of the cheapest set of blocks."""
        nothing = np.zeros(self.area[1::2], bool)
        stride = self.networks.stride
        sizes = np.array([(bottom - top) * (right - left) for top, bottom, left, right in self.blocks]) * stride**2
        price, flat = self.networks.price, self.networks.flat_errors(self.pixels).astype(np.float64)
        worst = np.array([self._sum(flat, block) for block in self.blocks]) / price + CODED_BPP * sizes
        # What a block may take. Most units of a photograph end here, before anything is compressed or decoded.
        most = np.minimum(worst, MOST_BPP / min(1.0, self.networks.rate_scale) * sizes)
        if (self._bits_of_blocks(1 / 4) > DEFLATE * most).all():
            return nothing
        bits = self._bits_of_blocks()
        bits *= 8 * len(pack_pixels(np.ascontiguousarray(self.pixels), FASTEST)) / bits.sum()
        if (bits > most).all():
            return nothing
        self.distortion, self.bits = self._costs_of_codes()
        coded = np.array([self._sum(self.distortion + price * self.bits, block) for block in self.blocks])
        sets: dict[bytes, Mask] = {}
        for share in SHARES:
            chosen = share * price * bits < coded
            sets.setdefault(chosen.tobytes(), chosen)
        best, least = nothing, float(coded.sum())
        for chosen in sets.values():
            if chosen.any():
                stored = self._positions(chosen)
                cost = self._cost(stored)
                if cost < least:
                    best, least = stored, cost
        return best

    def _bits_of_blocks(self, share: float = 1.0) -> Doubles:
        """The size of each block in bits when it is compressed by itself with DEFLATE.

        `share`: of the rows of each block, those in the middle; the sizes are scaled up.
        """
        stride = self.networks.stride
        found = []
        for top, bottom, left, right in self.blocks:
            block = self.pixels[top * stride : bottom * stride, left * stride : right * stride]
            rows = max(1, round(share * len(block)))
            first = (len(block) - rows) // 2
            size = len(zlib.compress(block[first : first + rows].tobytes(), 1))
            found.append(8.0 * size * len(block) / rows)
        return np.array(found)

    def _costs_of_codes(self) -> tuple[Doubles, Doubles]:
        """Distortion and bits [h, w] of the codes of each position."""
        around = self.codes[(slice(None), *self.window.outer())]
        distortion = self.networks.errors(around, self.around)[self.window.inner()]
        own = np.ascontiguousarray(self.codes[(slice(None), *self.window.core())])
        bits = bits_taken(prices(self.how.prior, own), own).sum(0)
        return distortion.astype(np.float64), bits.astype(np.float64)

    def _positions(self, chosen: npt.NDArray[np.bool_]) -> Mask:
        """Chosen blocks as positions [h, w]."""
        stored = np.zeros(self.area[1::2], bool)
        for (top, bottom, left, right), taken in zip(self.blocks, chosen, strict=True):
            stored[top:bottom, left:right] = taken
        return stored

    def _cost(self, stored: Mask) -> float:
        """Distortion + lambda * bits of the unit with these stored positions."""
        coded = coded_positions(map_around(stored, self.area, self.side), self.area, self.side)
        stream = pack_pixels(_with_fill(self.pixels, stored, self.networks.stride), FAST)
        bits = 8 * (len(stream) + UNIT_BYTES) + self.bits[coded].sum()
        return float(self.distortion[~stored].sum() + self.networks.price * bits)

    @staticmethod
    def _sum(values: Doubles, block: Bounds) -> float:
        top, bottom, left, right = block
        return float(values[top:bottom, left:right].sum())


def _with_fill(pixels: Samples, stored: Mask, stride: int) -> Samples:
    """Pixels [H, W, 3] of a unit, with one colour where they are not stored: that of the first stored pixel."""
    if stored.all():
        return np.ascontiguousarray(pixels)
    by_pixel = stored.repeat(stride, 0).repeat(stride, 1)[: pixels.shape[0], : pixels.shape[1]]
    first = pixels[tuple(np.argwhere(by_pixel)[0])]
    return np.where(by_pixel[:, :, None], pixels, first)
