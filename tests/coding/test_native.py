"""Native code: the integers and words of numpy at every instruction set, and no argument leads out of bounds."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, Tensors, formula_codes, formula_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.coding import native, payloads
from vqcodec.coding.exp_table import EXP
from vqcodec.coding.formats import SUM_BOUND
from vqcodec.coding.integer_prior import MAX_SHIFT, Codes, IntegerPrior, Layout
from vqcodec.coding.native import NativePrior
from vqcodec.errors import DamagedFile

pytestmark = pytest.mark.skipif(native.missing() is not None, reason=f"native code is missing: {native.missing()}")
module: Any = native._native
INSTRUCTIONS = module.levels() if module else ()


@pytest.fixture(params=INSTRUCTIONS)
def level(request: pytest.FixtureRequest) -> str:
    """Every instruction set that this machine has."""
    name: str = request.param
    return name


def at_the_bounds(layout: Layout, seed: int) -> Tensors:
    """Tensors whose sums come as near to 2^24 as is allowed, with any shifts."""
    rng = np.random.default_rng(seed)
    tensors = formula_tensors(layout)
    for name in [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]:
        weight = rng.choice(np.array([-127, 127, -1, 0, 64], np.int8), tensors[f"{name}.weight"].shape)
        room = SUM_BOUND - 1 - np.abs(weight.astype(np.int64)).sum(1) * (64 if name.endswith("project") else 127)
        bias = rng.choice([-1, 0, 1], tensors[f"{name}.bias"].shape) * room
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight, bias.astype(np.int32)
        shift = rng.integers(0, MAX_SHIFT + 1, len(weight)) if seed % 2 else rng.integers(8, 17, len(weight))
        tensors[f"{name}.shift"] = shift.astype(np.int8)
    for name in tensors:
        if name.endswith((".embedding", ".state")):
            tensors[name] = rng.integers(-128, 128, tensors[name].shape).astype(np.int8)
    return tensors


def by_numpy(monkeypatch: pytest.MonkeyPatch, prior: IntegerPrior, grids: list[Codes]) -> list[bytes]:
    with monkeypatch.context() as patch:
        patch.setattr(native, "_native", None)
        return payloads.write_units(prior, grids, prove=False)


def check_equal(prior: IntegerPrior, level: str, grids: list[Codes], expected: list[bytes]) -> None:
    """The prior at this instruction set writes and reads these payloads, and has the price levels of numpy."""
    fast = NativePrior(prior, level)
    assert fast.write(grids) == expected
    back = fast.read(expected, [(grid.shape[1], grid.shape[2]) for grid in grids])
    assert all(np.array_equal(a, b) for a, b in zip(back, grids, strict=True))
    for ours, theirs in zip(fast.price_levels(grids[0]), prior.price_levels(grids[0]), strict=True):
        assert ours.level.dtype == theirs.level.dtype == np.uint8
        assert ours.total.dtype == theirs.total.dtype == np.uint64
        assert np.array_equal(ours.level, theirs.level)
        assert np.array_equal(ours.total, theirs.total)


LAYOUTS = [
    SMALL,
    Layout((7, 1, 300, 16, 17), 1, 96, 48, 5),
    Layout((512,), 1, 33, 48, 1),
    Layout((1, 2, 256), 1, 16, 64, 2),
    Layout((4096, 3), 1, 17, 31, 2),
    Layout((1, 1), 1, 4, 3, 2),
]
SHAPES = [(5, 7), (1, 1), (9, 9), (1, 30), (30, 1), (60, 3)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_payloads_of_numpy(monkeypatch: pytest.MonkeyPatch, level: str, layout: Layout) -> None:
    prior = IntegerPrior(formula_tensors(layout), layout, 0)
    grids = [formula_codes(layout.sizes, *shape, salt) for salt, shape in enumerate(SHAPES)]
    check_equal(prior, level, grids, by_numpy(monkeypatch, prior, grids))


@pytest.mark.parametrize("seed", range(8))
def test_weights_at_the_bounds(monkeypatch: pytest.MonkeyPatch, level: str, seed: int) -> None:
    layout = Layout((40, 5, 19), 1, 32 - seed, 16 + seed, 3)
    prior = IntegerPrior(at_the_bounds(layout, seed), layout, 0)
    rng = np.random.default_rng(seed)
    grids = [np.stack([rng.integers(0, k, (6, 8)) for k in layout.sizes]).astype(np.int32) for _ in range(3)]
    check_equal(prior, level, grids, by_numpy(monkeypatch, prior, grids))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_sizes(data: st.DataObject) -> None:
    sizes = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 15, 16, 17, 33, 256]), min_size=1, max_size=4)))
    layout = Layout(sizes, 2, *data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))), 2)
    label, salt = data.draw(st.sampled_from([None, 0, 1])), data.draw(st.integers(1, 999))
    prior = IntegerPrior(formula_tensors(layout), layout, data.draw(st.integers(0, 1)), label)
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=5))
    grids = [formula_codes(sizes, *shape, salt + unit) for unit, shape in enumerate(shapes)]
    with pytest.MonkeyPatch.context() as patch:
        expected = by_numpy(patch, prior, grids)
    check_equal(prior, data.draw(st.sampled_from(INSTRUCTIONS)), grids, expected)


def test_waves_longer_than_a_chunk(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    """More cells in a wave of one unit than are computed at once: codebooks still follow each other by the wave."""
    prior = IntegerPrior(formula_tensors(SMALL), SMALL, 0)
    grids = [formula_codes(SMALL.sizes, 110, 230)]
    check_equal(prior, level, grids, by_numpy(monkeypatch, prior, grids))


def test_words_of_constriction_for_many_symbols() -> None:
    pytest.importorskip("constriction")
    layout = Layout((256, 256, 40, 2), 1, 8, 16, 1)
    prior = IntegerPrior(formula_tensors(layout), layout, 0)
    grids = [formula_codes(layout.sizes, 64, 64, salt) for salt in range(8)]  # 131,072 symbols
    with pytest.MonkeyPatch.context() as patch:
        expected = by_numpy(patch, prior, grids)
    assert NativePrior(prior).write(grids) == expected


# Damaged payloads.


def outcome(prior: IntegerPrior, payload: bytes, shape: tuple[int, int]) -> bytes | str:
    """The codes that are read, or in a word why not."""
    try:
        return payloads.read_units(prior, [payload], [shape])[0].tobytes()
    except DamagedFile as error:
        return "surplus" if "more data" in str(error) else "contradiction"


def test_damaged_payloads_are_read_as_numpy_reads_them() -> None:
    layout = Layout((5, 3, 16), 1, 6, 5, 2)
    prior = IntegerPrior(formula_tensors(layout), layout, 0)
    (payload,) = NativePrior(prior).write([formula_codes(layout.sizes, 4, 5)])
    rng = np.random.default_rng(7)
    cases = [payload[:length] for length in range(len(payload))] + [payload + bytes([255] * n) for n in range(9)]
    for _ in range(300):
        changed = bytearray(payload)
        for at in rng.integers(0, 8 * len(payload), rng.integers(1, 4)):
            changed[at // 8] ^= 1 << at % 8
        cases.append(bytes(changed))
    cases += [rng.bytes(int(n)) for n in rng.integers(0, 60, 100)]
    cases += [b"\xff" * int(n) for n in rng.integers(0, 60, 20)]
    ours = [outcome(prior, case, (4, 5)) for case in cases]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_native", None)
        assert [outcome(prior, case, (4, 5)) for case in cases] == ours
    assert {"surplus", "contradiction"} <= {result for result in ours if isinstance(result, str)}


# Hostile arguments.


def arguments(prior: IntegerPrior) -> dict[str, Any]:
    """What `load` is called with for this prior."""
    captured: list[Any] = []

    class Spy:
        @staticmethod
        def load(*given: Any) -> None:
            captured.extend(given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_native", Spy)
        NativePrior(prior)
    names = ("level", "channels", "head", "blocks", "sizes", "products", "tables", "exponentials")
    return dict(zip(names, captured, strict=True))


def refused(**changes: Any) -> None:
    good = arguments(IntegerPrior(formula_tensors(SMALL), SMALL, 0))
    module.load(*good.values())
    with pytest.raises((ValueError, TypeError, OverflowError)):
        module.load(*(good | changes).values())


@pytest.mark.parametrize("number", [0, -1, 5, 7, 4096, 4097, 1 << 30, -(1 << 31), 1 << 40])
@pytest.mark.parametrize("name", ["channels", "head", "blocks"])
def test_sizes_that_do_not_fit_the_tensors(name: str, number: int) -> None:
    good = arguments(IntegerPrior(formula_tensors(SMALL), SMALL, 0))
    if good[name] != number:
        refused(**{name: number})


def test_parts_that_do_not_fit() -> None:
    good = arguments(IntegerPrior(formula_tensors(SMALL), SMALL, 0))
    for sizes in (
        (),
        (5, 3),
        (5, 3, 16, 1),
        (5, 3, 15),
        (0, 3, 16),
        (-5, 3, 16),
        (5, 3, 1 << 31),
        (5, 3, "16"),
        (5,) * 9,
    ):
        refused(sizes=sizes)
    for exponentials in (b"", bytes(1024), good["exponentials"][:-4], np.full(256, 1 << 23 | 1, np.uint32).tobytes()):
        refused(exponentials=exponentials)
    for at in range(len(good["products"])):
        weight, bias, shift = good["products"][at]
        high, most = np.full(len(shift), 31, np.int8).tobytes(), np.full(len(shift), -(2**31), np.int32).tobytes()
        for wrong in (
            (weight[:-1], bias, shift),
            (weight + b"\0", bias, shift),
            (weight, bias[:-1], shift),
            (weight, bias, shift + b"\0"),
            (b"\x80" * len(weight), bias, shift),
            (weight, most, shift),
            (weight, bias, high),
            (weight, bias, b"\xff" * len(shift)),
            (weight, bias),
            (weight, bias, None),
            b"",
        ):
            refused(products=(*good["products"][:at], wrong, *good["products"][at + 1 :]))
    for at in range(len(good["tables"]) - 1):
        for table in (good["tables"][at][:-1], b"", good["tables"][at] * 2, None):
            refused(tables=(*good["tables"][:at], table, *good["tables"][at + 1 :]))
    refused(level="no such level")


def test_hostile_units() -> None:
    prior = IntegerPrior(formula_tensors(SMALL), SMALL, 0)
    loaded = NativePrior(prior)._loaded
    codes = formula_codes(SMALL.sizes, 2, 3).tobytes()
    wrong_shapes = [
        (0, 3),
        (2, 0),
        (-2, -3),
        (1 << 20, 1 << 20),
        (1 << 21, 1),
        (1, 1 << 30),
        (2, 3, 1),
        (2,),
        "23",
        None,
    ]
    for shape in [*wrong_shapes, (3, 3), (2, 1 << 40)]:
        with pytest.raises((ValueError, TypeError, OverflowError)):
            module.write(loaded, (codes,), (shape,), (None,))
        with pytest.raises((ValueError, TypeError, OverflowError)):
            module.price(loaded, codes, shape)
    for shape in wrong_shapes:
        with pytest.raises((ValueError, TypeError, OverflowError)):
            module.read(loaded, (b"",), (shape,), (None,))
    for value in (-1, 16, 2**31 - 1, -(2**31)):
        grid = formula_codes(SMALL.sizes, 2, 3)
        grid[2, 1, 2] = value
        with pytest.raises(ValueError, match="out of range"):
            module.write(loaded, (grid.tobytes(),), ((2, 3),), (None,))
        with pytest.raises(ValueError, match="out of range"):
            module.price(loaded, grid.tobytes(), (2, 3))
    with pytest.raises(ValueError, match="one shape"):
        module.read(loaded, (b"", b""), ((2, 3),), (None,))
    for other in (None, object(), 5, codes):
        with pytest.raises((ValueError, TypeError)):
            module.read(other, (b"",), ((2, 3),), (None,))
        with pytest.raises(TypeError):
            module.read(loaded, (None,), ((2, 3),), (None,))


def test_no_units() -> None:
    loaded = NativePrior(IntegerPrior(formula_tensors(SMALL), SMALL, 0))._loaded
    assert module.read(loaded, (), (), ()) == module.write(loaded, (), (), ()) == ()


# The wrapper.


def test_a_prior_is_made_once_for_all_threads_and_can_still_be_copied() -> None:
    prior = IntegerPrior(formula_tensors(SMALL), SMALL, 0)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: native.native_prior(prior), range(40)))
    assert made[0] is not None
    assert all(each is made[0] for each in made)
    grids = [formula_codes(SMALL.sizes, 3, 4)]
    for other in (copy.deepcopy(prior), pickle.loads(pickle.dumps(prior))):
        assert payloads.write_units(other, grids) == payloads.write_units(prior, grids)


def test_price_levels_are_the_exponents_of_the_counts() -> None:
    prior = IntegerPrior(formula_tensors(SMALL), SMALL, 0)
    codes = formula_codes(SMALL.sizes, 4, 5)
    for levels, counts in zip(native.price_levels(prior, codes), prior.evaluate(codes), strict=True):
        weights = np.array(EXP, np.uint64)[levels.level]
        assert np.array_equal(weights.sum(1), levels.total)
        shift = np.array([int(total).bit_length() - 22 for total in levels.total], np.uint64)
        assert np.array_equal(np.maximum(weights >> shift[:, None], 1), counts)


@pytest.mark.parametrize("setting", ["0", "1"])
def test_an_environment_variable_switches_it_off(setting: str) -> None:
    code = "from vqcodec.coding import native, payloads; print(native.missing(), payloads.implementation(), sep='|')"
    environment = os.environ | {"VQCODEC_NATIVE": setting, "PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    reason, name = shown.stdout.strip().split("|")
    assert reason == ("None" if setting == "1" else "switched off by VQCODEC_NATIVE=0")
    assert name.startswith("native (" if setting == "1" else "numpy with ")


@pytest.mark.parametrize("fault", ["write", "read"])
def test_native_code_that_disagrees_with_numpy_is_not_used(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prior, codes = IntegerPrior(formula_tensors(SMALL), SMALL, 0), formula_codes(SMALL.sizes, 6, 5)
    expected = payloads.write_units(prior, [codes])
    faulty = IntegerPrior(formula_tensors(SMALL), SMALL, 0)
    right = getattr(native.NativePrior, fault)

    def wrong(self: native.NativePrior, *arguments: object) -> list[object]:
        results = right(self, *arguments)
        return [result[::-1] for result in results]

    monkeypatch.setattr(native.NativePrior, fault, wrong)
    assert payloads.write_units(faulty, [codes]) == expected
    assert np.array_equal(payloads.read_units(faulty, expected, [(6, 5)])[0], codes)
