"""Stored weights -> the arrays of the layers, in their order of axes, with all that depends on a quality folded in.

In: the tensors of a model's file, as torch stores them, [K, C, height, width]. Out: kernels [height, width, C, K] and
matrices [C, K]. The names are those of the parts of `train/networks/vqvae.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vqcodec.nn.tiles import Floats
from vqcodec.nn.trunk import Block

__all__ = ["CONV_SCALE", "GREY", "PIXEL_SCALE", "WHITE", "Tensors", "blocks", "by_pixel", "gain", "kernels", "matrix"]

# The unit of the latents of the patch family is 1/32 of the range of pixel values (8 of 255 grey levels).
PIXEL_SCALE = 32.0
CONV_SCALE = 4.0  # of the range of pixel values: the pixels of the conv family have about unit variance
WHITE, GREY = 255, 127.5  # pixel values
Tensors = Mapping[str, Floats]


def blocks(tensors: Tensors, part: str, count: int, quality: int) -> list[Block]:
    """The residual blocks of the encoder or decoder (`part`) at a quality."""
    found = []
    for index in range(count):
        name = f"{part}.blocks.{index}"
        weight, bias = kernels(tensors, f"{name}.conv"), tensors[f"{name}.conv.bias"]
        if f"{name}.film" in tensors:
            scale, shift = tensors[f"{name}.film"][quality]
            weight *= 1 + scale
            bias = bias * (1 + scale) + shift
        found.append(Block(weight, bias, *matrix(tensors, f"{name}.out")))
    return found


def kernels(tensors: Tensors, name: str, transposed: bool = False) -> Floats:
    """The kernels of a convolution as [height, width, C, K], an array of their own."""
    return tensors[f"{name}.weight"].transpose((2, 3, 0, 1) if transposed else (2, 3, 1, 0)).copy()


def matrix(tensors: Tensors, name: str) -> tuple[Floats, Floats]:
    """Matrix [C, K] and bias [K] of a 1x1 convolution; without a bias 0."""
    weight = np.ascontiguousarray(tensors[f"{name}.weight"][:, :, 0, 0].T)
    return weight, tensors.get(f"{name}.bias", np.zeros(weight.shape[1], np.float32))


def gain(tensors: Tensors, part: str, quality: int) -> np.float32:
    """The factor of a branch at a quality."""
    gains = tensors.get(f"{part}.gain")
    return np.float32(1 if gains is None else gains[quality])


def by_pixel(weight: Floats, axis: int, side: int) -> Floats:
    """The order of `unshuffled`, pixel before colour, along an axis whose order is colour before pixel."""
    before, after = weight.shape[:axis], weight.shape[axis + 1 :]
    split = np.moveaxis(weight.reshape(*before, 3, side**2, *after), axis, axis + 1)
    return np.ascontiguousarray(split).reshape(weight.shape)
