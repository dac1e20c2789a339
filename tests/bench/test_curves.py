"""Curves against an anchor, published curves, and the measures against manual results and other packages."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic

from vqcodec.bench import bd_rate
from vqcodec.bench.curves import common, compare, wins
from vqcodec.bench.published import read_published
from vqcodec.bench.results import Comparison, Published, Row
from vqcodec.errors import UsageError
from vqcodec.picture import metrics
from vqcodec.picture.measures import MEASURES

RATES = (0.1, 0.2, 0.4, 0.8)
QUALITIES = (26.0, 29.0, 32.0, 35.0)


def rows(codec: str, factor: float = 1.0, shift: float = 0.0, image: str = "a") -> list[Row]:
    """A curve of three dB for each doubling of the rate."""
    return [
        row(image, codec, q, factor * bpp, psnr + shift)
        for q, (bpp, psnr) in enumerate(zip(RATES, QUALITIES, strict=True))
    ]


def row(image: str, codec: str, quality: float, bpp: float, psnr: float) -> Row:
    """A row of which all measures follow from the PSNR, so that all curves have the same shape.

    SSIMULACRA2 is twice the PSNR, MS-SSIM half of it in dB, Butteraugli falls by 0.1 and 0.2 with each dB.
    """
    size = {"width": 1, "height": 1, "channels": 1, "bytes": bpp / 8, "bpp": bpp, "naive_ratio": math.nan}
    fidelity = {"psnr": psnr, "psnr_y": psnr, "ms_ssim": 1 - 10 ** (-psnr / 20), "ssimulacra2": 2 * psnr}
    fidelity |= {"butteraugli_3norm": 10 - 0.1 * psnr, "butteraugli_max": 20 - 0.2 * psnr}
    return Row(image, codec, quality, **size, **fidelity, encode_seconds=1, decode_seconds=1)  # type: ignore[arg-type]


def by_psnr(found: list[Comparison]) -> list[Comparison]:
    return [comparison for comparison in found if comparison.measure == "psnr"]


def test_half_the_rate_is_a_bd_rate_of_minus_50_percent() -> None:
    found = compare(rows("webp") + rows("photo", 0.5), [], "webp")
    assert [(c.codec, c.anchor, c.measure) for c in found] == [("photo", "webp", measure.name) for measure in MEASURES]
    by_name = {comparison.measure: comparison for comparison in found}
    for comparison in found:
        assert comparison.bd_rate == pytest.approx(-50)
        assert (comparison.pictures, comparison.published, comparison.reason) == (1, False, None)
    psnr = by_name["psnr"]
    assert psnr.bd_quality == pytest.approx(3)
    assert (psnr.low, psnr.high, psnr.share) == (26, 35, 1)
    assert (psnr.low_bpp, psnr.high_bpp) == (0.1, 0.4)
    assert psnr.rate_share == pytest.approx(0.3 / 0.35)
    assert by_name["ssimulacra2"].bd_quality == pytest.approx(6)
    assert by_name["ms_ssim"].bd_quality == pytest.approx(1.5)  # dB of 1 - MS-SSIM, which is half of the made-up PSNR
    butteraugli = by_name["butteraugli_3norm"]
    assert butteraugli.bd_quality == pytest.approx(0.3)  # higher is better on the axis
    assert (butteraugli.low, butteraugli.high) == (pytest.approx(-7.4), pytest.approx(-6.5))


def test_part_of_an_overlap_is_stated() -> None:
    [found] = by_psnr(compare(rows("webp") + rows("photo", 1, 6), [], "webp"))
    assert (found.low, found.high, found.share) == (32, 35, pytest.approx(1 / 3))
    assert found.bd_rate == pytest.approx(-75)
    assert found.bd_quality == pytest.approx(6)


def test_no_figure_without_an_overlap() -> None:
    [found] = by_psnr(compare(rows("webp") + rows("photo", 1, 10), [], "webp"))
    assert math.isnan(found.bd_rate)
    assert math.isnan(found.low)
    assert found.bd_quality == pytest.approx(10)
    assert found.reason == "the curves have no quality in common"
    [found] = by_psnr(compare(rows("webp") + rows("photo", 100, 10), [], "webp"))
    assert math.isnan(found.bd_quality)
    assert found.reason == "the curves have no quality and no rate in common"


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (rows("photo")[:1], "its curve has 1 point"),
        ([row("a", "photo", 1, 0.1, math.inf)], "its curve has no points"),
        ([*rows("photo"), row("a", "photo", 9, 0.9, 26.0)], "its curve has a repeated value"),
    ],
)
def test_the_reason_for_an_invalid_curve(curve: list[Row], reason: str) -> None:
    [found] = by_psnr(compare(rows("webp") + curve, [], "webp"))
    assert (math.isnan(found.bd_rate), found.reason) == (True, reason)
    assert by_psnr(compare(rows("webp") + curve, [], "photo"))[0].reason == reason.replace("its", "the anchor's")


def test_only_pictures_that_all_codecs_have() -> None:
    broken = [*rows("webp", image="b"), *rows("photo", 0.1, image="b")[:-1], Row("b", "photo", 3, error="broken")]
    measured = rows("webp") + rows("photo", 0.5) + broken
    assert {row.image for row in common(measured)} == {"a"}
    [found] = by_psnr(compare(measured, [], "webp"))
    assert (found.bd_rate, found.pictures) == (pytest.approx(-50), 1)


def test_the_mean_of_the_pictures_bd_rates_weights_pictures_equally() -> None:
    """The curve of the means, by contrast, is dominated by the picture that needs many bits."""
    hard = [row("b", r.codec, r.quality, 9 * r.bpp, r.psnr) for r in rows("webp") + rows("photo", 0.5)]
    [found] = by_psnr(compare(rows("webp") + rows("photo", 2) + hard, [], "webp"))
    assert found.bd_rate == pytest.approx(100 * ((2 + 0.5 * 9) / 10 - 1))
    assert (found.picture_rate, found.fewer, found.compared) == (pytest.approx((100 - 50) / 2), 1, 2)
    far = rows("webp", image="c") + rows("photo", 1, 20, "c")  # nothing in common
    [found] = by_psnr(compare(rows("webp") + rows("photo", 2) + hard + far, [], "webp"))
    assert (found.picture_rate, found.fewer, found.compared, found.pictures) == (pytest.approx(25), 1, 2, 3)
    [found] = by_psnr(compare(rows("webp") + rows("photo", 1, 20), [], "webp"))
    assert math.isnan(found.picture_rate)
    assert (found.fewer, found.compared) == (0, 0)


def test_published_curves_take_part_and_are_marked() -> None:
    points = [
        Published("VTM", bpp, psnr, math.nan, math.nan, math.nan, "s")
        for bpp, psnr in zip(RATES, QUALITIES, strict=True)
    ]
    found = compare(rows("webp"), points, "webp")
    assert [(c.codec, c.measure, c.published, c.compared) for c in found] == [("VTM", "psnr", True, 0)]
    assert found[0].bd_rate == pytest.approx(0, abs=1e-9)
    [found_back] = by_psnr(compare(rows("webp", 2), points, "VTM"))
    assert (found_back.codec, found_back.bd_rate) == ("webp", pytest.approx(100))


def test_wins() -> None:
    two = rows("webp")[:1] + rows("webp", image="b")[:1] + rows("photo", 1, 1)[:1] + rows("photo", 1, -3, "b")[:1]

    def by_psnr(row: Row) -> float:
        return row.psnr

    assert wins(two, "photo", "webp", by_psnr) == (1, 2, pytest.approx(-1))
    assert wins(two, "photo", "webp", by_psnr).difference == -wins(two, "webp", "photo", by_psnr).difference
    assert math.isnan(wins(two, "photo", "nobody", by_psnr).difference)
    equal = [replace(each, psnr=math.inf) for each in two]
    assert wins(equal, "photo", "webp", by_psnr) == (0, 2, 0.0)
    assert wins([replace(each, psnr=math.nan) for each in two], "photo", "webp", by_psnr).pictures == 0


# Published curves


def test_published_points(tmp_path: Path) -> None:
    file = tmp_path / "curves.csv"
    file.write_text("codec,bpp,psnr,msssim,enc_s,dec_s,source\nVTM,0.1,30.5,,2,0.1,a paper\nVTM,0.2,,0.95,,,\n")
    first, second = read_published(file)
    assert (first.codec, first.bpp, first.psnr, first.encode_seconds, first.source) == ("VTM", 0.1, 30.5, 2, "a paper")
    assert math.isnan(first.ms_ssim)
    assert (second.ms_ssim, second.source) == (0.95, "")
    assert math.isnan(second.psnr)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("codec,psnr\nVTM,30\n", "no column 'bpp'"),
        ("", "no column 'bpp'"),
        ("codec,bpp\nVTM,many\n", "line 2: 'many' is not a number"),
        ("codec,bpp\nVTM,0.1\nVTM,\n", "line 3: bpp must be greater than 0"),
        ("codec,bpp\n,0.1\n", "line 2: the name of the codec is missing"),
        ("codec,bpp\nVTM\n", "line 2: bpp must be greater than 0"),
        ("codec,bpp,msssim\nVTM,0.1,14.2\n", "line 2: the MS-SSIM must be at most 1, not 14.2"),
        ("codec,bpp\n\xff\xfe", "not a CSV file in UTF-8"),
    ],
)
def test_invalid_published_curves_are_rejected(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "curves.csv"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=reason):
        read_published(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_published(tmp_path / "missing.csv")


# Measures


def test_bd_quality_by_hand() -> None:
    # Over log2 of the rate, lines of 3 dB a step; half the rate for the same quality is 3 dB for the same rate.
    assert bd_rate.bd_quality(RATES, QUALITIES, [r / 2 for r in RATES], QUALITIES) == pytest.approx(3)
    assert bd_rate.bd_quality(RATES, QUALITIES, RATES, [q + 0.7 for q in QUALITIES]) == pytest.approx(0.7)
    order = [2, 0, 3, 1]
    assert bd_rate.bd_quality(
        [RATES[i] for i in order], [QUALITIES[i] for i in order], RATES, QUALITIES
    ) == pytest.approx(0, abs=1e-12)


def test_bd_quality_is_nan_where_it_is_not_defined() -> None:
    assert math.isnan(bd_rate.bd_quality(RATES, QUALITIES, [1.0, 2.0], [30, 31]))
    assert math.isnan(bd_rate.bd_quality(RATES, QUALITIES, [0.1, 0.1], [30, 31]))
    with pytest.raises(ValueError, match="rates must be positive"):
        bd_rate.bd_quality(RATES, QUALITIES, [0.0, 1.0], [30, 31])


def test_overlap() -> None:
    assert bd_rate.overlap([3, 1, 2], [2, 5]) == (2, 3)
    low, high = bd_rate.overlap([1, 2], [3, 4])
    assert low >= high


def test_luma_is_that_of_bt_601() -> None:
    samples = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    assert metrics.luma(samples) == pytest.approx(np.array([[76.245, 149.685], [29.07, 255.0]]))
    assert metrics.luma(samples[:, :, :1]).tolist() == [[255, 0], [0, 255]]
    with pytest.raises(ValueError, match=r"not \[2, 2\]"):
        metrics.luma(samples[:, :, 0])


@pytest.mark.parametrize("shape", [(192, 256), (176, 208), (320, 240)])
@pytest.mark.parametrize("noise", [2, 12, 60])
def test_ms_ssim_is_that_of_pytorch_msssim(shape: tuple[int, int], noise: int) -> None:
    theirs = pytest.importorskip("pytorch_msssim")
    import torch

    before = synthetic(*shape)
    rng = np.random.default_rng(noise)
    after = (before + rng.normal(0, noise, before.shape)).clip(0, 255).round().astype(np.uint8)
    x, y = (torch.from_numpy(p).permute(2, 0, 1)[None].double() for p in (before, after))
    expected = theirs.ms_ssim(x, y, data_range=255, size_average=True).item()
    assert metrics.ms_ssim(before, after) == pytest.approx(expected, abs=2e-5)
