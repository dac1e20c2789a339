"""Codes -> counts: the PixelCNN prior in integers, the same on every machine.

In: codes already known, as gathered contexts. Out: for each cell and codebook, K counts (float32 integers from 1
up, whose sum is a little below 2^22 at most) that the range coder takes as probabilities.

All values are integers held in float32; `vqcodec.coding.formats` has their ranges. A product of 8-bit values whose sum
of magnitudes stays below 2^24 is exact in float32 in any order, on any BLAS, with or without fused multiply-add, so
a plain matrix product is a reproducible one. `IntegerPrior` refuses weights that could break that bound. Requantising
is a floor after a multiplication by a power of two, done to the weights beforehand (their products and sums are the
same integers, times that power), `exp` is a committed table: nothing is ever rounded.

In real numbers this is `vqcodec.nn.pixelcnn.GatedPixelCNN` with `exact=True`; see there for the sources.
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

__all__ = ["IntegerPrior", "Layout", "clamp", "gather_taps"]

Floats = npt.NDArray[np.float32]  # integers in float32
Codes = npt.NDArray[np.int32]
Tensors = Mapping[str, npt.NDArray[np.generic]]

_EXP = np.array(EXP, np.float32)
MAX_SHIFT = 30
ROWS = 128  # of counts that are computed at once: larger arrays take new memory from the system every time


@dataclass(frozen=True)
class Layout:
    """What the tensors of a prior must look like."""

    sizes: tuple[int, ...]  # K of each codebook; a quality may use fewer codes, the first ones
    qualities: int
    channels: int
    head_channels: int
    blocks: int
    labels: int = 0


@dataclass(frozen=True)
class Product:
    """floor(x @ weight + bias): integers times a power of two for each output; bias contains the half that rounds."""

    weight: Floats  # [I, O]
    bias: Floats  # [O]

    def __call__(self, x: Floats) -> Floats:
        """[N, I] -> [N, O]."""
        y: Floats = x @ self.weight
        y += self.bias
        return np.floor(y, out=y)


@dataclass(frozen=True)
class Block:
    """A gated block: clamp(u) * clamp(v + 1/2), then a 1x1 product."""

    gate: Product
    project: Product

    def __call__(self, context: Floats) -> Floats:
        """[N, taps * C] -> [N, C], within the trunk's range."""
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
        """Raises `ModelError` where a tensor is missing, misshapen or may break the bound of exact sums."""
        if not 0 <= quality < layout.qualities:
            raise ModelError(f"quality {quality + 1} is not among the {layout.qualities} of this prior")
        if label is not None and not 0 <= label < layout.labels:
            raise ModelError(f"label {label} is not among the {layout.labels} of this prior")
        self.layout = layout
        load = _Loader(tensors, quality, label)
        channels, head = layout.channels, layout.head_channels
        self.entry = load.block("entry", len(ENTRY_TAPS) * channels, channels, layout.labels)
        self.blocks = [
            load.block(f"block.{i}", len(BLOCK_TAPS) * channels, channels, layout.labels)
            for i in range(layout.blocks - 1)
        ]
        self._to_state = load.product("state", channels, channels, labels=layout.labels)
        self._embeddings, self._updates, self._heads, self._outs = [], [], [], []
        for g, most in enumerate(layout.sizes):
            name = f"codes.{g}.{quality}"
            size = load.rows(f"{name}.embedding", most)
            self._embeddings.append(load.table(f"{name}.embedding", (size, channels)))
            if g < len(layout.sizes) - 1:
                self._updates.append(load.table(f"{name}.state", (size, channels)))
            self._heads.append(load.product(f"head.{g}", channels, head))
            self._outs.append(load.product(f"{name}.out", head, size, conditioned=False))

    def constant(self, g: int) -> bool:
        """Whether codebook g has a single code in use: then it is 0 everywhere and costs nothing."""
        return self.size(g) == 1

    def size(self, g: int) -> int:
        """How many codes of codebook g are in use, the first ones."""
        return len(self._embeddings[g])

    def embed(self, codes: Codes) -> Floats:
        """Codes [N, G] -> the cells' embeddings [N, C]."""
        total = self._embeddings[0][codes[:, 0]]
        for g in range(1, codes.shape[1]):
            total += self._embeddings[g][codes[:, g]]
        return clamp(total)

    def state(self, trunk: Floats) -> Floats:
        """The trunk's last features [N, C] -> the state [N, C] that the heads read."""
        return clamp(self._to_state(trunk))

    def counts(self, g: int, state: Floats) -> Floats:
        """The state [N, C] -> counts [N, K] of the codes in use of codebook g, integers, none of them zero."""
        logits = self.logits(g, state)
        counts = np.empty_like(logits)
        for first in range(0, len(logits), ROWS):
            _exponentials(logits[first : first + ROWS], counts[first : first + ROWS])
        return counts

    def logits(self, g: int, state: Floats) -> Floats:
        """The state [N, C] -> logits [N, K] of the codes in use of codebook g, in units of 2^-LOGIT_EXPONENT nats."""
        return self._outs[g](self._heads[g](clamp(state)).clip(0, WEIGHT_MAX))

    def advance(self, g: int, state: Floats, codes: Codes) -> Floats:
        """The state [N, C] after the codes [N] of codebook g are known."""
        if g < len(self._updates):
            state = state + self._updates[g][codes]
        return state

    def evaluate(self, codes: Codes) -> list[Floats]:
        """Counts [H * W, K] of every codebook for a whole grid of known codes [G, H, W], all cells at once."""
        return self.evaluate_cells(self.states(codes), codes.reshape(len(codes), -1))

    def states(self, codes: Codes) -> Floats:
        """The state [H * W, C] that the heads read at every cell of a whole grid of known codes [G, H, W]."""
        count, height, width = codes.shape
        x = self.embed(codes.reshape(count, -1).T).reshape(height, width, -1)
        h = self.entry(gather_taps(x, ENTRY_TAPS))
        for block in self.blocks:
            context = gather_taps(h.reshape(height, width, -1), BLOCK_TAPS)
            h = clamp(h + block(context))
        return self.state(h)

    def evaluate_cells(self, state: Floats, codes: Codes) -> list[Floats]:
        """Counts [N, K] of every codebook at cells of the state [N, C] whose codes [G, N] are known."""
        counts = []
        for g, known in enumerate(codes):
            counts.append(self.counts(g, state))
            state = self.advance(g, state, known)
        return counts


def gather_taps(x: Floats, taps: tuple[tuple[int, int], ...]) -> Floats:
    """The neighbours at offsets (rows, columns) of every cell: [H, W, C] -> [H * W, taps * C], zeros outside."""
    height, width, channels = x.shape
    padded = np.pad(x, ((2, 0), (2, 2), (0, 0)))
    shifted = [padded[2 + di : 2 + di + height, 2 + dj : 2 + dj + width] for di, dj in taps]
    return np.concatenate(shifted, axis=2).reshape(height * width, len(taps) * channels)


class _Loader:
    """Reads tensors by name, with every check."""

    def __init__(self, tensors: Tensors, quality: int, label: int | None) -> None:
        self.tensors, self.quality, self.label = tensors, quality, label

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
        """`limit`: largest magnitude of an input. `conditioned`: the bias has a row for each quality."""
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
            raise ModelError(f"the model's {name} may sum to {largest}, beyond the 2^24 that is exact everywhere")
        if weight.min() < -WEIGHT_MAX or shift.min() < 0 or shift.max() > MAX_SHIFT:
            raise ModelError(f"the model's {name} has weights or shifts out of range")
        scale = np.ldexp(np.float32(1), -shift)
        return Product(np.ascontiguousarray(weight.T, np.float32) * scale, bias.astype(np.float32) * scale)

    def rows(self, name: str, most: int) -> int:
        """How many codes the table knows."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelError(f"the model lacks the tensor {name}")
        if tensor.ndim != 2 or not 1 <= tensor.shape[0] <= most:
            raise ModelError(f"the model's {name} is not a table of 1 to {most} codes")
        return int(tensor.shape[0])

    def table(self, name: str, shape: tuple[int, int]) -> Floats:
        return self._get(name, shape, np.int8).astype(np.float32)

    def _get(self, name: str, shape: tuple[int | None, ...], kind: type) -> npt.NDArray[np.generic]:
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelError(f"the model lacks the tensor {name}")
        fits = len(tensor.shape) == len(shape) and all(
            b is None or a == b for a, b in zip(tensor.shape, shape, strict=True)
        )
        if not fits or tensor.dtype != kind or (shape[0] is None and tensor.shape[0] <= self.quality):
            raise ModelError(f"the model's {name} is {tensor.dtype} {tensor.shape}, not {kind.__name__} {shape}")
        return tensor


def _exponentials(logits: Floats, counts: Floats) -> None:
    """Logits [N, K] -> counts [N, K], which are written into an array that is there."""
    below = logits.max(axis=1, keepdims=True) - logits
    np.minimum(below, len(EXP) - 1, out=below)
    _EXP.take(below.astype(np.uint8), out=counts, mode="clip")
    # Sums in float64 are exact here; a power of two brings them below 2^COUNT_BITS, flooring only lowers them.
    _, exponent = np.frexp(counts.sum(axis=1, dtype=np.float64))
    counts *= np.ldexp(np.float32(1), COUNT_BITS - exponent)[:, None]
    np.floor(counts, out=counts)
    np.maximum(counts, 1, out=counts)


def clamp(x: Floats) -> Floats:
    """Within the range of the trunk's features."""
    return x.clip(-WEIGHT_MAX, WEIGHT_MAX)
