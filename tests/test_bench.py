"""Figures of `bench`: taken from the bytes on disk, with means that are what they claim to be."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stand_in import FakeCodec, fake_model, png

from vqcodec.bench import report, runner
from vqcodec.bench.runner import Row
from vqcodec.errors import VqError
from vqcodec.image import Picture, read_picture


@pytest.fixture
def codec(tmp_path: Path) -> FakeCodec:
    return FakeCodec(fake_model("photo", 3, tmp_path))


def test_the_figures_are_those_of_the_file(codec: FakeCodec, tmp_path: Path) -> None:
    picture = read_picture(png(tmp_path / "a.png", (200, 180)))
    row, result = runner.measure(codec, picture, 2, tmp_path / "kept.vq")
    size = (tmp_path / "kept.vq").stat().st_size
    assert (row.width, row.height, row.channels, row.bytes) == (200, 180, 3, size)
    assert row.bpp == pytest.approx(8 * size / 36_000)
    assert row.bits_per_dim == pytest.approx(8 * size / 108_000)
    assert row.ratio == pytest.approx(108_000 / size)
    assert row.naive_ratio == pytest.approx(42 + 2 / 3)  # 9 bits for 4 x 4 pixels
    assert row.gain == pytest.approx(row.ratio / row.naive_ratio)
    error = np.square(picture.pixels.astype(float) - result.pixels).mean()
    assert row.psnr == pytest.approx(10 * math.log10(255**2 / error))
    assert 0.5 < row.ms_ssim < 1
    assert row.encode_mpixel_s == pytest.approx(0.036 / row.encode_seconds)
    assert row.decode_mpixel_s == pytest.approx(0.036 / row.decode_seconds)
    assert row.error is None


def test_a_grey_picture_has_one_channel(codec: FakeCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "grey.png")
    picture = read_picture(tmp_path / "grey.png")
    decompress = FakeCodec.decompress
    monkeypatch.setattr(FakeCodec, "decompress", lambda self, data: replace(decompress(self, data), mode="L"))
    row, _ = runner.measure(codec, picture, 1, tmp_path / "kept.vq")
    assert (row.channels, row.ratio) == (1, pytest.approx(256 / row.bytes))
    assert row.naive_ratio == pytest.approx(128 / 9)
    assert math.isnan(row.ms_ssim)


@pytest.mark.parametrize("change", ["lost", "other", "new", "mode"])
def test_what_must_come_back_exactly(
    codec: FakeCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    alpha = None if change == "new" else np.full((8, 8), 7, np.uint8)
    others = {
        "lost": Picture(pixels, "RGB"),
        "other": Picture(pixels, "RGB", np.full((8, 8), 8, np.uint8)),
        "new": Picture(pixels, "RGB", np.full((8, 8), 8, np.uint8)),
        "mode": Picture(pixels, "L", alpha),
    }
    monkeypatch.setattr(codec, "decompress", lambda data: others[change])
    with pytest.raises(VqError, match="changed in coding"):
        runner.measure(codec, Picture(pixels, "RGB", alpha), 1, tmp_path / "kept.vq")


def test_a_broken_picture_is_a_row(codec: FakeCodec, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"garbage")
    paths = [tmp_path / "a.png", png(tmp_path / "b.png")]
    told: list[float] = []
    rows = runner.run(codec, paths, [1, 3], told.append)
    assert [(row.image, row.quality) for row in rows] == [
        ("a.png", 1),
        ("a.png", 3),
        ("b.png", 1),
        ("b.png", 3),
    ]
    assert [row.error is None for row in rows] == [False, False, True, True]
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert [row.image for row in runner.mean(rows)] == ["mean of 1", "mean of 1"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_the_first_pass_is_not_counted(codec: FakeCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []
    compress = codec.compress

    def spy(picture: Picture, quality: int | None = None) -> bytes:
        asked.append(quality)
        return compress(picture, quality)

    monkeypatch.setattr(codec, "compress", spy)
    runner.run(codec, [png(tmp_path / "a.png"), png(tmp_path / "b.png")], [2, 1])
    assert asked == [2, 2, 1, 2, 1]


ROWS = [
    Row("a", "photo", 1, 10, 10, 3, 100, 8.0, 8 / 3, 3.0, 30.0, 0.1, 30.0, 0.9, 1.0, 2.0, 1e-4, 5e-5),
    Row("b", "photo", 1, 20, 10, 3, 300, 12.0, 4.0, 2.0, 60.0, 1 / 30, 40.0, 0.7, 3.0, 2.0, 2e-4 / 3, 1e-4),
    Row("c", "photo", 1, error="broken"),
    Row("a", "photo", 2, 10, 10, 3, 200, 16.0, 5.3, 1.5, 30.0, 0.05, math.inf, math.nan, 1.0, 1.0, 1e-4, 1.0),
]  # fmt: skip


def test_means() -> None:
    first, second = runner.mean(ROWS)
    assert (first.image, first.model, first.quality) == ("mean of 2", "photo", 1)
    assert (first.width, first.height, first.channels) == (0, 10, 3)
    assert (first.bytes, first.bpp, first.psnr, first.ms_ssim) == (200, 10.0, 35.0, pytest.approx(0.8))
    assert first.bits_per_dim == pytest.approx(10 / 3)
    assert first.ratio == pytest.approx(900 / 400)
    assert first.naive_ratio == pytest.approx(900 / 20)
    assert first.gain == pytest.approx(first.ratio / first.naive_ratio)
    assert first.encode_mpixel_s == pytest.approx(3e-4 / 4)
    assert first.decode_mpixel_s == pytest.approx(3e-4 / 4)
    assert (second.quality, second.psnr) == (2, math.inf)
    assert math.isnan(second.ms_ssim)
    assert runner.mean(ROWS[2:3]) == []


def test_json_is_json() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads(report.to_json(ROWS, runner.mean(ROWS)), parse_constant=refuse)
    assert found["rows"][0]["bytes"] == 100
    assert (found["rows"][2]["error"], found["rows"][2]["bytes"]) == ("broken", None)
    assert (found["rows"][3]["psnr"], found["rows"][3]["ms_ssim"]) == (None, None)
    assert [row["image"] for row in found["means"]] == ["mean of 2", "mean of 1"]


def test_csv() -> None:
    lines = list(csv.DictReader(io.StringIO(report.to_csv(ROWS, runner.mean(ROWS)))))
    assert [line["image"] for line in lines] == ["a", "b", "c", "a", "mean of 2", "mean of 1"]
    assert lines[0]["bpp"] == "8.0"
    assert (lines[2]["error"], lines[2]["bpp"]) == ("broken", "")


def test_no_cell_of_a_table_is_cut() -> None:
    stream = io.StringIO()
    name = "[bold]a rather long name of a picture.png"
    report.print_rows([replace(ROWS[0], image=name), ROWS[2]], runner.mean(ROWS), stream)
    lines = stream.getvalue().splitlines()
    row = next(line for line in lines if name in line)
    for cell in ("100", "8.000", "2.6667", "3.0", "30.00", "0.9000"):
        assert cell in row
    assert any("mean of 2" in line for line in lines)
    assert any(line.split() == ["c", "photo", "1", "failed"] for line in lines)
