"""Decoded pictures -> corrected pictures: a linear filter whose coefficients are adapted to each picture.

`nn/postfilter.py` describes the filter. Here it is differentiable, for the stage of training that finds its kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.nn.postfilter import REACH, SIDE

__all__ = ["REACH", "SIDE", "Postfilter", "padded"]


class Postfilter(nn.Module):
    """K kernels [K, 3, 3, SIDE, SIDE], output channel before input channel. All qualities share them."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("kernels", torch.zeros(count, 3, 3, SIDE, SIDE))
        self.kernels: Tensor

    def forward(self, decoded: Tensor, weights: Sequence[float]) -> Tensor:
        """Add to pictures [B, 3, H, W] in [0, 1] the sum of the K kernel responses, each times its weight."""
        kernel = torch.tensordot(torch.tensor(weights).to(self.kernels), self.kernels, 1)
        corrected: Tensor = decoded + F.conv2d(padded(decoded), kernel)
        return corrected

    def normal_equations(self, around: Tensor, pictures: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The Gram matrix [K, K] of the responses and their correlation [K] with the residual of the pictures; float64.

        `around`: decoded pictures from `padded`, with REACH pixels more on each side than the originals `pictures`
        [B, 3, H, W]. Uses every `step`th pixel in both directions.
        """
        count = len(self.kernels)
        kernels = self.kernels.flatten(0, 1)
        responses = F.conv2d(around, kernels, stride=step).contiguous()  # [B, K * 3, h, w]
        residual = (pictures - 0.5 - around[:, :, REACH:-REACH, REACH:-REACH])[:, :, ::step, ::step]
        by_kernel = responses.view(len(pictures), count, -1).transpose(0, 1)
        rows = by_kernel.flatten(1).double()  # [K, B * 3 * h * w]
        return rows @ rows.T, rows @ residual.flatten().double()


def padded(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] minus middle grey (0.5), padded by REACH repeated edge pixels on each side."""
    return F.pad(pictures - 0.5, (REACH,) * 4, mode="replicate")
