"""Windows: cores tile the grid, and each window contains the input that its core needs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.windows import cover

SIDES = st.integers(1, 40)


@given(height=SIDES, width=SIDES, side=st.integers(1, 50), reach=st.integers(0, 6), scale=st.integers(1, 3))
def test_cores_tile_the_grid_and_outers_hold_the_reach(
    height: int, width: int, side: int, reach: int, scale: int
) -> None:
    covered = np.zeros((height * scale, width * scale), int)
    places = np.arange(height * scale * width * scale).reshape(height * scale, width * scale)
    order = []
    for window in cover(height, width, side, reach):
        covered[window.core(scale)] += 1
        core, outer = places[window.core(scale)], places[window.outer(scale)]
        assert np.array_equal(outer[window.inner(scale)], core)
        assert 0 < window.bottom - window.top <= side
        assert 0 < window.right - window.left <= side
        assert window.outer_top == max(0, window.top - reach)
        assert window.outer_bottom == min(height, window.bottom + reach)
        assert window.outer_left == max(0, window.left - reach)
        assert window.outer_right == min(width, window.right + reach)
        order.append((window.top, window.left))
    assert (covered == 1).all()
    assert order == sorted(order)


def test_a_small_grid_is_one_window() -> None:
    (window,) = cover(5, 7, 10, 3)
    assert window.core() == window.outer() == window.inner() == (slice(0, 5), slice(0, 7))


@given(length=st.integers(1, 30), side=st.integers(1, 12), reach=st.integers(0, 3), seed=st.integers(0, 99))
def test_filtering_window_by_window_equals_filtering_the_grid(length: int, side: int, reach: int, seed: int) -> None:
    """A moving sum with zeros outside, in each direction, window by window."""
    grid = np.random.default_rng(seed).integers(0, 100, (length, length + 3))

    def filtered(part: np.ndarray) -> np.ndarray:
        rows, columns = part.shape
        padded = np.pad(part, reach)
        span = range(2 * reach + 1)
        return sum(padded[i : i + rows, j : j + columns] * (1 + i + 7 * j) for i in span for j in span)

    result = np.full_like(grid, -1)
    for window in cover(*grid.shape, side, reach):
        result[window.core()] = filtered(grid[window.outer()])[window.inner()]
    assert np.array_equal(result, filtered(grid))
