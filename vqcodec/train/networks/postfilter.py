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


def padded(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] minus middle grey (0.5), padded by REACH repeated edge pixels on each side."""
    return F.pad(pictures - 0.5, (REACH,) * 4, mode="replicate")
