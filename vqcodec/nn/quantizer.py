"""Latents -> codes -> latents: the choice of codes, without torch.

In: latents [h, w, D], float32. Out: codes [G, h, w], and back. `train/networks/quantizer.py` describes the quantiser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vqcodec.model.config import VQVAEConfig
from vqcodec.nn import native
from vqcodec.nn.tiles import Floats
from vqcodec.threads import Workers
from vqcodec.windows import bounds

__all__ = ["MAX_BITS", "NOT_IN_USE", "Costs", "Quantizer", "nearest"]

Codes = npt.NDArray[np.int32]
Costs = npt.NDArray[np.float32] | npt.NDArray[np.uint8]

MAX_BITS = 24.0  # cost of a code that is never used: rarer than the range coder can express
NOT_IN_USE = 1e4  # bits; finite, because 0 times infinity is NaN
ROWS = 128  # positions whose costs are computed at once: 128 * 256 codes * 4 bytes stay in the caches


class Quantizer:
    """The codebooks of a model at all qualities: for each, vectors [Q, K, dim] and usage counts [Q, K]."""

    def __init__(self, config: VQVAEConfig, tensors: Mapping[str, Floats]) -> None:
        books = range(len(config.codebooks))
        self.lambdas = np.array(config.lambdas, np.float32)
        self._shares = config.rate_shares or [[1.0] * len(books)] * config.qualities
        self._vectors = [tensors[f"quantizer.vectors{g}"] for g in books]
        self._counts = [tensors[f"quantizer.counts{g}"] for g in books]
        self._ends = np.cumsum([dim for _, dim in config.codebooks])

    def vectors(self, g: int) -> Floats:
        """The vectors of codebook g at all qualities: [Q, K, dim]."""
        return self._vectors[g]

    def bits(self, g: int) -> Floats:
        """The zero-order cost of each code in bits, -log2 of its frequency: [Q, K], at most 24."""
        counts = self._counts[g]
        with np.errstate(invalid="ignore"):
            share = counts / counts.sum(1, keepdims=True)
        found: Floats = -np.log2(np.maximum(share, np.float32(2.0**-MAX_BITS)))
        return found

    def live(self, g: int) -> npt.NDArray[np.int64]:
        """How many codes of codebook g may be chosen at each quality: [Q].

        That is all codes up to the last one with a count above 0. Where lambda is 0 it is K.
        """
        counts = self._counts[g]
        used = ((counts > 0) * np.arange(1, counts.shape[1] + 1)).max(1)
        found: npt.NDArray[np.int64] = np.where(self.lambdas > 0, used, counts.shape[1])
        return found

    def quantize(
        self,
        latents: Floats,
        quality: int,
        scale: float | Floats,
        workers: Workers,
        given: Sequence[Costs] | None = None,
    ) -> Codes:
        """Codes [G, h, w] of latents [h, w, D] at one quality (0-based), with lambda times `scale`.

        `given`: costs in bits that depend on the position and replace those by frequency: for each codebook [h * w, K],
        where K is at least the number of codes in use. The scale may then depend on the position too: [h, w].
        """
        height, width, dims = latents.shape
        flat = latents.reshape(-1, dims)
        price = self.lambdas[quality] * np.asarray(scale, np.float32)
        codes = np.empty((len(self._vectors), height, width), np.int32)

        def choose(g: int) -> None:
            live = int(self.live(g)[quality])
            vectors = self._vectors[g][quality, :live]
            part = flat[:, self._ends[g] - vectors.shape[1] : self._ends[g]]
            if given is None:
                bits = self.bits(g)[quality, :live] * np.float32(self._shares[quality][g])
                bits = np.where(self._counts[g][quality, :live] > 0, bits, np.float32(NOT_IN_USE))
                codes[g] = nearest(part, vectors, price * bits).reshape(height, width)
            else:
                prices = np.broadcast_to(price, (height, width)).reshape(-1)
                fixed = np.zeros(live, np.float32)
                codes[g] = nearest(part, vectors, fixed, given[g], prices).reshape(height, width)

        workers.map(choose, range(len(codes)))
        return codes

    def dequantize(self, codes: Codes, quality: int) -> Floats:
        """Latents [h, w, D] of codes [G, h, w] at one quality (0-based)."""
        return np.concatenate([each[quality][row] for each, row in zip(self._vectors, codes, strict=True)], axis=2)


def nearest(
    latents: Floats, vectors: Floats, fixed: Floats, costs: Costs | None = None, scale: Floats | None = None
) -> Codes:
    """For each latent z the first code k with the lowest |z - e_k|^2 + fixed_k + scale * costs_k: [N].

    Latents [N, dim], vectors e [K, dim], fixed costs [K], and with a scale [N] costs of each position [N, >= K].
    """
    count, size = len(latents), len(vectors)
    # |z|^2 is the same for all codes, so it is left out; the constant 1 behind each latent adds |e_k|^2 and fixed_k.
    table = np.concatenate([-2 * vectors.T, (np.square(vectors).sum(1) + fixed)[None]])
    level = native.active()
    if level:
        return native.choose(level, latents, table, costs, scale)
    joined = np.empty((min(count, ROWS), len(table)), np.float32)
    joined[:, -1] = 1
    total, weighted = (np.empty((len(joined), size), np.float32) for _ in range(2))
    chosen = np.empty(count, np.int32)
    for first, last in bounds(count, ROWS):
        rows = last - first
        joined[:rows, :-1] = latents[first:last]
        np.matmul(joined[:rows], table, out=total[:rows])
        if costs is not None and scale is not None:
            np.multiply(costs[first:last, :size], scale[first:last, None], out=weighted[:rows])
            total[:rows] += weighted[:rows]
        chosen[first:last] = total[:rows].argmin(1)
    return chosen
