"""Stage four: a model and codes of its search -> the kernels of a post-filter, without a gradient.

Every crop has its own best filter of SIDE x SIDE pixels, 225 numbers. The K kernels span the space in which crops find
the best of what K numbers can give: reduced-rank regression (Izenman 1975, section 2), here with the ranks shared by
many regressions, solved by turns for the weights of every crop and for the kernels, both of which are linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.nn.postfilter import SIDE, padded
from vqcodec.nn.vqvae import VQVAE
from vqcodec.progress import Progress
from vqcodec.train.decoder import Searched

__all__ = ["solve_kernels"]

ROUNDS = 20  # of the turns; the last ones change little
INPUTS = 3 * SIDE**2
EVERY = 3  # pixels: which of them count
PRIOR = 0.02  # of the variance of an input, against the noise of the filters that the kernels begin with
# A crop with much to gain, such as a drawing, counts for no more than if this share of its error were to be gained.
MOST = 0.03
RIDGE = 1e-6


@dataclass(frozen=True)
class Statistics:
    """Of N crops, in shares of their squared error: products of inputs, and of inputs with what the decoder lacks."""

    gram: Tensor  # [N, INPUTS, INPUTS]
    lacking: Tensor  # [N, INPUTS, 3]

    def weights(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """The best weights [N, K] of kernels [K, INPUTS, 3], and the share of its error that every crop gains [N]."""
        inner = torch.einsum("npq,kqo,jpo->nkj", self.gram, kernels, kernels)
        outer = torch.einsum("npo,kpo->nk", self.lacking, kernels)
        ridge = RIDGE * (inner.diagonal(dim1=1, dim2=2).mean(1) + RIDGE)
        inner = inner + ridge[:, None, None] * torch.eye(len(kernels)).to(inner)
        found = torch.linalg.solve(inner, outer)
        return found, (found * outer).sum(1)

    def kernels(self, weights: Tensor, counts: Tensor) -> Tensor:
        """The best kernels [K, INPUTS, 3] for the weights [N, K] of crops that count as `counts` [N] says."""
        crops, count = weights.shape
        pairs = torch.einsum("n,nk,nj->nkj", counts, weights, weights).reshape(crops, -1)
        matrix = (pairs.T @ self.gram.reshape(crops, -1)).view(count, count, INPUTS, INPUTS)
        matrix = matrix.transpose(1, 2).reshape(count * INPUTS, count * INPUTS)
        answers = torch.einsum("n,nk,npo->kpo", counts, weights, self.lacking).reshape(count * INPUTS, 3)
        ridge = RIDGE * matrix.diagonal().mean() * torch.eye(len(matrix)).to(matrix)
        kernels: Tensor = torch.linalg.solve(matrix + ridge, answers).view(count, INPUTS, 3)
        return kernels


def solve_kernels(
    network: VQVAE, found: Searched, count: int, progress: Progress | None = None
) -> tuple[Tensor, float]:
    """`count` kernels [K, 3, 3, SIDE, SIDE] for what the decoder makes of the codes; the share of the error they take.

    That share is the mean over the crops it was found on. Kernels are scaled so that a weight of 1 would answer with as
    much energy as the error has, on average over the crops; their responses are uncorrelated, and so are the weights.
    """
    statistics = _statistics(network, found, progress)
    kernels = _first_kernels(statistics, count)
    for _ in range(ROUNDS):
        weights, gains = statistics.weights(kernels)
        kernels = _orthonormal(statistics, statistics.kernels(weights, 1 / (MOST + gains)))
    weights, gains = statistics.weights(kernels)
    kernels = _uncorrelated(kernels, weights, 1 / (MOST + gains))
    shaped = kernels.view(count, 3, SIDE, SIDE, 3).permute(0, 4, 1, 2, 3)
    return shaped.float().contiguous(), float(gains.mean())


@torch.no_grad()
def _statistics(network: VQVAE, found: Searched, progress: Progress | None) -> Statistics:
    grams, lacks = [], []
    crops = zip(found.pixels, found.codes, found.quality.tolist(), strict=True)
    for done, (pixels, codes, quality) in enumerate(crops, 1):
        decoded = network.to_pictures(codes[None].long(), quality)
        inputs = F.unfold(padded(decoded), SIDE)[0, :, ::EVERY].double()  # [INPUTS, H * W / EVERY]
        lacking = (pixels.permute(2, 0, 1) / 255 - decoded[0]).flatten(1)[:, ::EVERY].double()
        error = lacking.square().sum() + 1e-9
        grams.append(inputs @ inputs.T / error)
        lacks.append(inputs @ lacking.T / error)
        if progress:
            progress(done / len(found.quality))
    return Statistics(torch.stack(grams), torch.stack(lacks))


def _first_kernels(statistics: Statistics, count: int) -> Tensor:
    """The principal components [K, INPUTS, 3] of the crops' own filters."""
    scale = statistics.gram.diagonal(dim1=1, dim2=2)  # [N, INPUTS]
    own = torch.linalg.solve(statistics.gram + torch.diag_embed(PRIOR * scale + RIDGE), statistics.lacking)
    inputs = scale.mean(0).sqrt()[:, None]
    flat = (own * inputs).flatten(1)
    flat = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-9).sqrt()  # of large ones the direction counts more
    _, vectors = torch.linalg.eigh(flat.T @ flat)
    return _orthonormal(statistics, vectors[:, -count:].T.reshape(count, INPUTS, 3) / inputs)


def _uncorrelated(kernels: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """Orthonormal kernels [K, INPUTS, 3] turned so that the weights [N, K] of crops are uncorrelated, largest first.

    Fewer bits tell such weights, to the same error.
    """
    _, vectors = torch.linalg.eigh((counts[:, None] * weights).T @ weights)
    return torch.einsum("kj,kpo->jpo", vectors.flip(1), kernels)


def _orthonormal(statistics: Statistics, kernels: Tensor) -> Tensor:
    """Kernels [K, INPUTS, 3] of the same span whose responses have the mean Gram matrix 1, strongest first."""
    mean = statistics.gram.mean(0)
    values, vectors = torch.linalg.eigh(torch.einsum("pq,kqo,jpo->kj", mean, kernels, kernels))
    scaled = vectors / values.clamp_min(RIDGE * values[-1]).sqrt()
    return torch.einsum("kj,kpo->jpo", scaled.flip(1), kernels)
