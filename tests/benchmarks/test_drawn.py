"""The drawn set: as many pictures as it says, of the sizes that it says, small, and always the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.drawn import __main__ as program
from benchmarks.drawn.pictures import PICTURES, picture

QUICK = ("text-dark", "interface-settings", "chart-bars", "gradient-noise", "pixel-art", "dither-ordered")


@pytest.mark.parametrize("name", QUICK)
def test_a_picture_is_the_same_whenever_it_is_drawn(name: str) -> None:
    first = picture(name)
    picture(QUICK[0])
    again = picture(name)
    assert np.array_equal(np.asarray(first), np.asarray(again))


def test_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(program, "BROWSERS", ())
    assert program.main([str(tmp_path / "set"), "--report", "report.html"]) == 0
    assert capsys.readouterr().err == "no screenshot of the report: Chromium is not installed\n"
    files = sorted((tmp_path / "set").iterdir())
    assert [file.stem for file in files] == sorted(PICTURES)
    assert 16 <= len(files) <= 24
    assert sum(file.stat().st_size for file in files) < 2_000_000
    for file in files:
        with Image.open(file) as image:
            assert image.mode == "RGB"
            assert 512 <= image.width <= 1024
            assert 384 <= image.height <= 768


def test_pictures_differ_in_kind() -> None:
    colours = {name: len(np.unique(np.asarray(picture(name)).reshape(-1, 3), axis=0)) for name in QUICK}
    assert colours["dither-ordered"] <= 8
    assert colours["pixel-art"] <= 16
    assert colours["chart-bars"] > 16
