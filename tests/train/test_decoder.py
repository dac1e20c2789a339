"""Stage three of training: it trains the decoder on the codes of the search and changes nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FINE, synthetic
from safetensors.torch import load_file
from training import Interrupted, silent, stop_at

from vqcodec.codec.codec import Codec
from vqcodec.errors import UsageError
from vqcodec.model.store import Model, open_model
from vqcodec.train import decoder as module
from vqcodec.train import loop
from vqcodec.train.loop import Schedule
from vqcodec.train.project import Project

CROP, CROPS = 64, 24


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARE", 12)
    monkeypatch.setattr(loop, "REPORT_SECONDS", -1.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)


def train(folder: Path, few_pictures: list[Path], brief_model: Model, steps: int = 40, rate: float = 3e-3) -> Model:
    project = Project(folder / "run", few_pictures, silent)
    project.train_decoder(Schedule(steps=steps, rate=rate), 6, CROP, CROPS, brief_model)
    return project.export(folder / "out")


def errors_of_crops(folder: Path, model: Model) -> float:
    """The error of the model's decoder on the codes of a run."""
    codec, errors = Codec(model), []
    for path in sorted((folder / "run" / "decoder").glob("codes-*-0*.safetensors")):
        found = load_file(path)
        for pixels, codes, quality in zip(
            found["pixels"].numpy(), found["codes"].numpy(), found["quality"], strict=True
        ):
            decoded = codec.to_pixels(codes.astype(np.int32), int(quality) + 1)
            errors.append(np.square(decoded.astype(float) - pixels).mean())
    assert len(errors) == CROPS
    return float(np.mean(errors))


def test_only_the_decoder_changes_and_it_decodes_the_codes_of_the_search_better(
    few_pictures: list[Path], brief_model: Model, tmp_path: Path
) -> None:
    trained = train(tmp_path, few_pictures, brief_model)
    assert trained.digest != brief_model.digest
    assert (trained.path / "prior.safetensors").read_bytes() == (brief_model.path / "prior.safetensors").read_bytes()
    before, after = (load_file(model.path / "weights.safetensors") for model in (brief_model, trained))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed)
    assert errors_of_crops(tmp_path, trained) < 0.99 * errors_of_crops(tmp_path, brief_model)
    pixels = synthetic(40, 50)
    for quality in (1, 3):
        codes = [Codec(model).to_codes(pixels, quality, effort=0) for model in (brief_model, trained)]
        assert np.array_equal(*codes)


def test_the_codes_are_those_of_the_search(few_pictures: list[Path], fine_model: Model, tmp_path: Path) -> None:
    train(tmp_path, few_pictures, fine_model, steps=1)
    paths = sorted((tmp_path / "run" / "decoder").glob("codes-*"))
    assert [path.stem.rsplit("-", 1)[1] for path in paths] == ["00000", "00001", "out"]  # held-out
    codec, searched = Codec(fine_model), 0
    for found in map(load_file, paths):
        assert sorted(set(found["quality"].tolist())) == [0, 1, 2]
        crops = zip(found["pixels"].numpy(), found["codes"].numpy(), found["quality"].tolist(), strict=True)
        for pixels, codes, quality in crops:
            assert np.array_equal(codec.to_codes(pixels, quality + 1), codes)
            searched += not np.array_equal(codec.to_codes(pixels, quality + 1, effort=0), codes)
    assert searched


def test_an_interrupted_run_gives_the_same_result(few_pictures: list[Path], brief_model: Model, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", few_pictures, brief_model, steps=6)
    stopped = Project(tmp_path / "again" / "run", few_pictures, stop_at(3))
    with pytest.raises(Interrupted):
        stopped.train_decoder(Schedule(steps=6, rate=3e-3), 6, CROP, CROPS, brief_model)
    assert train(tmp_path / "again", few_pictures, brief_model, steps=6).digest == whole.digest


def test_stage_three_can_follow_the_first_two_stages(few_pictures: list[Path], tmp_path: Path) -> None:
    project = Project(tmp_path / "run", few_pictures, silent)
    project.train_vqvae(FINE, Schedule(steps=1), 4, CROP)
    project.train_prior(Schedule(steps=1), 2, CROP)
    before = project.export(tmp_path / "before", "same")
    project.train_decoder(Schedule(steps=1, rate=1e-2), 6, CROP, CROPS)
    after = project.export(tmp_path / "after", "same")
    assert after.digest != before.digest
    assert after.config == before.config
    for again in (
        lambda: project.train_vqvae(FINE, Schedule(steps=2), 4, CROP),
        lambda: project.train_prior(Schedule(steps=2), 2, CROP),
    ):
        with pytest.raises(UsageError, match="another --run"):
            again()


def test_another_model_needs_another_run(
    few_pictures: list[Path], brief_model: Model, patch_model: Model, tmp_path: Path
) -> None:
    train(tmp_path, few_pictures, brief_model, steps=1)
    with pytest.raises(UsageError, match="another model"):
        train(tmp_path, few_pictures, patch_model, steps=1)
    other = Project(tmp_path / "other", few_pictures, silent)
    other.train_vqvae(dataclasses.replace(FINE, name="other"), Schedule(steps=1), 4, CROP)
    with pytest.raises(UsageError, match="describes another model"):
        other.train_decoder(Schedule(steps=1), 6, CROP, CROPS, brief_model)
    assert open_model(tmp_path / "run" / "model").digest == brief_model.digest
