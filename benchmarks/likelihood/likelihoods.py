"""The likelihood of pixels, and what it is in bits per dimension.

In: what a model says about pictures x [B, C, H, W], whole numbers from 0 to 255. Out: log-probabilities [B] in nats.

**From a density to bits.** A network that gives a *density* p of real numbers says nothing yet about whole numbers:
with a narrower and narrower peak on each of the 256 values its logarithm grows without end. So each value v is made a
real number by adding noise u, even in [0, 1): (v + u) / 256 fills [0, 1) without gaps (dequantisation). The probability
of a value is the integral of the density over its cell, and by Jensen's inequality

    log P(v) = log of the integral of p over the cell  >=  E_u log p((v + u) / 256) - dims * log 256,

a cell being 1/256 wide in each dimension (Theis, van den Oord & Bethge 2016, "A note on the evaluation of generative
models", section 3.1). So bits/dim = -log2 p / dims + 8 for a density over [0, 1), and + 0 for one over [0, 256): who
scales pixels otherwise has to add the logarithm of that scale. Without the noise the figure means nothing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 256  # of a pixel
HALF_STEP = 1 / (LEVELS - 1)  # half the distance of two values, where 0 to 255 are put on -1 to 1
MIN_LOG_SCALE = -7.0  # of the logistic: narrower than a quarter of a step there is nothing to gain


def discretized_logistic(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-probabilities [B] of x under a logistic distribution for each number, summed over the picture.

    The mean and the scale are those of x put on -1 to 1. A value has the probability of its cell, the two outermost
    ones that of all that lies beyond as well (Kingma et al. 2016, "Improved variational inference with inverse
    autoregressive flow", appendix C.2.1; Salimans et al. 2017, "PixelCNN++", section 2.1): the 256 add up to one.
    """
    log_scale = log_scale.clamp_min(MIN_LOG_SCALE)
    narrowness = torch.exp(-log_scale)
    centred = x.float() * (2 / (LEVELS - 1)) - 1 - mean
    upper, lower = narrowness * (centred + HALF_STEP), narrowness * (centred - HALF_STEP)
    # sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a)): no difference of numbers that are close.
    below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
    inside = below + above + torch.log(-torch.expm1(-2 * HALF_STEP * narrowness))
    logs = torch.where(x == 0, below, torch.where(x == LEVELS - 1, above, inside))
    return logs.flatten(1).sum(1)


def gaussian(x: Tensor, mean: Tensor, deviation: float) -> Tensor:
    """Log-densities [B] of real numbers x under Gaussians of one standard deviation, summed over the picture."""
    logs = -0.5 * ((x - mean) / deviation).square() - math.log(deviation) - 0.5 * math.log(2 * math.pi)
    return logs.flatten(1).sum(1)


def dequantized(x: Tensor, generator: torch.Generator) -> Tensor:
    """(x + u) / 256 with u even in [0, 1): real numbers in [0, 1)."""
    noise = torch.rand(x.shape, generator=generator, device=generator.device).to(x.device)
    return (x.float() + noise) / LEVELS


def bits_of_probability(log_probability: Tensor, dims: int) -> Tensor:
    """Bits per dimension of probabilities of whole numbers, given in nats."""
    return -log_probability / (dims * math.log(2))


def bits_of_density(log_density: Tensor, dims: int) -> Tensor:
    """Bits per dimension of densities over [0, 1) at dequantised pictures, in nats: on average, an upper bound."""
    return bits_of_probability(log_density, dims) + math.log2(LEVELS)


def importance_weighted(log_weights: Tensor) -> Tensor:
    """log of the mean of weights [S, B] given as logarithms: [B].

    A lower bound of log p(x) that rises with S; with S = 1 it is the ELBO (Burda, Grosse & Salakhutdinov 2016,
    "Importance weighted autoencoders", section 3).
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))
