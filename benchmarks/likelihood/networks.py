"""Encoder and decoder shared by VAE, conditional VAE, VIMCO and VQ-VAE: the package's implementation of the paper's.

In: pictures x [B, C, H, W], uint8. Out: features [B, outputs, H/4, W/4]; and from features to a likelihood of pictures.
The models therefore differ only in their latents.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.likelihood.density import Size
from benchmarks.likelihood.likelihoods import discretized_logistic
from vqcodec.model.config import VQVAEConfig
from vqcodec.train.networks.vqvae import ConvDecoder, ConvEncoder

HIDDEN = ("down", "up", "blocks")  # see `Density.hidden`
STRIDE = 4


def config_of(size: Size, codebooks: tuple[tuple[int, int], ...]) -> VQVAEConfig:
    """The package's configuration of the networks. The latents have as many channels as all codebooks together."""
    return VQVAEConfig(
        "conv", STRIDE, size.width, size.residual_width, size.residual_blocks, size.residual_blocks, codebooks,
        restart_dead_codes=True,
    )  # fmt: skip


class Encoder(nn.Module):
    """Pictures [B, C, H, W], uint8 -> features [B, outputs, H/4, W/4]."""

    def __init__(self, size: Size, outputs: int) -> None:
        super().__init__()
        self.net = ConvEncoder(config_of(size, ((2, 1),)))
        self.net.out = nn.Conv2d(size.width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(to_unit(x), no_quality(x))


class Decoder(nn.Module):
    """Features [B, inputs, H/4, W/4] -> mean (-1 to 1) and log-scale of every sample: [B, C, H, W] each."""

    def __init__(self, size: Size, inputs: int, channels: int) -> None:
        super().__init__()
        self.net = with_scales(ConvDecoder(config_of(size, ((2, inputs),))), channels)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return mean_and_scale(self.net(z, no_quality(z)))

    def log_probability(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) in nats: [B]."""
        return discretized_logistic(x, *self(z))


def with_scales(decoder: ConvDecoder, channels: int) -> ConvDecoder:
    """Replace the last layer of a decoder, so that it has two outputs for each sample of a picture."""
    last = decoder.up[-1]
    decoder.up[-1] = nn.ConvTranspose2d(last.in_channels, 2 * channels, 4, stride=2, padding=1)
    return decoder


def mean_and_scale(output: Tensor) -> tuple[Tensor, Tensor]:
    """The output [B, 2C, H, W] of such a decoder -> mean and log-scale, [B, C, H, W] each, for samples in -1 to 1."""
    mean, log_scale = ((output - 0.5) * 2).chunk(2, 1)  # the package's decoders are centred on grey (0.5)
    return mean, log_scale - 2


def to_unit(x: Tensor) -> Tensor:
    """Pictures [B, C, H, W], uint8 -> input of the package's networks: [B, 3, H, W] in 0 to 1."""
    return x.float().expand(-1, 3, -1, -1) / 255


def no_quality(x: Tensor) -> Tensor:
    """Quality indices [B] for the package's networks: always the first quality."""
    return torch.zeros(len(x), dtype=torch.long, device=x.device)


def shown(mean: Tensor) -> Tensor:
    """Means [..., C, H, W] in -1 to 1 -> pictures in 0 to 1."""
    return (mean.float() / 2 + 0.5).clamp(0, 1)
