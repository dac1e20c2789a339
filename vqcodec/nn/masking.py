"""Pictures -> how much a bit may cost at each place: errors in texture are seen less than errors in smooth areas.

In: pictures [B, 3, H, W]. Out: factors [B, h, w] that multiply the lambda of the quantiser, h = H / stride.

A factor grows with a power of the standard deviation of the blocks around (contrast masking; the same idea as the
adaptive quantisation of video encoders), and with that of the whole picture: so that a percent less of error costs
about the same bits everywhere. Only the encoder knows of it. The networks are trained with the same factors, as weights
of the squared error.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["block_deviations", "rate_factors"]

WINDOW = 9  # blocks, each way, whose mean deviation counts as local
FLOOR = 1.0  # grey levels: what a block has of noise and rounding
USUAL = 7.0  # grey levels, the deviation that leaves lambda as it is: about that of the blocks of photographs
LIMIT = 8.0  # of the factors, both ways


def block_deviations(pictures: Tensor, stride: int) -> Tensor:
    """Standard deviation of luma in blocks of stride x stride: [B, H/s, W/s] grey levels of [B, 3, H, W] in [0, 1]."""
    red, green, blue = (255 * pictures.float()).unbind(1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]  # ITU-R BT.601
    mean = F.avg_pool2d(luma, stride)
    deviation = luma - F.interpolate(mean, scale_factor=stride)  # not E[x^2] - E[x]^2, which cancels
    return F.avg_pool2d(deviation.square(), stride)[:, 0].sqrt()


def rate_factors(deviations: Tensor, local: float, picture: float) -> Tensor:
    """Factors [B, h, w] of block deviations [B, h, w]: powers of the mean of those around, and of all."""
    all_blocks = deviations[:, None] + FLOOR
    around = F.avg_pool2d(all_blocks, WINDOW, 1, WINDOW // 2, count_include_pad=False)
    whole = all_blocks.mean((1, 2, 3), keepdim=True)
    factors = (around / USUAL) ** (2 * local) * (whole / USUAL) ** (2 * picture)  # of variances
    return torch.clamp(factors[:, 0], 1 / LIMIT, LIMIT)
