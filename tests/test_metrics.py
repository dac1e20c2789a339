from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec import metrics

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
RATES = [0.1, 0.21, 0.38, 0.67]
QUALITIES = [25.7, 28.1, 30.2, 33.0]


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
    """The published formula word for word on [H, W]: a 2-D window, products of the five terms."""
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


def test_sizes() -> None:
    assert metrics.bits_per_pixel(6144, 256, 384) == 0.5
    assert metrics.bits_per_dim(6144, 256, 384, 3) == pytest.approx(0.5 / 3)
    assert metrics.bits_per_dim(6144, 256, 384, 1) == 0.5
    assert metrics.compression_ratio(6144, 256, 384, 3) == 48.0


@pytest.mark.parametrize(
    ("size", "expected"),
    [((128, 128, 3, 4, 9), 128 / 3), ((1, 1, 3, 4, 9), 24 / 9), ((5, 4, 1, 4, 8), 10), ((9, 8, 3, 8, 96), 9)],
)
def test_naive_ratio(size: tuple[int, int, int, int, float], expected: float) -> None:
    assert metrics.naive_ratio(*size) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.25])
def test_bd_rate_of_a_scaled_curve_is_the_factor(factor: float) -> None:
    scaled = [factor * rate for rate in RATES]
    percent = metrics.bd_rate(RATES, QUALITIES, scaled, QUALITIES)
    assert percent == pytest.approx(100 * (factor - 1), abs=1e-10)


def test_bd_rate_over_straight_lines_is_the_mean_of_the_logarithms() -> None:
    # Log rates: x on curve a, 1.5 x - 1 on curve b. From 2 to 4 they differ by 0.5 on average.
    a = ([math.exp(x) for x in (0.0, 2.0, 3.0, 4.0)], [0, 2, 3, 4])
    b = ([math.exp(1.5 * x - 1) for x in (2.0, 3.5, 6.0)], [2, 3.5, 6])
    assert metrics.bd_rate(*a, *b) == pytest.approx(100 * (math.exp(0.5) - 1), abs=1e-9)


def test_bd_rate_by_hand_on_a_curved_piece() -> None:
    # Points (0, 0), (1, 1), (2, 4): secants 1 and 3, so Fritsch & Butland give the slopes 0, 1.5 and 4.
    # The pieces integrate to 1/2 + (0 - 1.5)/12 = 3/8 and 5/2 + (1.5 - 4)/12 = 55/24: 8/3, or 4/3 on average.
    curve = [math.exp(y) for y in (0, 1, 4)]
    percent = metrics.bd_rate([1, 1], [0, 2], curve, [0, 1, 2])
    assert percent == pytest.approx(100 * (math.exp(4 / 3) - 1), abs=1e-9)


def test_bd_rate_follows_a_dense_sampling_of_a_smooth_curve() -> None:
    quality = np.linspace(20, 40, 41)
    log_a, log_b = (quality / 10) ** 2, (quality / 10) ** 2 + 0.1 * np.sin(quality / 4) - 0.2
    fine = np.linspace(20, 40, 200001)
    expected = 100 * math.expm1(float(np.mean(0.1 * np.sin(fine / 4) - 0.2)))
    percent = metrics.bd_rate(np.exp(log_a), quality, np.exp(log_b), quality)
    assert percent == pytest.approx(expected, abs=1e-2)


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(4)), st.floats(0.2, 5))
def test_bd_rate_takes_points_in_any_order_and_turns_round(order: list[int], factor: float) -> None:
    other = [factor * rate**1.1 for rate in RATES]
    there = metrics.bd_rate(RATES, QUALITIES, other, QUALITIES)
    shuffled = ([RATES[i] for i in order], [QUALITIES[i] for i in order])
    assert metrics.bd_rate(*shuffled, other, QUALITIES) == pytest.approx(there, abs=1e-9)
    back = metrics.bd_rate(other, QUALITIES, *shuffled)
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1, abs=1e-9)


def test_bd_rate_accepts_curves_that_bend_back() -> None:
    assert math.isfinite(metrics.bd_rate([1, 3, 2, 2.5], [1, 2, 3, 4], [2, 1, 4, 1], [0, 1.5, 2.5, 3.5]))


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
    assert math.isnan(metrics.bd_rate(RATES, QUALITIES, rates, qualities))
    assert math.isnan(metrics.bd_rate(rates, qualities, RATES, QUALITIES))


def test_bd_rate_refuses_malformed_curves() -> None:
    with pytest.raises(ValueError, match="3 rates for 4 qualities"):
        metrics.bd_rate(RATES[:3], QUALITIES, RATES, QUALITIES)
    for rate in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="rates must be positive"):
            metrics.bd_rate(RATES, QUALITIES, [rate, *RATES[1:]], QUALITIES)
