"""How good and how small. In: pictures on the scale 0 to 255, sizes in bytes. Out: plain numbers; numpy only.

Higher is better for `psnr` and `ms_ssim`, lower for the rates. `nan` stands for "not defined here".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "bd_quality",
    "bd_rate",
    "bits_per_dim",
    "bits_per_pixel",
    "compression_ratio",
    "luma",
    "ms_ssim",
    "naive_ratio",
    "overlap",
    "psnr",
]

Plane = NDArray[np.float64]

_PEAK = 255.0
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest first; Wang et al. 2003, section 3.2
_TAPS = 11
_SIGMA = 1.5
_LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, section 2.5.1, as JPEG and Pillow have it
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2


def psnr(a: ArrayLike, b: ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255² / mean squared error); `inf` if the pictures are equal.

    `a`, `b`: uint8, or floats on the same scale, of one shape. Raises `ValueError` for different shapes.
    """
    first, second = _pair(a, b)
    error = np.subtract(first, second, dtype=np.float64)
    mse = float(np.mean(np.square(error, out=error)))
    return math.inf if mse == 0 else 10 * math.log10(_PEAK**2 / mse)


def luma(picture: ArrayLike) -> Plane:
    """Luma [H, W] by ITU-R BT.601 of RGB samples [H, W, 3], on their scale and not rounded; of [H, W, 1] itself."""
    samples = np.asarray(picture, dtype=np.float64)
    if samples.ndim != 3 or samples.shape[2] not in (1, 3):
        raise ValueError(f"a picture is [H, W, 3] or [H, W, 1], not {list(samples.shape)}")
    return samples[:, :, 0] if samples.shape[2] == 1 else samples @ np.array(_LUMA)


def ms_ssim(a: ArrayLike, b: ArrayLike) -> float:
    """Multi-scale structural similarity, up to 1: Wang, Simoncelli & Bovik, Asilomar 2003, equation 7.

    Five scales, an 11-tap Gaussian window of sigma 1.5 ("valid" positions only), K1 = 0.01, K2 = 0.03, 2 x 2
    means between the scales (an odd last row or column is left out); per channel, then the mean over the
    channels, as learned compression reports it. A negative mean of a scale counts as 0. `a`, `b`: [H, W] or
    [H, W, C], uint8 or floats from 0 to 255. `nan` if a side is under 176 pixels: the fifth scale would not
    hold one window. Raises `ValueError` for different shapes.
    """
    first, second = (x[:, :, None] if x.ndim == 2 else x for x in _pair(a, b))
    if first.ndim != 3:
        raise ValueError(f"a picture is [H, W] or [H, W, C], not {list(first.shape)}")
    if min(first.shape[:2]) < _TAPS << (len(_SCALE_WEIGHTS) - 1):
        return math.nan
    channels = range(first.shape[2])
    return float(np.mean([_ms_ssim_of_planes(_plane(first, c), _plane(second, c)) for c in channels]))


def bits_per_pixel(size: int, height: int, width: int) -> float:
    """Bits per pixel of a file of `size` bytes: 8 size / (H W)."""
    return 8 * size / (height * width)


def bits_per_dim(size: int, height: int, width: int, channels: int) -> float:
    """Bits per sample of the picture: 8 size / (H W C).

    The unit of likelihood models of pictures (PixelRNN, van den Oord et al. 2016, section 5.1).
    """
    return 8 * size / (height * width * channels)


def compression_ratio(size: int, height: int, width: int, channels: int) -> float:
    """How many times smaller than the raw 8-bit samples a file of `size` bytes is: H W C / size."""
    return height * width * channels / size


def naive_ratio(height: int, width: int, channels: int, stride: int, bits_per_position: float) -> float:
    """Compression ratio if every code were stored as it is, without a prior or a header.

    8 H W C / (ceil(H/stride) ceil(W/stride) bits); 128 x 128 RGB at stride 4 and 9 bits gives 42.67
    (VQ-VAE, van den Oord et al. 2017, section 4.2, where one of 512 codes describes 4 x 4 pixels).
    """
    positions = -(-height // stride) * -(-width // stride)
    return 8 * height * width * channels / (positions * bits_per_position)


def bd_rate(
    rate_a: Sequence[float],
    quality_a: Sequence[float],
    rate_b: Sequence[float],
    quality_b: Sequence[float],
) -> float:
    """Mean difference of rate at equal quality, in percent; negative if curve b needs fewer bits.

    Bjontegaard, ITU-T VCEG-M33, 2001: the logarithm of the rate is interpolated over the quality and
    integrated over the qualities both curves reach. Here by monotone piecewise cubics (Fritsch & Butland,
    SIAM J. Sci. Stat. Comput. 5, 1984), which do not swing between points as the report's single cubic may.

    Points in any order. `nan` if the curves share no range of quality, or one has no two points, a quality
    twice or a value that is not finite. Raises `ValueError` for different lengths or rates not above 0.
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

    As `bd_rate`, with the axes changed over: the quality is interpolated over the logarithm of the rate, and `nan`
    stands for no common range of rates.
    """
    return _mean_gap(_sorted(*_points(rate_a, quality_a)), _sorted(*_points(rate_b, quality_b)))


def overlap(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """The range (low, high) that the values of both curves reach; low >= high if there is none."""
    return max(min(a), min(b)), min(max(a), max(b))


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    first, second = np.asarray(a), np.asarray(b)
    if first.shape != second.shape:
        raise ValueError(f"pictures of different shapes: {list(first.shape)} and {list(second.shape)}")
    if first.size == 0:
        raise ValueError("pictures without samples")
    return first, second


def _plane(picture: NDArray[Any], channel: int) -> Plane:
    """Channel [H, W] as contiguous float64."""
    return np.ascontiguousarray(picture[:, :, channel], dtype=np.float64)


def _ms_ssim_of_planes(x: Plane, y: Plane) -> float:
    product = 1.0
    last = len(_SCALE_WEIGHTS) - 1
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        luminance, contrast = _ssim_terms(x, y)
        # Luminance counts at the coarsest scale only.
        term = float(np.mean(luminance * contrast if scale == last else contrast))
        product *= max(term, 0.0) ** weight
        x, y = _halved(x), _halved(y)
    return product


def _ssim_terms(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Luminance, and contrast times structure, at every position [H - 10, W - 10] of the window.

    Wang, Bovik, Sheikh & Simoncelli, IEEE Trans. Image Processing 13 (4), 2004, section III-B. Only the sum
    of the two variances is needed, so four blurs do instead of five.
    """
    mean_x, mean_y = _blurred(x), _blurred(y)
    mean_product = mean_x * mean_y
    mean_squares = mean_x * mean_x + mean_y * mean_y
    covariance = _blurred(x * y) - mean_product
    variances = _blurred(x * x + y * y) - mean_squares
    luminance = (2 * mean_product + _C1) / (mean_squares + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _blurred(plane: Plane) -> Plane:
    """Gaussian window over [H, W], "valid" positions only: [H - 10, W - 10]."""
    return _blurred_rows(_blurred_rows(plane).T).T


def _blurred_rows(plane: Plane) -> Plane:
    """The window along the rows: [H, W] to [H, W - 10].

    One correlation runs over all rows end to end, which numpy does fast for up to 11 taps; the positions at
    which the window lies across two rows are cut off.
    """
    kernel = np.exp(-0.5 * ((np.arange(_TAPS) - _TAPS // 2) / _SIGMA) ** 2)
    height, width = plane.shape
    joined = np.empty(plane.size)
    joined[: plane.size - _TAPS + 1] = np.correlate(plane.ravel(), kernel / kernel.sum(), "valid")
    return joined.reshape(height, width)[:, : width - _TAPS + 1]


def _halved(plane: Plane) -> Plane:
    """Means of 2 x 2 samples: [H, W] to [H // 2, W // 2]."""
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    rows = plane[0:height:2, :width] + plane[1:height:2, :width]
    return (rows[:, 0::2] + rows[:, 1::2]) / 4


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
    """How much higher curve b runs than curve a, on average over the x that both reach; `nan` if there are none."""
    if any(len(x) < 2 or not np.isfinite([x, y]).all() or np.diff(x).min() <= 0 for x, y in (a, b)):
        return math.nan
    low, high = overlap(a[0].tolist(), b[0].tolist())
    if low >= high:
        return math.nan
    area_a, area_b = (_area(x, y, low, high) for x, y in (a, b))
    return (area_b - area_a) / (high - low)


def _area(x: Plane, y: Plane, low: float, high: float) -> float:
    """Integral of the monotone cubic through the points; Simpson's rule is exact for each of its pieces."""
    slopes = _slopes(x, y)
    knots = np.concatenate([[low], x[(x > low) & (x < high)], [high]])
    left, right = knots[:-1], knots[1:]
    piece = np.clip(np.searchsorted(x, (left + right) / 2) - 1, 0, len(x) - 2)
    start, middle, end = (_hermite(x, y, slopes, piece, at) for at in (left, (left + right) / 2, right))
    return float(np.sum((right - left) / 6 * (start + 4 * middle + end)))


def _hermite(x: Plane, y: Plane, slopes: Plane, piece: NDArray[np.intp], at: Plane) -> Plane:
    """Values at `at` of the cubic Hermite pieces with the numbers `piece`."""
    width = x[piece + 1] - x[piece]
    t = (at - x[piece]) / width
    value = (1 + 2 * t) * (1 - t) ** 2 * y[piece] + t**2 * (3 - 2 * t) * y[piece + 1]
    tangent = t * (1 - t) ** 2 * slopes[piece] - t**2 * (1 - t) * slopes[piece + 1]
    return np.asarray(value + width * tangent)


def _slopes(x: Plane, y: Plane) -> Plane:
    """Slopes at the points: weighted harmonic means of the secants beside them, 0 where these change sign."""
    width = np.diff(x)
    secant = np.diff(y) / width
    if len(x) == 2:
        return np.repeat(secant, 2)
    slopes = np.zeros_like(x)
    before, after = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
    same = secant[:-1] * secant[1:] > 0
    weighted = before[same] / secant[:-1][same] + after[same] / secant[1:][same]
    slopes[1:-1][same] = (before + after)[same] / weighted
    slopes[0] = _end_slope(width[0], width[1], secant[0], secant[1])
    slopes[-1] = _end_slope(width[-1], width[-2], secant[-1], secant[-2])
    return slopes


def _end_slope(near: float, next_: float, secant: float, next_secant: float) -> float:
    """Slope at an end by three points, held back so that the curve stays monotone."""
    slope = ((2 * near + next_) * secant - near * next_secant) / (near + next_)
    if slope * secant <= 0:
        return 0.0
    if secant * next_secant <= 0 and abs(slope) > 3 * abs(secant):
        return 3 * secant
    return slope
