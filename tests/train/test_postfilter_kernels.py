"""The kernels of the post-filter are learnt: they lower the error of pictures that were not used for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import synthetic
from safetensors.torch import load_file
from training import silent

from vqcodec.codec.codec import Codec
from vqcodec.codec.content import Content
from vqcodec.errors import ModelError, UsageError
from vqcodec.model.store import Model, open_model
from vqcodec.picture.picture import Picture
from vqcodec.train import decoder as codes_module
from vqcodec.train.decoder import CodesToSearch
from vqcodec.train.loop import Schedule
from vqcodec.train.project import Project

CROP, CROPS = 64, 24


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes_module, "SHARE", 12)


def errors(folder: Path, model: Model, *, fit: bool) -> float:
    """The mean log squared error of the held-out crops, with fitted weights or without."""
    codec = Codec(model)
    (path,) = (folder / "decoder").glob("codes-*held-out*")
    found = load_file(path)
    logs = []
    for pixels, codes, at in zip(
        found["pixels"].numpy(), found["codes"].numpy(), found["quality"].tolist(), strict=True
    ):
        grid = codes.astype(np.int32)
        weights = codec.fit(pixels, Content.of(grid), at + 1) if fit else None
        decoded = codec.render(grid, at + 1, pixels.shape[:2], "RGB", weights=weights)
        logs.append(np.log(np.square(decoded.astype(float) - pixels).mean()))
    return float(np.mean(logs))


@pytest.mark.usefixtures("_few")
def test_kernels_reduce_the_error_of_other_pictures(
    few_pictures: list[Path], brief_model: Model, tmp_path: Path
) -> None:
    project, out = Project(tmp_path / "run", few_pictures, silent), tmp_path / "out"
    share = project.train_postfilter(4, CodesToSearch(CROP, CROPS), brief_model)
    assert 0.01 < share < 1
    model = project.export(out)
    assert model.config.vqvae == dataclasses.replace(brief_model.config.vqvae, postfilter=4)
    assert (out / "prior.safetensors").read_bytes() == (brief_model.path / "prior.safetensors").read_bytes()
    before, after = (load_file(m.path / "weights.safetensors") for m in (brief_model, model))
    assert set(after) - set(before) == {"postfilter.kernels"}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert errors(tmp_path / "run", model, fit=True) < errors(tmp_path / "run", model, fit=False) - 0.01
    pixels = synthetic(70, 90, 9)
    assert open_model(out).digest == model.digest
    Codec(model).decompress(Codec(model).compress(Picture(pixels, "RGB"), 1))
    # More kernels reduce the error further, on the same codes. The export has the kernels of the last call.
    assert project.train_postfilter(8, CodesToSearch(CROP, CROPS), brief_model) > share
    assert project.export(out).config.vqvae.postfilter == 8
    # A model that has a post-filter may get another one.
    other = Project(tmp_path / "other", few_pictures, silent)
    other.train_postfilter(2, CodesToSearch(CROP, CROPS), open_model(out))
    assert other.export(tmp_path / "again").config.vqvae.postfilter == 2


@pytest.mark.usefixtures("_few")
def test_kernels_are_fitted_to_the_trained_decoder(
    few_pictures: list[Path], brief_model: Model, tmp_path: Path
) -> None:
    project = Project(tmp_path / "run", few_pictures, silent)
    project.train_decoder(Schedule(steps=3, rate=3e-3), 6, CROP, CROPS, brief_model)
    project.train_postfilter(4, CodesToSearch(CROP, CROPS))
    decoder = project.export(tmp_path / "both")
    alone = Project(tmp_path / "alone", few_pictures, silent)
    alone.train_postfilter(4, CodesToSearch(CROP, CROPS), brief_model)
    kernels = [
        load_file(folder / "postfilter" / "kernels.safetensors")["kernels"] for folder in (project.folder, alone.folder)
    ]
    assert not torch.allclose(*kernels)
    weights = load_file(decoder.path / "weights.safetensors")
    assert torch.equal(weights["postfilter.kernels"], kernels[0].half())
    assert any(
        not torch.equal(tensor, weights[name])
        for name, tensor in load_file(brief_model.path / "weights.safetensors").items()
    )


def test_kernels_are_scaled_to_the_error_and_uncorrelated() -> None:
    from vqcodec.train.postfilter_kernels import INPUTS, Statistics, _orthonormal, _uncorrelated

    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 200, INPUTS, generator=generator, dtype=torch.float64)
    gram = rows.transpose(1, 2) @ rows / 200
    statistics = Statistics(gram, torch.randn(5, INPUTS, 3, generator=generator, dtype=torch.float64) / 100)
    kernels = _orthonormal(statistics, torch.randn(6, INPUTS, 3, generator=generator, dtype=torch.float64))
    mean = torch.einsum("pq,kqo,jpo->kj", gram.mean(0), kernels, kernels)
    torch.testing.assert_close(mean, torch.eye(6).double(), atol=1e-8, rtol=0)
    # Turned so that the weights are uncorrelated, they are still orthonormal.
    weights, gains = statistics.weights(kernels)
    kernels = _uncorrelated(kernels, weights, torch.ones(5).double())
    weights, again = statistics.weights(kernels)
    torch.testing.assert_close(again, gains)
    moments = weights.T @ weights
    torch.testing.assert_close(moments, moments.diag().sort(descending=True).values.diag(), atol=1e-9, rtol=1e-6)
    turned = torch.einsum("pq,kqo,jpo->kj", gram.mean(0), kernels, kernels)
    torch.testing.assert_close(turned, torch.eye(6).double(), atol=1e-8, rtol=0)
    # The weights are optimal: any other ones gain less.
    for shift in (0.01, -0.02):
        others = weights + shift
        inner = torch.einsum("npq,kqo,jpo->nkj", gram, kernels, kernels)
        outer = torch.einsum("npo,kpo->nk", statistics.correlation, kernels)
        gained = 2 * (others * outer).sum(1) - torch.einsum("nk,nkj,nj->n", others, inner, others)
        assert (gained < gains).all()


@pytest.mark.parametrize("kernels", [0, 65])
def test_a_number_of_kernels_out_of_range_is_refused(
    kernels: int, few_pictures: list[Path], brief_model: Model, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="1 to 64"):
        Project(tmp_path / "run", few_pictures, silent).train_postfilter(
            kernels, CodesToSearch(CROP, CROPS), brief_model
        )


def test_a_model_of_the_conv_family_has_no_filter(few_pictures: list[Path], conv_model: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no post-filter"):
        Project(tmp_path / "run", few_pictures, silent).train_postfilter(4, CodesToSearch(CROP, CROPS), conv_model)


def test_damaged_kernels_are_an_error(few_pictures: list[Path], brief_model: Model, tmp_path: Path) -> None:
    project = Project(tmp_path / "run", few_pictures, silent)
    project._finished_model(brief_model)
    with pytest.raises(UsageError, match="train that stage first"):
        project.export(tmp_path / "out")  # nothing has been trained yet
    folder = tmp_path / "run" / "postfilter"
    folder.mkdir()
    (folder / "kernels.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="no kernels"):
        project.export(tmp_path / "out")
