"""Codes -> counts: the PixelCNN prior in integer arithmetic, with identical results on every machine.

In: the features of cells that are already coded, gathered as contexts. Out: for each cell and codebook, K counts that
the range coder takes as probabilities. Counts are integers of at least 1 in float32; their sum is below 2^22 + K.

All values are integers stored in float32; `vqcodec.coding.formats` has their ranges. A sum of products of 8-bit values
is exact in float32 if the sum of its magnitudes is below 2^24. This holds for any order of summation, on any BLAS, with
or without fused multiply-add, so a plain matrix product is reproducible. `IntegerPrior` rejects weights that could
exceed the bound. Requantisation is a multiplication by a power of two, followed by a floor. The multiplication is
folded into the weights in advance, where it changes only the exponents of the products and sums. `exp` is a stored
table. No operation ever rounds.

In real numbers, this is `vqcodec.train.networks.pixelcnn.GatedPixelCNN` with `exact=True`; see there for the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqcodec.coding.exp_table import EXP
from vqcodec.coding.formats import (
    BLOCK_TAPS,
    COUNT_BITS,
    ENTRY_TAPS,
    GATE_EXPONENT,
    GATE_MAX,
    SUM_BOUND,
    WEIGHT_MAX,
)
from vqcodec.errors import ModelError

__all__ = ["IntegerPrior", "Integers", "Layout", "Levels", "Mask", "clamp", "gather_taps"]

Floats = npt.NDArray[np.float32]  # integers stored as float32
Codes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]  # [H, W], True at the cells that carry codes
Tensors = Mapping[str, npt.NDArray[np.generic]]

_EXP = np.array(EXP, np.float32)
_TOTALS = np.array(EXP, np.uint64)
MAX_SHIFT = 30
ROWS = 128  # rows of counts computed at once: larger arrays are newly allocated from the system every time


@dataclass(frozen=True)
class Layout:
    """The sizes that determine the shapes of a prior's tensors."""

    sizes: tuple[int, ...]  # K of each codebook; a quality may use only the first few codes
    qualities: int
    channels: int
    head_channels: int
    blocks: int
    labels: int = 0


@dataclass(frozen=True)
class Integers:
    """A product as the model stores it: floor((weight @ x + bias) / 2^shift). The biases are added up."""

    weight: npt.NDArray[np.int8]  # [O, I]
    bias: npt.NDArray[np.int32]  # [O]
    shift: npt.NDArray[np.int8]  # [O]


@dataclass(frozen=True)
class Levels:
    """How unlikely the codes of a codebook are at the cells of a unit, in integers.

    Code k of cell n costs level / 16 * log2(e) + log2(total) - 23 bits, up to the limit at level 255.
    """

    level: npt.NDArray[np.uint8]  # [N, K]: min(255, largest logit - logit)
    total: npt.NDArray[np.uint64]  # [N]: sum of EXP[level]


@dataclass(frozen=True)
class Product:
    """floor(x @ weight + bias).

    Weight and bias are integers times one power of two per output. The bias includes the 1/2 that turns the floor into
    rounding to nearest.
    """

    weight: Floats  # [I, O]
    bias: Floats  # [O]

    def __call__(self, x: Floats) -> Floats:
        """[N, I] -> [N, O]."""
        y: Floats = x @ self.weight
        y += self.bias
        return np.floor(y, out=y)


@dataclass(frozen=True)
class Block:
    """A gated block: clamp(u) * clamp(v + 1/2), followed by a 1x1 product."""

    gate: Product
    project: Product

    def __call__(self, context: Floats) -> Floats:
        """[N, taps * C] -> [N, C], clamped to the range of the trunk."""
        y = self.gate(context)
        half = y.shape[1] // 2
        u = y[:, :half].clip(-GATE_MAX, GATE_MAX)
        u *= (y[:, half:] + GATE_MAX // 2).clip(0, GATE_MAX)
        u += GATE_MAX // 2
        u *= 2.0**-GATE_EXPONENT
        return clamp(self.project(np.floor(u, out=u)))


class IntegerPrior:
    """The prior at one quality and label: entry, blocks, state and heads as functions of gathered contexts."""

    def __init__(self, tensors: Tensors, layout: Layout, quality: int, label: int | None = None) -> None:
        """Load the prior of one quality (0-based), and of one class label if `label` is not None.

        Raises `ModelError` if the quality or label does not exist, or if a tensor is missing, has a wrong shape or
        dtype, or could exceed the bound of exact sums.
        """
        if not 0 <= quality < layout.qualities:
            raise ModelError(f"quality {quality + 1} is not among the {layout.qualities} qualities of this prior")
        if label is not None and not 0 <= label < layout.labels:
            raise ModelError(f"label {label} is not among the {layout.labels} labels of this prior")
        self.layout = layout
        load = _Loader(tensors, quality, label)
        channels, head = layout.channels, layout.head_channels
        self.entry = load.block("entry", len(ENTRY_TAPS) * channels, channels, layout.labels)
        self.blocks = [
            load.block(f"block.{i}", len(BLOCK_TAPS) * channels, channels, layout.labels)
            for i in range(layout.blocks - 1)
        ]
        self._to_state = load.product("state", channels, channels, labels=layout.labels)
        self._embeddings, self._updates, self._heads, self._outputs = [], [], [], []
        for g, max_rows in enumerate(layout.sizes):
            name = f"codes.{g}.{quality}"
            size = load.rows(f"{name}.embedding", max_rows)
            self._embeddings.append(load.table(f"{name}.embedding", (size, channels)))
            if g < len(layout.sizes) - 1:
                self._updates.append(load.table(f"{name}.state", (size, channels)))
            self._heads.append(load.product(f"head.{g}", channels, head))
            self._outputs.append(load.product(f"{name}.out", head, size, conditioned=False))
        # For native code, in the order in which they were loaded here: entry, blocks and state; then of each codebook
        # head and output, and embedding and update.
        self.products, self.tables = tuple(load.products), tuple(load.tables)

    def constant(self, g: int) -> bool:
        """Whether codebook g uses a single code. Then its codes are 0 everywhere and are not coded."""
        return self.size(g) == 1

    def size(self, g: int) -> int:
        """Number of codes in use of codebook g. They are the first ones."""
        return len(self._embeddings[g])

    def embed(self, codes: Codes) -> Floats:
        """Codes [N, G] -> embeddings [N, C] of the cells."""
        total = self._embeddings[0][codes[:, 0]]
        for g in range(1, codes.shape[1]):
            total += self._embeddings[g][codes[:, g]]
        return clamp(total)

    def state(self, trunk: Floats) -> Floats:
        """Last features of the trunk [N, C] -> state [N, C], the input of the heads."""
        return clamp(self._to_state(trunk))

    def counts(self, g: int, state: Floats) -> Floats:
        """State [N, C] -> counts [N, K] of the codes in use of codebook g: integers of at least 1."""
        logits = self.logits(g, state)
        counts = np.empty_like(logits)
        for first in range(0, len(logits), ROWS):
            _exponentials(logits[first : first + ROWS], counts[first : first + ROWS])
        return counts

    def logits(self, g: int, state: Floats) -> Floats:
        """State [N, C] -> logits [N, K] of the codes in use of codebook g, in units of 2^-LOGIT_EXPONENT nats."""
        return self._outputs[g](self._heads[g](clamp(state)).clip(0, WEIGHT_MAX))

    def advance(self, g: int, state: Floats, codes: Codes) -> Floats:
        """Update the state [N, C] with the codes [N] of codebook g, for the codebooks after it."""
        if g < len(self._updates):
            state = state + self._updates[g][codes]
        return state

    def evaluate(self, codes: Codes) -> list[Floats]:
        """Counts [H * W, K] of every codebook for a complete grid of codes [G, H, W], all cells at once."""
        return self.evaluate_cells(self.states(codes), codes.reshape(len(codes), -1))

    def price_levels(self, codes: Codes) -> list[Levels]:
        """How unlikely every code is at every cell, given the earlier codes of `codes` [G, H, W]; N is H * W."""
        state, levels = self.states(codes), []
        for g, known in enumerate(codes.reshape(len(codes), -1)):
            level = _levels(self.logits(g, state))
            parts = [level[first : first + ROWS] for first in range(0, len(level), ROWS)]
            levels.append(Levels(level, np.concatenate([_TOTALS.take(part).sum(axis=1) for part in parts])))
            state = self.advance(g, state, known)
        return levels

    def states(self, codes: Codes, coded: Mask | None = None) -> Floats:
        """State [H * W, C] of every cell of a complete grid of codes [G, H, W].

        `coded`: the cells that carry codes, by default all. The others are to their neighbours as cells outside of the
        grid are: zeros. Their own states have no meaning.
        """
        count, height, width = codes.shape
        outside = np.zeros(0, np.intp) if coded is None else np.flatnonzero(~coded)
        x = self.embed(codes.reshape(count, -1).T)
        x[outside] = 0
        h = self.entry(gather_taps(x.reshape(height, width, -1), ENTRY_TAPS))
        for block in self.blocks:
            h[outside] = 0
            context = gather_taps(h.reshape(height, width, -1), BLOCK_TAPS)
            h = clamp(h + block(context))
        return self.state(h)

    def evaluate_cells(self, state: Floats, codes: Codes) -> list[Floats]:
        """Counts [N, K] of every codebook at cells with the state [N, C] and the codes [G, N]."""
        counts = []
        for g, known in enumerate(codes):
            counts.append(self.counts(g, state))
            state = self.advance(g, state, known)
        return counts


def gather_taps(x: Floats, taps: tuple[tuple[int, int], ...]) -> Floats:
    """Gather the neighbours of every cell at the offsets (rows, columns): [H, W, C] -> [H * W, taps * C].

    Neighbours outside the grid are zeros.
    """
    height, width, channels = x.shape
    padded = np.pad(x, ((2, 0), (2, 2), (0, 0)))
    shifted = [padded[2 + di : 2 + di + height, 2 + dj : 2 + dj + width] for di, dj in taps]
    return np.concatenate(shifted, axis=2).reshape(height * width, len(taps) * channels)


class _Loader:
    """Reads tensors by name and validates them. Every method raises `ModelError`."""

    def __init__(self, tensors: Tensors, quality: int, label: int | None) -> None:
        self.tensors, self.quality, self.label = tensors, quality, label
        self.products: list[Integers] = []
        self.tables: list[npt.NDArray[np.int8]] = []

    def block(self, name: str, inputs: int, channels: int, labels: int) -> Block:
        gate = self.product(f"{name}.gate", inputs, 2 * channels, labels=labels)
        return Block(gate, self.product(f"{name}.project", channels, channels, limit=GATE_MAX))

    def product(
        self,
        name: str,
        inputs: int,
        outputs: int,
        *,
        limit: int = WEIGHT_MAX,
        labels: int = 0,
        conditioned: bool = True,
    ) -> Product:
        """Load a product [N, inputs] -> [N, outputs].

        `limit`: largest magnitude of an input. `conditioned`: the bias has one row per quality.
        """
        weight = self._get(f"{name}.weight", (outputs, inputs), np.int8).astype(np.int64)
        shift = self._get(f"{name}.shift", (outputs,), np.int8).astype(np.int64)
        if conditioned:
            bias = self._get(f"{name}.bias", (None, outputs), np.int32)[self.quality].astype(np.int64)
        else:
            bias = self._get(f"{name}.bias", (outputs,), np.int32).astype(np.int64)
        if labels and self.label is not None:
            bias = bias + self._get(f"{name}.label", (labels, outputs), np.int32)[self.label]
        largest = int((np.abs(weight).sum(axis=1) * limit + np.abs(bias)).max())
        if largest >= SUM_BOUND:
            raise ModelError(f"the model's {name} may sum to {largest}, beyond the 2^24 up to which sums are exact")
        if weight.min() < -WEIGHT_MAX or shift.min() < 0 or shift.max() > MAX_SHIFT:
            raise ModelError(f"the model's {name} has weights or shifts out of range")
        self.products.append(Integers(weight.astype(np.int8), bias.astype(np.int32), shift.astype(np.int8)))
        scale = np.ldexp(np.float32(1), -shift)
        return Product(np.ascontiguousarray(weight.T, np.float32) * scale, bias.astype(np.float32) * scale)

    def rows(self, name: str, max_rows: int) -> int:
        """Number of rows of a table of codes, at most `max_rows`."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelError(f"the model lacks the tensor {name}")
        if tensor.ndim != 2 or not 1 <= tensor.shape[0] <= max_rows:
            raise ModelError(f"the model's {name} is not a table of 1 to {max_rows} codes")
        return int(tensor.shape[0])

    def table(self, name: str, shape: tuple[int, int]) -> Floats:
        """Load a table of 8-bit integers."""
        self.tables.append(self._get(name, shape, np.int8).astype(np.int8))
        return self.tables[-1].astype(np.float32)

    def _get(self, name: str, shape: tuple[int | None, ...], dtype: type) -> npt.NDArray[np.generic]:
        """A tensor of this shape and dtype; None as the first size: any size above the quality."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelError(f"the model lacks the tensor {name}")
        fits = len(tensor.shape) == len(shape) and all(
            b is None or a == b for a, b in zip(tensor.shape, shape, strict=True)
        )
        if not fits or tensor.dtype != dtype or (shape[0] is None and tensor.shape[0] <= self.quality):
            raise ModelError(f"the model's {name} is {tensor.dtype} {tensor.shape}, not {dtype.__name__} {shape}")
        return tensor


def _exponentials(logits: Floats, counts: Floats) -> None:
    """Logits [N, K] -> counts [N, K], written into the array `counts`."""
    _EXP.take(_levels(logits), out=counts, mode="clip")
    # float64 sums are exact here. A power of two scales them below 2^COUNT_BITS; the floor can only reduce them.
    _, exponent = np.frexp(counts.sum(axis=1, dtype=np.float64))
    counts *= np.ldexp(np.float32(1), COUNT_BITS - exponent)[:, None]
    np.floor(counts, out=counts)
    np.maximum(counts, 1, out=counts)


def _levels(logits: Floats) -> npt.NDArray[np.uint8]:
    """Logits [N, K] -> how far each is below the largest of its row, at most 255."""
    below = logits.max(axis=1, keepdims=True) - logits
    np.minimum(below, len(EXP) - 1, out=below)
    levels: npt.NDArray[np.uint8] = below.astype(np.uint8)
    return levels


def clamp(x: Floats) -> Floats:
    """Clamp to the range of the trunk's features."""
    return x.clip(-WEIGHT_MAX, WEIGHT_MAX)
