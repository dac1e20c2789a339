"""SSIMULACRA 2.1: two pictures -> one score of how alike they look to people; 100 is the same picture.

In: two pictures of the same shape, 8-bit sRGB. Out: the score, or `nan` where a side is below 8 pixels.

Definition: Jon Sneyers (Cloudinary), SSIMULACRA 2.1, April 2023, https://github.com/cloudinary/ssimulacra2, the same as
`tools/ssimulacra2.cc` of libjxl; the constants are those published there. The steps:

    8-bit sRGB -> linear light ─┬─ XYB, made positive ─ blurred means and products ─ three maps of errors a channel
                 2 x 2 means  ──┘ (up to six scales)                                    │
    score <- power <- cubic polynomial <- weighted sum of 108 norms  <──────────────────┘  mean and 4-norm of each map

Each scale is computed some rows at a time, which takes little memory. The program of the definition computes in 32-bit
floats, this module in 64-bit floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vqcodec.picture.metrics import eight_bit_pair

__all__ = ["SMALLEST", "blur_taps", "ssimulacra2"]

Floats = NDArray[np.float64]
Light = NDArray[np.float32]  # linear light [3, H, W], 0 to 1
Planes = NDArray[np.uint8 | np.float32]  # [3, H, W]: sRGB samples at the finest scale, linear light at the others

_SCALES = 6
SMALLEST = 8  # pixels: the shortest side of a picture, and of a scale that is followed by another one
_SAMPLES = 1 << 17  # of one channel of a strip: they stay in the cache
_SIGMA = 1.5
_RADIUS = round(3.2795 * _SIGMA + 0.2546)  # Charalampidis 2016, equation 57
_SMALL = 1 << 14  # samples of a plane that numpy blurs: the import of scipy.ndimage takes as long as 50 of them
_C2 = 0.0009
# Rows: the three kinds of receptors; columns: red, green, blue. libjxl, lib/jxl/cms/opsin_params.h.
_ABSORBANCE = np.array(
    [
        [0.30, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.55180986650955360],
    ]
)
_BIAS = 0.0037930732552754493


def ssimulacra2(a: ArrayLike, b: ArrayLike) -> float:
    """The SSIMULACRA 2.1 score of picture b beside the original a: 100 if equal, lower and below 0 if worse.

    The author's scale: 30 is low quality, 50 medium, 70 high; from 90 on people cannot tell the pictures apart when one
    is shown in place of the other.

    `a`, `b`: uint8 [H, W, 3], [H, W, 1] or [H, W], sRGB; grey counts as three equal channels. The result is `nan` if a
    side is shorter than 8 pixels. Below 113 pixels there are fewer than six scales; as in the program of the
    definition, the list of weights is then used up to where the norms end. Raises `ValueError` for different or other
    shapes, and for other types.
    """
    first, second = map(_planes, eight_bit_pair(a, b))
    if min(first.shape[1:]) < SMALLEST:
        return math.nan
    norms = [_norms(first, second)]
    while len(norms) < _SCALES and min(first.shape[1:]) >= SMALLEST:
        first, second = _halved(first), _halved(second)
        norms.append(_norms(first, second))
    return _score(norms)


def _planes(samples: NDArray[np.uint8]) -> Planes:
    """[H, W, C] to [3, H, W]; grey is repeated."""
    return np.broadcast_to(np.moveaxis(samples, 2, 0), (3, *samples.shape[:2]))


def _light(planes: Planes) -> Light:
    light: Light = _light_of_samples()[planes] if planes.dtype == np.uint8 else planes.astype(np.float32, copy=False)
    return light


@cache
def _light_of_samples() -> Light:
    """The linear light of the samples 0 to 255: sRGB, IEC 61966-2-1."""
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _halved(planes: Planes) -> Planes:
    """Means of 2 x 2 pixels, [3, H, W] to [3, ceil(H / 2), ceil(W / 2)]; an odd last row or column counts twice."""
    height, width = planes.shape[1:]
    even = np.pad(planes, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    halved: Light = np.zeros((3, even.shape[1] // 2, even.shape[2] // 2), dtype=np.float32)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        halved += _light(even[:, row::2, column::2])
    return halved / np.float32(4)


def _norms(first: Planes, second: Planes) -> Floats:
    """The norms of one scale: [3 channels, mean and 4-norm, 3 maps]."""
    sums = np.zeros((3, 2, 3))
    for strip, inner in _strips(*first.shape[1:]):
        xyb = zip(_positive_xyb(first[:, strip]), _positive_xyb(second[:, strip]), strict=True)
        for channel, (x, y) in enumerate(xyb):
            sums[channel] += _sums(x, y, inner)
    means: Floats = sums / first[0].size
    means[:, 1] **= 0.25
    return means


def _strips(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """(rows that are read, which of them count): the blur looks less than 5 rows further. All rows count once."""
    rows = max(16 * _RADIUS, _SAMPLES // width)  # at least 80, because 10 rows of each strip are filtered twice
    for start in range(0, height, rows):
        first, end = max(0, start - _RADIUS), min(height, start + rows)
        yield slice(first, min(height, end + _RADIUS)), slice(start - first, end - first)


def _positive_xyb(planes: Planes) -> Floats:
    """A strip as XYB, with X scaled, B as B - Y, and offsets that make all values positive: [3, H, W]."""
    mixed = np.tensordot(_ABSORBANCE, _light(planes), axes=1)
    mixed += _BIAS
    roots = np.cbrt(mixed, out=mixed)
    roots -= _BIAS ** (1 / 3)
    x, y = (roots[0] - roots[1]) / 2, (roots[0] + roots[1]) / 2
    return np.stack([14 * x + 0.42, y + 0.01, roots[2] - y + 0.55])


def _sums(x: Floats, y: Floats, inner: slice) -> Floats:
    """Sums over the rows `inner` of three maps of errors, and of their fourth powers: [2, 3].

    The maps: one minus structural similarity (without the luminance term's denominator); edges and noise that only y
    has; edges and detail that only x has.
    """
    mean_x, mean_y = _blurred(x, inner), _blurred(y, inner)
    covariance = _blurred(2 * x * y, inner) - 2 * mean_x * mean_y
    variances = _blurred(x * x + y * y, inner) - (mean_x * mean_x + mean_y * mean_y)
    similarity = (1 - np.square(mean_x - mean_y)) * (covariance + _C2) / (variances + _C2)
    edges = (1 + np.abs(y[inner] - mean_y)) / (1 + np.abs(x[inner] - mean_x)) - 1
    maps = [np.maximum(error, 0) for error in (1 - similarity, edges, -edges)]
    squares = [np.square(error) for error in maps]
    return np.array([[error.sum() for error in maps], [np.vdot(square, square) for square in squares]])


def _blurred(plane: Floats, inner: slice) -> Floats:
    """The rows `inner` of a blurred plane; zeros lie outside the picture on all sides."""
    taps = blur_taps()
    if plane.size <= _SMALL:
        return _correlated(_correlated(plane, taps)[inner].T, taps).T
    from scipy.ndimage import correlate1d

    rows = correlate1d(plane, taps, axis=0, mode="constant")[inner]
    return np.asarray(correlate1d(rows, taps, axis=1, mode="constant"))


def _correlated(plane: Floats, taps: Floats) -> Floats:
    """A plane [H, W] correlated with an odd number of taps along its columns, in numpy."""
    reach = len(taps) // 2
    padded = np.pad(plane, ((reach, reach), (0, 0)))
    total: Floats = padded[: len(plane)] * taps[0]
    for at, tap in enumerate(taps[1:], 1):
        total += padded[at : at + len(plane)] * tap
    return total


@cache
def blur_taps() -> Floats:
    """The blur as 9 taps that sum to 1: a Gaussian of sigma 1.5 made of three cosines that end after 5 samples.

    Charalampidis, Recursive Implementation of the Gaussian Filter Using Truncated Cosine Functions, IEEE Trans. Signal
    Processing 64 (14), 2016: h[n] = sum of beta_k cos(omega_k n) for |n| <= N, k = 1, 3, 5, omega_k = k pi / 2N (table
    I), which is 0 at |n| = N. The betas are chosen such that the taps sum to 1 (equation 39) and have the variance
    sigma² (55), and that the rest is nearest to the Gaussian (52, 56). The recursion of the paper computes the same
    filter.
    """
    omega = np.array([1, 3, 5]) * math.pi / (2 * _RADIUS)
    sign = np.array([1, -1, 1])
    p = sign / np.tan(omega / 2)  # equation 37
    r = sign * p * p / np.sin(omega)  # 44
    rho = np.exp(-0.5 * (_SIGMA * omega) ** 2) / _RADIUS  # 50
    zeta = np.cross(p, r) / np.cross(p, r)[2]  # 52
    beta = np.linalg.solve(np.stack([p, r, zeta]), [1, _RADIUS**2 - _SIGMA**2, zeta @ rho])  # 53, 55, 56
    return np.asarray(beta @ np.cos(np.outer(omega, np.arange(1 - _RADIUS, _RADIUS))))


def _score(norms: Sequence[Floats]) -> float:
    """The score of the norms of all scales, finest first."""
    values = np.stack(norms, axis=1).ravel()  # by channel, scale, norm, map
    total = float(np.dot(values, _WEIGHTS[: values.size])) * 0.9562382616834844
    total = 2.326765642916932 * total - 0.020884521182843837 * total**2 + 6.248496625763138e-05 * total**3
    return 100 - 10 * total**0.6276336467831387 if total > 0 else 100.0


# By channel (X, Y, B - Y), scale and norm (mean, 4-norm), a line each; in a line, the three maps.
_WEIGHTS = np.array(
    [
        0.0, 0.0007376606707406586, 0.0,
        0.0, 0.0007793481682867309, 0.0,
        0.0, 0.0004371155730107379, 0.0,
        1.1041726426657346, 0.00066284834129271, 0.00015231632783718752,
        0.0, 0.0016406437456599754, 0.0,
        1.8422455520539298, 11.441172603757666, 0.0,
        0.0007989109436015163, 0.000176816438078653, 0.0,
        1.8787594979546387, 10.94906990605142, 0.0,
        0.0007289346991508072, 0.9677937080626833, 0.0,
        0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053,
        0.0004550992113792063, 0.0, 0.0,
        0.0013648766163243398, 0.0, 0.0,
        0.0, 0.0, 0.0,
        7.466890328078848, 0.0, 17.445833984131262,
        0.0006235601634041466, 0.0, 0.0,
        6.683678146179332, 0.00037724407979611296, 1.027889937768264,
        225.20515300849274, 0.0, 0.0,
        19.213238186143016, 0.0011401524586618361, 0.001237755635509985,
        176.39317598450694, 0.0, 0.0,
        24.43300999870476, 0.28520802612117757, 0.0004485436923833408,
        0.0, 0.0, 0.0,
        34.77906344483772, 44.835625328877896, 0.0,
        0.0, 0.0, 0.0,
        0.0, 0.0, 0.0,
        0.0, 0.0008680556573291698, 0.0,
        0.0, 0.0, 0.0,
        0.0, 0.0005313191874358747, 0.0,
        0.00016533814161379112, 0.0, 0.0,
        0.0, 0.0, 0.0,
        0.0004179171803251336, 0.0017290828234722833, 0.0,
        0.0020827005846636437, 0.0, 0.0,
        8.826982764996862, 23.19243343998926, 0.0,
        95.1080498811086, 0.9863978034400682, 0.9834382792465353,
        0.0012286405048278493, 171.2667255897307, 0.9807858872435379,
        0.0, 0.0, 0.0,
        0.0005130064588990679, 0.0, 0.00010854057858411537,
    ]
)  # fmt: skip
