from __future__ import annotations

import pytest

from vqcodec.format import rates


def test_sizes() -> None:
    assert rates.bits_per_pixel(6144, 256, 384) == 0.5
    assert rates.bits_per_dim(6144, 256, 384, 3) == pytest.approx(0.5 / 3)
    assert rates.bits_per_dim(6144, 256, 384, 1) == 0.5
    assert rates.compression_ratio(6144, 256, 384, 3) == 48.0


@pytest.mark.parametrize(
    ("size", "expected"),
    [((128, 128, 3, 4, 9), 128 / 3), ((1, 1, 3, 4, 9), 24 / 9), ((5, 4, 1, 4, 8), 10), ((9, 8, 3, 8, 96), 9)],
)
def test_naive_ratio(size: tuple[int, int, int, int, float], expected: float) -> None:
    assert rates.naive_ratio(*size) == pytest.approx(expected, rel=1e-14)
