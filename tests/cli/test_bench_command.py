"""`vqcodec bench` through the command line: codecs, files, notes and exit codes, with two tiny bundled models."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Result, vqcodec_in_process
from conftest import synthetic
from PIL import Image

from vqcodec.bench import demo, html
from vqcodec.model.store import Model
from vqcodec.picture.picture import Picture

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Callable[..., Path], patch_model: Model, conv_model: Model
) -> None:
    """Two bundled models, an empty cache, and a folder `set` with two pictures."""
    bundle(photo=patch_model, paper=conv_model)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here" / "set").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    for seed, name in enumerate("ab"):
        Image.fromarray(synthetic(48, 64, seed)).save(f"set/{name}.png")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda *args, **options: vqcodec_in_process(monkeypatch, "bench", "--jobs", "0", *args, **options)


def test_models_on_a_folder(run: Run) -> None:
    result = run("set", "--model", "photo", "-q", "all", "--json", "-")
    found = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert [(r["image"], r["quality"]) for r in found["rows"]] == [(f"{n}.png", q) for n in "ab" for q in (1, 2)]
    assert [r["image"] for r in found["means"]] == ["mean of 2"] * 2
    assert (found["bd"], found["anatomy"], found["anchor"]) == ([], [], None)
    text = run("set", "--csv", "out.csv").out
    assert "tiny-patch" in text
    assert "tiny-conv" in text
    assert len(Path("out.csv").read_text().splitlines()) == 1 + 4 + 2
    assert run("set", "--csv", "out.csv").code == 1
    assert run("set", "--csv", "out.csv", "--force").code == 0


def test_curves_against_peers(run: Run) -> None:
    result = run(
        "set", "--codec", "photo", "--codec", "jpeg:20,60", "--anchor", "webp", "--json", "-", "--csv", "a.csv"
    )
    found = json.loads(result.out)
    assert result.code == 0
    assert list(found["codecs"]) == ["tiny-patch", "jpeg", "webp"]
    assert {row["codec"]: row["quality"] for row in found["means"]} == {"tiny-patch": 2, "jpeg": 60, "webp": 90}
    assert [c["codec"] for c in found["bd"] if c["measure"] == "psnr"] == ["tiny-patch", "jpeg"]
    assert {"vqcodec", "Pillow", "webp", "libjpeg_turbo", "numpy"} <= set(found["environment"])
    assert "BD-rate relative to jpeg" in run("set", "--codec", "jpeg", "--codec", "webp").out


def test_match_and_anatomy(run: Run) -> None:
    result = run("set", "--codec", "webp", "--codec", "jpeg", "--match", "2")
    assert result.code == 0
    assert "Picture by picture at 2 bpp" in result.out
    assert "of 2" in result.out
    result = run("set", "--match", "2", "--codec", "webp", "--model", "paper")
    assert result.err == "vqcodec: note: tiny-conv is left out: it cannot encode to a given size\n"
    result = run("set", "--model", "photo", "--anatomy", "--json", "a.json")
    assert "Where the bytes go" in result.out
    assert "Codebooks of tiny-patch at quality 2" in result.out
    anatomy = json.loads(Path("a.json").read_text())["anatomy"]
    assert [(a["image"], a["codec"], len(a["codebooks"])) for a in anatomy] == [
        ("a.png", "tiny-patch", 3), ("b.png", "tiny-patch", 3)
    ]  # fmt: skip


def test_published_curves(run: Run) -> None:
    Path("curves.csv").write_text("codec,bpp,psnr,source\nVTM,0.1,20,s\nVTM,9,50,s\n")
    result = run("set", "--codec", "webp", "--published", "curves.csv", "--anchor", "VTM", "--json", "-")
    found = json.loads(result.out)
    assert (len(found["published"]), found["anchor"]) == (2, "VTM")
    assert found["bd"][0]["codec"] == "webp"
    assert "not measured here" in run("set", "--codec", "webp", "--published", "curves.csv").out


def test_html_page(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "to_html", lambda results: f"<p>{list(results.pictures)}")
    assert run("set", "--codec", "webp", "--html", "a.html").code == 0
    assert Path("a.html").read_text() == "<p>['a.png', 'b.png']"
    assert run("set", "--codec", "webp", "--html", "a.html", "--html-pictures", "1", "--force").code == 0
    assert Path("a.html").read_text() == "<p>['a.png']"
    assert run("set", "--codec", "webp", "--html", "a.html").code == 1


def test_the_picture_of_the_demo(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "demo_picture", lambda: Picture(synthetic(40, 40), "RGB"))
    result = run("--model", "photo", "--csv", "-")
    assert (result.code, result.err) == (0, "")
    lines = list(csv.DictReader(io.StringIO(result.out)))
    assert [(line["image"], line["width"]) for line in lines] == [("demo.png", "40"), ("mean of 1", "40")]


def test_a_broken_picture_does_not_stop_the_run(run: Run) -> None:
    Path("set/aa.png").write_bytes(b"garbage")
    result = run("set", "--csv", "-")
    assert result.code == 1
    assert result.err.startswith("vqcodec: error: set/aa.png: ")
    assert result.err.count("\n") == 1
    images = [line.split(",")[0] for line in result.out.splitlines()]
    assert images == ["image", *["a.png", "aa.png", "b.png"] * 2, "mean of 2", "mean of 2"]
    result = run("set", "--codec", "webp", "--codec", "jpeg", "--match", "0.4")
    assert result.code == 1
    assert "(webp)" not in result.err.splitlines()[0]  # the broken picture is reported once, for all codecs
    assert "cannot be met" in result.err


def test_files_with_the_same_name(run: Run) -> None:
    os.mkdir("other")
    Image.fromarray(synthetic(30, 30)).save("other/a.png")
    found = json.loads(run("set", "other/a.png", "set/a.png", "--codec", "jpeg:50", "--json", "-").out)
    assert [row["image"] for row in found["rows"]] == ["set/a.png", "b.png", "other/a.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["missing"], ["empty"], ["set", "-q", "9"], ["set", "-q", "best"], ["set", "--csv", "-", "--json", "-"],
        ["set", "--csv", "x", "--html", "x"], ["set", "--codec", "webp:500"], ["set", "--codec", "webp:good"],
        ["set", "--anchor", "nobody"], ["set", "--match", "0"], ["set", "--match", "-1"], ["set", "--match", "nan"],
        ["set", "--published", "missing.csv"], ["set", "--jobs", "-1"], ["set", "--effort", "4"],
        ["set", "--model", "paper", "--match", "1"],
    ],
)  # fmt: skip
def test_usage_errors(run: Run, arguments: list[str]) -> None:
    os.mkdir("empty")
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")


def test_an_unknown_codec(run: Run) -> None:
    result = run("set", "--codec", "gif")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "photo, paper, jpeg" in result.err
