"""The part that all networks share: a 3x3 convolution and residual blocks, forward and one step back.

In: activations [h, w, C], float32. Out: activations of the same grid, or gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from vqcodec.nn.layers import WHOLE, Area, Conv3x3, Floats, Scratch, Strip, Tiles
from vqcodec.threads import Workers
from vqcodec.windows import bounds

__all__ = ["Block", "Pointwise", "Signs", "Trunk", "convolved"]

Bools = npt.NDArray[np.bool_]
POSITIONS = 256  # of one product of a 1x1 convolution, about


@dataclass
class Signs:
    """Which values before the ReLUs are positive, for the step back."""

    # For each block and strip: those inside the block [16, T, K], and those of its input [4, 4, rows, columns, C].
    blocks: list[list[tuple[Bools, Bools]]] = field(default_factory=list)
    last: Bools = field(default_factory=lambda: np.empty(0, bool))  # [h, w, C], after the last block


@dataclass(frozen=True)
class Block:
    """A residual block: x + 1x1(relu(3x3(relu(x))))."""

    kernels: Floats  # [3, 3, C, K]
    kernel_bias: Floats  # [K]
    out: Floats  # [K, C]
    out_bias: Floats  # [C]

    @cached_property
    def conv(self) -> Conv3x3:
        """The 3x3 convolution."""
        return Conv3x3(self.kernels, self.kernel_bias)

    @cached_property
    def back(self) -> Conv3x3:
        """The transpose of `conv`: from gradients of its outputs to those of its inputs."""
        return Conv3x3(_reversed(self.kernels))


class Pointwise:
    """A 1x1 convolution over several inputs side by side: matrices [C, K] of each, one bias [K]."""

    def __init__(self, matrices: Sequence[Floats], bias: Floats, scratch: Scratch) -> None:
        self.matrix = np.concatenate([*matrices, bias[None]]).astype(np.float32)
        self.outputs = len(bias)
        self._scratch = scratch

    def strips(self, height: int, width: int) -> list[tuple[int, int]]:
        """(first, last) rows of the grid for each product."""
        return bounds(height, max(1, POSITIONS // width))

    def rows(self, parts: Sequence[Floats], first: int, last: int) -> Floats:
        """The outputs [last - first, w, K] of those rows of the inputs [h, w, C]; of the last input max(x, 0).

        The result is valid until the thread computes the next one.
        """
        width = parts[0].shape[1]
        joined = self._scratch.array("one", last - first, width, len(self.matrix))
        start = 0
        for index, part in enumerate(parts):
            end = start + part.shape[2]
            if index == len(parts) - 1:
                np.maximum(part[first:last], 0, out=joined[:, :, start:end])
            else:
                joined[:, :, start:end] = part[first:last]
            start = end
        joined[:, :, -1] = 1
        outputs = self._scratch.array("other", (last - first) * width, self.matrix.shape[1])
        np.matmul(joined.reshape(len(outputs), -1), self.matrix, out=outputs)
        return outputs.reshape(last - first, width, -1)


class Trunk:
    """A 3x3 convolution and residual blocks. The ReLU after the last block is left to the next layer."""

    def __init__(self, kernels: Floats, bias: Floats, blocks: Sequence[Block], scratch: Scratch) -> None:
        self._kernels, self._blocks, self._scratch = kernels, blocks, scratch
        self._stem = Conv3x3(kernels, bias)

    def forward(
        self, padded: Floats, tiles: Tiles, workers: Workers, signs: Signs | None = None, wanted: Area = WHOLE
    ) -> Floats:
        """Activations [h, w, C] from inputs in an array of `tiles.new`; with any values outside the `wanted` area.

        `signs` keeps what `back` needs; then the whole area must be wanted.
        """
        margin = len(self._blocks)  # each block needs one position more around the area
        now = _convolved(self._stem, padded, tiles, workers, self._scratch, tiles.strips(wanted, margin))
        then = tiles.new(self._stem.outputs)
        for index, block in enumerate(self._blocks, 1):
            compute = partial(self._forward_strip, block, tiles, (now, then), signs is not None)
            kept = workers.map(compute, tiles.strips(wanted, margin - index))
            tiles.clear(then)
            now, then = then, now
            if signs is not None:
                signs.blocks.append([each for each in kept if each is not None])
        return tiles.inside(now)

    def _forward_strip(
        self, block: Block, tiles: Tiles, arrays: tuple[Floats, Floats], keep: bool, strip: Strip
    ) -> tuple[Bools, Bools] | None:
        before, after = (tiles.own(x, strip) for x in arrays)
        hidden = block.conv.strip(arrays[0], strip, self._scratch, rectify=True)
        kept = (hidden > 0, before > 0) if keep else None
        np.maximum(hidden, 0, out=hidden)
        change = self._scratch.array("one", hidden.shape[0] * hidden.shape[1], block.out.shape[1])
        np.matmul(hidden.reshape(len(change), -1), block.out, out=change)
        change += block.out_bias
        np.add(before, change.reshape(before.shape), out=after)
        return kept

    def back(self, gradient: Floats, signs: Signs, workers: Workers) -> Floats:
        """Gradients [h, w, C] with respect to the inputs, from those with respect to the result of `forward`."""
        tiles = Tiles(*gradient.shape[:2])
        total = tiles.new(gradient.shape[2])
        tiles.inside(total)[...] = gradient
        for block, kept in zip(reversed(self._blocks), reversed(signs.blocks), strict=True):
            hidden = tiles.new(len(block.out))
            places = list(zip(tiles.strips(), kept, strict=True))
            workers.map(partial(self._back_inside, block, tiles, total, hidden), places)
            tiles.clear(hidden)
            workers.map(partial(self._back_strip, block, tiles, total, hidden), places)
            tiles.clear(total)
        return tiles.inside(
            _convolved(Conv3x3(_reversed(self._kernels)), total, tiles, workers, self._scratch, tiles.strips())
        )

    def _back_inside(
        self, block: Block, tiles: Tiles, total: Floats, hidden: Floats, place: tuple[Strip, tuple[Bools, Bools]]
    ) -> None:
        """From the gradients of a block's outputs to those before its inner ReLU."""
        strip, (positive, _) = place
        part = tiles.own(total, strip)
        outer = self._scratch.array("one", *part.shape)
        np.copyto(outer, part)
        inner = self._scratch.array("other", *positive.shape)
        np.matmul(outer.reshape(-1, part.shape[-1]), block.out.T, out=inner.reshape(-1, positive.shape[-1]))
        inner *= positive
        target = tiles.own(hidden, strip)
        target[...] = inner.reshape(target.shape)

    def _back_strip(
        self, block: Block, tiles: Tiles, total: Floats, hidden: Floats, place: tuple[Strip, tuple[Bools, Bools]]
    ) -> None:
        """Add to the gradients of a block's outputs those that pass through the block: the gradients of its inputs."""
        strip, (_, positive) = place
        change = block.back.strip(hidden, strip, self._scratch).reshape(positive.shape)
        change *= positive
        target = tiles.own(total, strip)
        target += change


def convolved(conv: Conv3x3, x: Floats, workers: Workers, scratch: Scratch, *, rectify: bool = False) -> Floats:
    """A convolution of [h, w, C], or of max(x, 0): [h, w, K]."""
    tiles = Tiles(*x.shape[:2])
    padded = tiles.new(conv.inputs)
    np.maximum(x, 0, out=tiles.inside(padded)) if rectify else np.copyto(tiles.inside(padded), x)
    return tiles.inside(_convolved(conv, padded, tiles, workers, scratch, tiles.strips()))


def _convolved(
    conv: Conv3x3, padded: Floats, tiles: Tiles, workers: Workers, scratch: Scratch, strips: Sequence[Strip]
) -> Floats:
    """A convolution from one array of `tiles.new` to a new one."""
    result = tiles.new(conv.outputs)

    def compute(strip: Strip) -> None:
        target = tiles.own(result, strip)
        target[...] = conv.strip(padded, strip, scratch).reshape(target.shape)

    workers.map(compute, strips)
    tiles.clear(result)
    return result


def _reversed(kernels: Floats) -> Floats:
    """The kernels [3, 3, K, C] of the transposed convolution."""
    return np.ascontiguousarray(kernels[::-1, ::-1].transpose(0, 1, 3, 2))
