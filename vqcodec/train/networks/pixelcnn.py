"""Codes -> probabilities of codes: the gated PixelCNN prior, in floats, with simulated integer arithmetic.

In: codes [B, G, H, W]. Out: G tensors of logits [B, H, W, K]. The logits of a code depend on the codes of earlier
positions and, at the same position, on those of the codebooks before it (van den Oord et al. 2016, "Conditional Image
Generation with PixelCNN Decoders", section 2). Each masked convolution is a matrix product over a list of earlier
neighbours, as in the integer inference of `vqcodec.coding`. So the network has no blind spot.

Number formats, shared with `vqcodec.coding.integer_prior` (real value = integer * 2^-exponent):

    value                             exponent   integers
    sum of embeddings, trunk, state       5      -127..127
    gate inputs u, v and product          6      -64..64
    hidden units of a head                5      0..127
    logits, in nats                       4      any
    weights                     one per row      -127..127

With `exact=True` every value is rounded to its format, with straight-through gradients. All further float32 operations
are then exact. So the logits equal those of the integer prior, and the loss is the size of the file.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.coding.formats import (
    BLOCK_TAPS,
    ENTRY_TAPS,
    GATE_EXPONENT,
    LOGIT_EXPONENT,
    TRUNK_EXPONENT,
    WEIGHT_MAX,
)
from vqcodec.model.config import PriorConfig, VQVAEConfig
from vqcodec.train.networks.quantizer import VectorQuantizer

__all__ = ["GatedPixelCNN"]

TRUNK_LIMIT = WEIGHT_MAX / 2**TRUNK_EXPONENT
MAX_WEIGHT_EXPONENT = 12
CODE_FEATURES = 64  # hidden channels of the network over the features of a code
SINE_DIMS = 3  # codes of up to so many dimensions also have sines as features, which separate close values
WAVELENGTHS = (2.0, 4.0, 8.0, 16.0, 64.0)  # of those sines, in quantiser steps


class GatedPixelCNN(nn.Module):
    """The prior over the codes of one autoencoder, at all of its qualities.

    A code index has a different meaning at each quality; the meaning is in the code's vector. So the embeddings and
    output weights are functions of the code vectors, plus a free part for each code. This shares what is learned
    between qualities and between similar codes.
    """

    def __init__(self, config: VQVAEConfig, prior: PriorConfig) -> None:
        super().__init__()
        self.config, self.prior = config, prior
        channels, head = prior.channels, prior.head_channels
        self.entry = GatedBlock(len(ENTRY_TAPS) * channels, channels, config.qualities, prior.labels)
        self.blocks = nn.ModuleList(
            GatedBlock(len(BLOCK_TAPS) * channels, channels, config.qualities, prior.labels)
            for _ in range(prior.blocks - 1)
        )
        self.to_state = ExactLinear(channels, channels, config.qualities, prior.labels)
        self.codes = nn.ModuleList(CodeTables(size, dim, config.qualities, prior) for size, dim in config.codebooks)
        self.heads = nn.ModuleList(ExactLinear(channels, head, config.qualities, 0) for _ in config.codebooks)

    @torch.no_grad()
    def describe_codes(self, quantizer: VectorQuantizer) -> None:
        """Set the features of the codes from the quantiser; the initial prior is their zero-order frequencies."""
        for g, tables in enumerate(self.codes):
            assert isinstance(tables, CodeTables)
            tables.describe(quantizer.vectors(g), quantizer.bits(g), quantizer.lambdas)
            tables.live.copy_(quantizer.live(g))

    def forward(self, codes: Tensor, quality: int, label: Tensor | None = None, *, exact: bool = False) -> list[Tensor]:
        """Logits in nats of codes [B, G, H, W] at one quality (0-based): for each codebook [B, H, W, codes in use].

        `label` [B] is the class of each grid, for models with labels. -1, like None, stands for no class.
        """
        tables = [module(quality, exact) for module in self.codes]
        embedded = torch.stack([F.embedding(codes[:, g], t[0]) for g, t in enumerate(tables)]).sum(0)
        x = embedded.clamp(-TRUNK_LIMIT, TRUNK_LIMIT)  # [B, H, W, C]
        h = self.entry(gather_taps(x, ENTRY_TAPS), quality, label, exact)
        for block in self.blocks:
            update = block(gather_taps(h, BLOCK_TAPS), quality, label, exact)
            h = (h + update).clamp(-TRUNK_LIMIT, TRUNK_LIMIT)
        state = self.to_state(h, quality, label, TRUNK_EXPONENT, TRUNK_EXPONENT, exact)
        state = state.clamp(-TRUNK_LIMIT, TRUNK_LIMIT)
        logits = []
        for g, (_, state_table, weight, bias) in enumerate(tables):
            own = state.clamp(-TRUNK_LIMIT, TRUNK_LIMIT)
            hidden = self.heads[g](own, quality, None, TRUNK_EXPONENT, TRUNK_EXPONENT, exact).clamp(0, TRUNK_LIMIT)
            logits.append(exact_product(hidden, weight, bias, TRUNK_EXPONENT, LOGIT_EXPONENT, exact))
            state = state + F.embedding(codes[:, g], state_table)
        return logits

    def bits(self, codes: Tensor, quality: int, label: Tensor | None = None, *, exact: bool = False) -> Tensor:
        """The cost of codes [B, G, H, W] in bits for each codebook, mean over positions: [G]."""
        logits = self(codes, quality, label, exact=exact)
        nats = [F.cross_entropy(x.flatten(0, 2).float(), codes[:, g].flatten()) for g, x in enumerate(logits)]
        return torch.stack(nats) / math.log(2)

    @torch.no_grad()
    def integers(self) -> dict[str, Tensor]:
        """Export the integer prior that `vqcodec.coding.integer_prior` reads: int8 weights and tables, int32 biases."""
        tensors: dict[str, Tensor] = {}
        for name, block in [("entry", self.entry), *((f"block.{i}", b) for i, b in enumerate(self.blocks))]:
            assert isinstance(block, GatedBlock)
            tensors |= block.gate.integers(f"{name}.gate", TRUNK_EXPONENT, GATE_EXPONENT)
            tensors |= block.project.integers(f"{name}.project", GATE_EXPONENT, TRUNK_EXPONENT)
        tensors |= self.to_state.integers("state", TRUNK_EXPONENT, TRUNK_EXPONENT)
        for g, (head, tables) in enumerate(zip(self.heads, self.codes, strict=True)):
            assert isinstance(head, ExactLinear)
            tensors |= head.integers(f"head.{g}", TRUNK_EXPONENT, TRUNK_EXPONENT)
            for quality in range(self.config.qualities):
                embedding, state, weight, bias = tables(quality, True)
                name = f"codes.{g}.{quality}"
                tensors[f"{name}.embedding"] = (embedding * 2**TRUNK_EXPONENT).to(torch.int8)
                if g < len(self.codes) - 1:  # no codebook follows the last one, so it needs no state update
                    tensors[f"{name}.state"] = (state * 2**TRUNK_EXPONENT).to(torch.int8)
                tensors |= integer_product(f"{name}.out", weight, bias, TRUNK_EXPONENT, LOGIT_EXPONENT)
        return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}


class CodeTables(nn.Module):
    """For one codebook: code -> embedding, state update, output weights and output bias."""

    def __init__(self, size: int, dim: int, qualities: int, prior: PriorConfig) -> None:
        super().__init__()
        channels, head = prior.channels, prior.head_channels
        self.widths = [channels, channels, head]
        features = dim + 1 + dim * (2 * len(WAVELENGTHS) if dim <= SINE_DIMS else 1)
        self.register_buffer("features", torch.zeros(qualities, size, features))
        self.features: Tensor
        self.register_buffer("live", torch.full((qualities,), size))  # number of codes in use, which are the first ones
        self.live: Tensor
        self.net = nn.Sequential(
            nn.Linear(features, CODE_FEATURES), nn.ReLU(), nn.Linear(CODE_FEATURES, CODE_FEATURES), nn.ReLU()
        )
        self.out = nn.Linear(CODE_FEATURES, sum(self.widths), bias=False)
        self.free = nn.Parameter(torch.zeros(qualities, size, sum(self.widths)))
        self.bias = nn.Parameter(torch.zeros(qualities, size))

    def describe(self, vectors: Tensor, bits: Tensor, lambdas: Tensor) -> None:
        """Set the features and initial biases of the codes from vectors [Q, K, dim], bits [Q, K] and lambdas [Q]."""
        share = 2.0 ** -bits[:, :, None]
        scale = (share * vectors.square()).sum(1, keepdim=True).sqrt().mean(0, keepdim=True).clamp_min(1e-6)
        lambdas = lambdas[:, None, None]
        # The step of a uniform scalar quantiser at that lambda (high-rate theory). Without a rate term, use the scale.
        step = torch.where(lambdas > 0, (8.7 * lambdas).sqrt(), scale)
        parts = [(vectors / scale).clamp(-8, 8), (bits[:, :, None] - 8) / 4]
        if vectors.shape[2] <= SINE_DIMS:
            angles = [vectors / step * (2 * math.pi / wavelength) for wavelength in WAVELENGTHS]
            parts += [angle.sin() for angle in angles] + [angle.cos() for angle in angles]
        else:
            parts.append((vectors / step).clamp(-8, 8))
        self.features.copy_(torch.cat(parts, 2))
        self.bias.copy_(-bits * math.log(2))

    def forward(self, quality: int, exact: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Embeddings [K, C], state updates [K, C], output weights [K, head] and biases [K]; K counts codes in use."""
        live = int(self.live[quality])
        table = self.out(self.net(self.features[quality, :live])) + self.free[quality, :live]
        embedding, state, weight = table.split(self.widths, 1)
        limit = TRUNK_LIMIT
        embedding, state = embedding.clamp(-limit, limit), state.clamp(-limit, limit)
        if exact:
            embedding, state = round_to(embedding, TRUNK_EXPONENT), round_to(state, TRUNK_EXPONENT)
        return embedding, state, weight, self.bias[quality, :live]


class ExactLinear(nn.Module):
    """A linear layer whose bias depends on quality and label, the additive conditioning of the conditional PixelCNN."""

    def __init__(self, inputs: int, outputs: int, qualities: int, labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(qualities, outputs))
        self.label = nn.Parameter(torch.zeros(labels, outputs)) if labels else None

    def forward(
        self, x: Tensor, quality: int, label: Tensor | None, in_exponent: int, out_exponent: int, exact: bool
    ) -> Tensor:
        """[B, H, W, inputs] -> [B, H, W, outputs], before any clamp."""
        extra = None
        if self.label is not None and label is not None:
            # Zero for a grid without a class. The integer prior does the same, because a file stores no class.
            labelled = (label >= 0)[:, None].to(self.label.dtype)
            extra = (self.label[label.clamp_min(0)] * labelled)[:, None, None, :]
        return exact_product(x, self.weight, self.bias[quality], in_exponent, out_exponent, exact, extra)

    def integers(self, name: str, in_exponent: int, out_exponent: int) -> dict[str, Tensor]:
        """The tensors of `integer_product`, and the biases of the labels if there are any."""
        tensors = integer_product(name, self.weight, self.bias, in_exponent, out_exponent)
        if self.label is not None:
            scale = 2 ** (weight_exponents(self.weight, in_exponent, out_exponent) + in_exponent)
            tensors[f"{name}.label"] = (round_to(self.label * scale, 0)).to(torch.int32)
        return tensors


class GatedBlock(nn.Module):
    """A gated layer: tanh(u) * sigmoid(v) of a product over neighbours, both as piecewise linear clamps, then a 1x1."""

    def __init__(self, inputs: int, channels: int, qualities: int, labels: int) -> None:
        super().__init__()
        self.gate = ExactLinear(inputs, 2 * channels, qualities, labels)
        self.project = ExactLinear(channels, channels, qualities, 0)

    def forward(self, context: Tensor, quality: int, label: Tensor | None, exact: bool) -> Tensor:
        """[B, H, W, inputs] -> [B, H, W, channels], clamped to the trunk's format."""
        u, v = self.gate(context, quality, label, TRUNK_EXPONENT, GATE_EXPONENT, exact).chunk(2, 3)
        gated = u.clamp(-1, 1) * (v + 0.5).clamp(0, 1)
        if exact:
            gated = round_to(gated, GATE_EXPONENT)
        out: Tensor = self.project(gated, quality, None, GATE_EXPONENT, TRUNK_EXPONENT, exact)
        return out.clamp(-TRUNK_LIMIT, TRUNK_LIMIT)


def weight_exponents(weight: Tensor, in_exponent: int, out_exponent: int) -> Tensor:
    """The exponent of each row of weight [O, I]: the largest with which all values of the row fit into 8 bits."""
    largest = weight.detach().abs().amax(1).clamp_min(1e-9)
    lowest = max(0, out_exponent - in_exponent)  # so that requantisation always shifts to the right
    return (WEIGHT_MAX / largest).log2().floor().clamp(lowest, MAX_WEIGHT_EXPONENT)


def exact_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    in_exponent: int,
    out_exponent: int,
    exact: bool,
    extra: Tensor | None = None,
) -> Tensor:
    """x @ weight.T + bias (+ extra, a second bias); with `exact`, rounded to the results of 8-bit integers."""
    if not exact:
        y = F.linear(x, weight, bias)
        return y if extra is None else y + extra
    with torch.autocast(x.device.type, enabled=False):
        exponents = weight_exponents(weight, in_exponent, out_exponent)
        rows = exponents[:, None]
        limit = WEIGHT_MAX * 2**-rows
        weight = round_to(weight, rows).clamp(-limit, limit)
        y = F.linear(x.float(), weight, round_to(bias, exponents + in_exponent))
        if extra is not None:
            y = y + round_to(extra, exponents + in_exponent)
        return round_to(y, out_exponent)


def integer_product(name: str, weight: Tensor, bias: Tensor, in_exponent: int, out_exponent: int) -> dict[str, Tensor]:
    """`exact_product` in integers: weight int8 [O, I], bias int32 [..., O], shift int8 [O].

    The result of a row is floor((weight @ x + bias) / 2^shift). The bias includes 2^(shift - 1), which makes the shift
    round to nearest.
    """
    exponents = weight_exponents(weight, in_exponent, out_exponent)
    shift = exponents + in_exponent - out_exponent
    half = torch.where(shift > 0, 2 ** (shift - 1), torch.zeros_like(shift))
    rounded = round_to(weight * 2 ** exponents[:, None], 0).clamp(-WEIGHT_MAX, WEIGHT_MAX)
    return {
        f"{name}.weight": rounded.to(torch.int8),
        f"{name}.bias": (round_to(bias * 2 ** (exponents + in_exponent), 0) + half).to(torch.int32),
        f"{name}.shift": shift.to(torch.int8),
    }


def round_to(x: Tensor, exponent: int | Tensor) -> Tensor:
    """Round half up to multiples of 2^-exponent, with a straight-through gradient."""
    scale = 2.0**exponent
    return x + ((x.detach() * scale + 0.5).floor() / scale - x.detach())


def gather_taps(x: Tensor, taps: tuple[tuple[int, int], ...]) -> Tensor:
    """Gather the neighbours of every position at the offsets `taps` (rows, columns).

    [B, H, W, C] -> [B, H, W, len(taps) * C]. Positions outside the grid are zeros.
    """
    height, width = x.shape[1:3]
    padded = F.pad(x, (0, 0, 2, 2, 2, 0))
    shifted = [padded[:, 2 + di : 2 + di + height, 2 + dj : 2 + dj + width] for di, dj in taps]
    return torch.cat(shifted, 3)
