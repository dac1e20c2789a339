"""Latents -> codes -> latents: the product vector quantiser, with an optional rate term.

In: latents [B, D, H, W], floats. Out: codes [B, G, H, W] (one index for each of G codebooks) and the chosen vectors.

A position's latent is cut into G parts of `dim` channels; each part is replaced by the code k of its own codebook
that minimises |z - e_k|^2 + lambda * bits_k, where bits_k = -log2 p_k and p_k is how often the code is used: entropy-
constrained vector quantisation (Chou, Lookabaugh & Gray, "Entropy-constrained vector quantization", 1989, section
III). With lambda = 0 and one codebook it is the nearest code of the VQ-VAE (van den Oord et al. 2017, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.config import VQVAEConfig

__all__ = ["Quantized", "VectorQuantizer"]

MAX_BITS = 24.0  # of a code that is never used: rarer than the range coder can express
DECAY = 0.995  # of the moving averages (van den Oord et al. 2017, appendix A.1, with a longer memory)
KMEANS_ROUNDS = 40  # codes that the rate term makes useless die slowly
# Temperature of the soft rate, in multiples of lambda: wide enough that the encoder feels the neighbouring codes.
RATE_TEMPERATURE = 2.0
MIN_SHARE = 2.0**-17  # of the positions: a code that is used less often is not worth its tables in the prior
MISFITS = 16  # latents that fit no code, kept for each codebook and quality until the next pruning


@dataclass(frozen=True)
class Quantized:
    """What the quantiser makes of latents."""

    latents: Tensor  # [B, D, H, W], the chosen vectors; gradients pass straight through to the input
    codes: Tensor  # [B, G, H, W], int64
    rate: Tensor  # [B], soft expected bits per position, differentiable; 0 where lambda is 0
    codebook_loss: Tensor  # [B], |sg(z) - e|^2 per position; 0 when the codebooks learn by EMA
    commitment_loss: Tensor  # [B], |z - sg(e)|^2 per position


class VectorQuantizer(nn.Module):
    """G codebooks, each with its own vectors at every quality: `vectors(g)` is [Q, K, dim]."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.codebooks = config.codebooks
        self.dims = [dim for _, dim in config.codebooks]
        self.ema = config.codebook_learning == "ema"
        self.restart = config.restart_dead_codes
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

    def forward(self, z: Tensor, quality: Tensor) -> Quantized:
        """Quantise z [B, D, H, W] at the qualities [B] (0-based); while training, learn the codebooks."""
        batch, _, height, width = z.shape
        parts = torch.split(z.float().flatten(2).transpose(1, 2), self.dims, 2)  # G x [B, N, dim]
        lam = self.lambdas[quality]
        zero = z.new_zeros(batch, dtype=torch.float32)
        chosen, codes, rate, codebook_loss, commitment = [], [], zero, zero, zero
        for g, part in enumerate(parts):
            used = int(self.live(g)[quality].max())
            vectors, bits = self.vectors(g)[quality, :used], self.bits(g)[quality, :used]
            cost = self._cost(part.detach(), vectors.detach(), bits, lam)
            index = cost.argmin(2)  # [B, N]
            picked = vectors.gather(1, index[:, :, None].expand_as(part))
            if self.training and bool((lam > 0).any()):
                rate = rate + _soft_rate(part, cost, vectors.detach(), bits, lam)
            if not self.ema:
                codebook_loss = codebook_loss + (part.detach() - picked).square().sum(2).mean(1)
            commitment = commitment + (part - picked.detach()).square().sum(2).mean(1)
            if self.training:
                self._learn(g, part.detach(), index, quality)
                self._note_misfits(g, part.detach(), picked.detach(), quality)
            chosen.append(picked.detach())
            codes.append(index)
        flat = torch.cat(chosen, 2).transpose(1, 2).reshape(z.shape)
        return Quantized(
            latents=z + (flat - z).detach(),
            codes=torch.stack(codes, 1).view(batch, len(parts), height, width),
            rate=rate,
            codebook_loss=codebook_loss,
            commitment_loss=commitment,
        )

    def encode(self, z: Tensor, quality: int, scale: float = 1.0, given: Sequence[Tensor] | None = None) -> Tensor:
        """Codes [B, G, H, W] of latents z [B, D, H, W] at one quality (0-based), with lambda times `scale`.

        `given`: the bits of each code where they are known to depend on the position, for each codebook
        [B, H * W, K], K being at least the number of codes in use.
        """
        batch, _, height, width = z.shape
        lam = self.lambdas[quality].expand(batch) * scale
        codes = []
        for g, part in enumerate(torch.split(z.float().flatten(2).transpose(1, 2), self.dims, 2)):
            live = int(self.live(g)[quality])
            vectors = self.vectors(g)[quality, :live].expand(batch, -1, -1)
            if given is None:
                cost = self._cost(part, vectors, self.bits(g)[quality, :live].expand(batch, -1), lam)
            else:
                cost = self._cost(part, vectors, torch.zeros_like(vectors[:, :, 0]), lam)
                cost += lam[:, None, None] * given[g][:, :, :live]
            codes.append(cost.argmin(2))
        return torch.stack(codes, 1).view(batch, len(codes), height, width)

    def decode(self, codes: Tensor, quality: int) -> Tensor:
        """Latents [B, D, H, W] of codes [B, G, H, W] at one quality (0-based)."""
        parts = [self.vectors(g)[quality][codes[:, g]] for g in range(codes.shape[1])]
        return torch.cat(parts, 3).permute(0, 3, 1, 2)

    @torch.no_grad()
    def start_from(self, latents: Tensor, quality: int, mass: float = 1000.0) -> None:
        """Set the codebooks of one quality (0-based) by k-means with the rate term on latents [N, D].

        `mass` is the weight that the start has in the moving averages, in positions of one training step.
        """
        lam = self.lambdas[quality]
        for g, part in enumerate(torch.split(latents.float(), self.dims, 1)):
            size = self.codebooks[g][0]
            vectors = part[torch.randperm(len(part))[:size]]
            vectors = F.pad(vectors, (0, 0, 0, size - len(vectors)))  # fewer latents than codes
            counts = torch.ones(size)
            for _ in range(KMEANS_ROUNDS):
                bits = -(counts / counts.sum()).clamp_min(2.0**-MAX_BITS).log2()
                index = self._cost(part[None], vectors[None], bits[None], lam[None])[0].argmin(1)
                counts = torch.bincount(index, minlength=size).float()
                sums = torch.zeros_like(vectors).index_add_(0, index, part)
                vectors = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), vectors)
            counts = counts * (mass / counts.sum())
            self.vectors(g)[quality] = vectors
            self.get_buffer(f"counts{g}")[quality] = counts
            if self.ema:
                self.get_buffer(f"sums{g}")[quality] = vectors * counts[:, None]

    @torch.no_grad()
    def restart_averages(self) -> None:
        """Make the sums of the moving averages agree with vectors and counts, where only those were stored."""
        if self.ema:
            for g in range(len(self.codebooks)):
                self.get_buffer(f"sums{g}").copy_(self.vectors(g) * self.get_buffer(f"counts{g}")[:, :, None])

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

    @staticmethod
    def _cost(part: Tensor, vectors: Tensor, bits: Tensor, lam: Tensor) -> Tensor:
        """|z - e_k|^2 - |z|^2 + lambda * bits_k: [B, N, K] from [B, N, dim], [B, K, dim], [B, K] and [B]."""
        with torch.autocast(part.device.type, enabled=False):  # argmin between close codes needs all 24 bits
            offset = vectors.square().sum(2) + lam[:, None] * bits
            return torch.baddbmm(offset[:, None, :], part, vectors.transpose(1, 2), alpha=-2.0)

    @torch.no_grad()
    def _note_misfits(self, g: int, part: Tensor, picked: Tensor, quality: Tensor) -> None:
        """Keep the latent of each picture that is farthest from its code; part, picked [B, N, dim]; quality [B]."""
        worst, at = (part - picked).square().sum(2).max(1)  # [B]
        bits = worst / self.lambdas[quality].clamp_min(1e-6)
        misfits = self.get_buffer(f"misfits{g}")
        place = torch.randint(MISFITS, (len(part),), device=part.device)
        latents = part[torch.arange(len(part), device=part.device), at]
        new = torch.cat([latents, bits[:, None]], 1)
        larger = (bits > misfits[quality, place, -1])[:, None]
        misfits[quality, place] = torch.where(larger, new, misfits[quality, place])

    @torch.no_grad()
    def _learn(self, g: int, part: Tensor, index: Tensor, quality: Tensor) -> None:
        """Moving averages of use (always) and of the vectors (EMA), van den Oord et al. 2017, appendix A.1."""
        counts = self.get_buffer(f"counts{g}")
        flat = (quality[:, None] * counts.shape[1] + index).flatten()
        used = torch.bincount(flat, minlength=counts.numel()).float().view_as(counts)
        counts.mul_(DECAY).add_(used, alpha=1 - DECAY)
        if not self.ema:
            return
        vectors, sums = self.vectors(g), self.get_buffer(f"sums{g}")
        fresh = torch.zeros_like(sums).view(-1, sums.shape[2]).index_add_(0, flat, part.flatten(0, 1))
        sums.mul_(DECAY).add_(fresh.view_as(sums), alpha=1 - DECAY)
        vectors.copy_(torch.where(counts[:, :, None] > 1e-3, sums / counts[:, :, None].clamp_min(1e-6), vectors))
        if self.restart:
            for q in sorted(set(quality.tolist())):
                self._restart_dead(g, part[quality == q].flatten(0, 1), q)

    def _restart_dead(self, g: int, part: Tensor, q: int) -> None:
        """Give codes that are used 100 times less than the average a latent of this batch as their vector."""
        counts = self.get_buffer(f"counts{g}")[q]
        dead = (counts < 0.01 * counts.mean()).nonzero()[:, 0]
        if len(dead):
            pick = part[torch.randint(len(part), (len(dead),), device=part.device)]
            average = counts.mean()
            counts[dead] = average
            self.vectors(g)[q, dead] = pick
            self.get_buffer(f"sums{g}")[q, dead] = pick * average


def _soft_rate(part: Tensor, cost: Tensor, vectors: Tensor, bits: Tensor, lam: Tensor) -> Tensor:
    """Expected bits per position [B] when a code is taken with probability softmax(-cost / temperature).

    The gradient towards the latents `part` [B, N, dim] is written out, which spares several passes over [B, N, K]:
    with w_k the probabilities and r the expected bits, dr/dz = (2 / temperature) sum_k w_k (bits_k - r) e_k.
    """
    with torch.no_grad(), torch.autocast(part.device.type, enabled=False):  # bits_k - r: in bf16 r would be noise
        temperature = (RATE_TEMPERATURE * lam).clamp_min(1e-6)[:, None, None]
        share = torch.softmax(cost / -temperature, 2)
        expected = torch.bmm(share, bits[:, :, None])  # [B, N, 1]
        slope = torch.bmm(share.mul_(bits[:, None, :] - expected), vectors) * (2 / temperature)
    through = (slope * (part - part.detach())).sum(2)  # zero, but for its gradient
    return (expected[:, :, 0] + through).mean(1)
