from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.bench import bd_rate

RATES = [0.1, 0.21, 0.38, 0.67]
QUALITIES = [25.7, 28.1, 30.2, 33.0]


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.25])
def test_bd_rate_of_a_scaled_curve_is_the_factor(factor: float) -> None:
    scaled = [factor * rate for rate in RATES]
    percent = bd_rate.bd_rate(RATES, QUALITIES, scaled, QUALITIES)
    assert percent == pytest.approx(100 * (factor - 1), abs=1e-10)


def test_bd_rate_over_straight_lines_is_the_mean_of_the_logarithms() -> None:
    # Log rates: x on curve a, 1.5 x - 1 on curve b. From 2 to 4 they differ by 0.5 on average.
    a = ([math.exp(x) for x in (0.0, 2.0, 3.0, 4.0)], [0, 2, 3, 4])
    b = ([math.exp(1.5 * x - 1) for x in (2.0, 3.5, 6.0)], [2, 3.5, 6])
    assert bd_rate.bd_rate(*a, *b) == pytest.approx(100 * (math.exp(0.5) - 1), abs=1e-9)


def test_bd_rate_by_hand_on_a_curved_piece() -> None:
    # Points (0, 0), (1, 1), (2, 4): secants 1 and 3, so Fritsch & Butland give the slopes 0, 1.5 and 4.
    # The pieces integrate to 1/2 + (0 - 1.5)/12 = 3/8 and 5/2 + (1.5 - 4)/12 = 55/24: 8/3, or 4/3 on average.
    curve = [math.exp(y) for y in (0, 1, 4)]
    percent = bd_rate.bd_rate([1, 1], [0, 2], curve, [0, 1, 2])
    assert percent == pytest.approx(100 * (math.exp(4 / 3) - 1), abs=1e-9)


def test_bd_rate_follows_a_dense_sampling_of_a_smooth_curve() -> None:
    quality = np.linspace(20, 40, 41)
    log_a, log_b = (quality / 10) ** 2, (quality / 10) ** 2 + 0.1 * np.sin(quality / 4) - 0.2
    fine = np.linspace(20, 40, 200001)
    expected = 100 * math.expm1(float(np.mean(0.1 * np.sin(fine / 4) - 0.2)))
    percent = bd_rate.bd_rate(np.exp(log_a), quality, np.exp(log_b), quality)
    assert percent == pytest.approx(expected, abs=1e-2)


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(4)), st.floats(0.2, 5))
def test_bd_rate_takes_points_in_any_order_and_turns_round(order: list[int], factor: float) -> None:
    other = [factor * rate**1.1 for rate in RATES]
    there = bd_rate.bd_rate(RATES, QUALITIES, other, QUALITIES)
    shuffled = ([RATES[i] for i in order], [QUALITIES[i] for i in order])
    assert bd_rate.bd_rate(*shuffled, other, QUALITIES) == pytest.approx(there, abs=1e-9)
    back = bd_rate.bd_rate(other, QUALITIES, *shuffled)
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1, abs=1e-9)


def test_bd_rate_accepts_curves_that_bend_back() -> None:
    assert math.isfinite(bd_rate.bd_rate([1, 3, 2, 2.5], [1, 2, 3, 4], [2, 1, 4, 1], [0, 1.5, 2.5, 3.5]))


@pytest.mark.parametrize(
    ("rates", "qualities"),
    [
        ([0.1, 0.2], [40.0, 41.0]),
        ([0.1, 0.2], [20.0, 25.7]),
        ([0.1], [30.0]),
        ([], []),
        ([0.1, 0.2, 0.3], [28.0, 28.0, 29.0]),
        ([0.1, 0.2], [28.0, math.inf]),
        ([0.1, 0.2], [28.0, math.nan]),
        ([0.1, math.inf], [28.0, 30.0]),
    ],
    ids=["above", "touching", "one point", "none", "one quality twice", "lossless", "nan", "infinite rate"],
)
def test_bd_rate_is_nan_where_it_is_not_defined(rates: list[float], qualities: list[float]) -> None:
    assert math.isnan(bd_rate.bd_rate(RATES, QUALITIES, rates, qualities))
    assert math.isnan(bd_rate.bd_rate(rates, qualities, RATES, QUALITIES))


def test_bd_rate_refuses_malformed_curves() -> None:
    with pytest.raises(ValueError, match="3 rates for 4 qualities"):
        bd_rate.bd_rate(RATES[:3], QUALITIES, RATES, QUALITIES)
    for rate in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="rates must be positive"):
            bd_rate.bd_rate(RATES, QUALITIES, [rate, *RATES[1:]], QUALITIES)
