"""`bench --lossless`: every sample is checked, sizes are compared with PNG's, and a codec that errs is an error row."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import Result, vqcodec_in_process
from conftest import synthetic
from PIL import Image

from vqcodec.bench.lineup import line_up_lossless
from vqcodec.bench.lossless_peers import LOSSLESS_PEERS, LosslessPeer, lossless_peer
from vqcodec.bench.measure import measure
from vqcodec.bench.results import Row
from vqcodec.bench.sizes import compare_sizes
from vqcodec.errors import UsageError, VqError
from vqcodec.model.store import Model
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import from_image

SAMPLES = synthetic(40, 50)
ALPHA = np.arange(2000, dtype=np.uint8).reshape(40, 50)
PICTURES = {
    "rgb": Image.fromarray(SAMPLES),
    "grey": Image.fromarray(SAMPLES[:, :, 0].copy()),
    "alpha": Image.fromarray(np.dstack([SAMPLES, ALPHA * (ALPHA > 99)])),
    "grey-alpha": Image.fromarray(np.dstack([SAMPLES[:, :, 0], ALPHA])),
    "opaque": Image.fromarray(np.dstack([SAMPLES, np.full_like(ALPHA, 255)])),
    "few-colours": Image.fromarray(SAMPLES // 128 * 255),
    "pixel": Image.fromarray(SAMPLES[:1, :1].copy()),
}
Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Callable[..., Path], patch_model: Model) -> None:
    """One bundled model, an empty cache, and a folder `set` with two pictures."""
    bundle(photo=patch_model)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("rgb", "alpha"):
        PICTURES[name].save(f"set/{name}.png")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda *args: vqcodec_in_process(monkeypatch, "bench", "--lossless", "--jobs", "0", *args)


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("entry", LOSSLESS_PEERS, ids=lambda entry: entry.name)
def test_every_sample_comes_back(entry: LosslessPeer, kind: str, tmp_path: Path) -> None:
    reason = entry.missing()
    if reason is not None:
        pytest.skip(reason)
    picture = from_image(PICTURES[kind])
    row, result = measure(entry, picture, 0, tmp_path / "file", lossless=True)
    assert np.array_equal(result.pixels, picture.pixels)
    assert row.bytes == (tmp_path / "file").stat().st_size
    assert row.psnr == float("inf")
    assert row.bits_per_dim == 8 * row.bytes / (picture.height * picture.width * picture.channels)


def test_a_palette_makes_a_smaller_png_of_few_colours() -> None:
    png = lossless_peer("png")
    assert png is not None
    data = png.compress(from_image(PICTURES["few-colours"]), 0)
    assert len(data) < 2000
    assert np.array_equal(png.decompress(data).pixels, SAMPLES // 128 * 255)


class Careless(LosslessPeer):
    """A codec that changes one sample."""

    def decompress(self, data: bytes) -> Picture:
        found = super().decompress(data)
        changed = found.pixels.copy()
        changed[3, 4, 1] ^= 1
        return replace(found, pixels=changed)


class Forgetful(LosslessPeer):
    """A codec that drops alpha."""

    def decompress(self, data: bytes) -> Picture:
        return replace(super().decompress(data), alpha=None)


def faulty(kind: type[LosslessPeer], name: str = "png") -> LosslessPeer:
    png = lossless_peer("png")
    assert png is not None
    return kind(name=name, family="png", format="PNG", settings="", options=png.options)


def test_a_changed_sample_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VqError, match="1 samples changed"):
        measure(faulty(Careless), from_image(PICTURES["rgb"]), 0, tmp_path / "file", lossless=True)
    with pytest.raises(VqError, match="alpha"):
        measure(faulty(Forgetful), from_image(PICTURES["alpha"]), 0, tmp_path / "file", lossless=True)


def test_a_codec_that_errs_is_an_error_row(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"png": lossless_peer("png"), "webp-lossless": faulty(Careless, "webp-lossless")}
    monkeypatch.setattr("vqcodec.bench.lineup.lossless_peer", found.get)
    result = run("set", "--codec", "webp-lossless", "--json", "-")
    assert result.code == 1
    assert "samples changed" in result.err
    assert "(webp-lossless)" in result.err
    document = json.loads(result.out)
    assert [(row["codec"], row["error"] is None) for row in document["rows"]] == [
        ("png", True), ("png", True), ("webp-lossless", False), ("webp-lossless", False)
    ]  # fmt: skip
    assert document["sizes"][1] == {
        "codec": "webp-lossless", "reference": "png", "pictures": 0, "share": None, "picture_share": None, "fewer": 0
    }  # fmt: skip


def test_the_table_and_its_json(run: Run) -> None:
    result = run("set", "--codec", "webp-lossless", "--model", "photo", "--json", "a.json")
    assert (result.code, result.err) == (0, "")
    assert "Picture by picture, without loss: bits/dim" in result.out
    assert "of png" in result.out
    document = json.loads(Path("a.json").read_text())
    assert list(document["codecs"]) == ["png", "tiny-patch", "webp-lossless"]
    assert [row["error"] for row in document["rows"]] == [None] * 6
    assert {row["quality"] for row in document["rows"]} == {0}
    sizes = {row["codec"]: row["bytes"] for row in document["means"]}
    for each in document["sizes"]:
        assert each["share"] == pytest.approx(sizes[each["codec"]] / sizes["png"])
        assert each["pictures"] == 2
    again = run("set", "--codec", "webp-lossless", "--model", "photo", "--json", "b.json")
    assert again.code == 0
    assert Path("b.json").read_text() == Path("a.json").read_text(), "the second run reads the cache, times included"


def test_all_codecs_that_are_installed_take_part() -> None:
    contenders, notices = line_up_lossless([])
    names = [entry.name for entry in LOSSLESS_PEERS]
    assert [each.label for each in contenders if each.label in names] == [
        name for name in names if not any(notice.startswith(f"{name} is left out") for notice in notices)
    ]
    assert contenders[0].label == "png"
    assert contenders[-1].label == "tiny-patch"
    assert all(each.lossless and each.qualities == (0,) for each in contenders)
    with pytest.raises(UsageError, match="no lossless codec 'jpeg'"):
        line_up_lossless(["jpeg"])


@pytest.mark.parametrize(
    "arguments",
    [["-q", "1"], ["--peers"], ["--effort", "0"], ["--anchor", "png"], ["--match", "1"], ["--anatomy"],
     ["--published", "x"], ["--html", "x.html"]],
)  # fmt: skip
def test_options_of_lossy_comparisons_are_refused(run: Run, arguments: list[str]) -> None:
    result = run("set", *arguments)
    assert result.code == 2
    assert "--lossless cannot be combined with" in result.err


def test_sizes_are_compared_on_common_pictures() -> None:
    def row(image: str, codec: str, size: int, error: str | None = None) -> Row:
        return Row(image, codec, 0, bytes=size, error=error)

    rows = [row("a", "png", 100), row("b", "png", 400), row("c", "png", 9, "broken")]
    rows += [row("a", "x", 50), row("b", "x", 800), row("c", "x", 1)]
    png, other = compare_sizes(rows, "png")
    assert (png.share, png.picture_share, png.fewer) == (1, 1, 0)
    assert (other.pictures, other.share, other.fewer) == (2, 1.7, 1)
    assert other.picture_share == pytest.approx(1.0)
