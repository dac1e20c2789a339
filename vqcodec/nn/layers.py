"""The layers of the networks, on a grid of positions: 3x3 convolutions, and the order of pixels in a block.

In: activations [h, w, C], float32, channels last. Out: the same with other channels.

A 3x3 convolution is computed in tiles of 4 x 4 outputs (Winograd's minimal filtering, F(4x4, 3x3): Lavin & Gray 2016,
"Fast Algorithms for Convolutional Neural Networks", section 4.1):

    6 x 6 inputs -- B --> 36 values -- a product over the channels for each --> 36 values -- A --> 4 x 4 outputs

That takes 36 products of channels for 16 outputs, where the plain sum takes 144. Each of the three steps is one call of
numpy's `matmul`. The error is about 1e-5 of the activations, far less than half a grey level in the decoded picture.

The tiles of a grid are computed in strips that fit into the caches. The strips depend on the size of the grid alone, so
that results do not depend on the number of threads that share them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from vqcodec.windows import bounds

__all__ = ["WHOLE", "Area", "Conv3x3", "Floats", "Scratch", "Strip", "Tiles", "shuffled", "strided_as_3x3",
           "transposed_as_3x3", "unshuffled"]  # fmt: skip

Floats = npt.NDArray[np.float32]

TILE = 4  # outputs along a side of a tile
TAPS = TILE + 2  # inputs along a side of a tile
STRIP = 64  # tiles of a strip, about: 64 * 36 * 160 channels * 4 bytes are 1.5 MB for each step
Area = tuple[slice, slice]  # rows and columns of positions
WHOLE: Area = (slice(None), slice(None))

# Lavin & Gray 2016, section 4.1: the polynomials are evaluated at 0, 1, -1, 2, -2 and infinity.
_INPUT = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], np.float64
)  # fmt: skip
_KERNEL = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64
) / 24  # fmt: skip
_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float64
)  # fmt: skip
B = np.kron(_INPUT, _INPUT).astype(np.float32)  # [36, 36], for both directions at once
G = np.kron(_KERNEL, _KERNEL)  # [36, 9]
# [16, 37]: the last column adds the bias, which is kept behind the 36 values
A = np.concatenate([np.kron(_OUTPUT, _OUTPUT), np.ones((TILE**2, 1))], 1).astype(np.float32)


class Scratch(threading.local):
    """Arrays for temporary values, kept for the next strip: each thread has its own."""

    def __init__(self) -> None:
        self._arrays: dict[str, Floats] = {}

    def array(self, name: str, *shape: int) -> Floats:
        """An array of that shape with any values. It is valid until the thread asks for the same name again."""
        size = int(np.prod(shape))
        found = self._arrays.get(name)
        if found is None or found.size < size:
            found = self._arrays[name] = np.empty(size, np.float32)
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
        return np.zeros((TILE * self.rows + 2, TILE * self.columns + 2, channels), np.float32)

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


class Conv3x3:
    """A convolution with kernels [3, 3, C, K] and biases [K], for arrays with margins of 0."""

    def __init__(self, kernels: npt.NDArray[np.floating], bias: npt.NDArray[np.floating] | None = None) -> None:
        _, _, self.inputs, self.outputs = kernels.shape
        flat = kernels.reshape(9, -1).astype(np.float64)
        self.products = (G @ flat).astype(np.float32).reshape(TAPS**2, self.inputs, self.outputs)
        self.bias = np.zeros(self.outputs, np.float32) if bias is None else bias.astype(np.float32)

    def strip(self, x: Floats, strip: Strip, scratch: Scratch, *, rectify: bool = False) -> Floats:
        """The outputs of a strip of `x`, an array from `Tiles.new`: [16, T, K]; with `rectify`, of max(x, 0).

        The result is valid until the thread computes the next strip.
        """
        (rows, columns), count = strip.shape, strip.count
        # Two arrays take turns: the fewer bytes a strip touches, the more of them stay in the caches.
        start = x[TILE * strip.top :, TILE * strip.left :]
        down, right, channel = x.strides
        shape = (TAPS, TAPS, rows, columns, self.inputs)
        taps = as_strided(start, shape, (down, right, TILE * down, TILE * right, channel), writeable=False)
        inputs = scratch.array("one", *shape)
        np.maximum(taps, 0, out=inputs) if rectify else np.copyto(inputs, taps)
        values = scratch.array("other", TAPS**2, count * self.inputs)
        np.matmul(B, inputs.reshape(TAPS**2, -1), out=values)
        products = scratch.array("one", TAPS**2 + 1, count, self.outputs)
        np.matmul(values.reshape(TAPS**2, count, self.inputs), self.products, out=products[:-1])
        products[-1] = self.bias
        outputs = scratch.array("other", TILE**2, count * self.outputs)
        np.matmul(A, products.reshape(TAPS**2 + 1, -1), out=outputs)
        return outputs.reshape(TILE**2, count, self.outputs)


def unshuffled(x: npt.NDArray[np.generic], side: int) -> npt.NDArray[np.generic]:
    """[h * side, w * side, C] -> a view [h, w, side, side, C]: the pixels of each block."""
    height, width, channels = x.shape
    return x.reshape(height // side, side, width // side, side, channels).transpose(0, 2, 1, 3, 4)


def shuffled(blocks: Floats, side: int) -> Floats:
    """Blocks [h, w, side * side * C], in the order of `unshuffled` -> [h * side, w * side, C]."""
    height, width, values = blocks.shape
    channels = values // side**2
    split = blocks.reshape(height, width, side, side, channels).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(split).reshape(height * side, width * side, channels)


def strided_as_3x3(kernels: Floats) -> Floats:
    """Kernels [4, 4, C, K] of stride 2 -> [3, 3, 4 * C, K] for pixels that are unshuffled in blocks of 2 x 2.

    A 4x4 kernel of stride 2 covers the lower row of the block above, both rows of its own, and the upper row of the
    block below, and the same across. As 3x3 kernels of blocks they have zeros in the place of the other pixels.
    """
    _, _, channels, outputs = kernels.shape
    whole = np.zeros((6, 6, channels, outputs), np.float32)
    whole[1:5, 1:5] = kernels
    blocks = whole.reshape(3, 2, 3, 2, channels, outputs).transpose(0, 2, 1, 3, 4, 5)
    return np.ascontiguousarray(blocks).reshape(3, 3, 4 * channels, outputs)


def transposed_as_3x3(kernels: Floats) -> Floats:
    """Kernels [4, 4, C, K] of a transposed convolution of stride 2 -> [3, 3, C, 4 * K]: blocks of 2 x 2 pixels.

    It is the transpose of `strided_as_3x3`: rows and columns are reversed, and inputs and outputs change places.
    """
    forward = strided_as_3x3(np.ascontiguousarray(kernels.transpose(0, 1, 3, 2)))  # [3, 3, 4 * K, C]
    return np.ascontiguousarray(forward[::-1, ::-1].transpose(0, 1, 3, 2))
