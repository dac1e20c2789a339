"""VIMCO: discrete latents without a straight-through gradient (Mnih & Rezende 2016, "Variational inference for Monte
Carlo objectives").

The latents are those of the VQ-VAE: one of K codes from each of G codebooks at each position. The encoder, however,
gives a distribution over the codes, q(z | x). S samples are drawn from it, and the bound is the multi-sample bound

    L(z_1 ... z_S) = log 1/S sum_s w_s,     w_s = p(x | z_s) p(z_s) / q(z_s | x).

No gradient passes through a sample. Instead, the gradient of each sample's log q is weighted by how much the sample
raised the bound: L minus the value of L if w_s were the geometric mean of the other weights (equations 9 and 10). This
baseline does not depend on z_s, so the gradient is unbiased, with a low variance. p(z) is uniform, as in the VQ-VAE.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.likelihood.data import Dataset
from benchmarks.likelihood.density import Density, Sheets, Size
from benchmarks.likelihood.likelihoods import bits_of_probability, importance_weighted
from benchmarks.likelihood.networks import HIDDEN, STRIDE, Decoder, Encoder, shown
from benchmarks.likelihood.vae import rows

TRAINING_SAMPLES = 5


class VIMCO(Density):
    """A model with codes [B, G, N], where N = H/4 * W/4 is the number of positions."""

    hidden = HIDDEN

    def __init__(self, dataset: Dataset, size: Size) -> None:
        super().__init__(dataset, size)
        self.grid = self.side // STRIDE
        self.encoder = Encoder(size, size.codebooks * size.codes)
        self.decoder = Decoder(size, size.codebooks * size.code_dim, self.channels)
        self.vectors = nn.Parameter(torch.randn(size.codebooks, size.codes, size.code_dim) * size.code_dim**-0.5)

    def loss(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Tensor:
        log_q = self.log_posterior(x)
        weights, sample_log_q = [], []
        for codes in drawn(log_q, TRAINING_SAMPLES, noise):
            log_q_codes = log_probability(log_q, codes)
            weights.append(self.joint(x, codes) - log_q_codes)
            sample_log_q.append(log_q_codes)
        bound = surrogate(torch.stack(weights), torch.stack(sample_log_q))
        return bits_of_probability(bound, self.dims)

    def bits(self, x: Tensor, label: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        log_q = self.log_posterior(x)
        samples = drawn(log_q, self.size.samples, noise)
        weights = torch.stack([self.joint(x, codes) - log_probability(log_q, codes) for codes in samples])
        return {
            "ELBO": bits_of_probability(weights.mean(0), self.dims),
            f"{self.size.samples} samples": bits_of_probability(importance_weighted(weights), self.dims),
        }

    def log_posterior(self, x: Tensor) -> Tensor:
        """log q of every code: [B, G, N, K]."""
        logits = self.encoder(x).float().flatten(2).unflatten(1, (self.size.codebooks, self.size.codes))
        return F.log_softmax(logits.transpose(2, 3), 3)

    def joint(self, x: Tensor, codes: Tensor) -> Tensor:
        """log p(x | z) + log p(z), in nats: [B]."""
        uniform = -codes[0].numel() * math.log(self.size.codes)
        return self.decoder.log_probability(x, self.embedded(codes)) + uniform

    def embedded(self, codes: Tensor) -> Tensor:
        """The concatenated code vectors of codes [B, G, N]: [B, G * dim, h, w]."""
        vectors = torch.stack([table[codes[:, g]] for g, table in enumerate(self.vectors)], 1)  # [B, G, N, dim]
        return vectors.transpose(2, 3).flatten(1, 2).unflatten(2, (self.grid, self.grid))

    def sheets(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Sheets:
        again = shown(self.decoder(self.embedded(drawn(self.log_posterior(x), 1, noise)[0]))[0])
        shape = 64, self.size.codebooks, self.grid**2
        codes = torch.randint(self.size.codes, shape, generator=noise, device=noise.device)
        return {
            "reconstructions": [[*(x.float() / 255)[:8]], [*again[:8]]],
            "samples": rows(shown(self.decoder(self.embedded(codes))[0]), 8),
        }


def surrogate(log_weights: Tensor, log_q: Tensor) -> Tensor:
    """The multi-sample bound [B] with VIMCO's gradient, from log w [S, B] and log q of the samples [S, B]."""
    bound = importance_weighted(log_weights)
    fixed = log_weights.detach()
    count = len(fixed)
    others = (fixed.sum(0) - fixed) / (count - 1)  # logarithm of the geometric mean of the other weights
    swapped = torch.where(torch.eye(count, dtype=torch.bool, device=fixed.device)[:, :, None], others[:, None], fixed)
    signal = bound.detach() - (swapped.logsumexp(1) - math.log(count))  # [S, B]
    score = (signal * log_q).sum(0)
    return bound + score - score.detach()


def drawn(log_q: Tensor, count: int, noise: torch.Generator) -> Tensor:
    """Draw codes from log q [B, G, N, K], `count` times: [count, B, G, N]."""
    codes = torch.multinomial(log_q.detach().exp().flatten(0, 2), count, replacement=True, generator=noise)
    return codes.T.view(count, *log_q.shape[:3])


def log_probability(log_q: Tensor, codes: Tensor) -> Tensor:
    """log q of codes [B, G, N]: [B]."""
    return log_q.gather(3, codes[..., None]).flatten(1).sum(1)
