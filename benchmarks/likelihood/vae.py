"""The variational autoencoder (Kingma & Welling 2014, "Auto-encoding variational Bayes").

The model generates a picture from latents z, which are standard normal, through a decoder. p(x) is the integral of
p(x | z) p(z), which is intractable. The encoder gives q(z | x), a normal distribution with a mean and a deviation for
each latent. The evidence lower bound (ELBO) follows (section 2.2):

    log p(x)  >=  E_q[log p(x | z)] - KL(q(z | x) || p(z)).

Samples of q are mean + deviation * noise, so gradients reach the encoder (section 2.4). The KL divergence of two normal
distributions has a closed form (appendix B). The gap of the bound is KL(q(z | x) || p(z | x)). It becomes smaller with
S importance-weighted samples (Burda, Grosse & Salakhutdinov 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.likelihood.data import Dataset
from benchmarks.likelihood.density import Density, Sheets, Size
from benchmarks.likelihood.likelihoods import (
    bits_of_density,
    bits_of_probability,
    dequantized,
    gaussian,
    importance_weighted,
)
from benchmarks.likelihood.networks import HIDDEN, STRIDE, Decoder, Encoder, shown

VARIANCE = 0.01  # of the Gaussian likelihood, for samples in 0 to 1


class VAE(Density):
    """Latents on the grid of the VQ-VAE, [B, D, H/4, W/4]; a discretised logistic for each sample of the picture."""

    hidden = HIDDEN
    beta = 1.0  # weight of the KL term in training (Higgins et al. 2017, "beta-VAE"); evaluation uses 1

    def __init__(self, dataset: Dataset, size: Size) -> None:
        super().__init__(dataset, size)
        self.build(dataset, size)

    def build(self, dataset: Dataset, size: Size) -> None:
        """Create the networks."""
        self.encoder = Encoder(size, 2 * size.latents)
        self.decoder = Decoder(size, size.latents, self.channels)

    def posterior(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-deviation of q(z | x): [B, ...] each."""
        mean, log_deviation = self.encoder(x).float().chunk(2, 1)
        return mean, log_deviation.clamp(-7, 3)

    def log_likelihood(self, x: Tensor, z: Tensor, label: Tensor, noise: torch.Generator) -> Tensor:
        """log p(x | z), in nats: [B]."""
        return self.decoder.log_probability(x, z)

    def decoded(self, z: Tensor, label: Tensor) -> Tensor:
        """Pictures [B, C, H, W], 0 to 1: the means of p(x | z)."""
        return shown(self.decoder(z)[0])

    def latent_shape(self, count: int) -> tuple[int, ...]:
        """The shape of the latents of `count` pictures."""
        return count, self.size.latents, self.side // STRIDE, self.side // STRIDE

    def loss(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Tensor:
        mean, log_deviation = self.posterior(x, label)
        z = mean + log_deviation.exp() * normal(mean.shape, noise)
        return self.as_bits(self.log_likelihood(x, z, label, noise) - self.beta * divergence(mean, log_deviation))

    def bits(self, x: Tensor, label: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        mean, log_deviation = self.posterior(x, label)
        weights = []
        for _ in range(self.size.samples):
            standard = normal(mean.shape, noise)
            z = mean + log_deviation.exp() * standard
            # log p(z) - log q(z | x); the normalising constants cancel
            excess = (0.5 * standard.square() + log_deviation - 0.5 * z.square()).flatten(1).sum(1)
            weights.append((self.log_likelihood(x, z, label, noise), excess))
        likelihoods, excesses = (torch.stack(each) for each in zip(*weights, strict=True))
        elbo = likelihoods.mean(0) - divergence(mean, log_deviation)
        several = importance_weighted(likelihoods + excesses)
        return {"ELBO": self.as_bits(elbo), f"{self.size.samples} samples": self.as_bits(several)}

    def as_bits(self, log_probability: Tensor) -> Tensor:
        """Convert values of `log_likelihood` [B], in nats, to bits per dimension [B]."""
        return bits_of_probability(log_probability, self.dims)

    def sheets(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Sheets:
        mean = self.posterior(x, label)[0]
        again = self.decoded(mean, label)
        drawn = self.decoded(normal(self.latent_shape(64), noise), label.repeat(64)[:64])
        return {
            "reconstructions": [[*(x.float() / 255)[:8]], [*again[:8]]],
            "samples": rows(drawn, 8),
            "interpolation": interpolated(mean, lambda z: self.decoded(z, label[:1].expand(len(z)))),
        }


class GaussianVAE(VAE):
    """For grey pictures: p(x | z) is a Gaussian density of fixed variance. likelihoods.py explains its bits."""

    def log_likelihood(self, x: Tensor, z: Tensor, label: Tensor, noise: torch.Generator) -> Tensor:
        return gaussian(dequantized(x, noise), self.decoder(z)[0] / 2 + 0.5, VARIANCE**0.5)

    def as_bits(self, log_probability: Tensor) -> Tensor:
        return bits_of_density(log_probability, self.dims)


def divergence(mean: Tensor, log_deviation: Tensor) -> Tensor:
    """KL(N(mean, deviation^2) || N(0, 1)), summed over the latents: [B], in nats (appendix B)."""
    terms = mean.square() + (2 * log_deviation).exp() - 1 - 2 * log_deviation
    return 0.5 * terms.flatten(1).sum(1)


def normal(shape: tuple[int, ...], noise: torch.Generator) -> Tensor:
    """Standard normal random numbers."""
    return torch.randn(shape, generator=noise, device=noise.device)


def interpolated(latents: Tensor, decoded: Callable[[Tensor], Tensor], steps: int = 8) -> list[list[Tensor]]:
    """Rows of pictures that interpolate latents [B, ...]: between the first and second, the third and fourth, ...

    The interpolation follows a great circle. In many dimensions, a straight line between two samples of a normal
    distribution passes through a region of low probability (White 2016, "Sampling generative networks", section 2.1).
    """
    made = []
    for one, other in zip(latents[0:8:2], latents[1:8:2], strict=False):
        cosine = (one * other).sum() / (one.norm() * other.norm()).clamp_min(1e-6)
        angle = math.acos(float(cosine.clamp(-0.9999, 0.9999)))
        at = torch.linspace(0, angle, steps, device=one.device).view(-1, *[1] * one.ndim)
        made.append([*decoded((torch.sin(angle - at) * one + torch.sin(at) * other) / math.sin(angle))])
    return made


def rows(pictures: Tensor, columns: int) -> list[list[Tensor]]:
    """Pictures [N, C, H, W] as rows of a sheet."""
    return [[*row] for row in pictures.split(columns)]
