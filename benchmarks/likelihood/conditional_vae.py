"""The conditional VAE (Sohn, Lee & Yan 2015, "Learning structured output representation", section 4.1), on labels.

Encoder and decoder get the label y as an input, so the latents need not represent it. Samples for one label show that
digit in different handwritings. The ELBO is a bound of log p(x | y). The latents are a short vector for the whole
picture, not a grid. With two latents, the whole latent space can be shown as a sheet (figure 4 of Kingma & Welling
2014).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.likelihood.data import Dataset
from benchmarks.likelihood.density import Sheets, Size
from benchmarks.likelihood.networks import STRIDE, Decoder, Encoder
from benchmarks.likelihood.vae import VAE, interpolated, normal

FLAT_LATENTS = 4  # with 32, the latents also represent the digit, and the model ignores the label
FEATURES = 32  # channels of the layers between the flat latents and the networks
SHEET_SIDE = 10  # grid points of the manifold sheet, in each direction


class ConditionalVAE(VAE):
    """A VAE with flat latents [B, D], conditioned on labels [B]."""

    flat_latents = FLAT_LATENTS

    def build(self, dataset: Dataset, size: Size) -> None:
        self.labels = 1 + int(max(split.labels.max() for split in (dataset.train, dataset.held_out, dataset.test)))
        grid = self.side // STRIDE
        self.shape = FEATURES, grid, grid
        self.encoder = Encoder(size, FEATURES)
        self.decoder = Decoder(size, FEATURES, self.channels)
        self.to_latents = nn.Linear(FEATURES * grid**2 + self.labels, 2 * self.flat_latents)
        self.from_latents = nn.Linear(self.flat_latents + self.labels, FEATURES * grid**2)

    def posterior(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        features = F.relu(self.encoder(x)).flatten(1)
        mean, log_deviation = self.to_latents(torch.cat([features, self._one_hot(label)], 1)).float().chunk(2, 1)
        return mean, log_deviation.clamp(-7, 3)

    def log_likelihood(self, x: Tensor, z: Tensor, label: Tensor, noise: torch.Generator) -> Tensor:
        return self.decoder.log_probability(x, self._features(z, label))

    def decoded(self, z: Tensor, label: Tensor) -> Tensor:
        return super().decoded(self._features(z, label), label)

    def latent_shape(self, count: int) -> tuple[int, ...]:
        return count, self.flat_latents

    def sheets(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Sheets:
        made = super().sheets(x, label, noise)
        every = torch.arange(self.labels, device=x.device)
        z = normal((self.labels * 10, self.flat_latents), noise)
        made["samples"] = [[*row] for row in self.decoded(z, every.repeat_interleave(10)).split(10)]
        mean = self.posterior(x, label)[0]
        # The last row decodes one latent with every label: it shows the same handwriting for every digit.
        between = [
            row
            for one in range(0, len(mean) - 1, 2)  # with the label of the first picture
            for row in interpolated(mean[one : one + 2], lambda z, one=one: self.decoded(z, label[[one] * len(z)]))
        ]
        made["interpolation"] = [*between, [*self.decoded(mean[:1].expand(self.labels, -1), every)]]
        return made

    def _features(self, z: Tensor, label: Tensor) -> Tensor:
        return F.relu(self.from_latents(torch.cat([z, self._one_hot(label)], 1))).view(-1, *self.shape)

    def _one_hot(self, label: Tensor) -> Tensor:
        return F.one_hot(label, self.labels).float()


class ManifoldVAE(ConditionalVAE):
    """A conditional VAE with two latents, which can be shown as a sheet."""

    flat_latents = 2

    def sheets(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Sheets:
        # Equal steps of probability, to cover the normal distribution (Kingma & Welling 2014, figure 4).
        steps = torch.special.ndtri(torch.linspace(0.03, 0.97, SHEET_SIDE, device=x.device))
        z = torch.cartesian_prod(steps, steps)
        pages = {
            f"manifold of {name}": [[*row] for row in self.decoded(z, torch.full((len(z),), name)).split(SHEET_SIDE)]
            for name in range(self.labels)
        }
        return super().sheets(x, label, noise) | pages
