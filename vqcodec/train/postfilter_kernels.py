"""Stage four: a model and codes of its search -> the kernels of a post-filter, without gradient descent.

Every crop has its own optimal filter of SIDE x SIDE pixels and 3 x 3 channels: 225 numbers. This module finds the K
kernels whose weighted sums reduce the errors of the crops most. This is a reduced-rank regression (Izenman 1975,
section 2) in which many regressions share the same low-rank space. The solution alternates between the weights of every
crop and the kernels; each of the two steps is a linear least-squares problem.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.progress import Progress
from vqcodec.train.decoder import Searched
from vqcodec.train.networks.postfilter import SIDE, padded
from vqcodec.train.networks.vqvae import VQVAE

__all__ = ["solve_kernels"]

ROUNDS = 20  # alternations; the last ones change little
INPUTS = 3 * SIDE**2
EVERY = 3  # use every third pixel
START_RIDGE = 0.02  # relative to the variance of an input; reduces the noise of the initial filters of the crops
# A crop whose error falls by the share g has the weight 1 / (GAIN_OFFSET + g). So a crop with a large gain, such as a
# drawing, does not dominate.
GAIN_OFFSET = 0.03
RIDGE = 1e-6


@dataclass(frozen=True)
class Statistics:
    """The least-squares problems of N crops. Each crop is normalised by the squared error of its decoded picture."""

    gram: Tensor  # [N, INPUTS, INPUTS], products of the inputs
    correlation: Tensor  # [N, INPUTS, 3], products of the inputs with the residual of the decoder

    def weights(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """The best weights [N, K] for kernels [K, INPUTS, 3], and the share by which they reduce each error [N]."""
        inner = torch.einsum("npq,kqo,jpo->nkj", self.gram, kernels, kernels)
        outer = torch.einsum("npo,kpo->nk", self.correlation, kernels)
        ridge = RIDGE * (inner.diagonal(dim1=1, dim2=2).mean(1) + RIDGE)
        inner = inner + ridge[:, None, None] * torch.eye(len(kernels)).to(inner)
        found = torch.linalg.solve(inner, outer)
        return found, (found * outer).sum(1)

    def kernels(self, weights: Tensor, counts: Tensor) -> Tensor:
        """The best kernels [K, INPUTS, 3] for the weights [N, K]; `counts` [N] is the importance of each crop."""
        crops, count = weights.shape
        pairs = torch.einsum("n,nk,nj->nkj", counts, weights, weights).reshape(crops, -1)
        matrix = (pairs.T @ self.gram.reshape(crops, -1)).view(count, count, INPUTS, INPUTS)
        matrix = matrix.transpose(1, 2).reshape(count * INPUTS, count * INPUTS)
        answers = torch.einsum("n,nk,npo->kpo", counts, weights, self.correlation).reshape(count * INPUTS, 3)
        ridge = RIDGE * matrix.diagonal().mean() * torch.eye(len(matrix)).to(matrix)
        kernels: Tensor = torch.linalg.solve(matrix + ridge, answers).view(count, INPUTS, 3)
        return kernels


def solve_kernels(
    network: VQVAE, found: Searched, count: int, progress: Progress | None = None
) -> tuple[Tensor, float]:
    """Find `count` kernels [K, 3, 3, SIDE, SIDE] for the decoded codes, and the share by which they reduce the error.

    The share is a mean over the crops that the kernels were found on. The kernels are scaled so that the response to a
    weight of 1 has as much energy as the error, on average over the crops. Their responses are uncorrelated, and so are
    the weights.
    """
    statistics = _statistics(network, found, progress)
    kernels = _first_kernels(statistics, count)
    for _ in range(ROUNDS):
        weights, gains = statistics.weights(kernels)
        kernels = _orthonormal(statistics, statistics.kernels(weights, 1 / (GAIN_OFFSET + gains)))
    weights, gains = statistics.weights(kernels)
    kernels = _uncorrelated(kernels, weights, 1 / (GAIN_OFFSET + gains))
    shaped = kernels.view(count, 3, SIDE, SIDE, 3).permute(0, 4, 1, 2, 3)
    return shaped.float().contiguous(), float(gains.mean())


@torch.no_grad()
def _statistics(network: VQVAE, found: Searched, progress: Progress | None) -> Statistics:
    """Decode the crops and compute their statistics."""
    grams, correlations = [], []
    crops = zip(found.pixels, found.codes, found.quality.tolist(), strict=True)
    for done, (pixels, codes, quality) in enumerate(crops, 1):
        decoded = network.to_pictures(codes[None].long(), quality)
        inputs = F.unfold(padded(decoded), SIDE)[0, :, ::EVERY].double()  # [INPUTS, H * W / EVERY]
        residual = (pixels.permute(2, 0, 1) / 255 - decoded[0]).flatten(1)[:, ::EVERY].double()
        error = residual.square().sum() + 1e-9
        grams.append(inputs @ inputs.T / error)
        correlations.append(inputs @ residual.T / error)
        if progress:
            progress(done / len(found.quality))
    return Statistics(torch.stack(grams), torch.stack(correlations))


def _first_kernels(statistics: Statistics, count: int) -> Tensor:
    """The initial kernels: the principal components [K, INPUTS, 3] of the optimal filters of the crops."""
    scale = statistics.gram.diagonal(dim1=1, dim2=2)  # [N, INPUTS]
    own = torch.linalg.solve(statistics.gram + torch.diag_embed(START_RIDGE * scale + RIDGE), statistics.correlation)
    inputs = scale.mean(0).sqrt()[:, None]
    flat = (own * inputs).flatten(1)
    flat = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-9).sqrt()  # limits the influence of large filters
    _, vectors = torch.linalg.eigh(flat.T @ flat)
    return _orthonormal(statistics, vectors[:, -count:].T.reshape(count, INPUTS, 3) / inputs)


def _uncorrelated(kernels: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """Rotate orthonormal kernels [K, INPUTS, 3] so that the weights [N, K] of crops are uncorrelated, largest first.

    Uncorrelated weights need fewer bits for the same error.
    """
    _, vectors = torch.linalg.eigh((counts[:, None] * weights).T @ weights)
    return torch.einsum("kj,kpo->jpo", vectors.flip(1), kernels)


def _orthonormal(statistics: Statistics, kernels: Tensor) -> Tensor:
    """Kernels [K, INPUTS, 3] of the same span, strongest first; the mean Gram matrix of their responses is 1."""
    mean = statistics.gram.mean(0)
    values, vectors = torch.linalg.eigh(torch.einsum("pq,kqo,jpo->kj", mean, kernels, kernels))
    scaled = vectors / values.clamp_min(RIDGE * values[-1]).sqrt()
    return torch.einsum("kj,kpo->jpo", scaled.flip(1), kernels)
