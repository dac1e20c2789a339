"""The integer prior: exact in any order of summation; weights that could break this are refused."""

from __future__ import annotations

import dataclasses
import decimal
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from conftest import SMALL, Tensors, formula_codes, formula_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.coding import integer_prior
from vqcodec.coding.exp_table import EXP
from vqcodec.coding.formats import BLOCK_TAPS, COUNT_BITS, ENTRY_TAPS, SUM_BOUND
from vqcodec.coding.integer_prior import MAX_SHIFT, Floats, IntegerPrior, Layout, Product, gather_taps
from vqcodec.errors import ModelError

LABELLED = dataclasses.replace(SMALL, labels=2)
WIDE = Layout(sizes=(64, 256), qualities=1, channels=96, head_channels=48, blocks=3)


def test_the_table_of_exponentials_is_right_to_the_last_digit() -> None:
    assert len(EXP) == 256
    with decimal.localcontext() as context:
        context.prec = 60
        for d, entry in enumerate(EXP):
            exact = (decimal.Decimal(-d) / 16).exp() * 2**23
            assert entry == int(exact.to_integral_value(decimal.ROUND_HALF_EVEN))
            assert abs(exact % 1 - decimal.Decimal("0.5")) > decimal.Decimal("1e-6"), "an entry is near a boundary"
    assert min(EXP) == 1


def test_taps_come_before_their_cell() -> None:
    for di, dj in ENTRY_TAPS:
        assert (di, dj) < (0, 0)
        assert dj + 2 * di < 0
    assert set(BLOCK_TAPS) - {(0, 0)} <= set(ENTRY_TAPS)
    assert BLOCK_TAPS[0] == (0, 0)


def test_counts_are_positive_integers_whose_sum_fits_the_coder(small_prior: IntegerPrior) -> None:
    for size, counts in zip(SMALL.sizes, small_prior.evaluate(formula_codes(SMALL.sizes, 9, 8)), strict=True):
        check_counts(counts, (72, size))


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([2, 3, 256, 4096]),
    spread=st.sampled_from([0, 1, 40, 4000, 1 << 22]),
    seed=st.integers(0, 2**32 - 1),
)
def test_counts_of_any_logits(size: int, spread: int, seed: int) -> None:
    """From a uniform distribution to a single code with nearly all counts."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(-spread, spread + 1, size)
    layout = Layout((size,), 1, 1, 1, 1)
    tensors = formula_tensors(layout)
    tensors["codes.0.0.out.weight"][:] = 0
    tensors["codes.0.0.out.bias"] = logits.astype(np.int32)
    tensors["codes.0.0.out.shift"][:] = 0
    counts = IntegerPrior(tensors, layout, 0).counts(0, np.zeros((3, 1), np.float32))
    check_counts(counts, (3, size))
    weights = [EXP[min(int(logits.max() - value), 255)] for value in logits]
    shift = COUNT_BITS - sum(weights).bit_length()
    assert counts[0].tolist() == [max(1, int(w * 2.0**shift // 1)) for w in weights]


def check_counts(counts: Floats, shape: tuple[int, int]) -> None:
    assert counts.dtype == np.float32
    assert counts.shape == shape
    assert np.array_equal(counts, np.floor(counts))
    assert counts.min() >= 1
    total = counts.sum(axis=1, dtype=np.float64)
    assert (total < 2**COUNT_BITS + shape[1]).all()
    assert (total > 2 ** (COUNT_BITS - 1) - shape[1]).all(), "precision is wasted"


def in_float64(product: Product, x: Floats) -> Floats:
    y = x.astype(np.float64) @ product.weight.astype(np.float64) + product.bias
    return np.floor(y).astype(np.float32)


def reversed_columns(product: Product, x: Floats) -> Floats:
    y = np.ascontiguousarray(x[:, ::-1]) @ np.ascontiguousarray(product.weight[::-1])
    return np.floor(y + product.bias)


def split(product: Product, x: Floats) -> Floats:
    half = x.shape[1] // 3
    y = product.bias + x[:, half:] @ product.weight[half:]
    return np.floor(y + x[:, :half] @ product.weight[:half])


def one_after_the_other(product: Product, x: Floats) -> Floats:
    y = np.zeros((len(x), len(product.bias)), np.float32)
    for column, row in zip(x.T, product.weight, strict=True):
        y += column[:, None] * row
    return np.floor(y + product.bias)


def in_integers(product: Product, x: Floats) -> Floats:
    weight, bias = (
        np.ldexp(each.astype(np.float64), MAX_SHIFT).astype(np.int64) for each in (product.weight, product.bias)
    )
    return ((x.astype(np.int64) @ weight + bias) >> MAX_SHIFT).astype(np.float32)


@pytest.mark.parametrize("layout", [SMALL, WIDE], ids=["small", "wide"])
@pytest.mark.parametrize("way", [in_float64, reversed_columns, split, one_after_the_other, in_integers])
def test_the_order_of_summation_makes_no_difference(
    monkeypatch: pytest.MonkeyPatch, way: Callable[[Product, Floats], Floats], layout: Layout
) -> None:
    prior = IntegerPrior(formula_tensors(layout), layout, 0)
    codes = formula_codes(layout.sizes, 6, 7)
    expected = prior.evaluate(codes)
    monkeypatch.setattr(integer_prior.Product, "__call__", way)
    assert all(np.array_equal(a, b) for a, b in zip(prior.evaluate(codes), expected, strict=True))


def test_one_cell_or_many_makes_no_difference(small_prior: IntegerPrior) -> None:
    """A BLAS uses different code paths for one row and for many."""
    wide = IntegerPrior(formula_tensors(WIDE), WIDE, 0)
    context = np.random.default_rng(1).integers(-127, 128, (40, len(ENTRY_TAPS) * 96)).astype(np.float32)
    rows = np.concatenate([wide.entry(context[n : n + 1]) for n in range(40)])
    assert np.array_equal(wide.entry(context), rows)


def test_quality_and_label_change_the_counts() -> None:
    tensors, codes = formula_tensors(LABELLED), formula_codes(SMALL.sizes, 4, 4)
    cases = [(q, label) for q in range(2) for label in (None, 0, 1)]
    outputs = [np.concatenate(IntegerPrior(tensors, LABELLED, q, label).evaluate(codes), 1) for q, label in cases]
    assert all(not np.array_equal(outputs[a], outputs[b]) for a in range(len(cases)) for b in range(a))


def test_neighbours_outside_the_grid_are_zeros() -> None:
    x = np.arange(1, 13, dtype=np.float32).reshape(3, 4, 1)
    gathered = gather_taps(x, ENTRY_TAPS).reshape(3, 4, len(ENTRY_TAPS))
    for i in range(3):
        for j in range(4):
            for k, (di, dj) in enumerate(ENTRY_TAPS):
                inside = 0 <= i + di < 3 and 0 <= j + dj < 4
                assert gathered[i, j, k] == (x[i + di, j + dj, 0] if inside else 0)


# Invalid tensors are refused.


def refused(change: Callable[[Tensors], object], match: str, layout: Layout = LABELLED) -> None:
    tensors = formula_tensors(layout)
    IntegerPrior(tensors, layout, 0, 0 if layout.labels else None)
    change(tensors)
    with pytest.raises(ModelError, match=match):
        IntegerPrior(tensors, layout, 0, 0 if layout.labels else None)


def needed(layout: Layout) -> list[str]:
    """Names of the tensors that the first quality uses."""
    return [name for name in formula_tensors(layout) if not (name.startswith("codes.") and name.split(".")[2] == "1")]


@pytest.mark.parametrize("name", needed(LABELLED))
def test_a_missing_tensor_is_refused(name: str) -> None:
    refused(lambda tensors: tensors.pop(name), f"lacks the tensor {name}")


@pytest.mark.parametrize("name", needed(LABELLED))
def test_a_misshapen_tensor_is_refused(name: str) -> None:
    def reshape(shorten: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]) -> Callable[[Tensors], object]:
        return lambda tensors: tensors.update({name: shorten(tensors[name])})

    refused(reshape(lambda t: t[..., :-1]), name)
    refused(reshape(lambda t: t[None]), name)
    refused(reshape(lambda t: t.reshape(-1)[0]), name)
    refused(reshape(lambda t: t.astype(np.float32)), name)
    refused(reshape(lambda t: t.astype(np.int64)), name)
    refused(reshape(lambda t: t[:0]), name)


PRODUCTS = [name.removesuffix(".weight") for name in needed(SMALL) if name.endswith(".weight")]


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_that_may_reach_the_bound_are_refused(name: str, sign: int) -> None:
    tensors = formula_tensors(SMALL)
    limit = 64 if name.endswith("project") else 127  # largest magnitude of an input
    magnitude = int(np.abs(tensors[f"{name}.weight"][0].astype(np.int64)).sum()) * limit
    bias = f"{name}.bias"
    first = (0,) * tensors[bias].ndim

    def set_bias(value: int) -> Callable[[Tensors], object]:
        return lambda t: t[bias].__setitem__(first, sign * value)

    set_bias(SUM_BOUND - 1 - magnitude)(tensors)
    IntegerPrior(tensors, SMALL, 0)  # the largest bias that is still exact
    refused(set_bias(SUM_BOUND - magnitude), rf"{name} may sum to {SUM_BOUND}", SMALL)
    refused(set_bias(2**31 - 1), "beyond the 2\\^24", SMALL)


@pytest.mark.parametrize("name", ["entry.gate", "state"])
def test_the_label_counts_towards_the_bound(name: str) -> None:
    layout = LABELLED
    refused(lambda t: t[f"{name}.label"].__setitem__((0, 0), SUM_BOUND), "beyond the 2\\^24")
    tensors = formula_tensors(layout)
    tensors[f"{name}.label"][0, 0] = SUM_BOUND
    IntegerPrior(tensors, layout, 0, 1)  # another label does not use it


@pytest.mark.parametrize("name", PRODUCTS)
def test_weights_and_shifts_out_of_range_are_refused(name: str) -> None:
    first = (0,) * 2
    refused(lambda t: t[f"{name}.weight"].__setitem__(first, -128), "out of range", SMALL)
    refused(lambda t: t[f"{name}.shift"].__setitem__(0, -1), "out of range", SMALL)
    refused(lambda t: t[f"{name}.shift"].__setitem__(0, 31), "out of range", SMALL)


CODE_TABLES = ("embedding", "state", "out.weight", "out.bias", "out.shift")


def keep(tensors: Tensors, g: int, count: int, tables: tuple[str, ...] = CODE_TABLES) -> None:
    """Resize tables of codebook g at the first quality to `count` codes, by dropping or repeating rows."""
    for name in (f"codes.{g}.0.{table}" for table in tables):
        if name in tensors:
            rows = np.arange(count) % max(1, len(tensors[name]))
            tensors[name] = np.ascontiguousarray(tensors[name][rows])


@pytest.mark.parametrize("g", range(3))
def test_a_prior_may_have_fewer_codes_but_neither_none_nor_more(g: int) -> None:
    size = SMALL.sizes[g]
    for count in (1, 2, size):
        tensors = formula_tensors(SMALL)
        keep(tensors, g, count)
        prior = IntegerPrior(tensors, SMALL, 0)
        assert prior.constant(g) == (count == 1)
        codes = formula_codes(tuple(min(n, count) if i == g else n for i, n in enumerate(SMALL.sizes)), 4, 5)
        check_counts(prior.evaluate(codes)[g], (20, count))
    for count in (0, size + 1, 1000):
        refused(lambda t, count=count: keep(t, g, count), rf"codes\.{g}\.0\.embedding", SMALL)


@pytest.mark.parametrize("g", range(3))
@pytest.mark.parametrize("table", CODE_TABLES)
def test_the_tables_of_a_codebook_must_agree_on_its_codes(g: int, table: str) -> None:
    if f"codes.{g}.0.{table}" in formula_tensors(SMALL):
        for count in (0, 1, SMALL.sizes[g] - 1, SMALL.sizes[g] + 1):
            refused(lambda t, count=count: keep(t, g, count, (table,)), rf"codes\.{g}\.0\.", SMALL)


@pytest.mark.parametrize(("quality", "label"), [(-1, None), (2, None), (0, -1), (0, 2)])
def test_a_quality_or_label_out_of_range_is_refused(quality: int, label: int | None) -> None:
    with pytest.raises(ModelError, match="not among"):
        IntegerPrior(formula_tensors(LABELLED), LABELLED, quality, label)
