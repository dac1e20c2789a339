"""The package's VQ-VAE (van den Oord, Vinyals & Kavukcuoglu 2017) with a likelihood of pixels.

The encoder deterministically selects one code from each codebook at each position, z = z(x). Because q(z(x) | x) = 1,

    log p(x)  >=  log p(x | z(x)) + log p(z(x))        (section 3.2)

The bound is the size of a lossless file that holds the codes, and then the pixels given the codes. With a uniform p(z)
every code takes log2 K bits. With the PixelCNN, which is trained on the codes afterwards, a code takes -log2 of its
predicted probability.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.likelihood.data import Dataset
from benchmarks.likelihood.density import Budget, Density, Report, Sheets, Size, Spent
from benchmarks.likelihood.likelihoods import bits_of_probability, discretized_logistic
from benchmarks.likelihood.networks import (
    HIDDEN,
    STRIDE,
    config_of,
    mean_and_scale,
    no_quality,
    shown,
    to_unit,
    with_scales,
)
from benchmarks.likelihood.pixelcnn import bits_of_codes, drawn_codes, train_prior
from benchmarks.likelihood.vae import rows
from vqcodec.train.networks.pixelcnn import GatedPixelCNN
from vqcodec.train.networks.vqvae import VQVAE, ConvDecoder

NETWORKS_SHARE = 0.65  # of the budget; the prior gets the rest
COMMITMENT = 0.25  # beta (section 3.2)
START_LATENTS = 16384  # latents for the initial k-means


class VQVAEDensity(Density):
    """Codes [B, G, H/4, W/4] by the package's encoder and quantiser. Its decoder outputs means and log-scales."""

    hidden = HIDDEN

    def __init__(self, dataset: Dataset, size: Size) -> None:
        super().__init__(dataset, size)
        self.vqvae = VQVAE(config_of(size, ((size.codes, size.code_dim),) * size.codebooks))
        assert isinstance(self.vqvae.decoder, ConvDecoder)
        with_scales(self.vqvae.decoder, self.channels)
        self.prior: GatedPixelCNN | None = None  # None until it is trained

    def start(self, x: Tensor, label: Tensor) -> None:
        """Initialise the codebooks by k-means on the latents of the untrained encoder."""
        latents = self.vqvae.encoder(to_unit(x), no_quality(x)).permute(0, 2, 3, 1).flatten(0, 2)
        self.vqvae.quantizer.start_from(latents[:START_LATENTS], 0)

    def loss(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Tensor:
        output = self.vqvae(to_unit(x), no_quality(x))
        pixels = bits_of_probability(discretized_logistic(x, *mean_and_scale(output.reconstruction)), self.dims)
        return pixels + COMMITMENT * output.quantized.commitment_loss / self.vqvae.config.latent_dim

    def learn(self) -> None:
        self.vqvae.quantizer.learn()

    def fit(self, dataset: Dataset, folder: Path, budget: Budget, report: Report) -> Spent:
        """Train the networks, then the prior on their codes."""
        networks = Budget(budget.minutes * NETWORKS_SHARE, math.ceil(budget.steps * NETWORKS_SHARE), budget.seed)
        first = super().fit(dataset, folder / "networks", networks, report)
        rest = budget.schedule(1 - NETWORKS_SHARE, self.rate)
        self.prior, second = train_prior(self.vqvae, dataset, folder / "prior", rest, self.size, report)
        return first[0] + second[0], first[1] + second[1]

    def bits(self, x: Tensor, label: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        assert self.prior is not None
        codes = self.vqvae.to_codes(to_unit(x), 0)
        pixels = bits_of_probability(discretized_logistic(x, *self._decoded(codes)), self.dims)
        uniform = self.size.codebooks * math.log2(self.size.codes) * codes[0, 0].numel() / self.dims
        return {
            "uniform prior": pixels + uniform,
            "PixelCNN prior": pixels + bits_of_codes(self.prior, codes) / self.dims,
            "of these, pixels given the codes": pixels,
        }

    def sheets(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Sheets:
        assert self.prior is not None
        again = shown(self._decoded(self.vqvae.to_codes(to_unit(x[:8]), 0))[0])
        codes = drawn_codes(self.prior, (64, self.side // STRIDE, self.side // STRIDE)).to(x.device)
        return {
            "reconstructions": [[*(x.float() / 255)[:8]], [*again]],
            "samples": rows(shown(self._decoded(codes)[0]), 8),
        }

    def _decoded(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        return mean_and_scale(self.vqvae.to_pictures(codes, 0))
