"""The coding order: every cell once, after its dependencies, with the same counts as all cells at once."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from conftest import SMALL, Recorder, formula_codes, formula_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.coding import wavefront
from vqcodec.coding.formats import BLOCK_TAPS, ENTRY_TAPS
from vqcodec.coding.integer_prior import Codes, Floats, IntegerPrior, Layout
from vqcodec.coding.wavefront import sweep, traverse, waves

SIDES = st.integers(1, 9)
SHAPES = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=4)
THIN = st.sampled_from([(1, 1), (1, 40), (40, 1), (2, 30), (30, 2), (1, 2), (2, 1), (3, 3)])


@given(shapes=st.one_of(SHAPES, THIN.map(lambda shape: [shape])))
def test_waves_tile_every_grid_in_an_order_that_respects_the_taps(shapes: list[tuple[int, int]]) -> None:
    when: list[dict[tuple[int, int], int]] = [{} for _ in shapes]
    order = []
    for wave in waves(shapes):
        order.append(wave.t)
        assert len(wave.starts) == len(shapes) + 1
        assert wave.starts[0] == 0
        assert wave.starts[-1] == len(wave.rows) == len(wave.columns) == len(wave.slots)
        assert len(set(wave.slots.tolist())) == len(wave.slots), "two cells share a slot"
        for unit in range(len(shapes)):
            for n in range(wave.starts[unit], wave.starts[unit + 1]):
                cell = int(wave.rows[n]), int(wave.columns[n])
                assert cell not in when[unit], "a cell is coded twice"
                when[unit][cell] = wave.t
    assert order == sorted(set(order))
    assert order[-1] < max(width + 2 * (height - 1) for height, width in shapes)
    for (height, width), times in zip(shapes, when, strict=True):
        assert set(times) == {(i, j) for i in range(height) for j in range(width)}
        for (i, j), t in times.items():
            for di, dj in {*ENTRY_TAPS, *BLOCK_TAPS}:
                known = times.get((i + di, j + dj))  # None: outside
                assert known is None or known < t or (di, dj) == (0, 0)


def collect(prior: IntegerPrior, grids: list[Codes]) -> list[dict[tuple[int, int, int], Floats]]:
    """The counts that the traversal gives the coder for every (codebook, row, column) of every grid."""
    recorder = Recorder()
    traverse(prior, grids, recorder)
    per_unit = defaultdict(list)
    for unit, _, counts in recorder.calls:
        per_unit[unit].append(counts)
    found = []
    for unit, grid in enumerate(grids):
        books, height, width = grid.shape
        calls, counts_at = iter(per_unit[unit]), {}
        for wave in waves([(height, width)]):  # a grid's own waves, in order; then its codebooks
            if not len(wave.rows):
                continue  # nothing to code: a grid of one column has cells in every other wave only
            for g in range(books):
                counts = next(calls)
                assert len(counts) == len(wave.rows)
                for row, column, values in zip(wave.rows.tolist(), wave.columns.tolist(), counts, strict=True):
                    counts_at[g, row, column] = values
        assert next(calls, None) is None
        found.append(counts_at)
    return found


@settings(max_examples=40, deadline=None)
@given(shapes=st.one_of(SHAPES, THIN.map(lambda shape: [shape])), quality=st.integers(0, 1), salt=st.integers(1, 99))
def test_the_wavefront_gives_the_counts_of_all_cells_at_once(
    shapes: list[tuple[int, int]], quality: int, salt: int
) -> None:
    prior = IntegerPrior(formula_tensors(SMALL), SMALL, quality)
    grids = [formula_codes(SMALL.sizes, *shape, salt + unit) for unit, shape in enumerate(shapes)]
    before = [grid.copy() for grid in grids]
    for grid, counts_at in zip(grids, collect(prior, grids), strict=True):
        for g, counts in enumerate(prior.evaluate(grid)):
            width = grid.shape[2]
            for cell, values in enumerate(counts):
                assert np.array_equal(counts_at[g, cell // width, cell % width], values)
    assert all(np.array_equal(a, b) for a, b in zip(before, grids, strict=True))


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("sizes", [(7,), (4, 2)])
def test_any_number_of_blocks_and_codebooks(blocks: int, sizes: tuple[int, ...]) -> None:
    layout = Layout(sizes, 1, 5, 4, blocks, labels=2)
    prior = IntegerPrior(formula_tensors(layout), layout, 0, 1)
    grid = formula_codes(sizes, 6, 5)
    (counts_at,) = collect(prior, [grid])
    for g, counts in enumerate(prior.evaluate(grid)):
        assert np.array_equal(counts, [counts_at[g, i, j] for i in range(6) for j in range(5)])


@pytest.mark.parametrize("sizes", [(1, 4, 3), (5, 1, 4), (4, 3, 1), (1, 1, 6)])
def test_codebooks_of_one_code_are_skipped(sizes: tuple[int, ...]) -> None:
    """The other codebooks get the same counts as with these codes known to be 0."""
    layout = Layout(sizes, 1, 5, 4, 2)
    prior = IntegerPrior(formula_tensors(layout), layout, 0)
    grid = formula_codes(sizes, 5, 6)
    recorder = Recorder()
    traverse(prior, [grid], recorder)
    expected = prior.evaluate(grid)
    calls = iter(recorder.calls)
    for wave in waves([(5, 6)]):
        for g, size in enumerate(sizes):
            if size > 1:
                _, symbols, counts = next(calls)
                assert np.array_equal(symbols, grid[g, wave.rows, wave.columns])
                assert np.array_equal(counts, expected[g][wave.rows * 6 + wave.columns])
    assert next(calls, None) is None
    assert all(not grid[g].any() for g, size in enumerate(sizes) if size == 1)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.one_of(st.tuples(SIDES, SIDES), THIN),
    sizes=st.sampled_from([(3, 4, 2), (1, 4, 3), (5, 1, 4), (4, 3, 1), (1, 1)]),
    swept=st.sampled_from([1, 4, 10, 256]),
)
def test_sweep_and_traverse_make_the_same_calls(shape: tuple[int, int], sizes: tuple[int, ...], swept: int) -> None:
    """The same symbols, counts and order, so that one can read what the other writes."""
    layout = Layout(sizes, 1, 5, 4, 2)
    prior = IntegerPrior(formula_tensors(layout), layout, 0)
    grid = formula_codes(sizes, *shape)
    one, other, told = Recorder(), Recorder(), []
    traverse(prior, [grid.copy()], one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wavefront, "SWEEP_CELLS", swept)
        sweep(prior, grid, other, 0, told.append)
    assert len(one.calls) == len(other.calls)
    for (_, symbols, counts), (unit, its_symbols, its_counts) in zip(one.calls, other.calls, strict=True):
        assert unit == 0
        assert np.array_equal(symbols, its_symbols)
        assert np.array_equal(counts, its_counts)
    assert told == sorted(told)
    assert told[-1] == 1


def test_the_symbols_of_the_grid_are_passed_and_the_returned_ones_kept() -> None:
    """Afterwards, the grid contains the symbols that the coder returned."""

    class Inverter(Recorder):
        def code(self, unit: int, symbols: Codes, counts: Floats) -> Codes:
            super().code(unit, symbols, counts)
            return (counts.shape[1] - 1 - symbols).astype(np.int32)

    prior = IntegerPrior(formula_tensors(SMALL), SMALL, 0)
    grid = formula_codes(SMALL.sizes, 4, 5)
    expected = np.array(SMALL.sizes)[:, None, None] - 1 - grid
    changed = grid.copy()
    coder = Inverter()
    traverse(prior, [changed], coder)
    assert np.array_equal(changed, expected)
    assert sorted(np.concatenate([symbols for _, symbols, _ in coder.calls])) == sorted(grid.flatten())
    # The counts depend on the returned symbols, not on the original ones.
    follow = collect(prior, [expected.astype(np.int32)])[0]
    calls = iter(coder.calls)
    for wave in waves([(4, 5)]):
        for g in range(3):
            _, _, counts = next(calls)
            cells = zip(wave.rows.tolist(), wave.columns.tolist(), strict=True)
            assert np.array_equal(counts, [follow[g, i, j] for i, j in cells])


def test_progress_rises_to_one(small_prior: IntegerPrior) -> None:
    told: list[float] = []
    grids = [formula_codes(SMALL.sizes, 3, 4), formula_codes(SMALL.sizes, 1, 1)]
    traverse(small_prior, grids, Recorder(), told.append)
    assert told == sorted(told)
    assert told[0] > 0
    assert told[-1] == pytest.approx(1)
