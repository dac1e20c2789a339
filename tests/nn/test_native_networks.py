"""The networks' native code: numpy's results for all sizes and every split into strips; wrong arguments are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.nn import native, tiles
from vqcodec.nn.native import Level, Matrix, NativeBlock
from vqcodec.nn.quantizer import nearest
from vqcodec.nn.tiles import Scratch, Strip, Tiles, aligned
from vqcodec.nn.trunk import Block, Signs, Trunk
from vqcodec.threads import Workers

pytestmark = pytest.mark.skipif(native.missing() is not None, reason=f"native code is missing: {native.missing()}")

LEVELS = native.levels()
module: Any = native._native
Floats = npt.NDArray[np.float32]


def random(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def trunk(inputs: int, channels: int, inside: int) -> Trunk:
    """A stem and two blocks of random weights, for the implementation that is in use."""
    blocks = [
        Block(
            random(index, 3, 3, channels, inside) / 9,
            random(index + 1, inside),
            random(index + 2, inside, channels) / 9,
            random(index + 3, channels),
        )
        for index in (10, 20)
    ]
    return Trunk(random(1, 3, 3, inputs, channels) / 9, random(2, channels), blocks, Scratch())


def both_ways(level: Level | None, sizes: tuple[int, int, int], grid: tuple[int, int]) -> tuple[Floats, Floats]:
    """The outputs of a trunk and the step back, in native code or in numpy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "active", lambda: level)
        network, signs, where = trunk(*sizes), Signs(), Tiles(*grid)
        padded = where.new(sizes[0])
        where.inside(padded)[...] = random(3, *grid, sizes[0])
        found = network.forward(padded, where, Workers(1), signs).copy()
        return found, network.back(random(4, *grid, sizes[1]), signs, Workers(1))


@given(data=st.data())
def test_a_trunk_of_any_size(data: st.DataObject) -> None:
    channels = st.sampled_from([1, 3, 7, 8, 15, 16, 17, 31, 33, 40])
    sizes = data.draw(st.tuples(channels, channels, channels))
    grid = data.draw(st.tuples(st.integers(1, 13), st.integers(1, 13)))
    forward, back = both_ways(data.draw(st.sampled_from(LEVELS)), sizes, grid)
    expected, gradient = both_ways(None, sizes, grid)
    np.testing.assert_allclose(forward, expected, atol=1e-4 * np.abs(expected).max())
    # Where a value before a ReLU is almost 0, its sign and thus the gradient may differ.
    near = np.isclose(back, gradient, rtol=1e-3, atol=1e-3 * float(np.abs(gradient).max()))
    assert near.mean() > 0.98


@pytest.mark.parametrize("strip", [1, 5, 40, 1000])
@pytest.mark.parametrize("level", LEVELS)
def test_strips_do_not_change_a_single_bit(level: Level, strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = both_ways(level, (11, 20, 19), (37, 50))
    monkeypatch.setattr(tiles, "STRIP", strip)
    assert all(np.array_equal(*pair) for pair in zip(both_ways(level, (11, 20, 19), (37, 50)), expected, strict=True))


@given(data=st.data())
def test_any_choice(data: st.DataObject) -> None:
    """Whole numbers, so that there are equal costs, and no rounding."""
    count, dims, size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 150)))
    kind = data.draw(st.sampled_from([None, np.uint8, np.float32]))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    latents, vectors = (rng.integers(-2, 3, (n, dims)).astype(np.float32) for n in (count, size))
    costs = None if kind is None else rng.integers(0, 3, (count, size + 3)).astype(kind)
    scale = None if kind is None else rng.integers(0, 3, count).astype(np.float32)
    found = []
    for level in (data.draw(st.sampled_from(LEVELS)), None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "active", lambda chosen=level: chosen)
            found.append(nearest(latents, vectors, np.zeros(size, np.float32), costs, scale))
    assert np.array_equal(*found)


# Arguments that do not fit.


def strip_arguments(**changes: Any) -> tuple[Any, ...]:
    """Arguments of `strip` for a block; the addresses are never used where a size is wrong."""
    level = LEVELS[-1]
    conv, out = Matrix(level, random(0, 3, 3, 5, 7)), Matrix(level, random(0, 7, 5))
    size = module.scratch(level.name, conv.argument, out.argument)
    KEPT[:] = [conv, out, *(aligned(max(size, 999)) for _ in range(5))]
    x, y, inner, outer, memory = (each.ctypes.data for each in KEPT[2:])
    good = {
        "level": level.name, "action": 1, "rectify": 0, "conv": conv.argument, "out": out.argument,
        "arrays": (x, y, 2, 1), "strip": (0, 2, 0, 1), "signs": (inner, outer), "memory": (memory, size),
    }  # fmt: skip
    return tuple((good | changes).values())


KEPT: list[Any] = []  # what the addresses point to


def test_strips_that_do_not_fit_are_refused() -> None:
    good = strip_arguments()
    module.strip(*good)
    _, _, _, conv, out, (x, y, _, _), _, (inner, outer), (memory, size) = good
    wrong: list[dict[str, Any]] = [{"level": "no such"}, {"level": 3}, {"memory": (memory, size - 1)}]
    wrong += [{"memory": (0, size)}, {"action": -1}, {"action": 4}, {"conv": ()}, {"out": ()}, {"conv": out}]
    wrong += [{"conv": (*conv[:2], *sizes)} for sizes in ((5, 8), (6, 7), (0, 7), (5, -7), (1 << 20, 7), (1 << 40, 7))]
    wrong += [{"conv": (0, *conv[1:])}, {"out": (out[0], 0, *out[2:])}, {"conv": conv[:3]}, {"conv": None}]
    wrong += [{"arrays": (x, y, *size)} for size in ((0, 1), (2, 0), (-2, 1), (1, 1), (1 << 30, 1))]
    wrong += [{"arrays": (0, y, 2, 1)}, {"arrays": (x, 0, 2, 1)}, {"signs": (inner, 0)}, {"signs": (0, outer)}]
    strips = (0, 3, 0, 1), (-1, 2, 0, 1), (0, 2, 0, 2), (0, 2, -1, 1), (1, 1, 0, 1), (0, 2, 1, 1), (2, 1, 0, 1)
    wrong += [{"strip": strip} for strip in strips]
    wrong += [{"action": 2, "signs": (0, outer)}, {"action": 3, "signs": (inner, 0)}]
    for changes in wrong:
        arguments = dict(zip(NAMES, good, strict=True)) | changes
        with pytest.raises((ValueError, TypeError, OverflowError)):
            module.strip(*arguments.values())


NAMES = ("level", "action", "rectify", "conv", "out", "arrays", "strip", "signs", "memory")


def test_products_and_kernels_that_do_not_fit_are_refused() -> None:
    level = LEVELS[-1]
    matrix, x, y, memory = Matrix(level, random(0, 6, 4)), random(1, 2, 3, 6), random(2, 2, 3, 4), aligned(9999)
    size = module.scratch(level.name, (), matrix.argument)
    side, other = (x.ctypes.data, 18, 6, 6, 1, 6), (y.ctypes.data, 12, 4, 4, 1, 4)
    good = (level.name, 0, matrix.argument, (2, 3), (side,), (other,), (memory.ctypes.data, size))
    module.pointwise(*good)
    np.testing.assert_allclose(y, x @ random(0, 6, 4), atol=1e-4)
    for at, value in [
        (2, ()), (3, (0, 3)), (3, (2, -3)), (3, (1 << 30, 3)), (4, ()), (4, (side, side)), (4, (side,) * 3),
        (4, ((*side[:4], 1, 5),)), (4, ((*side[:4], -1, -6),)), (4, ((0, *side[1:]),)), (4, (None,)), (5, ()),
        (5, ((*other[:4], 2, 4),)), (5, ((*other[:4], 1 << 30, 1 << 30),)), (6, (memory.ctypes.data, size - 1)),
        (6, (0, size)),
    ]:  # fmt: skip
        with pytest.raises((ValueError, TypeError, OverflowError)):
            module.pointwise(*good[:at], value, *good[at + 1 :])
    packed = aligned(level.panel * 6)
    addresses = random(0, 6, 4), packed
    module.pack(level.name, addresses[0].ctypes.data, (1, 6, 4), packed.ctypes.data, packed.size)
    for shape in ((9, 6, 4), (2, 6, 4), (1, 0, 4), (1, 6, 0), (1, -6, 4), (1, 6, level.panel + 1), (1, 1 << 20, 4)):
        with pytest.raises(ValueError, match="kernels"):
            module.pack(level.name, addresses[0].ctypes.data, shape, packed.ctypes.data, packed.size)


def test_choices_that_do_not_fit_are_refused() -> None:
    arrays = [aligned(4000) for _ in range(5)]
    for array in arrays:
        array[:] = 0
    z, table, costs, scale, chosen = (each.ctypes.data for each in arrays)
    good = (LEVELS[-1].name, (z, 4, 3, 3), (table, 10), (costs, 10, False, scale), chosen)
    module.choose(*good)
    for at, value in [
        (1, (0, 4, 3, 3)), (1, (z, -4, 3, 3)), (1, (z, 4, 2, 3)), (1, (z, 4, 3, 0)), (2, (0, 10)), (2, (table, 0)),
        (2, (table, 1 << 30)), (3, (costs, 9, False, scale)), (3, (costs, 10, False, 0)), (3, (0, 10, False, scale)),
        (4, 0),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="choice"):
            module.choose(*good[:at], value, *good[at + 1 :])


def test_arrays_that_do_not_fit_are_refused() -> None:
    level, grid, scratch = LEVELS[-1], Tiles(7, 9), Scratch()
    conv, out = Matrix(level, random(0, 3, 3, 5, 6)), Matrix(level, random(0, 6, 5))
    block, strip, x, y = NativeBlock(conv, out), Strip(0, 2, 0, 3), grid.new(5), grid.new(6)
    signs = block.forward((x, grid.new(5)), grid, strip, scratch, True)
    assert signs is not None
    twice = np.zeros((10, 28, 5), np.float32)
    read_only = grid.new(6)
    read_only.flags.writeable = False
    wrong: list[Callable[[], object]] = [
        lambda: native.convolve(conv, (x, x), grid, strip, scratch),
        lambda: native.convolve(conv, (x.astype(np.float64), y), grid, strip, scratch),
        lambda: native.convolve(conv, (twice[:, ::2], y), grid, strip, scratch),
        lambda: native.convolve(conv, (x, read_only), grid, strip, scratch),
        lambda: native.convolve(conv, (x[:-1], y), grid, strip, scratch),
        lambda: native.convolve(conv, (x, y), Tiles(9, 9), strip, scratch),
        lambda: native.convolve(conv, (x, y), grid, Strip(0, 3, 0, 3), scratch),
        lambda: block.inside((x, y), (grid, strip), signs[0], scratch),
        lambda: block.inside((y, x), (grid, Strip(0, 1, 0, 3)), signs[0], scratch),
        lambda: block.inside((y, x), (grid, strip), signs[0].astype(np.int32), scratch),
        lambda: native.pointwise(out, [random(0, 2, 3, 6)], [random(0, 2, 3, 4)], scratch, rectify=False),
        lambda: native.pointwise(out, [random(0, 2, 3, 6)], [random(0, 3, 3, 5)], scratch, rectify=False),
        lambda: native.pointwise(out, [random(0, 2, 3, 6)[::1, :, ::2]], [random(0, 2, 3, 5)], scratch, rectify=False),
        lambda: native.choose(level, random(0, 9, 3), random(0, 3, 20), None, None),
        lambda: native.choose(level, random(0, 9, 3), random(0, 4, 20), random(0, 9, 19), random(0, 9)),
        lambda: native.choose(level, random(0, 9, 3), random(0, 4, 20), random(0, 8, 20), random(0, 9)),
        lambda: native.choose(level, random(0, 9, 3), random(0, 4, 20), random(0, 9, 20), random(0, 8)),
    ]
    for call in wrong:
        with pytest.raises(ValueError, match=r"array|signs|strip|product|latents|scale"):
            call()


# Which code is in use.


class Wrong:
    """Native code of which one function computes nothing, or something else."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: None) if name == self._name else getattr(module, name)


@pytest.mark.parametrize("name", ["strip", "choose"])
@pytest.mark.parametrize("level", LEVELS)
def test_an_instruction_set_with_wrong_results_is_not_used(
    level: Level, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native._is_right(level)
    monkeypatch.setattr(native, "_native", Wrong(name))
    assert not native._is_right(level)


@pytest.mark.parametrize("setting", ["0", "1"])
def test_an_environment_variable_switches_it_off(setting: str) -> None:
    code = "from vqcodec.nn import native; print(native.missing(), native.implementation(), sep='|')"
    environment = os.environ | {"VQCODEC_NATIVE": setting, "PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    expected = f"None|native ({LEVELS[-1].name})" if setting == "1" else "switched off by VQCODEC_NATIVE=0|numpy"
    assert shown.stdout.strip() == expected
