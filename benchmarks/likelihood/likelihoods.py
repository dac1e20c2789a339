"""Likelihoods of pixels, and their conversion to bits per dimension.

In: a model's predictions for pictures x [B, C, H, W], integers from 0 to 255. Out: log-probabilities [B] in nats.

**From a density to bits.** The *density* p of real numbers is not comparable with a probability of integers: a density
with ever narrower peaks at the 256 values has an unbounded log-likelihood. Therefore each value v is dequantised: noise
u, uniform in [0, 1), is added, and (v + u) / 256 covers [0, 1) without gaps. The probability of a value is the integral
of the density over its cell, and by Jensen's inequality

    log P(v) = log of the integral of p over the cell  >=  E_u log p((v + u) / 256) - dims * log 256,

where a cell is 1/256 wide in each dimension (Theis, van den Oord & Bethge 2016, "A note on the evaluation of generative
models", section 3.1). Hence bits/dim = -log2 p / dims + 8 for a density over [0, 1), and + 0 for a density over
[0, 256). For another scale of the pixels, the logarithm of that scale must be added. Without dequantisation noise the
figure is meaningless.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 256  # values of a sample
HALF_STEP = 1 / (LEVELS - 1)  # half the distance of two values, with 0 to 255 mapped to -1 to 1
MIN_LOG_SCALE = -7.0  # of the logistic; scales below a quarter of a step bring no gain


def discretized_logistic(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-probabilities [B] in nats of x under a logistic distribution for each sample, summed over the picture.

    x, mean, log_scale: [B, C, H, W]; mean and scale refer to x mapped to -1 to 1. The probability of a value is that of
    its cell. The cells of 0 and 255 extend to infinity, so the 256 probabilities add up to one (Kingma et al. 2016,
    "Improved variational inference with inverse autoregressive flow", appendix C.2.1; Salimans et al. 2017,
    "PixelCNN++", section 2.1).
    """
    log_scale = log_scale.clamp_min(MIN_LOG_SCALE)
    narrowness = torch.exp(-log_scale)
    centred = x.float() * (2 / (LEVELS - 1)) - 1 - mean
    upper, lower = narrowness * (centred + HALF_STEP), narrowness * (centred - HALF_STEP)
    # sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a)) avoids cancellation.
    below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
    inside = below + above + torch.log(-torch.expm1(-2 * HALF_STEP * narrowness))
    logs = torch.where(x == 0, below, torch.where(x == LEVELS - 1, above, inside))
    return logs.flatten(1).sum(1)


def gaussian(x: Tensor, mean: Tensor, deviation: float) -> Tensor:
    """Log-densities [B] in nats of real x under Gaussians with a fixed standard deviation, summed over the picture."""
    logs = -0.5 * ((x - mean) / deviation).square() - math.log(deviation) - 0.5 * math.log(2 * math.pi)
    return logs.flatten(1).sum(1)


def dequantized(x: Tensor, generator: torch.Generator) -> Tensor:
    """(x + u) / 256 with u uniform in [0, 1): real numbers in [0, 1)."""
    noise = torch.rand(x.shape, generator=generator, device=generator.device).to(x.device)
    return (x.float() + noise) / LEVELS


def bits_of_probability(log_probability: Tensor, dims: int) -> Tensor:
    """Log-probabilities of integer-valued pictures in nats [B] -> bits per dimension [B]."""
    return -log_probability / (dims * math.log(2))


def bits_of_density(log_density: Tensor, dims: int) -> Tensor:
    """Log-densities [B] in nats of dequantised pictures in [0, 1) -> bits/dim [B], on average an upper bound."""
    return bits_of_probability(log_density, dims) + math.log2(LEVELS)


def importance_weighted(log_weights: Tensor) -> Tensor:
    """The logarithm of the mean of weights, from log-weights [S, B]: [B].

    A lower bound of log p(x) that becomes tighter with S. S = 1 gives the ELBO (Burda, Grosse & Salakhutdinov 2016,
    "Importance weighted autoencoders", section 3).
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))
