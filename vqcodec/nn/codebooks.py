"""The codebooks of the quantiser: their vectors, how often each code is used, and how both learn in training.

In: what the quantiser saw in a step of training: latents and the codes that it chose for them. Out: vectors and
frequencies of the codes, at every quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from vqcodec.model.config import VQVAEConfig

__all__ = ["MAX_BITS", "Codebooks", "Peers"]

MAX_BITS = 24.0  # of a code that is never used: rarer than the range coder can express
DECAY = 0.995  # of the moving averages (van den Oord et al. 2017, appendix A.1, with a longer memory)
MIN_SHARE = 2.0**-17  # of the positions: a code that is used less often is not worth its tables in the prior
MISFITS = 16  # latents that fit no code, kept for each codebook and quality until the next pruning


@dataclass(frozen=True)
class _Seen:
    """What a codebook learns from."""

    quality: Tensor  # [B]
    part: Tensor  # [B, N, dim], latents
    index: Tensor  # [B, N], their codes
    misfit: Tensor  # [B, dim + 1], the latent of each picture whose error is worth most bits, and those bits


class Peers(Protocol):
    """Processes of which each has seen another part of a batch, all of the same size."""

    rank: int

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, one after another."""


class Codebooks(nn.Module):
    """G codebooks, each with its own vectors at every quality: `vectors(g)` is [Q, K, dim]."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.codebooks = config.codebooks
        self.dims = [dim for _, dim in config.codebooks]
        self.ema = config.codebook_learning == "ema"
        self.restart = config.restart_dead_codes
        self._seen: list[list[_Seen]] = [[] for _ in config.codebooks]  # since the codebooks last learned
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
            # [Q, MISFITS, dim + 1]: a latent, and its error over lambda, in bits
            self.register_buffer(f"misfits{g}", torch.zeros(config.qualities, MISFITS, dim + 1), persistent=False)

    def vectors(self, g: int) -> Tensor:
        """The vectors of codebook g at all qualities: [Q, K, dim]."""
        return self.get_buffer(f"vectors{g}") if self.ema else self.get_parameter(f"vectors{g}")

    def bits(self, g: int) -> Tensor:
        """-log2 of the frequency of each code: [Q, K], at most `MAX_BITS`."""
        counts = self.get_buffer(f"counts{g}")
        share = counts / counts.sum(1, keepdim=True)
        return -share.clamp_min(2.0**-MAX_BITS).log2()

    def live(self, g: int) -> Tensor:
        """How many codes of codebook g, from the first, are in use at each quality: [Q]; K where lambda is 0."""
        counts = self.get_buffer(f"counts{g}")
        order = torch.arange(1, counts.shape[1] + 1, device=counts.device)
        return torch.where(self.lambdas > 0, ((counts > 0) * order).amax(1), counts.shape[1])

    def perplexity(self) -> Tensor:
        """Effective number of codes in use, 2^entropy, of each codebook at each quality: [Q, G]."""
        columns = []
        for g in range(len(self.codebooks)):
            counts = self.get_buffer(f"counts{g}")
            share = counts / counts.sum(1, keepdim=True)
            columns.append(2 ** -(share * share.clamp_min(1e-12).log2()).sum(1))
        return torch.stack(columns, 1)

    @torch.no_grad()
    def restart_averages(self) -> None:
        """Make the sums of the moving averages agree with vectors and counts, where only those were stored."""
        if self.ema:
            for g in range(len(self.codebooks)):
                self.get_buffer(f"sums{g}").copy_(self.vectors(g) * self.get_buffer(f"counts{g}")[:, :, None])

    def see(self, g: int, quality: Tensor, part: Tensor, index: Tensor, worth: Tensor) -> None:
        """Keep what `learn` needs: qualities [B], latents `part` [B, N, dim], their codes and errors in bits [B, N]."""
        bits, at = worth.max(1)
        latents = part[torch.arange(len(part), device=part.device), at]
        self._seen[g].append(_Seen(quality, part, index, torch.cat([latents, bits[:, None]], 1)))

    @torch.no_grad()
    def learn(self, peers: Peers | None = None) -> None:
        """Let the codebooks learn from all that was seen since the last time: to be called once for each step.

        Moving averages of use (always) and of the vectors (EMA), van den Oord et al. 2017, appendix A.1. `peers` have
        seen the rest of the batch: all end with the same codebooks, as if one had seen everything.
        """
        if not self._seen[0]:
            return
        seen = [_joined(parts) for parts in self._seen]
        self._seen = [[] for _ in seen]
        sums = [self._sums(g, each) for g, each in enumerate(seen)]
        misfits, quality = torch.cat([each.misfit for each in seen], 1), seen[0].quality
        if peers is not None:
            peers.add_up([tensor for pair in sums for tensor in pair])
            misfits, quality = peers.gather(misfits), peers.gather(quality)
        present = sorted(set(quality.tolist())) if self.restart and self.ema else []
        for g, found in enumerate(torch.split(misfits, [dim + 1 for dim in self.dims], 1)):
            self._average(g, *sums[g])
            for q in present:
                self._restart_dead(g, q, seen[g].part, (quality == q).nonzero()[:, 0], peers)
            self._note_misfits(g, found, quality)

    def _sums(self, g: int, seen: _Seen) -> tuple[Tensor, Tensor]:
        """How often each code was used [Q, K], and, for EMA, the sums of the latents that it stood for [Q, K, dim]."""
        counts = self.get_buffer(f"counts{g}")
        flat = (seen.quality[:, None] * counts.shape[1] + seen.index).flatten()
        used = torch.bincount(flat, minlength=counts.numel()).float().view_as(counts)
        sums = counts.new_zeros(*counts.shape, self.dims[g] if self.ema else 0)
        if self.ema:
            sums.view(-1, self.dims[g]).index_add_(0, flat, seen.part.flatten(0, 1))
        return used, sums

    def _average(self, g: int, used: Tensor, fresh: Tensor) -> None:
        counts = self.get_buffer(f"counts{g}")
        counts.mul_(DECAY).add_(used, alpha=1 - DECAY)
        if self.ema:
            vectors, sums = self.vectors(g), self.get_buffer(f"sums{g}")
            sums.mul_(DECAY).add_(fresh, alpha=1 - DECAY)
            vectors.copy_(torch.where(counts[:, :, None] > 1e-3, sums / counts[:, :, None].clamp_min(1e-6), vectors))

    def _note_misfits(self, g: int, found: Tensor, quality: Tensor) -> None:
        """Keep misfits [B, dim + 1] of pictures at the qualities [B], each in a place where a lesser one was."""
        misfits = self.get_buffer(f"misfits{g}")
        place = torch.randint(MISFITS, (len(found),), device=found.device)
        larger = (found[:, -1] > misfits[quality, place, -1])[:, None]
        misfits[quality, place] = torch.where(larger, found, misfits[quality, place])

    def _restart_dead(self, g: int, q: int, part: Tensor, pictures: Tensor, peers: Peers | None) -> None:
        """Give codes that are used 100 times less than the average a latent of the batch as their vector.

        The latents are those of `pictures`, numbers in the whole batch, of which `part` [B, N, dim] is this process's.
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
        """Where there is a rate term: sort the codes of each codebook by use, give up those that are hardly used.

        With `adopt`, latents that fitted no code become codes in the places that are free. Most of a picture is smooth,
        so k-means puts no code where saturated colours and text would need one, however much its absence costs them.
        """
        for g in range(len(self.codebooks)):
            vectors, counts, misfits = self.vectors(g), self.get_buffer(f"counts{g}"), self.get_buffer(f"misfits{g}")
            for quality in (self.lambdas > 0).nonzero()[:, 0].tolist():
                order = counts[quality].argsort(descending=True, stable=True)
                kept = counts[quality][order]
                kept = torch.where(kept >= MIN_SHARE * kept.sum(), kept, 0.0)
                vectors[quality] = torch.where(kept[:, None] > 0, vectors[quality][order], 0.0)
                if adopt:
                    # Worth the bits of a code that is as rare as can be, and more: it will not be taken often.
                    found = misfits[quality][misfits[quality, :, -1] > MAX_BITS, :-1]
                    first = int((kept > 0).sum())
                    places = slice(first, first + len(found))
                    vectors[quality, places] = found[: len(kept) - first]
                    kept[places] = 4 * MIN_SHARE * kept.sum()
                    misfits[quality] = 0
                counts[quality] = kept
                if self.ema:
                    self.get_buffer(f"sums{g}")[quality] = vectors[quality] * kept[:, None]


def _joined(parts: Sequence[_Seen]) -> _Seen:
    """The parts of a batch as one."""
    if len(parts) == 1:
        return parts[0]
    together = zip(*((seen.quality, seen.part, seen.index, seen.misfit) for seen in parts), strict=True)
    return _Seen(*map(torch.cat, together))
