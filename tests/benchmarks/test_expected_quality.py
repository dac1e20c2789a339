"""benchmarks/expected_quality: the scores that a model states, and the program on small pictures."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic
from PIL import Image

from benchmarks import expected_quality
from benchmarks.expected_quality import MARGIN, expected, main, one_of_each_source
from vqcodec.model.store import Model, open_model


def test_a_hundredth_may_be_worse_and_a_better_quality_never_states_less() -> None:
    table = np.stack([np.arange(101.0), np.arange(101.0) - 50, np.arange(101.0) + 7], axis=1)
    assert expected(table) == [1 - MARGIN, 1 - MARGIN, 8 - MARGIN]


def test_one_picture_of_each_source(tmp_path: Path) -> None:
    for name in ("a_1.png", "a_2.png", "b_1.png", "c.png"):
        Image.new("RGB", (8, 8), (len(name), ord(name[0]), ord(name[2]))).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    assert len(one_of_each_source([tmp_path], 10, 1)) == 3
    assert len(one_of_each_source([tmp_path], 2, 1)) == 2


def test_the_result_is_written_beside_an_unchanged_digest(
    patch_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(expected_quality, "FEWEST", 2)
    folder = shutil.copytree(patch_model.path, tmp_path / "model")
    for seed in range(2):
        Image.fromarray(synthetic(40, 48, seed)).save(tmp_path / f"{seed}.png")
    monkeypatch.setattr(sys, "argv", ["expected", "--model", str(folder), "--write", str(tmp_path)])
    main()
    model = open_model(folder)
    assert model.digest == patch_model.digest
    assert len(model.config.expected_quality) == model.config.vqvae.qualities
    assert list(model.config.expected_quality) == json.loads((folder / "config.json").read_text())["expected_quality"]
    assert "stated" in capsys.readouterr().out


def test_too_few_photographs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(sys, "argv", ["expected", str(tmp_path)])
    with pytest.raises(SystemExit, match="at least 100"):
        main()
