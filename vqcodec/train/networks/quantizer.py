"""Latents -> codes -> latents: the product vector quantiser, with an optional rate term.

In: latents [B, D, H, W], floats. Out: codes [B, G, H, W] (one index for each of G codebooks) and the chosen vectors.

The latent of a position is split into G parts of `dim` channels. Each part is replaced by the code k of its own
codebook that minimises |z - e_k|^2 + lambda * bits_k, where bits_k = -log2 p_k and p_k is the frequency of the code.
This is entropy-constrained vector quantisation (Chou, Lookabaugh & Gray, "Entropy-constrained vector quantization",
1989, section III). With lambda = 0 and one codebook it is the nearest-code quantiser of the VQ-VAE (van den Oord et al.
2017, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.model.config import VQVAEConfig
from vqcodec.nn.quantizer import MAX_BITS, NOT_IN_USE
from vqcodec.train.networks.codebooks import Codebooks

__all__ = ["Quantized", "VectorQuantizer"]

KMEANS_ROUNDS = 40  # many, because codes that the rate term makes useless lose their latents slowly
# Temperature of the soft rate, in multiples of lambda: high enough to give gradients towards neighbouring codes.
RATE_TEMPERATURE = 2.0


@dataclass(frozen=True)
class Quantized:
    """The result of quantising latents in training."""

    latents: Tensor  # [B, D, H, W], the chosen vectors; gradients pass straight through to the input
    codes: Tensor  # [B, G, H, W], int64
    rate: Tensor  # [B], soft expected bits per position, differentiable; 0 where lambda is 0
    codebook_loss: Tensor  # [B], |sg(z) - e|^2 per position; 0 when the codebooks learn by EMA
    commitment_loss: Tensor  # [B], |z - sg(e)|^2 per position


class VectorQuantizer(Codebooks):
    """A product quantiser of G codebooks, each with its own vectors at every quality: `vectors(g)` is [Q, K, dim]."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__(config)
        shares = config.rate_shares or [[1.0] * len(config.codebooks)] * config.qualities
        self.register_buffer("shares", torch.tensor(shares), persistent=False)  # [Q, G]
        self.shares: Tensor

    def prices(self, g: int) -> Tensor:
        """The estimated cost of each code in bits after coding with the prior, at each quality: [Q, K].

        It is the zero-order cost times the rate share of the codebook. A code that is not in use costs `NOT_IN_USE`, so
        that a rate term excludes it: it has no valid vector.
        """
        return torch.where(self.get_buffer(f"counts{g}") > 0, self.bits(g) * self.shares[:, g, None], NOT_IN_USE)

    def forward(self, z: Tensor, quality: Tensor) -> Quantized:
        """Quantise z [B, D, H, W] at the qualities [B] (0-based). In training mode, also record what `learn` needs."""
        batch, _, height, width = z.shape
        parts = torch.split(z.float().flatten(2).transpose(1, 2), self.dims, 2)  # G x [B, N, dim]
        lam = self.lambdas[quality]
        zero = z.new_zeros(batch, dtype=torch.float32)
        chosen, codes, rate, codebook_loss, commitment = [], [], zero, zero, zero
        for g, part in enumerate(parts):
            used = int(self.live(g)[quality].max())
            vectors, bits = self.vectors(g)[quality, :used], self.prices(g)[quality, :used]
            cost = self._cost(part.detach(), vectors.detach(), bits, lam)
            index = cost.argmin(2)  # [B, N]
            picked = vectors.gather(1, index[:, :, None].expand_as(part))
            if self.training and bool((lam > 0).any()):
                rate = rate + _soft_rate(part, cost, vectors.detach(), bits, lam)
            if not self.ema:
                codebook_loss = codebook_loss + (part.detach() - picked).square().sum(2).mean(1)
            distance = (part - picked.detach()).square().sum(2)
            commitment = commitment + distance.mean(1)
            if self.training:
                self.see(g, quality, part.detach(), index, distance.detach() / lam[:, None].clamp_min(1e-6))
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

    def quantize(
        self,
        z: Tensor,
        quality: int,
        scale: float | Tensor = 1.0,
        given: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Codes [B, G, H, W] of latents z [B, D, H, W] at one quality (0-based), with lambda times `scale`.

        `given`: costs in bits that depend on the position and replace `prices`: for each codebook [B, H * W, K], where
        K is at least the number of codes in use. The scale may then depend on the position too: [B, H * W].
        """
        batch, _, height, width = z.shape
        lam = self.lambdas[quality] * scale
        free = lam.new_zeros(batch)
        codes = []
        for g, part in enumerate(torch.split(z.float().flatten(2).transpose(1, 2), self.dims, 2)):
            live = int(self.live(g)[quality])
            vectors = self.vectors(g)[quality, :live].expand(batch, -1, -1)
            if given is None:
                cost = self._cost(part, vectors, self.prices(g)[quality, :live].expand(batch, -1), lam.expand(batch))
            else:
                cost = self._cost(part, vectors, torch.zeros_like(vectors[:, :, 0]), free)
                cost += lam.expand(batch, height * width)[:, :, None] * given[g][:, :, :live]
            codes.append(cost.argmin(2))
        return torch.stack(codes, 1).view(batch, len(codes), height, width)

    def dequantize(self, codes: Tensor, quality: int) -> Tensor:
        """Latents [B, D, H, W] of codes [B, G, H, W] at one quality (0-based)."""
        parts = [self.vectors(g)[quality][codes[:, g]] for g in range(codes.shape[1])]
        return torch.cat(parts, 3).permute(0, 3, 1, 2)

    def dequantize_each(self, codes: Tensor, quality: Tensor) -> Tensor:
        """Latents [B, D, H, W] of codes [B, G, H, W] at the qualities [B] (0-based)."""
        rows = quality[:, None, None]
        parts = [self.vectors(g)[rows, codes[:, g].long()] for g in range(codes.shape[1])]
        return torch.cat(parts, 3).permute(0, 3, 1, 2)

    @torch.no_grad()
    def start_from(
        self, latents: Tensor, quality: int, mass: float = 1000.0, only: Collection[int] | None = None
    ) -> None:
        """Initialise the codebooks of one quality (0-based) by k-means with the rate term on latents [N, D].

        `mass` is the weight of the initial state in the moving averages, in positions per training step. `only`: the
        indices of the codebooks to initialise; None means all.
        """
        for g, part in enumerate(torch.split(latents.float(), self.dims, 1)):
            if only is not None and g not in only:
                continue
            lam = (self.lambdas[quality] * self.shares[quality, g])[None]
            size = self.codebooks[g][0]
            if self.dims[g] == 1 and lam > 0:
                vectors = _lattice(part, size, float(lam))
            else:
                vectors = part[torch.randperm(len(part))[:size]]
            vectors = F.pad(vectors, (0, 0, 0, size - len(vectors)))  # fewer latents than codes
            counts = torch.ones(size)
            for _ in range(KMEANS_ROUNDS):
                bits = -(counts / counts.sum()).clamp_min(2.0**-MAX_BITS).log2()
                index = self._cost(part[None], vectors[None], bits[None], lam)[0].argmin(1)
                counts = torch.bincount(index, minlength=size).float()
                sums = torch.zeros_like(vectors).index_add_(0, index, part)
                vectors = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), vectors)
            counts = counts * (mass / counts.sum())
            self.vectors(g)[quality] = vectors
            self.get_buffer(f"counts{g}")[quality] = counts
            if self.ema:
                self.get_buffer(f"sums{g}")[quality] = vectors * counts[:, None]

    @staticmethod
    def _cost(part: Tensor, vectors: Tensor, bits: Tensor, lam: Tensor) -> Tensor:
        """|z - e_k|^2 - |z|^2 + lambda * bits_k: [B, N, K] from [B, N, dim], [B, K, dim], [B, K] and [B]."""
        with torch.autocast(part.device.type, enabled=False):  # argmin between close codes needs full float32 precision
            fixed = vectors.square().sum(2) + lam[:, None] * bits
            return torch.baddbmm(fixed[:, None, :], part, vectors.transpose(1, 2), alpha=-2)


def _lattice(part: Tensor, size: int, lam: float) -> Tensor:
    """Equally spaced initial codes [K, 1], K <= size, for latents [N, 1].

    The squared error of a uniform quantiser is step^2 / 12 at high rates (Gish & Pierce 1968, section IV). The step is
    the one at which one more bit lowers this error by `lam`, or larger if `size` codes would not cover all latents.
    K-means alone would not find it: of codes that start too close together, few lose all their latents.
    """
    low, high = float(part.min()), float(part.max())
    step = max(math.sqrt(6 * lam / math.log(2)), (high - low) / max(1, size - 2))
    return part.new_tensor(range(round(low / step), round(high / step) + 1))[:, None] * step


def _soft_rate(part: Tensor, cost: Tensor, vectors: Tensor, bits: Tensor, lam: Tensor) -> Tensor:
    """Expected bits per position [B] if codes were drawn with probability softmax(-cost / temperature).

    The gradient with respect to the latents `part` [B, N, dim] is computed explicitly, which saves several passes over
    [B, N, K]. With the probabilities w_k and the expected bits r, it is
    dr/dz = (2 / temperature) (sum_k w_k bits_k e_k - r sum_k w_k e_k).
    A single matrix product gives all three sums. `lam` is [B].
    """
    with torch.no_grad(), torch.autocast(part.device.type, enabled=False):  # in bf16 the difference would be noise
        temperature = (RATE_TEMPERATURE * lam).clamp_min(1e-6)[:, None, None]
        share = torch.softmax(cost / -temperature, 2)
        sums = torch.bmm(share, torch.cat([bits[:, :, None], bits[:, :, None] * vectors, vectors], 2))
        # [B, N, 1] and twice [B, N, dim]
        expected, weighted, mean = torch.split(sums, [1, part.shape[2], part.shape[2]], 2)
        gradient = (weighted - expected * mean) * (2 / temperature)
    zero = (gradient * (part - part.detach())).sum(2)  # its value is 0; only its gradient matters
    return (expected[:, :, 0] + zero).mean(1)
