from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from vqcodec.picture import metrics

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def smooth_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture [H, W, 3] with gradients, edges and a little noise."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 60 * np.sin(x / 17 + c) + 40 * np.cos(y / 11) + 25 * (x // 20 % 2) for c in range(3)]
    noise = np.random.default_rng(seed).normal(0, 4, (height, width, 3))
    return np.clip(np.stack(planes, axis=-1) + noise, 0, 255).astype(np.uint8)


def noisy(picture: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(7).normal(0, sigma, picture.shape)
    return np.clip(np.round(picture + noise), 0, 255).astype(np.uint8)


def plain_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """The published formula, implemented literally on [H, W]: a 2-D window, and the product of the five terms."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = a.astype(float), b.astype(float)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    terms = []
    for scale in range(5):
        views_x = np.lib.stride_tricks.sliding_window_view(x, (11, 11))
        views_y = np.lib.stride_tricks.sliding_window_view(y, (11, 11))
        mean_x = np.einsum("ijkl,kl->ij", views_x, window)
        mean_y = np.einsum("ijkl,kl->ij", views_y, window)
        centred_x, centred_y = views_x - mean_x[..., None, None], views_y - mean_y[..., None, None]
        var_x = np.einsum("ijkl,ijkl,kl->ij", centred_x, centred_x, window)
        var_y = np.einsum("ijkl,ijkl,kl->ij", centred_y, centred_y, window)
        covariance = np.einsum("ijkl,ijkl,kl->ij", centred_x, centred_y, window)
        structure = (2 * covariance + c2) / (var_x + var_y + c2)
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        terms.append(float(np.mean(structure * luminance if scale == 4 else structure)))
        height, width = x.shape[0] // 2, x.shape[1] // 2
        x, y = (z[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3)) for z in (x, y))
    return math.prod(term**weight for term, weight in zip(terms, WEIGHTS, strict=True))


@pytest.mark.parametrize(
    ("offset", "expected"), [(1, 48.1308036086791), (5, 34.1514035219587), (255, 0.0), (51, 13.9794000867204)]
)
def test_psnr_of_a_constant_offset(offset: int, expected: float) -> None:
    black = np.zeros((5, 7, 3), dtype=np.uint8)
    assert metrics.psnr(black, black + np.uint8(offset)) == pytest.approx(expected, abs=1e-12)


def test_psnr_does_not_wrap_around_and_is_symmetric() -> None:
    a, b = np.array([[[0, 255, 3]]], dtype=np.uint8), np.array([[[255, 0, 3]]], dtype=np.uint8)
    assert metrics.psnr(a, b) == metrics.psnr(b, a) == pytest.approx(10 * math.log10(1.5))


def test_psnr_takes_floats_on_the_same_scale() -> None:
    a = np.full((4, 4, 3), 100, dtype=np.uint8)
    assert metrics.psnr(a, a + 0.5) == pytest.approx(20 * math.log10(510))


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert metrics.psnr(smooth_picture(9, 8), smooth_picture(9, 8)) == math.inf


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ms_ssim])
def test_different_shapes_are_an_error(measure) -> None:
    with pytest.raises(ValueError, match=r"different shapes: \[200, 200, 3\] and \[200, 200\]"):
        measure(np.zeros((200, 200, 3)), np.zeros((200, 200)))
    with pytest.raises(ValueError, match="without samples"):
        measure(np.zeros((0, 4, 3)), np.zeros((0, 4, 3)))


def test_ms_ssim_needs_two_or_three_axes() -> None:
    with pytest.raises(ValueError, match=r"not \[300\]"):
        metrics.ms_ssim(np.zeros(300), np.zeros(300))


def test_ms_ssim_of_equal_pictures_is_one() -> None:
    picture = smooth_picture(176, 181)
    assert metrics.ms_ssim(picture, picture) == pytest.approx(1.0, abs=1e-12)
    flat = np.full((180, 180), 255, dtype=np.uint8)
    assert metrics.ms_ssim(flat, flat) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("sigma", [2, 20, 80])
@pytest.mark.parametrize("shape", [(176, 176), (179, 193), (211, 178)])
def test_ms_ssim_equals_the_plain_formula(shape: tuple[int, int], sigma: float) -> None:
    a = smooth_picture(*shape)[:, :, 0]
    b = noisy(a, sigma)
    expected = plain_ms_ssim(a, b)
    assert 0 < expected < 1
    assert metrics.ms_ssim(a, b) == pytest.approx(expected, abs=1e-10)
    assert metrics.ms_ssim(b, a) == pytest.approx(expected, abs=1e-10)
    assert metrics.ms_ssim(a.astype(np.float32), b[:, :, None][:, :, 0]) == pytest.approx(expected, abs=1e-10)


def test_ms_ssim_is_the_mean_over_the_channels() -> None:
    a = smooth_picture(180, 190)
    b = a.copy()
    b[:, :, 1] = noisy(a[:, :, 1], 30)
    b[:, :, 2] = 255 - a[:, :, 2]
    by_channel = [metrics.ms_ssim(a[:, :, c], b[:, :, c]) for c in range(3)]
    assert by_channel[0] == pytest.approx(1, abs=1e-12)
    assert metrics.ms_ssim(a, b) == pytest.approx(sum(by_channel) / 3, abs=1e-12)


def test_ms_ssim_falls_with_noise_and_stays_a_number_for_a_negative() -> None:
    a = smooth_picture(200, 200)
    values = [metrics.ms_ssim(a, noisy(a, sigma)) for sigma in (0, 3, 10, 30, 90)]
    assert all(better > worse for better, worse in pairwise(values))
    assert metrics.ms_ssim(a, 255 - a) == 0.0


@pytest.mark.parametrize(("shape", "defined"), [((176, 176), True), ((175, 400, 3), False), ((1, 1), False)])
def test_ms_ssim_needs_176_pixels_each_way(shape: tuple[int, ...], defined: bool) -> None:
    picture = np.zeros(shape, dtype=np.uint8)
    assert math.isnan(metrics.ms_ssim(picture, picture)) is not defined
