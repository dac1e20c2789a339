"""Figures of `bench`, measured on files on disk; their means; and the tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stand_in import FakeCodec, fake_model, png

from vqcodec.bench import documents, report
from vqcodec.bench.html import to_html
from vqcodec.bench.match import Match
from vqcodec.bench.means import mean
from vqcodec.bench.measure import measure
from vqcodec.bench.peers import Encoded, PillowPeer, peer
from vqcodec.bench.results import Anatomy, Codebook, Comparison, Published, Results, Row
from vqcodec.bench.table import two_digits
from vqcodec.errors import VqError
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture


@dataclass
class FakePeer:
    """The fake codec as a contender. `change` modifies a decoded picture."""

    codec: FakeCodec
    change: Callable[[Picture], Picture] = lambda picture: picture

    @property
    def model(self) -> object:
        return self.codec.model

    def compress(self, picture: Picture, quality: float) -> bytes:
        return self.codec.compress(picture, int(quality))

    def compress_to(self, picture: Picture, size: float) -> Encoded:
        return Encoded(self.codec.compress(picture, 1), 1, f"{size:g} bytes wanted")

    def compress_for(self, picture: Picture, match: Match) -> Encoded:
        return Encoded(self.codec.compress(picture, 2), 2, f"{match} wanted")

    def decompress(self, data: bytes) -> Picture:
        return self.change(self.codec.decompress(data))


@pytest.fixture
def fake(tmp_path: Path) -> FakePeer:
    return FakePeer(FakeCodec(fake_model("photo", 3, tmp_path)))


def test_the_figures_are_those_of_the_file(fake: FakePeer, tmp_path: Path) -> None:
    picture = read_picture(png(tmp_path / "a.png", (200, 180)))
    row, result = measure(fake, picture, 2, tmp_path / "kept.vq")
    size = (tmp_path / "kept.vq").stat().st_size
    assert (row.width, row.height, row.channels, row.bytes) == (200, 180, 3, size)
    assert row.bpp == pytest.approx(8 * size / 36_000)
    assert row.bits_per_dim == pytest.approx(8 * size / 108_000)
    assert row.ratio == pytest.approx(108_000 / size)
    assert row.naive_ratio == pytest.approx(42 + 2 / 3)  # 9 bits for 4 x 4 pixels
    assert row.gain == pytest.approx(row.ratio / row.naive_ratio)
    difference = picture.pixels.astype(float) - result.pixels
    assert row.psnr == pytest.approx(10 * math.log10(255**2 / np.square(difference).mean()))
    luma = difference @ [0.299, 0.587, 0.114]
    assert row.psnr_y == pytest.approx(10 * math.log10(255**2 / np.square(luma).mean()))
    assert 0.5 < row.ms_ssim < 1
    assert row.encode_mpixel_s == pytest.approx(0.036 / row.encode_seconds)
    assert row.decode_mpixel_s == pytest.approx(0.036 / row.decode_seconds)
    assert row.encode_cpu_seconds >= 0 <= row.decode_cpu_seconds
    assert row.peak_mib > 20 or math.isnan(row.peak_mib)
    assert (row.quality, row.error, row.note) == (2, None, None)


def test_a_wanted_size_instead_of_a_quality(fake: FakePeer, tmp_path: Path) -> None:
    picture = read_picture(png(tmp_path / "a.png"))
    match = Match("bpp", 8 * 500 / (picture.height * picture.width))
    row, _ = measure(fake, picture, 3, tmp_path / "kept.vq", match)
    assert (row.quality, row.note) == (1, "500 bytes wanted")
    row, _ = measure(fake, picture, 3, tmp_path / "kept.vq", Match("psnr", 20))
    assert (row.quality, row.note) == (2, "PSNR 20 dB wanted")


def test_a_grey_picture_has_one_channel(fake: FakePeer, tmp_path: Path) -> None:
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "grey.png")
    picture = read_picture(tmp_path / "grey.png")
    fake.change = lambda result: replace(result, mode="L")
    row, _ = measure(fake, picture, 1, tmp_path / "kept.vq")
    assert (row.channels, row.ratio) == (1, pytest.approx(256 / row.bytes))
    assert row.naive_ratio == pytest.approx(128 / 9)
    assert row.psnr_y == pytest.approx(row.psnr)
    assert math.isnan(row.ms_ssim)


def test_grey_pictures_decoded_to_colour_are_compared_as_grey(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 100, np.uint8)).save(tmp_path / "grey.png")
    webp = peer("webp")
    assert isinstance(webp, PillowPeer)
    row, result = measure(webp, read_picture(tmp_path / "grey.png"), 80, tmp_path / "kept.webp")
    assert (row.channels, result.mode) == (1, "L")
    assert row.psnr > 40
    assert math.isnan(row.gain)
    assert math.isnan(row.naive_ratio)


@pytest.mark.parametrize("change", ["lost", "other", "new", "mode"])
def test_changes_of_alpha_or_mode_are_errors(fake: FakePeer, tmp_path: Path, change: str) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    alpha = None if change == "new" else np.full((8, 8), 7, np.uint8)
    others = {
        "lost": Picture(pixels, "RGB"),
        "other": Picture(pixels, "RGB", np.full((8, 8), 8, np.uint8)),
        "new": Picture(pixels, "RGB", np.full((8, 8), 8, np.uint8)),
        "mode": Picture(pixels, "L", alpha),
    }
    fake.change = lambda _: others[change]
    with pytest.raises(VqError, match="changed in coding"):
        measure(fake, Picture(pixels, "RGB", alpha), 1, tmp_path / "kept.vq")


def row(image: str, quality: float, **figures: float | str) -> Row:
    common = {"width": 10, "height": 10, "channels": 3, "naive_ratio": 30.0, "gain": 0.1, "psnr_y": 31.0}
    return replace(Row(image, "photo", quality, "00ff"), **(common | figures))


ROWS = [
    row("a", 1, bytes=100, bpp=8.0, bits_per_dim=8 / 3, ratio=3.0, psnr=30.0, ms_ssim=0.9, encode_seconds=1.0,
        decode_seconds=2.0, encode_cpu_seconds=2.0, peak_mib=50.0),
    row("b", 1, width=20, bytes=300, bpp=12.0, bits_per_dim=4.0, ratio=2.0, naive_ratio=60.0, psnr=40.0, ms_ssim=0.7,
        encode_seconds=3.0, decode_seconds=2.0, encode_cpu_seconds=4.0, peak_mib=70.0),
    Row("c", "photo", 1, error="broken"),
    row("a", 2, bytes=200, bpp=16.0, bits_per_dim=5.3, ratio=1.5, psnr=math.inf, ms_ssim=math.nan, encode_seconds=1.0,
        decode_seconds=1.0, note="near"),
]  # fmt: skip
COMPARISON = Comparison("photo", "webp", "psnr", -10.5, 0.5, 29, 31, 0.5, 0.1, 0.2, 0.25, 2)
NO_OVERLAP = replace(COMPARISON, measure="ms_ssim", bd_rate=math.nan, bd_quality=math.nan, reason="nothing in common")
ANATOMY = Anatomy(
    "a", "photo", 1, 100, 1, 600, 30, 8, 0, 9, 553, 0, 4500.0, 28.0, 6750.0, 12800.0, 1.5,
    (Codebook(256, 4000.0, 6000.0, 64.0), Codebook(256, 500.0, 750.0, 1.0)),
)  # fmt: skip
RESULTS = Results(
    rows=tuple(ROWS),
    means=tuple(mean(ROWS)),
    bd=(COMPARISON, NO_OVERLAP),
    published=(Published("VTM", 0.2, 31.0, math.nan, math.nan, math.nan, "somebody"),),
    anatomy=(ANATOMY,),
    environment={"numpy": "2"},
    codecs={"photo": "vqcodec model 00ff"},
    anchor="webp",
)


def test_means() -> None:
    first, second = mean(ROWS)
    assert (first.image, first.codec, first.quality, first.digest) == ("mean of 2", "photo", 1, "00ff")
    assert (first.width, first.height, first.channels) == (0, 10, 3)
    assert (first.bytes, first.bpp, first.psnr, first.ms_ssim) == (200, 10.0, 35.0, pytest.approx(0.8))
    assert first.bits_per_dim == pytest.approx(10 / 3)
    assert first.ratio == pytest.approx(900 / 400)
    assert first.naive_ratio == pytest.approx(900 / 20)
    assert first.gain == pytest.approx(first.ratio / first.naive_ratio)
    assert first.encode_mpixel_s == pytest.approx(3e-4 / 4)
    assert first.decode_mpixel_s == pytest.approx(3e-4 / 4)
    assert (first.encode_cpu_seconds, first.peak_mib) == (3.0, 70.0)
    assert (second.quality, second.psnr) == (2, math.inf)
    assert math.isnan(second.ms_ssim)
    assert mean(ROWS[2:3]) == []
    [matched] = mean(ROWS, matched=True)
    assert (matched.image, matched.quality) == ("mean of 3", pytest.approx(4 / 3))


def test_json_is_json() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(documents.to_json(RESULTS), parse_constant=refuse)
    assert set(found) == {
        "rows", "means", "bd", "published", "anatomy", "environment", "codecs", "anchor", "match", "sizes"
    }  # fmt: skip
    assert found["rows"][0]["bytes"] == 100
    assert (found["rows"][2]["error"], found["rows"][2]["bytes"]) == ("broken", None)
    assert (found["rows"][3]["psnr"], found["rows"][3]["ms_ssim"], found["rows"][3]["note"]) == (None, None, "near")
    assert [row["image"] for row in found["means"]] == ["mean of 2", "mean of 1"]
    assert (found["bd"][1]["bd_rate"], found["bd"][1]["reason"]) == (None, "nothing in common")
    assert found["published"][0]["ms_ssim"] is None
    assert found["anatomy"][0]["codebooks"][1]["perplexity"] == 1.0


def test_csv() -> None:
    lines = list(csv.DictReader(io.StringIO(documents.to_csv(RESULTS))))
    assert [line["image"] for line in lines] == ["a", "b", "c", "a", "mean of 2", "mean of 1"]
    assert lines[0]["bpp"] == "8.0"
    assert (lines[2]["error"], lines[2]["bpp"]) == ("broken", "")


def printed(results: Results) -> str:
    stream = io.StringIO()
    report.print_results(results, stream)
    return stream.getvalue()


def test_the_tables() -> None:
    text = printed(RESULTS)
    for cell in (
        "200",
        "10.000",
        "3.3333",
        "2.2",
        "35.00",
        "0.8000",
        "-10.5 %",
        "+0.50",
        "29.0 to 31.0 (50%)",
        "nothing in common",
    ):
        assert cell in text
    assert "somebody" in text
    assert "not measured here" in text
    assert "88.9%" in text  # the first codebook's share of the bits
    assert "Picture by picture" not in text


def test_the_table_picture_by_picture() -> None:
    single = replace(COMPARISON, picture_rate=-7.25, fewer=2, compared=3)
    assert "picture by picture" not in printed(replace(RESULTS, bd=(replace(single, fewer=1, compared=1),)))
    [line] = [
        line
        for line in printed(replace(RESULTS, bd=(single, NO_OVERLAP))).split("picture by picture")[1].splitlines()
        if line.split()[:1] == ["photo"]
    ][:1]
    assert line.split() == ["photo", "-", "-7.2", "%,", "2", "of", "3"]  # by MS-SSIM and by PSNR
    assert "2 of 3" in to_html(replace(RESULTS, bd=(single,)))


def test_no_cell_of_a_table_is_cut() -> None:
    name = "[bold]a rather long name of a picture.png"
    rows = (replace(ROWS[0], image=name), ROWS[2])
    text = printed(replace(RESULTS, rows=rows, match=Match("bpp", 8.0), anchor="photo", bd=()))
    line = next(line for line in text.splitlines() if name in line)
    for cell in ("photo", "8.000", "30.00", "0.9000"):
        assert cell in line
    assert any(line.split() == ["c", "photo", "failed"] for line in text.splitlines())


def test_no_table_is_cut_in_a_terminal_without_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Terminals of type "dumb", and pipes that the environment makes pass for them, as in many CI systems."""
    for name, value in {"TERM": "dumb", "FORCE_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    report.print_table(["heading"] * 9, [["a cell of 22 characters"] * 9], 1, stream)
    assert stream.getvalue().count("a cell of 22 characters") == 9


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"), (12.345, "12.35"), (0.5, "0.50"), (0.1, "0.10"), (0.0432, "0.043"), (0.004, "0.0040"),
        (0.000051, "0.000051"), (1e-9, "0.000000"), (math.inf, "inf"), (math.nan, "nan"),
    ],
)  # fmt: skip
def test_small_figures_have_digits(value: float, text: str) -> None:
    assert two_digits(value) == text


def test_slow_codecs_have_a_speed() -> None:
    slow = replace(ROWS[0], encode_mpixel_s=0.0043, encode_cpu_seconds=0.0027)
    results = replace(RESULTS, means=(slow,))
    for text in (printed(results), to_html(results)):
        assert "0.0043" in text
        assert "0.0027" in text


def test_matched_results_count_wins() -> None:
    better = [replace(r, codec="other", psnr=r.psnr + 1) for r in ROWS[:2]]
    results = replace(
        RESULTS,
        rows=(*ROWS[:2], *better),
        match=Match("bpp", 8.0),
        anchor="photo",
        codecs={"photo": "", "other": ""},
        bd=(),
    )
    line = next(line for line in printed(results).splitlines() if "2 of 2" in line)
    # By MS-SSIM, by luma PSNR, which are the same, and by PSNR.
    assert line.split() == ["other", *["0", "of", "2", "+0.00"] * 2, "2", "of", "2", "+1.00"]
