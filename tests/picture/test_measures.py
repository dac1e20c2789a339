from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from vqcodec.picture import metrics
from vqcodec.picture.measures import MEASURES, measured
from vqcodec.picture.ssimulacra2 import ssimulacra2

NAMES = ["ssimulacra2", "butteraugli_3norm", "butteraugli_max", "ms_ssim", "psnr_y", "psnr"]
BY_NAME = {measure.name: measure for measure in MEASURES}


def pair(height: int, width: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    first = np.random.default_rng(0).integers(0, 200, (height, width, channels), dtype=np.uint8)
    return first, first + np.random.default_rng(1).integers(0, 20, first.shape, dtype=np.uint8)


def test_the_measures_and_their_order() -> None:
    assert [measure.name for measure in MEASURES] == NAMES
    assert len({measure.title for measure in MEASURES}) == len(MEASURES)
    assert {measure.name for measure in MEASURES if not measure.rising} == {"butteraugli_3norm", "butteraugli_max"}


def test_every_measure_is_computed_from_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no program for Butteraugli
    for channels in (3, 1):
        a, b = pair(180, 190, channels)
        values = measured(a, b)
        assert list(values) == NAMES
        assert values["ssimulacra2"] == ssimulacra2(a, b) < 90
        assert values["ms_ssim"] == metrics.ms_ssim(a, b)
        assert values["psnr_y"] == metrics.psnr(metrics.luma(a), metrics.luma(b))
        assert values["psnr"] == metrics.psnr(a, b)
        assert math.isnan(values["butteraugli_3norm"])
        assert math.isnan(values["butteraugli_max"])


def test_what_is_not_defined_for_small_pictures_is_nan() -> None:
    values = measured(*pair(7, 9))
    assert [name for name, value in values.items() if not math.isnan(value)] == ["psnr_y", "psnr"]


def test_different_shapes_are_an_error() -> None:
    a, b = pair(9, 9)
    with pytest.raises(ValueError, match="different shapes"):
        measured(a, b[:-1])


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [
        ("ssimulacra2", 80, -3),
        ("butteraugli_3norm", 0.5, 2),
        ("butteraugli_max", 1, 9),
        ("ms_ssim", 0.99, 0.9),
        ("psnr_y", 40, 30),
        ("psnr", 40, 30),
    ],
)
def test_higher_is_better_on_the_axis(name: str, better: float, worse: float) -> None:
    measure = BY_NAME[name]
    assert measure.on_axis(better) > measure.on_axis(worse)
    assert math.isnan(measure.on_axis(math.nan))


def test_ms_ssim_is_in_decibels_on_the_axis() -> None:
    assert BY_NAME["ms_ssim"].on_axis(0.99) == pytest.approx(20)
    assert BY_NAME["ms_ssim"].on_axis(1.0) == math.inf
    assert BY_NAME["butteraugli_max"].on_axis(1.25) == -1.25
    assert BY_NAME["ssimulacra2"].on_axis(71.5) == 71.5
