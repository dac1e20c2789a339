"""The layers of the networks, on a grid of positions: 3x3 convolutions, and the order of pixels in a block.

In: activations [h, w, C], float32, channels last. Out: the same with other channels.

A 3x3 convolution is computed in tiles of 4 x 4 outputs (Winograd's minimal filtering, F(4x4, 3x3): Lavin & Gray 2016,
"Fast Algorithms for Convolutional Neural Networks", section 4.1):

    6 x 6 inputs -- B --> 36 values -- a product over the channels for each --> 36 values -- A --> 4 x 4 outputs

That takes 36 products of channels for 16 outputs, where the plain sum takes 144. The error is about 1e-5 of the
activations, far less than half a grey level in the decoded picture. In numpy, each of the three steps is one call of
`matmul`; native code (native.py) does the same for a few tiles at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from vqcodec.nn import native
from vqcodec.nn.tiles import TILE, Floats, Scratch, Strip, Tiles
from vqcodec.windows import bounds

__all__ = ["Conv3x3", "Pointwise", "shuffled", "strided_as_3x3", "transposed_as_3x3", "unshuffled"]

TAPS = TILE + 2  # inputs along a side of a tile
POSITIONS = 256  # of one product of a 1x1 convolution, about

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


class Conv3x3:
    """A convolution with kernels [3, 3, C, K] and biases [K], for arrays with margins of 0."""

    def __init__(self, kernels: Floats, bias: Floats | None = None) -> None:
        _, _, self.inputs, self.outputs = kernels.shape
        level = native.active()
        self.native = native.Matrix(level, kernels, bias) if level else None
        if self.native is None:
            flat = kernels.reshape(9, -1).astype(np.float64)
            self._products = (G @ flat).astype(np.float32).reshape(TAPS**2, self.inputs, self.outputs)
            self._bias = np.zeros(self.outputs, np.float32) if bias is None else bias

    def compute(self, arrays: tuple[Floats, Floats], tiles: Tiles, strip: Strip, scratch: Scratch) -> None:
        """The outputs of a strip: from one array of `tiles.new` to another."""
        if self.native:
            native.convolve(self.native, arrays, tiles, strip, scratch)
            return
        target = tiles.own(arrays[1], strip)
        target[...] = self.strip(arrays[0], strip, scratch).reshape(target.shape)

    def strip(self, x: Floats, strip: Strip, scratch: Scratch, *, rectify: bool = False) -> Floats:
        """In numpy, the outputs of a strip of `x`, an array from `Tiles.new`: [16, T, K]; with `rectify`, of max(x, 0).

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
        np.matmul(values.reshape(TAPS**2, count, self.inputs), self._products, out=products[:-1])
        products[-1] = self._bias
        outputs = scratch.array("other", TILE**2, count * self.outputs)
        np.matmul(A, products.reshape(TAPS**2 + 1, -1), out=outputs)
        return outputs.reshape(TILE**2, count, self.outputs)


class Pointwise:
    """A 1x1 convolution over several inputs side by side: matrices [C, K] of each, one bias [K]."""

    def __init__(self, matrices: Sequence[Floats], bias: Floats, scratch: Scratch) -> None:
        self.outputs, self._scratch = len(bias), scratch
        level = native.active()
        self._native = native.Matrix(level, np.concatenate(matrices), bias) if level else None
        if self._native is None:
            self._matrix = np.concatenate([*matrices, bias[None]]).astype(np.float32)

    def strips(self, height: int, width: int) -> list[slice]:
        """The rows of the grid for each product."""
        return [slice(*part) for part in bounds(height, max(1, POSITIONS // width))]

    def compute(
        self, inputs: Sequence[Floats], outputs: Sequence[Floats], rows: slice, *, rectify: bool = False
    ) -> None:
        """Those rows of the outputs from those of the inputs; with `rectify`, of max(x, 0) of the last input.

        Inputs and outputs are views [h, w, C], or [h, w, S, C] with segments of C channels that need not be neighbours.
        """
        inputs, outputs = [each[rows] for each in inputs], [each[rows] for each in outputs]
        if self._native:
            native.pointwise(self._native, inputs, outputs, self._scratch, rectify=rectify)
            return
        height, width = inputs[0].shape[:2]
        joined = self._scratch.array("one", height, width, len(self._matrix))
        start = 0
        for part in inputs:
            end = start + math.prod(part.shape[2:])
            joined[:, :, start:end].reshape(part.shape)[...] = part
            start = end
        if rectify:
            last = joined[:, :, end - math.prod(part.shape[2:]) : end]
            np.maximum(last, 0, out=last)
        joined[:, :, -1] = 1
        found = self._scratch.array("other", height * width, self.outputs)
        np.matmul(joined.reshape(len(found), -1), self._matrix, out=found)
        found, start = found.reshape(height, width, -1), 0
        for target in outputs:
            end = start + math.prod(target.shape[2:])
            target[...] = found[:, :, start:end].reshape(target.shape)
            start = end


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
