"""The codebooks of the quantiser: code vectors and usage counts, and their updates in training.

In: the latents of a training step and the codes that the quantiser chose for them. Out: vectors and frequencies of the
codes, at every quality.

- Usage counts are exponential moving averages (EMA) of how often each code is chosen.
- With `codebook_learning` "ema", a code vector is the EMA of the latents that were assigned to it (van den Oord et al.
  2017, appendix A.1). With "gradient", the vectors are ordinary parameters.
- With `restart_dead_codes` (EMA only), a dead code, used less than 1/100 of the average, restarts at a random latent of
  the batch.
- At qualities with a rate term (lambda > 0), `prune` sorts the codes by use and drops those that are hardly used. A
  dropped code has count 0 and is never chosen.
- A misfit is a latent that no code represents well. A small buffer keeps the worst ones, and `prune(adopt=True)` turns
  them into new codes in the free places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from vqcodec.model.config import VQVAEConfig
from vqcodec.nn.quantizer import MAX_BITS

__all__ = ["Codebooks", "Peers"]

DECAY = 0.995  # of the moving averages (van den Oord et al. 2017, appendix A.1, with a longer memory)
MIN_SHARE = 2.0**-17  # of the positions: a code with a smaller share is not worth its tables in the prior
MISFITS = 16  # misfits kept for each codebook and quality until the next pruning


@dataclass(frozen=True)
class _Observation:
    """What one forward pass contributes to the update of a codebook."""

    quality: Tensor  # [B]
    part: Tensor  # [B, N, dim], the codebook's part of the latents
    index: Tensor  # [B, N], the codes chosen for them
    misfit: Tensor  # [B, dim + 1], for each picture the latent with the largest error, and that error in bits


class Peers(Protocol):
    """Processes that each compute one part of a batch; all parts have the same size."""

    rank: int

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""

    def gather(self, tensor: Tensor) -> Tensor:
        """Concatenate the tensors of all processes: [count * B, ...] from [B, ...]."""


class Codebooks(nn.Module):
    """G codebooks, each with its own vectors and usage counts at every quality: `vectors(g)` is [Q, K, dim]."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.codebooks = config.codebooks
        self.dims = [dim for _, dim in config.codebooks]
        self.ema = config.codebook_learning == "ema"
        self.restart = config.restart_dead_codes
        self._observations: list[list[_Observation]] = [[] for _ in config.codebooks]  # since the last `learn`
        self.register_buffer("lambdas", torch.tensor(config.lambdas), persistent=False)
        self.lambdas: Tensor
        for g, (size, dim) in enumerate(config.codebooks):
            start = torch.empty(config.qualities, size, dim).normal_(std=dim**-0.5)
            if self.ema:
                self.register_buffer(f"vectors{g}", start)
                self.register_buffer(f"sums{g}", start.clone())
            else:
                self.register_parameter(f"vectors{g}", nn.Parameter(start))
            self.register_buffer(f"counts{g}", torch.ones(config.qualities, size))
            # [Q, MISFITS, dim + 1]: a latent and its squared error divided by lambda, which is in bits
            self.register_buffer(f"misfits{g}", torch.zeros(config.qualities, MISFITS, dim + 1), persistent=False)

    def vectors(self, g: int) -> Tensor:
        """The vectors of codebook g at all qualities: [Q, K, dim]."""
        return self.get_buffer(f"vectors{g}") if self.ema else self.get_parameter(f"vectors{g}")

    def bits(self, g: int) -> Tensor:
        """The zero-order cost of each code in bits, -log2 of its frequency: [Q, K], at most `MAX_BITS`."""
        counts = self.get_buffer(f"counts{g}")
        share = counts / counts.sum(1, keepdim=True)
        return -share.clamp_min(2.0**-MAX_BITS).log2()

    def live(self, g: int) -> Tensor:
        """How many codes of codebook g may be chosen at each quality: [Q].

        That is all codes up to the last one with a count above 0. Where lambda is 0 it is K.
        """
        counts = self.get_buffer(f"counts{g}")
        order = torch.arange(1, counts.shape[1] + 1, device=counts.device)
        return torch.where(self.lambdas > 0, ((counts > 0) * order).amax(1), counts.shape[1])

    def perplexity(self) -> Tensor:
        """The effective number of codes, 2^entropy of the frequencies, at each quality and codebook: [Q, G]."""
        columns = []
        for g in range(len(self.codebooks)):
            counts = self.get_buffer(f"counts{g}")
            share = counts / counts.sum(1, keepdim=True)
            columns.append(2 ** -(share * share.clamp_min(1e-12).log2()).sum(1))
        return torch.stack(columns, 1)

    @torch.no_grad()
    def restart_averages(self) -> None:
        """Recompute the EMA sums from vectors and counts, for a model that was stored without the sums."""
        if self.ema:
            for g in range(len(self.codebooks)):
                self.get_buffer(f"sums{g}").copy_(self.vectors(g) * self.get_buffer(f"counts{g}")[:, :, None])

    def see(self, g: int, quality: Tensor, part: Tensor, index: Tensor, worth: Tensor) -> None:
        """Record what `learn` needs of a forward pass.

        Qualities [B], latents `part` [B, N, dim], their codes `index` [B, N] and `worth` [B, N], their errors in bits.
        """
        bits, at = worth.max(1)
        latents = part[torch.arange(len(part), device=part.device), at]
        self._observations[g].append(_Observation(quality, part, index, torch.cat([latents, bits[:, None]], 1)))

    @torch.no_grad()
    def learn(self, peers: Peers | None = None) -> None:
        """Update the codebooks from everything observed since the last call. To be called once per training step.

        Updates the EMA of the usage counts and, with EMA learning, of the vectors (van den Oord et al. 2017, appendix
        A.1), then restarts dead codes and records misfits. `peers` computed the other parts of the batch: all processes
        end with the same codebooks, as if one process had computed the whole batch.
        """
        if not self._observations[0]:
            return
        observed = [_concatenated(parts) for parts in self._observations]
        self._observations = [[] for _ in observed]
        sums = [self._sums(g, each) for g, each in enumerate(observed)]
        misfits, quality = torch.cat([each.misfit for each in observed], 1), observed[0].quality
        if peers is not None:
            peers.add_up([tensor for pair in sums for tensor in pair])
            misfits, quality = peers.gather(misfits), peers.gather(quality)
        present = sorted(set(quality.tolist())) if self.restart and self.ema else []
        for g, candidates in enumerate(torch.split(misfits, [dim + 1 for dim in self.dims], 1)):
            self._update_averages(g, *sums[g])
            for q in present:
                self._restart_dead(g, q, observed[g].part, (quality == q).nonzero()[:, 0], peers)
            self._record_misfits(g, candidates, quality)

    def _sums(self, g: int, observed: _Observation) -> tuple[Tensor, Tensor]:
        """How often each code was used [Q, K] and, with EMA, the sum of the latents assigned to it [Q, K, dim]."""
        counts = self.get_buffer(f"counts{g}")
        flat = (observed.quality[:, None] * counts.shape[1] + observed.index).flatten()
        used = torch.bincount(flat, minlength=counts.numel()).float().view_as(counts)
        sums = counts.new_zeros(*counts.shape, self.dims[g] if self.ema else 0)
        if self.ema:
            sums.view(-1, self.dims[g]).index_add_(0, flat, observed.part.flatten(0, 1))
        return used, sums

    def _update_averages(self, g: int, used: Tensor, latent_sums: Tensor) -> None:
        """One EMA step with the results of `_sums`; a code that is hardly used keeps its vector."""
        counts = self.get_buffer(f"counts{g}")
        counts.mul_(DECAY).add_(used, alpha=1 - DECAY)
        if self.ema:
            vectors, sums = self.vectors(g), self.get_buffer(f"sums{g}")
            sums.mul_(DECAY).add_(latent_sums, alpha=1 - DECAY)
            vectors.copy_(torch.where(counts[:, :, None] > 1e-3, sums / counts[:, :, None].clamp_min(1e-6), vectors))

    def _record_misfits(self, g: int, candidates: Tensor, quality: Tensor) -> None:
        """Store the candidates [B, dim + 1] of pictures at the qualities [B].

        Each goes to a random place of the buffer, and replaces the entry there if its own error is larger.
        """
        misfits = self.get_buffer(f"misfits{g}")
        place = torch.randint(MISFITS, (len(candidates),), device=candidates.device)
        larger = (candidates[:, -1] > misfits[quality, place, -1])[:, None]
        misfits[quality, place] = torch.where(larger, candidates, misfits[quality, place])

    def _restart_dead(self, g: int, q: int, part: Tensor, pictures: Tensor, peers: Peers | None) -> None:
        """Restart dead codes, used less than 1/100 of the average, at random latents of the batch.

        `pictures`: indices, in the whole batch, of the pictures at quality q. `part` [B, N, dim]: the latents of this
        process. A process contributes zeros for pictures that it does not have, so the sum over the processes gives all
        of them the same latents.
        """
        counts = self.get_buffer(f"counts{g}")[q]
        dead = (counts < 0.01 * counts.mean()).nonzero()[:, 0]
        if len(dead):
            picked = torch.randint(len(pictures) * part.shape[1], (len(dead),), device=part.device)
            row = pictures[picked // part.shape[1]] - (peers.rank * len(part) if peers is not None else 0)
            here = (row >= 0) & (row < len(part))
            latents = part[row.clamp(0, len(part) - 1), picked % part.shape[1]] * here[:, None]
            if peers is not None:
                peers.add_up([latents])
            average = counts.mean()
            counts[dead] = average
            self.vectors(g)[q, dead] = latents
            self.get_buffer(f"sums{g}")[q, dead] = latents * average

    @torch.no_grad()
    def prune(self, *, adopt: bool = False) -> None:
        """At qualities with a rate term: sort the codes of each codebook by use and drop those that are hardly used.

        With `adopt`, recorded misfits become codes in the free places. Most of a picture is smooth, so k-means places
        no codes for saturated colours or text, although their error without such codes is large.
        """
        for g in range(len(self.codebooks)):
            vectors, counts, misfits = self.vectors(g), self.get_buffer(f"counts{g}"), self.get_buffer(f"misfits{g}")
            for quality in (self.lambdas > 0).nonzero()[:, 0].tolist():
                order = counts[quality].argsort(descending=True, stable=True)
                kept = counts[quality][order]
                kept = torch.where(kept >= MIN_SHARE * kept.sum(), kept, 0.0)
                vectors[quality] = torch.where(kept[:, None] > 0, vectors[quality][order], 0.0)
                if adopt:
                    # A code for a misfit will be rare. It pays only if the error costs more than the rarest code.
                    adopted = misfits[quality][misfits[quality, :, -1] > MAX_BITS, :-1]
                    first = int((kept > 0).sum())
                    places = slice(first, first + len(adopted))
                    vectors[quality, places] = adopted[: len(kept) - first]
                    kept[places] = 4 * MIN_SHARE * kept.sum()  # enough to survive the next pruning
                    misfits[quality] = 0
                counts[quality] = kept
                if self.ema:
                    self.get_buffer(f"sums{g}")[quality] = vectors[quality] * kept[:, None]


def _concatenated(parts: Sequence[_Observation]) -> _Observation:
    """Concatenate the observations of the parts of a batch."""
    if len(parts) == 1:
        return parts[0]
    fields = zip(*((each.quality, each.part, each.index, each.misfit) for each in parts), strict=True)
    return _Observation(*map(torch.cat, fields))
