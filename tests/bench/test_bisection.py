"""Searches over qualities: whole and fractional scales, ends of the scale, few trials."""

from __future__ import annotations

import pytest

from vqcodec.bench.bisection import TRIALS, Scale, approach, lowest

WHOLE = Scale(1, 95, whole=True)
FINE = Scale(0, 100)


class Counted:
    """A function of the quality that counts its calls."""

    def __init__(self) -> None:
        self.calls: list[float] = []

    def value(self, quality: float) -> float:
        self.calls.append(quality)
        return 10 * quality**2


@pytest.mark.parametrize("least", range(1, 96))
def test_the_lowest_whole_quality_is_exact(least: int) -> None:
    counted = Counted()
    assert lowest(WHOLE, lambda quality: counted.value(quality) >= 10 * least**2) == least
    assert len(set(counted.calls)) == len(counted.calls) <= 9
    assert all(quality == int(quality) and 1 <= quality <= 95 for quality in counted.calls)


def test_the_lowest_fractional_quality_is_as_near_as_the_trials_allow() -> None:
    for trials in (4, 10, 20):
        found = lowest(FINE, lambda quality: quality >= 33.3, trials)
        assert found is not None
        assert 33.3 <= found <= 33.3 + 100 / 2**trials


def test_where_no_quality_holds_or_all_do() -> None:
    assert lowest(WHOLE, lambda quality: False) is None
    assert lowest(WHOLE, lambda quality: True) == 1
    assert lowest(FINE, lambda quality: quality >= 100) == 100


def test_a_value_in_the_range_ends_the_search() -> None:
    counted = Counted()
    tried = approach(FINE, counted.value, (12_000, 12_100))
    *before, last = tried.values()
    assert 12_000 <= last <= 12_100
    assert not any(12_000 <= value <= 12_100 for value in before)
    assert list(tried) == counted.calls


def test_without_a_value_in_the_range_both_neighbours_are_tried() -> None:
    counted = Counted()
    tried = approach(WHOLE, counted.value, (10 * 50**2 + 1, 10 * 51**2 - 1))
    assert {50, 51} <= set(tried)
    assert len(counted.calls) == len(tried) <= 8


@pytest.mark.parametrize("scale", [WHOLE, FINE])
def test_an_end_of_the_scale_is_tried_if_the_range_is_beyond_it(scale: Scale) -> None:
    for wanted, end in (((-2, -1), scale.low), ((1e9, 2e9), scale.high)):
        counted = Counted()
        tried = approach(scale, counted.value, wanted)
        assert end in tried
        assert min(tried) >= scale.low
        assert max(tried) <= scale.high
        assert len(counted.calls) <= TRIALS + 1


def test_the_ends_are_within_reach() -> None:
    for end in (1, 95):
        tried = approach(WHOLE, Counted().value, (10 * end**2, 10 * end**2))
        assert list(tried)[-1] == end
