"""The networks' inner loops in native code, where it was built: numpy's results up to rounding, and faster.

In: kernels and matrices, which are packed once, then arrays of activations. Out: arrays are written in place.

The C code (`_native.c`) is an optional part of the installation. Where it is missing, or the processor has none of its
instruction sets, `active` returns None and numpy computes. The environment variable VQCODEC_NATIVE=0 switches it off.
An instruction set is used only if it gives the results of plain sums for a few numbers.

C takes arrays as addresses. So the functions here check type, shape and order of every array, and hold it meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from vqcodec.coding.native import optional
from vqcodec.nn.tiles import TILE, Floats, Scratch, Strip, Tiles, aligned

__all__ = [
    "Level",
    "Matrix",
    "NativeBlock",
    "active",
    "choose",
    "convolve",
    "implementation",
    "levels",
    "missing",
    "pointwise",
]


def _import() -> Any:
    from vqcodec.nn import _native  # type: ignore[attr-defined]

    return _native


_native, _missing = optional(_import)

Signs = npt.NDArray[np.uint16]
Array = npt.NDArray[Any]
_CONVOLVE, _FORWARD, _BACK_INSIDE, _BACK_OUTSIDE = range(4)  # actions of `_native.strip`
_TOLERANCE = 1e-4  # of the largest result
_ABREAST = 4  # vectors of codes that are computed together
_NEVER = np.float32(3e38)  # the cost of a code that does not exist


@dataclass(frozen=True)
class Level:
    """An instruction set: its name, and how many floats a vector and a panel of packed weights have."""

    name: str
    lanes: int
    panel: int


def missing() -> str | None:
    """Why there is no native code; None if there is."""
    return _missing if _missing or levels() else "the processor has none of its instruction sets"


@lru_cache(1)
def levels() -> tuple[Level, ...]:
    """The instruction sets that can be used, the fastest last."""
    if _native is None:
        return ()
    return tuple(level for level in (Level(*each) for each in _native.levels()) if _is_right(level))


def implementation() -> str:
    """Which code the networks use: "native (avx2)" or "numpy"."""
    level = active()
    return f"native ({level.name})" if level else "numpy"


def active() -> Level | None:
    """The instruction set that new layers use; None: numpy."""
    return levels()[-1] if levels() else None


class Matrix:
    """Kernels [3, 3, C, K] or a matrix [C, K], and biases [K], packed for an instruction set."""

    def __init__(self, level: Level, kernels: Array, bias: Array | None = None) -> None:
        self.level = level
        self.inputs, self.outputs = kernels.shape[-2:]
        kernels = np.ascontiguousarray(kernels, np.float32).reshape(-1, self.inputs, self.outputs)
        width = -(-self.outputs // level.panel) * level.panel
        self._weights = aligned(width * self.inputs * (TILE + 2) ** 2 if len(kernels) == 9 else width * self.inputs)
        self._bias = aligned(width)
        self._bias[:] = 0
        if bias is not None:
            self._bias[: self.outputs] = bias
        shape = (len(kernels), self.inputs, self.outputs)
        _native.pack(level.name, kernels.ctypes.data, shape, self._weights.ctypes.data, self._weights.size)
        self.argument = (self._weights.ctypes.data, self._bias.ctypes.data, self.inputs, self.outputs)


def convolve(
    conv: Matrix, arrays: tuple[Floats, Floats], tiles: Tiles, strip: Strip, scratch: Scratch, *, rectify: bool = False
) -> None:
    """A strip of a 3x3 convolution from one array of `tiles.new` to the other; with `rectify`, of max(x, 0)."""
    x, y = _in_grid(arrays[0], tiles, conv.inputs), _in_grid(arrays[1], tiles, conv.outputs)
    _run(_CONVOLVE, (conv, None), (x, y), (tiles, strip), scratch, rectify=rectify)


class NativeBlock:
    """A residual block, x + 1x1(relu(3x3(relu(x)))), and the step back through it, in strips of a grid."""

    def __init__(self, conv: Matrix, out: Matrix) -> None:
        """`conv` has inputs C and outputs K, `out` the reverse. For `inside` and `outside`, both are transposed."""
        self._conv, self._out = conv, out

    def forward(
        self, arrays: tuple[Floats, Floats], tiles: Tiles, strip: Strip, scratch: Scratch, keep: bool
    ) -> tuple[Signs, Signs] | None:
        """The block from one array of `tiles.new` to the other; with `keep`, the signs for the step back."""
        x, y = (_in_grid(each, tiles, self._conv.inputs) for each in arrays)
        signs = None
        if keep:
            signs = self._signs(strip, self._conv.outputs), self._signs(strip, self._conv.inputs)
        _run(_FORWARD, (self._conv, self._out), (x, y), (tiles, strip), scratch, signs=signs)
        return signs

    def inside(self, arrays: tuple[Floats, Floats], place: tuple[Tiles, Strip], signs: Array, scratch: Scratch) -> None:
        """From the gradients of the block's outputs, in one array, to those before its inner ReLU, in the other."""
        tiles, strip = place
        x, y = _in_grid(arrays[0], tiles, self._out.inputs), _in_grid(arrays[1], tiles, self._out.outputs)
        self._check(signs, strip, self._out.outputs)
        _run(_BACK_INSIDE, (None, self._out), (x, y), place, scratch, signs=(signs, None))

    def outside(
        self, arrays: tuple[Floats, Floats], place: tuple[Tiles, Strip], signs: Array, scratch: Scratch
    ) -> None:
        """Add to the gradients in the second array what passes from those of the first one through the 3x3."""
        tiles, strip = place
        x, y = _in_grid(arrays[0], tiles, self._conv.inputs), _in_grid(arrays[1], tiles, self._conv.outputs)
        self._check(signs, strip, self._conv.outputs)
        _run(_BACK_OUTSIDE, (self._conv, None), (x, y), place, scratch, signs=(None, signs))

    def _shape(self, strip: Strip, channels: int) -> tuple[int, int, int]:
        return strip.count, TILE**2, -(-channels // self._out.level.lanes)

    def _signs(self, strip: Strip, channels: int) -> Signs:
        return np.empty(self._shape(strip, channels), np.uint16)

    def _check(self, signs: Array, strip: Strip, channels: int) -> None:
        if signs.dtype != np.uint16 or signs.shape != self._shape(strip, channels) or not signs.flags.c_contiguous:
            raise ValueError(f"the signs are {signs.shape}, not {self._shape(strip, channels)}")


def pointwise(
    matrix: Matrix, inputs: Sequence[Floats], outputs: Sequence[Floats], scratch: Scratch, *, rectify: bool
) -> None:
    """A 1x1 convolution of inputs side by side; with `rectify`, of max(x, 0) of the last input.

    Inputs and outputs are views [h, w, C], or [h, w, S, C] with segments of C channels that need not be neighbours.
    """
    height, width = inputs[0].shape[:2]
    sides = [tuple(_side(each, (height, width)) for each in group) for group in (inputs, outputs)]
    memory = _memory(None, matrix, scratch)
    _native.pointwise(matrix.level.name, rectify, matrix.argument, (height, width), *sides, memory)


def choose(level: Level, latents: Floats, table: Floats, costs: Array | None, scale: Floats | None) -> Array:
    """For each latent z [N, dim] the first k with the lowest z . table[:dim, k] + table[dim, k] + scale * costs_k.

    The table is [dim + 1, K]. Costs [N, >= K] are uint8 or float32, with a scale [N].
    """
    (count, dims), size = latents.shape, table.shape[1]
    if not _has_neighbours(latents) or latents.strides[0] < 4 * dims:
        latents = latents.copy()
    stride = latents.strides[0] // 4 if count > 1 else dims
    if latents.dtype != np.float32 or len(table) != dims + 1:
        raise ValueError("latents are not float32 [N, dim], or the table is not [dim + 1, K]")
    width = -(-size // (_ABREAST * level.lanes)) * _ABREAST * level.lanes
    wide = aligned(len(table), width)
    wide[:, :size], wide[:, size:] = table, 0
    wide[-1, size:] = _NEVER
    priced: tuple[int, int, bool, int] = (0, 0, False, 0)
    if costs is not None and scale is not None:
        costs = np.ascontiguousarray(costs, np.uint8 if costs.dtype == np.uint8 else np.float32)
        scale = np.ascontiguousarray(scale, np.float32)
        if costs.ndim != 2 or len(costs) != count or costs.shape[1] < size or scale.shape != (count,):
            raise ValueError("there must be a scale, and a cost of each code, for each latent")
        priced = (costs.ctypes.data, costs.shape[1], costs.dtype == np.uint8, scale.ctypes.data)
    chosen = np.empty(count, np.int32)
    places = (latents.ctypes.data, count, stride, dims)
    _native.choose(level.name, places, (wide.ctypes.data, size), priced, chosen.ctypes.data)
    return chosen


def _run(
    action: int,
    matrices: tuple[Matrix | None, Matrix | None],
    arrays: tuple[int, int],
    place: tuple[Tiles, Strip],
    scratch: Scratch,
    *,
    rectify: bool = False,
    signs: tuple[Array | None, Array | None] | None = None,
) -> None:
    """Call `_native.strip` for addresses of arrays of that grid."""
    (conv, out), (tiles, strip) = matrices, place
    level = (conv or out).level  # type: ignore[union-attr]
    _native.strip(
        level.name,
        action,
        rectify,
        conv.argument if conv else (),
        out.argument if out else (),
        (*arrays, tiles.rows, tiles.columns),
        (strip.top, strip.bottom, strip.left, strip.right),
        tuple(0 if each is None else each.ctypes.data for each in signs or (None, None)),
        _memory(conv, out, scratch),
    )


def _memory(conv: Matrix | None, out: Matrix | None, scratch: Scratch) -> tuple[int, int]:
    """Address and size of temporary memory of this thread."""
    level = (conv or out).level  # type: ignore[union-attr]
    size = _native.scratch(level.name, conv.argument if conv else (), out.argument if out else ())
    return scratch.array("native", size).ctypes.data, size


def _in_grid(x: Floats, tiles: Tiles, channels: int) -> int:
    """The address of an array of `tiles.new`."""
    shape = (TILE * tiles.rows + 2, TILE * tiles.columns + 2, channels)
    if x.dtype != np.float32 or x.shape != shape or not x.flags.c_contiguous or not x.flags.writeable:
        raise ValueError(f"the array is {x.dtype} {x.shape}, not float32 {shape} in order")
    return x.ctypes.data


def _side(x: Floats, grid: tuple[int, int]) -> tuple[int, ...]:
    """The address and the strides of a view [h, w, C] or [h, w, S, C]."""
    wide = x[:, :, None] if x.ndim == 3 else x
    if x.dtype != np.float32 or wide.ndim != 4 or wide.shape[:2] != grid or not _has_neighbours(wide) or not wide.size:
        raise ValueError(f"the array is {x.dtype} {x.shape}, not float32 {grid} with neighbouring channels")
    row, column, segment, _ = (stride // 4 for stride in wide.strides)
    return x.ctypes.data, row, column, segment, *wide.shape[2:]


def _has_neighbours(x: Floats) -> bool:
    """Whether the values along the last axis are neighbours in memory."""
    return x.shape[-1] == 1 or x.strides[-1] == 4


# The check of an instruction set.

_CHANNELS, _INSIDE = 19, 37  # no whole number of vectors, and more than a panel


def _is_right(level: Level) -> bool:
    """Whether an instruction set gives the results of plain sums in float64, up to rounding."""
    kernels, matrix = _numbers(3, 3, _CHANNELS, _INSIDE), _numbers(_INSIDE, _CHANNELS)
    biases = _numbers(_INSIDE), _numbers(_CHANNELS)
    tiles, scratch = Tiles(7, 12), Scratch()
    place = tiles, Strip(0, tiles.rows, 0, tiles.columns)
    x, y, total = (tiles.new(_CHANNELS) for _ in range(3))
    inner = tiles.new(_INSIDE)
    tiles.inside(x)[...] = _numbers(7, 12, _CHANNELS)
    block = NativeBlock(Matrix(level, kernels, biases[0]), Matrix(level, matrix, biases[1]))
    signs = block.forward((x, y), *place, scratch, True)
    assert signs is not None
    hidden = _plain(np.maximum(x, 0), kernels) + biases[0]
    expected = x[1:-1, 1:-1] + np.maximum(hidden, 0) @ matrix + biases[1]
    right = _is_close(y[1:-1, 1:-1], expected)
    # The step back.
    turned = kernels[::-1, ::-1].swapaxes(2, 3)
    back = NativeBlock(Matrix(level, turned), Matrix(level, matrix.T))
    tiles.inside(total)[...] = _numbers(12, 7, _CHANNELS).swapaxes(0, 1)
    before = total.copy()
    back.inside((total, inner), place, signs[0], scratch)
    right &= _is_close(inner[1:-1, 1:-1], (total[1:-1, 1:-1] @ matrix.T) * (hidden > 0))
    back.outside((inner, total), place, signs[1], scratch)
    passed = _plain(inner, turned) * (x[1:-1, 1:-1] > 0)
    right &= _is_close(total[1:-1, 1:-1], before[1:-1, 1:-1] + passed)
    return right and _chooses(level)


def _chooses(level: Level) -> bool:
    """Whether the choice of codes is right: whole numbers, so that there are equal costs, and no rounding."""
    latents, table, costs = (np.rint(9 * _numbers(*shape)) for shape in ((20, 3), (4, 77), (20, 80)))
    costs, scale = costs + 9, np.arange(20.0) % 3 + 1
    expected = (latents @ table[:3] + table[3] + scale[:, None] * costs[:, :77]).argmin(1)
    floats = latents.astype(np.float32), table.astype(np.float32)
    return all(
        np.array_equal(choose(level, *floats, costs.astype(kind), scale.astype(np.float32)), expected)
        for kind in (np.uint8, np.float32)
    )


def _numbers(*shape: int) -> Array:
    """Numbers from -1 to 1 that look random, in float64. numpy's own take milliseconds to import."""
    index: Array = np.arange(1.0, 1 + math.prod(shape)).reshape(shape)
    found: Array = np.sin(index * index)
    return found


def _plain(x: Array, kernels: Array) -> Array:
    """The convolution by its definition, of an array with margins."""
    height, width = x.shape[0] - 2, x.shape[1] - 2
    parts = [x[i : i + height, j : j + width] @ kernels[i, j] for i in range(3) for j in range(3)]
    total: Array = np.sum(parts, axis=0)
    return total


def _is_close(found: Array, expected: Array) -> bool:
    return bool(np.abs(found - expected).max() <= _TOLERANCE * math.ceil(np.abs(expected).max()))
