"""Decoded pictures -> better ones: linear filters of which every file carries the weights that suit its picture.

A network for all pictures cannot know that this one has softer colours than others, or coloured edges that follow the
bright ones. So a model has K kernels, and the encoder, who has the picture, finds the weighted sum of them that lowers
the error most: the adaptive loop filter of video codecs (Tsai et al. 2013, "Adaptive Loop Filtering for Video Coding",
IEEE JSTSP 7(6)), outside of the loop, its coefficients taken from a learnt space (see train/postfilter.py) instead of
being sent one by one. The encoder's search leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["REACH", "SIDE", "Postfilter"]

SIDE = 5  # pixels of a kernel, each way
REACH = SIDE // 2


class Postfilter(nn.Module):
    """Kernels [K, 3, 3, SIDE, SIDE]: of output channel by input channel. They belong to all qualities."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("kernels", torch.zeros(count, 3, 3, SIDE, SIDE))
        self.kernels: Tensor

    def forward(self, decoded: Tensor, weights: Sequence[float]) -> Tensor:
        """Pictures [B, 3, H, W] on 0 to 1 plus the sum of their responses to the kernels, times the weights (K)."""
        kernel = torch.tensordot(torch.tensor(weights).to(self.kernels), self.kernels, 1)
        corrected: Tensor = decoded + F.conv2d(padded(decoded), kernel)
        return corrected

    def normal_equations(self, around: Tensor, pictures: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Gram matrix [K, K] of the responses, and their products [K] with what decoded pictures lack; float64.

        `around`: decoded pictures as `padded` gives them, REACH pixels more on each side than `pictures` [B, 3, H, W];
        every `step`th pixel counts, each way.
        """
        count = len(self.kernels)
        kernels = self.kernels.flatten(0, 1)
        responses = F.conv2d(around, kernels, stride=step).contiguous()  # [B, K * 3, h, w]
        lacking = (pictures - 0.5 - around[:, :, REACH:-REACH, REACH:-REACH])[:, :, ::step, ::step]
        apart = responses.view(len(pictures), count, -1).transpose(0, 1)
        columns = apart.flatten(1).double()  # [K, B * 3 * h * w]
        return columns @ columns.T, columns @ lacking.flatten().double()


def padded(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] around their middle grey, the outermost pixels repeated."""
    return F.pad(pictures - 0.5, (REACH,) * 4, mode="replicate")
