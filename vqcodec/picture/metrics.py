"""Distortion metrics: two pictures -> PSNR or MS-SSIM. Higher is better.

In: two pictures of the same shape on the scale 0 to 255. Out: a number, or `nan` where the metric is not defined.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["eight_bit_pair", "luma", "ms_ssim", "psnr"]

Plane = NDArray[np.float64]

_PEAK = 255.0
_CHUNK = 1 << 20  # samples
_STRIP = 1 << 17  # samples
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest first; Wang et al. 2003, section 3.2
_TAPS = 11
_SIGMA = 1.5
_LUMA = (0.299, 0.587, 0.114)  # red, green, blue: ITU-R BT.601, section 2.5.1, as in JPEG and Pillow
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2


def psnr(a: ArrayLike, b: ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255² / mean squared error); `inf` if the pictures are equal.

    `a`, `b`: uint8, or floats on the same scale, of the same shape. Raises `ValueError` for different shapes and for
    empty pictures.
    """
    first, second = _pair(a, b)
    mse = _squared_error(first, second) / first.size
    return math.inf if mse == 0 else 10 * math.log10(_PEAK**2 / mse)


def _squared_error(first: NDArray[Any], second: NDArray[Any]) -> float:
    """The sum of squared differences, some rows at a time: float64 needs eight times the memory of uint8."""
    first, second = np.atleast_1d(first), np.atleast_1d(second)
    rows = max(1, _CHUNK * len(first) // first.size)
    total = 0.0
    for start in range(0, len(first), rows):
        error = np.subtract(first[start : start + rows], second[start : start + rows], dtype=np.float64)
        total += float(np.sum(np.square(error, out=error)))
    return total


def luma(picture: ArrayLike) -> Plane:
    """Luma [H, W] of RGB samples [H, W, 3] (ITU-R BT.601), on the same scale and not rounded.

    The only channel of [H, W, 1] is returned as it is. Raises `ValueError` for other shapes.
    """
    samples = np.asarray(picture, dtype=np.float64)
    if samples.ndim != 3 or samples.shape[2] not in (1, 3):
        raise ValueError(f"a picture is [H, W, 3] or [H, W, 1], not {list(samples.shape)}")
    return samples[:, :, 0] if samples.shape[2] == 1 else samples @ np.array(_LUMA)


def ms_ssim(a: ArrayLike, b: ArrayLike) -> float:
    """Multi-scale structural similarity, up to 1: Wang, Simoncelli & Bovik, Asilomar 2003, equation 7.

    Five scales; an 11-tap Gaussian window of sigma 1.5 ("valid" positions only); K1 = 0.01, K2 = 0.03; 2 x 2 means
    between the scales (an odd last row or column is dropped). The metric is computed per channel and averaged over the
    channels, as in the learned compression literature. A negative mean of a scale counts as 0.

    `a`, `b`: [H, W] or [H, W, C], uint8 or floats from 0 to 255. The result is `nan` if a side is shorter than 176
    pixels, because the fifth scale would be smaller than the window. Raises `ValueError` for different shapes, other
    numbers of axes, and empty pictures.
    """
    first, second = (x[:, :, None] if x.ndim == 2 else x for x in _pair(a, b))
    if first.ndim != 3:
        raise ValueError(f"a picture is [H, W] or [H, W, C], not {list(first.shape)}")
    if min(first.shape[:2]) < _TAPS << (len(_SCALE_WEIGHTS) - 1):
        return math.nan
    channels = range(first.shape[2])
    return float(np.mean([_ms_ssim_of_planes(_plane(first, c), _plane(second, c)) for c in channels]))


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    first, second = np.asarray(a), np.asarray(b)
    if first.shape != second.shape:
        raise ValueError(f"pictures of different shapes: {list(first.shape)} and {list(second.shape)}")
    if first.size == 0:
        raise ValueError("pictures without samples")
    return first, second


def eight_bit_pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two pictures, uint8 [H, W, 3], [H, W, 1] or [H, W], as [H, W, C].

    Raises `ValueError` for different or other shapes, and for other types.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"pictures of different shapes: {list(np.shape(a))} and {list(np.shape(b))}")
    return _eight_bit(a), _eight_bit(b)


def _eight_bit(picture: ArrayLike) -> NDArray[np.uint8]:
    samples = np.asarray(picture)
    if samples.ndim == 2:
        samples = samples[:, :, None]
    if samples.ndim != 3 or samples.shape[2] not in (1, 3) or samples.dtype != np.uint8:
        kind = f"{samples.dtype} {list(samples.shape)}"
        raise ValueError(f"a picture is uint8 [H, W, 3], [H, W, 1] or [H, W], not {kind}")
    return samples


def _plane(picture: NDArray[Any], channel: int) -> Plane:
    """One channel [H, W] as contiguous float64."""
    return np.ascontiguousarray(picture[:, :, channel], dtype=np.float64)


def _ms_ssim_of_planes(x: Plane, y: Plane) -> float:
    product = 1.0
    last = len(_SCALE_WEIGHTS) - 1
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        term = _mean_similarity(x, y, with_luminance=scale == last)  # luminance is used at the coarsest scale only
        product *= max(term, 0.0) ** weight
        x, y = _halved(x), _halved(y)
    return product


def _mean_similarity(x: Plane, y: Plane, with_luminance: bool) -> float:
    """The mean over all window positions of the contrast-structure term, or of its product with the luminance term.

    Wang, Bovik, Sheikh & Simoncelli, IEEE Trans. Image Processing 13 (4), 2004, section III-B. Only the sum
    of the two variances is needed, so four blurs suffice instead of five. Some rows at a time stay in the cache.
    """
    height, width = (side - _TAPS + 1 for side in x.shape)  # of the window positions
    rows = max(8 * _TAPS, _STRIP // x.shape[1])  # at least 88, because 10 rows of each strip are filtered twice
    total = 0.0
    for start in range(0, height, rows):
        strip = slice(start, start + rows + _TAPS - 1)
        total += float(np.sum(_similarity(x[strip], y[strip], with_luminance)))
    return total / float(height * width)


def _similarity(x: Plane, y: Plane, with_luminance: bool) -> Plane:
    """The terms of `_mean_similarity` at every window position: [H, W] to [H - 10, W - 10]."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    mean_product = mean_x * mean_y
    mean_squares = mean_x * mean_x + mean_y * mean_y
    covariance = _blurred(x * y) - mean_product
    variances = _blurred(x * x + y * y) - mean_squares
    contrast = (2 * covariance + _C2) / (variances + _C2)
    return contrast * (2 * mean_product + _C1) / (mean_squares + _C1) if with_luminance else contrast


def _blurred(plane: Plane) -> Plane:
    """Apply the Gaussian window to [H, W], "valid" positions only: [H - 10, W - 10]."""
    from scipy.ndimage import correlate1d

    half = _TAPS // 2
    window = np.exp(-0.5 * ((np.arange(_TAPS) - half) / _SIGMA) ** 2)
    window /= window.sum()
    rows = correlate1d(plane, window, axis=0, mode="constant")[half:-half]
    return np.asarray(correlate1d(rows, window, axis=1, mode="constant")[:, half:-half])


def _halved(plane: Plane) -> Plane:
    """Means of 2 x 2 samples: [H, W] to [H // 2, W // 2]."""
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    rows = plane[0:height:2, :width] + plane[1:height:2, :width]
    return (rows[:, 0::2] + rows[:, 1::2]) / 4
