"""Two rate-distortion curves -> BD-rate and BD-quality: their mean distance along the rate or the quality axis.

In: rates and qualities of the points of both curves. Out: plain numbers; `nan` where the curves have no common range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bd_quality", "bd_rate", "overlap"]

Plane = NDArray[np.float64]


def bd_rate(
    rate_a: Sequence[float],
    quality_a: Sequence[float],
    rate_b: Sequence[float],
    quality_b: Sequence[float],
) -> float:
    """Mean difference of rate at equal quality, in percent; negative if curve b needs fewer bits.

    Bjontegaard, ITU-T VCEG-M33, 2001: the logarithm of the rate is interpolated over the quality and
    integrated over the range of qualities that both curves reach. This implementation interpolates with
    monotone piecewise cubics (Fritsch & Butland, SIAM J. Sci. Stat. Comput. 5, 1984). They do not oscillate
    between points, as the single cubic of the original report may.

    Points may be in any order. Returns `nan` if the curves share no range of quality, or if a curve has fewer
    than two points, a repeated quality or a value that is not finite. Raises `ValueError` if the lengths
    differ or a rate is not above 0.
    """
    (rates_a, qualities_a), (rates_b, qualities_b) = _points(rate_a, quality_a), _points(rate_b, quality_b)
    return 100 * math.expm1(_mean_gap(_sorted(qualities_a, rates_a), _sorted(qualities_b, rates_b)))


def bd_quality(
    rate_a: Sequence[float],
    quality_a: Sequence[float],
    rate_b: Sequence[float],
    quality_b: Sequence[float],
) -> float:
    """Mean difference of quality at equal rate, in the quality's unit; positive if curve b is better (BD-PSNR).

    Same as `bd_rate` with the axes swapped: the quality is interpolated over the logarithm of the rate. Returns `nan`
    if the curves share no range of rates.
    """
    return _mean_gap(_sorted(*_points(rate_a, quality_a)), _sorted(*_points(rate_b, quality_b)))


def overlap(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """The range (low, high) of values that both curves cover; low >= high if there is none."""
    return max(min(a), min(b)), min(max(a), max(b))


def _points(rate: Sequence[float], quality: Sequence[float]) -> tuple[Plane, Plane]:
    """The natural logarithms of the rates, and the qualities."""
    rates, qualities = np.asarray(rate, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    if rates.ndim != 1 or rates.shape != qualities.shape:
        raise ValueError(f"{rates.size} rates for {qualities.size} qualities")
    if not (rates > 0).all():
        raise ValueError("rates must be positive")
    return np.log(rates), qualities


def _sorted(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Points in ascending order of x."""
    order = np.argsort(x)
    return x[order], y[order]


def _mean_gap(a: tuple[Plane, Plane], b: tuple[Plane, Plane]) -> float:
    """Mean of b - a over the range of x that both curves cover; `nan` if there is none."""
    if any(len(x) < 2 or not np.isfinite([x, y]).all() or np.diff(x).min() <= 0 for x, y in (a, b)):
        return math.nan
    low, high = overlap(a[0].tolist(), b[0].tolist())
    if low >= high:
        return math.nan
    area_a, area_b = (_area(x, y, low, high) for x, y in (a, b))
    return (area_b - area_a) / (high - low)


def _area(x: Plane, y: Plane, low: float, high: float) -> float:
    """Integral from low to high of the monotone cubic through the points."""
    from scipy.interpolate import PchipInterpolator

    return float(PchipInterpolator(x, y).integrate(low, high))
