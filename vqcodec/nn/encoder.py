"""Pictures -> latents: the encoder at one quality.

In: pixels [H, W, 3], uint8, H and W multiples of the stride. Out: latents [h, w, D], float32, h = H / stride.

The architecture is described in `train/networks/vqvae.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vqcodec.model.config import VQVAEConfig
from vqcodec.nn import fold
from vqcodec.nn.layers import Conv3x3, Pointwise, strided_as_3x3, unshuffled
from vqcodec.nn.tiles import WHOLE, Area, Floats, Scratch, Tiles
from vqcodec.nn.trunk import Trunk, convolved
from vqcodec.threads import Workers

__all__ = ["Encoder", "make_encoder"]

BRANCH = 1 / 8  # factor of the pixels in the branch of the patch encoder

Samples = npt.NDArray[np.uint8]


class Encoder:
    """Pixels [H, W, 3] -> latents [h, w, D], for both families.

    The pixels of a block are joined to channels. `downs` are convolutions after each of which blocks of 2 x 2 are
    joined, too; then follow a trunk and 1x1 convolutions of its result and, if `linear`, of the pixels.
    """

    def __init__(
        self, block: int, downs: Sequence[Conv3x3], trunk: Trunk, out: Pointwise, linear: bool, scratch: Scratch
    ) -> None:
        self._block, self._downs, self._trunk, self._out, self._linear = block, downs, trunk, out, linear
        self._scratch = scratch

    def forward(self, pixels: Samples, workers: Workers, wanted: Area = WHOLE) -> Floats:
        """The latents [h, w, D] of the `wanted` h x w positions."""
        height, width = (side // self._block for side in pixels.shape[:2])
        tiles = Tiles(height, width)
        padded = tiles.new(3 * self._block**2)
        x = tiles.inside(padded)
        x.reshape(height, width, self._block, self._block, 3)[...] = unshuffled(pixels, self._block)
        x -= fold.GREY
        for down in self._downs:
            wide = convolved(down, x, workers, self._scratch)
            height, width = height // 2, width // 2
            tiles = Tiles(height, width)
            padded = tiles.new(4 * down.outputs)
            x = tiles.inside(padded)
            joined = unshuffled(wide, 2)
            np.maximum(joined, 0, out=x.reshape(joined.shape))
        branch = self._trunk.forward(padded, tiles, workers, None, wanted)[wanted]
        parts = [x[wanted], branch] if self._linear else [branch]
        height, width, _ = branch.shape
        latents = np.empty((height, width, self._out.outputs), np.float32)
        workers.map(
            lambda rows: self._out.compute(parts, [latents], rows, rectify=True), self._out.strips(height, width)
        )
        return latents


def make_encoder(config: VQVAEConfig, tensors: fold.Tensors, quality: int, scratch: Scratch) -> Encoder:
    """The encoder of a model at one quality (0-based)."""
    blocks = fold.blocks(tensors, "encoder", config.encoder_blocks, quality)
    matrix, bias = fold.matrix(tensors, "encoder.out")
    if not config.transform:
        scale = fold.CONV_SCALE / fold.WHITE
        steps = config.stride.bit_length() - 1
        kernels = [strided_as_3x3(fold.kernels(tensors, f"encoder.down.{i}")) for i in range(steps)]
        kernels[0] = kernels[0] * np.float32(scale)
        biases = [tensors[f"encoder.down.{i}.bias"] for i in range(steps)]
        downs = [Conv3x3(*pair) for pair in zip(kernels[:-1], biases, strict=False)]
        trunk = Trunk(kernels[-1], biases[-1], blocks, scratch)
        return Encoder(2, downs, trunk, Pointwise([matrix], bias, scratch), False, scratch)
    scale, gain = fold.PIXEL_SCALE / fold.WHITE, fold.gain(tensors, "encoder", quality)
    linear, _ = fold.matrix(tensors, "encoder.linear")
    stem = fold.by_pixel(fold.kernels(tensors, "encoder.stem"), 2, config.stride) * np.float32(scale * BRANCH)
    trunk = Trunk(stem, tensors["encoder.stem.bias"], blocks, scratch)
    linear = fold.by_pixel(linear, 0, config.stride) * np.float32(scale)
    return Encoder(config.stride, [], trunk, Pointwise([linear, matrix * gain], bias * gain, scratch), True, scratch)
