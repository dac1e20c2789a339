"""Latents -> pictures: the decoder at one quality, and the step from gradients of the pixels back to the latents.

In: latents [h, w, D], float32. Out: pixel values [h * stride, w * stride, 3], from 0 to 255, neither rounded nor
clipped.

The architecture is described in `train/networks/vqvae.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqcodec.model.config import VQVAEConfig
from vqcodec.nn import fold
from vqcodec.nn.layers import Conv3x3, Pointwise, shuffled, transposed_as_3x3
from vqcodec.nn.tiles import WHOLE, Area, Floats, Scratch, Tiles
from vqcodec.nn.trunk import Signs, Trunk, convolved
from vqcodec.threads import Workers

__all__ = ["ConvDecoder", "Decoder", "PatchDecoder", "make_decoder"]


class PatchDecoder:
    """Latents -> pixel values: the transpose of the linear transform plus a branch; for the stems with a transform."""

    def __init__(self, stride: int, trunk: Trunk, linear: Floats, out: tuple[Floats, Floats], scratch: Scratch) -> None:
        self._stride, self._trunk = stride, trunk
        self._dims = len(linear)
        self._out = Pointwise([linear, out[0]], out[1], scratch)  # [D, 3 * s * s], [C, 3 * s * s]
        transposed = np.concatenate([linear, out[0]]).T
        self._back = Pointwise([transposed], np.zeros(transposed.shape[1], np.float32), scratch)

    def forward(self, latents: Floats, workers: Workers, signs: Signs | None = None, wanted: Area = WHOLE) -> Floats:
        """Pixel values [h * stride, w * stride, 3] of the `wanted` h x w positions of latents, [., ., D].

        `signs` keeps what `back` needs; then all positions must be wanted.
        """
        tiles = Tiles(*latents.shape[:2])
        padded = tiles.new(latents.shape[2])
        tiles.inside(padded)[...] = latents
        branch = self._trunk.forward(padded, tiles, workers, signs, wanted)[wanted]
        latents = tiles.inside(padded)[wanted]
        (height, width, _), side = latents.shape, self._stride
        if signs is not None:
            signs.last = branch > 0
        values = np.empty((height * side, width * side, 3), np.float32)
        self._map(self._out, ([latents, branch], [self._blocks(values)]), workers, rectify=True)
        return values

    def _blocks(self, values: Floats) -> Floats:
        """Pixels [h * s, w * s, 3] as a view [h, w, s, s * 3]: a segment for each row of a block."""
        side = self._stride
        height, width = values.shape[0] // side, values.shape[1] // side
        return values.reshape(height, side, width, side * 3).transpose(0, 2, 1, 3)

    @staticmethod
    def _map(
        layer: Pointwise, arrays: tuple[list[Floats], list[Floats]], workers: Workers, *, rectify: bool = False
    ) -> None:
        strips = layer.strips(*arrays[0][0].shape[:2])
        workers.map(lambda rows: layer.compute(*arrays, rows, rectify=rectify), strips)

    def back(self, gradient: Floats, signs: Signs, workers: Workers) -> Floats:
        """Gradients [h, w, D] with respect to the latents, from those with respect to the pixel values.

        `signs` are those of `forward` for these latents.
        """
        positive = signs.last
        height, width, _ = positive.shape
        result = np.empty((height, width, self._dims), np.float32)
        branch = np.empty(positive.shape, np.float32)
        self._map(self._back, ([self._blocks(gradient)], [result, branch]), workers)
        branch *= positive
        result += self._trunk.back(branch, signs, workers)
        return result


class ConvDecoder:
    """Latents -> pixel values: a trunk, then convolutions that each double height and width; for the stem "conv"."""

    def __init__(self, trunk: Trunk, ups: Sequence[Conv3x3], scratch: Scratch) -> None:
        self._trunk, self._ups, self._scratch = trunk, ups, scratch

    def forward(self, latents: Floats, workers: Workers, *, wanted: Area = WHOLE) -> Floats:
        """Pixel values [h * stride, w * stride, 3] of the `wanted` h x w positions of latents, [., ., D]."""
        tiles = Tiles(*latents.shape[:2])
        padded = tiles.new(latents.shape[2])
        tiles.inside(padded)[...] = latents
        x = self._trunk.forward(padded, tiles, workers)
        for up in self._ups:
            x = shuffled(convolved(up, x, workers, self._scratch, rectify=True), 2)
        rows, columns = (slice(*part.indices(size)) for part, size in zip(wanted, latents.shape, strict=False))
        stride = 2 ** len(self._ups)
        return x[rows.start * stride : rows.stop * stride, columns.start * stride : columns.stop * stride]


Decoder = PatchDecoder | ConvDecoder


def make_decoder(config: VQVAEConfig, tensors: fold.Tensors, quality: int, scratch: Scratch) -> Decoder:
    """The decoder of a model at one quality (0-based)."""
    blocks = fold.blocks(tensors, "decoder", config.decoder_blocks, quality)
    if not config.transform:
        stem, bias = fold.matrix(tensors, "decoder.stem")
        kernels = np.zeros((3, 3, *stem.shape), np.float32)
        kernels[1, 1] = stem
        ups = []
        steps = config.stride.bit_length() - 1
        for i in range(steps):
            weight = transposed_as_3x3(fold.kernels(tensors, f"decoder.up.{i}", transposed=True))
            shift = np.tile(tensors[f"decoder.up.{i}.bias"], 4)
            if i == steps - 1:
                scale = np.float32(fold.WHITE / fold.CONV_SCALE)
                weight, shift = weight * scale, shift * scale + np.float32(fold.GREY)
            ups.append(Conv3x3(weight, shift))
        return ConvDecoder(Trunk(kernels, bias, blocks, scratch), ups, scratch)
    scale = np.float32(fold.WHITE / fold.PIXEL_SCALE)
    factor = scale * fold.gain(tensors, "decoder", quality)
    linear, _ = fold.matrix(tensors, "decoder.linear")
    matrix, bias = fold.matrix(tensors, "decoder.out")
    kernels = fold.kernels(tensors, "decoder.stem") / tensors["decoder.scale"][:, None]
    out = (
        fold.by_pixel(matrix, 1, config.stride) * factor,
        fold.by_pixel(bias, 0, config.stride) * factor + np.float32(fold.GREY),
    )
    trunk = Trunk(kernels, tensors["decoder.stem.bias"], blocks, scratch)
    return PatchDecoder(config.stride, trunk, fold.by_pixel(linear, 1, config.stride) * scale, out, scratch)
