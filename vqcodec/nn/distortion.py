"""The distortion that the encoder's search minimises, and its gradient: squared error and structural dissimilarity.

In: decoded pictures and originals [H, W, 3], float32, on the scale 0 to 1. Out: a number for each position, [h, w], in
the unit of a mean squared error, or the gradient with respect to the decoded picture.

It is the same distortion as that of training (`train/networks/distortion.py`), whose gradient is written out here. The
structural term is MS-SSIM (Wang, Simoncelli & Bovik 2003).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqcodec.nn.tiles import Floats
from vqcodec.windows import bounds

__all__ = [
    "C1", "C2", "LOWEST", "SIGMA", "SMALLEST", "STRUCTURE", "WEIGHTS", "gradient", "local_distortion",
]  # fmt: skip

# A mean squared error that counts as much as an MS-SSIM of 0. At this value both terms are about equal at every
# quality of the model `photo`: its squared error is about 0.023 times its structural dissimilarity.
STRUCTURE = 0.0229
SMALLEST = 11  # pixels: the shortest side of a picture, and the taps of the window
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest scale first; Wang et al. 2003, section 3.2
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
_C1, _C2 = np.float32(C1), np.float32(C2)
LOWEST = 1e-4  # of the mean of a scale: the gradient of its power is infinite at 0
_RUN = 32  # outputs of the window that one product computes


def local_distortion(decoded: Floats, pictures: Floats, share: float, stride: int) -> Floats:
    """The part of each position in the distortion: [h, w], h = ceil(H / stride).

    The distortion is (1 - share) * mean squared error + share * STRUCTURE * (1 - MS-SSIM). The mean over the positions
    is this to first order: the MS-SSIM, a product of means over the picture, is replaced by its first-order expansion
    in those means. Positions at the lower and right edge that lie partly outside the picture count as whole ones in the
    structural term, and with their own pixels in the squared error.
    """
    height, width, _ = decoded.shape
    down, right = np.arange(0, height, stride), np.arange(0, width, stride)
    squares = np.square(decoded - pictures).reshape(height, -1)
    rows = np.add.reduceat(squares, down, axis=0)
    sums = np.add.reduceat(rows, 3 * right, axis=1)
    error: Floats = (sums / np.float32(3 * stride**2)).astype(np.float32)
    if share == 0:
        return error
    product = np.ones(3)
    total = np.zeros((*error.shape, 3))
    for scale in _scales(decoded, pictures):
        product *= scale.mean**scale.weight
        around = np.pad(1 - scale.similarity, ((SMALLEST // 2,) * 2,) * 2 + ((0, 0),), mode="edge")
        total += _pooled(around, error.shape) * (scale.weight / scale.mean)
    structure = (total * product).mean(2)
    mixed: Floats = ((1 - share) * error + share * STRUCTURE * structure).astype(np.float32)
    return mixed


def gradient(decoded: Floats, pictures: Floats, share: float) -> Floats:
    """The gradient [H, W, 3] of the distortion with respect to the decoded picture."""
    result: Floats = (decoded - pictures) * np.float32((1 - share) * 2 / decoded.size)
    if share == 0:
        return result
    scales = list(_scales(decoded, pictures))
    # [3]; the MS-SSIM is the mean of the channels
    product = np.prod([scale.mean**scale.weight for scale in scales], axis=0) / decoded.shape[2]
    coarser = None
    for scale in reversed(scales):
        places = scale.similarity.shape[0] * scale.similarity.shape[1]
        mean = scale.mean
        slope = np.where(mean > LOWEST, product * scale.weight / mean / places, 0).astype(np.float32)
        found = scale.back(slope)
        if coarser is not None:
            quarter = coarser.repeat(2, 0).repeat(2, 1) / 4
            found[: quarter.shape[0], : quarter.shape[1]] += quarter
        coarser = found
    assert coarser is not None
    result -= np.float32(share * STRUCTURE) * coarser
    return result


@dataclass(frozen=True)
class _Scale:
    """One scale of MS-SSIM."""

    weight: float
    a: Floats  # decoded [H, W, 3]
    b: Floats
    luminance: _Ratio | None  # None except at the last scale
    contrast: _Ratio
    similarity: Floats  # [H - 10, W - 10, 3]: the contrast-structure term, at the last scale times the luminance term

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """The mean similarity of each channel [3], at least `LOWEST`."""
        found: npt.NDArray[np.float64] = np.maximum(self.similarity.mean((0, 1), dtype=np.float64), LOWEST)
        return found

    def back(self, slope: Floats) -> Floats:
        """From the gradient of the similarity at every position, [3], to that with respect to `a`."""
        mean_a, mean_b, contrast = self.contrast.mean_a, self.contrast.mean_b, self.contrast
        upper = slope / contrast.lower  # of the contrast term: numerator and denominator
        if self.luminance is not None:
            upper = upper * self.luminance.value
        lower = -upper * contrast.value
        by_mean = -2 * (upper * mean_b + lower * mean_a)
        if self.luminance is not None:
            shine = slope * contrast.value / self.luminance.lower
            by_mean += 2 * shine * (mean_b - self.luminance.value * mean_a)
        maps = np.concatenate([by_mean, lower, 2 * upper], axis=2)
        edge = SMALLEST - 1
        spread = _blurred(np.pad(maps, ((edge, edge), (edge, edge), (0, 0))))  # the transpose of a symmetric window
        by_mean, by_squares, by_product = np.split(spread, 3, axis=2)
        found: Floats = by_mean + 2 * self.a * by_squares + self.b * by_product
        return found


@dataclass(frozen=True)
class _Ratio:
    """A term of SSIM, a fraction of two maps [H - 10, W - 10, 3], and the blurred pictures that it depends on."""

    mean_a: Floats
    mean_b: Floats
    lower: Floats  # the denominator
    value: Floats


def _scales(a: Floats, b: Floats) -> Iterator[_Scale]:
    """The scales of MS-SSIM, finest first.

    Where a side is shorter than 176 pixels there are fewer than five, whose weights are enlarged to add up to the same.
    """
    count = 1
    while count < len(WEIGHTS) and min(a.shape[:2]) >= SMALLEST << count:
        count += 1
    enlarged = sum(WEIGHTS) / sum(WEIGHTS[:count])
    for index, weight in enumerate(WEIGHTS[:count]):
        luminance, contrast = _ssim_terms(a, b)
        if index == count - 1:
            yield _Scale(weight * enlarged, a, b, luminance, contrast, luminance.value * contrast.value)
            return
        yield _Scale(weight * enlarged, a, b, None, contrast, contrast.value)
        a, b = _halved(a), _halved(b)


def _ssim_terms(a: Floats, b: Floats) -> tuple[_Ratio, _Ratio]:
    """The luminance term, and the contrast-structure term, at every position of the window.

    Wang, Bovik, Sheikh & Simoncelli 2004, section III-B.
    """
    blurred = _blurred(np.concatenate([a, b, a * a + b * b, a * b], axis=2))
    mean_a, mean_b, squares, products = np.split(blurred, 4, axis=2)
    mean_product, mean_squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    lower = mean_squares + _C1
    luminance = _Ratio(mean_a, mean_b, lower, (2 * mean_product + _C1) / lower)
    lower = squares - mean_squares + _C2
    return luminance, _Ratio(mean_a, mean_b, lower, (2 * (products - mean_product) + _C2) / lower)


def _window() -> Floats:
    """The Gaussian window as a banded matrix [_RUN, _RUN + 10], for a run of outputs."""
    offsets = np.arange(SMALLEST) - SMALLEST // 2
    taps = np.exp(-np.square(offsets) / (2 * SIGMA**2))
    matrix = np.zeros((_RUN, _RUN + SMALLEST - 1), np.float32)
    for row in range(_RUN):
        matrix[row, row : row + SMALLEST] = taps / taps.sum()
    return matrix


_WINDOW = _window()


def _blurred(x: Floats) -> Floats:
    """Apply the Gaussian window to [H, W, C]: [H - 10, W - 10, C], "valid" positions only."""
    height, width, channels = x.shape
    margin = SMALLEST - 1
    rows = np.empty((height - margin, width * channels), np.float32)
    for first, last in bounds(height - margin, _RUN):
        window = _WINDOW[: last - first, : last - first + margin]
        np.matmul(window, x[first : last + margin].reshape(last + margin - first, -1), out=rows[first:last])
    across = rows.reshape(height - margin, width, channels)
    result = np.empty((height - margin, width - margin, channels), np.float32)
    for first, last in bounds(width - margin, _RUN):
        window = _WINDOW[: last - first, : last - first + margin]
        np.matmul(window, across[:, first : last + margin], out=result[:, first:last])
    return result


def _halved(x: Floats) -> Floats:
    """Means of 2 x 2 pixels [H // 2, W // 2, C]; an odd last row or column is left out."""
    height, width = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    even = x[:height, :width]
    return (even[::2, ::2] + even[::2, 1::2] + even[1::2, ::2] + even[1::2, 1::2]) * np.float32(0.25)


def _pooled(x: Floats, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Means [h, w, C] of [H, W, C] over h x w areas of about equal size, which overlap where H or W is no multiple."""
    down, across = (_averages(size, count) for size, count in zip(x.shape[:2], shape, strict=True))
    rows = (down @ x.reshape(len(x), -1)).reshape(len(down), x.shape[1], x.shape[2])
    found: npt.NDArray[np.float64] = np.matmul(across, rows).astype(np.float64)
    return found


def _averages(size: int, count: int) -> Floats:
    """The matrix [count, size] whose rows average `count` areas of `size` values."""
    places = np.arange(count)
    starts, ends = places * size // count, -(-(places + 1) * size // count)
    inside = (np.arange(size) >= starts[:, None]) & (np.arange(size) < ends[:, None])
    matrix: Floats = (inside / inside.sum(1, keepdims=True)).astype(np.float32)
    return matrix
