"""Decoded pictures -> corrected pictures: a linear filter whose coefficients are adapted to each picture.

A decoder that serves all pictures cannot adapt to the properties of a single one, for example softer colours than usual
or colour edges that follow the luma edges. So a model has K kernels. The encoder, which has the original, finds the
weighted sum of the kernels that lowers the error most, and stores the K weights in the file.

This is the adaptive loop filter of video codecs (Tsai et al. 2013, "Adaptive Loop Filtering for Video Coding", IEEE
JSTSP 7(6)), with two differences. It is applied outside the coding loop, and its coefficients come from a learnt space
(see train/postfilter_kernels.py) instead of being sent one by one. The encoder's search does not apply the filter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["REACH", "SIDE", "Postfilter"]

SIDE = 5  # height and width of a kernel in pixels
REACH = SIDE // 2  # pixels beside its own that a filtered pixel depends on


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
