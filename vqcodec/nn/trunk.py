"""The part that all networks share: a 3x3 convolution and residual blocks, forward and one step back.

In: activations [h, w, C], float32. Out: activations of the same grid, or gradients.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vqcodec.nn.layers import Conv3x3
from vqcodec.nn.native import Matrix, NativeBlock
from vqcodec.nn.tiles import WHOLE, Area, Floats, Scratch, Strip, Tiles
from vqcodec.threads import Workers

__all__ = ["Block", "Signs", "Trunk", "convolved"]

Bools = npt.NDArray[np.bool_]
# Of a block in a strip: those inside the block [16, T, K], and those of its input [4, 4, rows, columns, C]. Native code
# packs them.
BlockSigns = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass
class Signs:
    """Which values before the ReLUs are positive, for the step back."""

    blocks: list[list[BlockSigns]] = field(default_factory=list)  # for each block and strip
    last: Bools = field(default_factory=lambda: np.empty(0, bool))  # [h, w, C], after the last block


@dataclass(frozen=True)
class Block:
    """A residual block: x + 1x1(relu(3x3(relu(x))))."""

    kernels: Floats  # [3, 3, C, K]
    kernel_bias: Floats  # [K]
    out: Floats  # [K, C]
    out_bias: Floats  # [C]


class Forward:
    """A block, in strips."""

    def __init__(self, block: Block) -> None:
        self._conv = Conv3x3(block.kernels, block.kernel_bias)
        self._out, self._out_bias = block.out, block.out_bias
        self._native = None
        if self._conv.native:
            out = Matrix(self._conv.native.level, block.out, block.out_bias)
            self._native = NativeBlock(self._conv.native, out)

    def compute(
        self, arrays: tuple[Floats, Floats], tiles: Tiles, keep: bool, scratch: Scratch, strip: Strip
    ) -> BlockSigns | None:
        """From one array of `tiles.new` to another. With `keep`, the signs are returned."""
        if self._native:
            return self._native.forward(arrays, tiles, strip, scratch, keep)
        before, after = (tiles.own(x, strip) for x in arrays)
        hidden = self._conv.strip(arrays[0], strip, scratch, rectify=True)
        kept = (hidden > 0, before > 0) if keep else None
        np.maximum(hidden, 0, out=hidden)
        change = scratch.array("one", hidden.shape[0] * hidden.shape[1], self._out.shape[1])
        np.matmul(hidden.reshape(len(change), -1), self._out, out=change)
        change += self._out_bias
        np.add(before, change.reshape(before.shape), out=after)
        return kept


class Back:
    """The step back through a block, in strips, in two steps: the 3x3 convolution reads beyond its strip."""

    def __init__(self, block: Block) -> None:
        self.inside_channels = len(block.out)
        self._conv, self._out = Conv3x3(_reversed(block.kernels)), np.ascontiguousarray(block.out.T)
        self._native = None
        if self._conv.native:
            self._native = NativeBlock(self._conv.native, Matrix(self._conv.native.level, self._out))

    def inside(
        self, total: Floats, hidden: Floats, tiles: Tiles, scratch: Scratch, place: tuple[Strip, BlockSigns]
    ) -> None:
        """From the gradients of a block's outputs, `total`, to those before its inner ReLU, `hidden`."""
        strip, (positive, _) = place
        if self._native:
            self._native.inside((total, hidden), (tiles, strip), positive, scratch)
            return
        part = tiles.own(total, strip)
        outer = scratch.array("one", *part.shape)
        np.copyto(outer, part)
        inner = scratch.array("other", *positive.shape)
        np.matmul(outer.reshape(-1, part.shape[-1]), self._out, out=inner.reshape(-1, positive.shape[-1]))
        inner *= positive
        target = tiles.own(hidden, strip)
        target[...] = inner.reshape(target.shape)

    def outside(
        self, total: Floats, hidden: Floats, tiles: Tiles, scratch: Scratch, place: tuple[Strip, BlockSigns]
    ) -> None:
        """Add to the gradients of a block's outputs those that pass through the block: the gradients of its inputs."""
        strip, (_, positive) = place
        if self._native:
            self._native.outside((hidden, total), (tiles, strip), positive, scratch)
            return
        change = self._conv.strip(hidden, strip, scratch).reshape(positive.shape)
        change *= positive
        target = tiles.own(total, strip)
        target += change


class Trunk:
    """A 3x3 convolution and residual blocks. The ReLU after the last block is left to the next layer."""

    def __init__(self, kernels: Floats, bias: Floats, blocks: Sequence[Block], scratch: Scratch) -> None:
        self._kernels, self._blocks, self._scratch = kernels, blocks, scratch
        self._stem, self._forward = Conv3x3(kernels, bias), [Forward(block) for block in blocks]
        self._back: tuple[list[Back], Conv3x3] | None = None
        self._lock = threading.Lock()

    def forward(
        self, padded: Floats, tiles: Tiles, workers: Workers, signs: Signs | None = None, wanted: Area = WHOLE
    ) -> Floats:
        """Activations [h, w, C] from inputs in an array of `tiles.new`; with any values outside the `wanted` area.

        `signs` keeps what `back` needs; then the whole area must be wanted.
        """
        margin = len(self._blocks)  # each block needs one position more around the area
        now = _convolved(self._stem, padded, tiles, workers, self._scratch, tiles.strips(wanted, margin))
        then = tiles.new(self._stem.outputs)
        for index, block in enumerate(self._forward, 1):
            compute = partial(block.compute, (now, then), tiles, signs is not None, self._scratch)
            kept = workers.map(compute, tiles.strips(wanted, margin - index))
            tiles.clear(then)
            now, then = then, now
            if signs is not None:
                signs.blocks.append([each for each in kept if each is not None])
        return tiles.inside(now)

    def back(self, gradient: Floats, signs: Signs, workers: Workers) -> Floats:
        """Gradients [h, w, C] with respect to the inputs, from those with respect to the result of `forward`."""
        tiles = Tiles(*gradient.shape[:2])
        total = tiles.new(gradient.shape[2])
        tiles.inside(total)[...] = gradient
        blocks, stem = self._transposed()
        for block, kept in zip(blocks, reversed(signs.blocks), strict=True):
            hidden = tiles.new(block.inside_channels)
            places = list(zip(tiles.strips(), kept, strict=True))
            workers.map(partial(block.inside, total, hidden, tiles, self._scratch), places)
            tiles.clear(hidden)
            workers.map(partial(block.outside, total, hidden, tiles, self._scratch), places)
            tiles.clear(total)
        return tiles.inside(_convolved(stem, total, tiles, workers, self._scratch, tiles.strips()))

    def _transposed(self) -> tuple[list[Back], Conv3x3]:
        """The blocks and the stem for the step back, the last first. They are made when they are first needed."""
        with self._lock:
            if self._back is None:
                self._back = [Back(block) for block in reversed(self._blocks)], Conv3x3(_reversed(self._kernels))
            return self._back


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

    workers.map(lambda strip: conv.compute((padded, result), tiles, strip, scratch), strips)
    tiles.clear(result)
    return result


def _reversed(kernels: Floats) -> Floats:
    """The kernels [3, 3, K, C] of the transposed convolution."""
    return np.ascontiguousarray(kernels[::-1, ::-1].transpose(0, 1, 3, 2))
