"""The distortion that training and the encoder's search minimise: squared error and structural dissimilarity.

In: decoded pictures and originals [B, 3, H, W] on the scale 0 to 1. Out: one number for each picture, [B], or for each
position, [B, h, w], in the unit of a mean squared error.

Squared error alone blurs texture that people see; structural similarity alone lets colours and flat areas drift. The
two are mixed, with a share for each picture, since the shares may differ between qualities.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.model.config import VQVAEConfig
from vqcodec.nn.distortion import C1, C2, LOWEST, SIGMA, SMALLEST, STRUCTURE, WEIGHTS

__all__ = ["SMALLEST", "STRUCTURE", "distortion", "local_distortion", "ms_ssim", "structure_shares"]


def distortion(decoded: Tensor, pictures: Tensor, shares: Tensor) -> Tensor:
    """(1 - share) * mean squared error + share * STRUCTURE * (1 - MS-SSIM): [B].

    `shares`: of the structural term, [B], 0 to 1. If all are 0, it is not computed.
    """
    error = (decoded - pictures).square().mean((1, 2, 3))
    if not bool((shares > 0).any()):
        return error
    return (1 - shares) * error + shares * STRUCTURE * (1 - ms_ssim(decoded, pictures))


def structure_shares(config: VQVAEConfig, quality: Tensor) -> Tensor:
    """The shares of the structural term [B] of a model at the qualities [B] (0-based)."""
    shares = torch.tensor(config.structure or [0.0] * config.qualities, device=quality.device)
    return shares[quality]


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale structural similarity [B] of pictures [B, C, H, W]: Wang, Simoncelli & Bovik 2003, equation 7.

    The same measure as `picture.metrics.ms_ssim`, differentiable, for pictures on the scale 0 to 1. Where a side is
    shorter than 176 pixels there are fewer scales, whose weights are enlarged to add up to the same. The mean of a
    scale is at least 0.0001. A side must have at least `SMALLEST` pixels.
    """
    product = torch.ones(a.shape[:2], device=a.device)
    for weight, similarity in _scales(a, b):
        product = product * similarity.mean((2, 3)).clamp_min(LOWEST) ** weight
    return product.mean(1)


def local_distortion(decoded: Tensor, pictures: Tensor, share: float, stride: int) -> Tensor:
    """The part of each position in the distortion: [B, h, w], h = ceil(H / stride).

    The mean over the positions is `distortion` to first order: the MS-SSIM, a product of means over the picture, is
    replaced by its first-order expansion in those means. Positions at the lower and right edge that lie partly outside
    the picture count as whole ones in the structural term, and with their own pixels in the squared error.
    """
    height, width = pictures.shape[2:]
    squares = (decoded - pictures).square().mean(1, keepdim=True)
    whole = F.pad(squares, (0, -width % stride, 0, -height % stride))
    error = F.avg_pool2d(whole, stride)[:, 0]
    if share == 0:
        return error
    product = torch.ones(pictures.shape[:2], device=pictures.device)
    parts: list[Tensor] = []
    for weight, similarity in _scales(decoded, pictures):
        mean = similarity.mean((2, 3)).clamp_min(LOWEST)
        product = product * mean**weight
        around = F.pad(1 - similarity, (SMALLEST // 2,) * 4, mode="replicate")  # the windows at the picture's edges
        parts.append(
            F.adaptive_avg_pool2d(around, (error.shape[1], error.shape[2])) * (weight / mean)[:, :, None, None]
        )
    structure = (torch.stack(parts).sum(0) * product[:, :, None, None]).mean(1)
    return (1 - share) * error + share * STRUCTURE * structure


def _scales(a: Tensor, b: Tensor) -> Iterator[tuple[float, Tensor]]:
    """The scales of MS-SSIM, finest first: weight, and the similarity [B, C, H', W'] at every position of the window.

    It is the contrast-structure term, at the last scale multiplied by the luminance term.
    """
    scales = 1
    while scales < len(WEIGHTS) and min(a.shape[2:]) >= SMALLEST << scales:
        scales += 1
    enlarged = sum(WEIGHTS) / sum(WEIGHTS[:scales])
    with torch.autocast(a.device.type, enabled=False):  # variances are small differences of large numbers
        a, b = a.float().contiguous(), b.float().contiguous()
        for scale, weight in enumerate(WEIGHTS[:scales]):
            luminance, contrast = _ssim_terms(a, b)
            if scale == scales - 1:
                yield weight * enlarged, luminance * contrast
                return
            yield weight * enlarged, contrast
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)


def _ssim_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The luminance term, and the contrast-structure term, at every window position [B, C, H - 10, W - 10].

    Wang, Bovik, Sheikh & Simoncelli 2004, section III-B.
    """
    mean_a, mean_b, squares, products = _blurred(torch.cat([a, b, a * a + b * b, a * b], 1)).chunk(4, 1)
    mean_product, mean_squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    luminance = (2 * mean_product + C1) / (mean_squares + C1)
    contrast = (2 * (products - mean_product) + C2) / (squares - mean_squares + C2)
    return luminance, contrast


def _blurred(x: Tensor) -> Tensor:
    """Apply the Gaussian window, "valid" positions only."""
    offsets = torch.arange(SMALLEST, dtype=torch.float32, device=x.device) - SMALLEST // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    window = (window / window.sum()).expand(x.shape[1], 1, 1, SMALLEST)
    x = F.conv2d(x, window, groups=x.shape[1])
    return F.conv2d(x, window.transpose(2, 3), groups=x.shape[1])
