"""Labels in training: classes are folders, each crop has the class of its picture, and unlabelled grids still work."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from command import vqcodec_in_process
from conftest import CONV, random_prior, synthetic
from PIL import Image

from vqcodec.coding.integer_prior import IntegerPrior, Layout
from vqcodec.errors import UsageError
from vqcodec.model.config import to_json
from vqcodec.train import prior as prior_module
from vqcodec.train.data import Pictures, class_names, load_pictures
from vqcodec.train.loop import Schedule
from vqcodec.train.networks.vqvae import VQVAE
from vqcodec.train.prior import PriorStage, PriorTraining

LABELLED = dataclasses.replace(CONV, prior=dataclasses.replace(CONV.prior, labels=3))


def flat(value: int, side: int = 20) -> np.ndarray:
    """A picture whose colour identifies it."""
    return np.full((side, side + 3, 3), value, np.uint8)


def write(folder: Path, names: dict[str, int]) -> None:
    for name, value in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(flat(value)).save(folder / name)


def test_the_folder_of_a_picture_is_its_class(tmp_path: Path) -> None:
    write(tmp_path / "data", {"cat/a.png": 10, "cat/b.png": 11, "dog/below/c.png": 20, "dog/d.png": 21})
    with tarfile.open(tmp_path / "data" / "e.tar", "w") as tar:
        stream = io.BytesIO()
        Image.fromarray(flat(30)).save(stream, "PNG")
        member = tarfile.TarInfo("x/eel/e.png")
        member.size = stream.tell()
        stream.seek(0)
        tar.addfile(member, stream)
    sides = load_pictures([tmp_path / "data", tmp_path / "data" / "cat"], 16)
    found = sorted((int(p[0, 0, 0]), f) for side in sides for p, f in zip(side.pixels, side.folders, strict=True))
    assert found == [*[(10, "cat")] * 2, *[(11, "cat")] * 2, (20, "below"), (21, "dog"), (30, "eel")]


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["b", "a", "b", "c"], ["a", "b", "c"]),
        (["10", "9", "0", "9"], ["0", "9", "10"]),  # numbers
        (["10", "9", "x"], ["10", "9", "x"]),
        (["2", "1", "0"], ["0", "1", "2"]),  # which are their labels themselves
    ],
)
def test_labels_are_the_sorted_names_of_folders(folders: list[str], names: list[str]) -> None:
    halves = [Pictures([flat(0)] * len(part), ["n"] * len(part), part) for part in (folders[:1], folders[1:])]
    assert class_names(halves, 3) == names
    with pytest.raises(UsageError, match=r"has 4 labels, but the pictures lie in 3 folders \('"):
        class_names(halves, 4)


@pytest.mark.parametrize("augment", ["photo", "none"])
def test_the_source_of_every_crop_is_returned(augment: str) -> None:
    pictures = Pictures([flat(n) for n in range(100, 140)], ["n"] * 40, augment=augment)  # type: ignore[arg-type]
    crops, sources = pictures.crops_and_sources(300, 16, [1])
    assert torch.equal(crops, pictures.crops(300, 16, [1]))
    plain = [(int(c[0, 0, 0]), s) for c, s in zip(crops, sources, strict=True) if len(c.unique()) == 1 and s >= 0]
    assert len({source for _, source in plain}) > 30
    right = [value == 100 + source for value, source in plain]
    if augment == "none":
        assert (len(right), all(right)) == (300, True)
    else:
        assert np.mean(right) > 0.85  # a few have other colours
        assert 3 < sources.count(-1) < 60  # those that are drawn


def test_crops_without_augmentation_are_unchanged() -> None:
    pixels = np.arange(19 * 18 * 3).reshape(19, 18, 3).astype(np.uint8)
    windows = {pixels[i : i + 16, j : j + 16].tobytes() for i in range(4) for j in range(3)}
    crops = Pictures([pixels], ["a"], augment="none").crops(200, 16, [3]).permute(0, 2, 3, 1).contiguous().numpy()
    assert {crop.tobytes() for crop in crops} == windows


def labelled_stage() -> PriorStage:
    torch.manual_seed(0)
    pictures = Pictures([synthetic(20, 20, n) for n in range(6)], ["x"] * 6, ["c", "a", "b", "a", "c", "b"])
    settings = PriorTraining(LABELLED.prior, Schedule(steps=4), batch=40, crop=16, exact_from=0.0)
    stage = PriorStage(settings, VQVAE(LABELLED.vqvae), pictures, pictures)
    stage.network.load_state_dict(random_prior(LABELLED.vqvae, LABELLED.prior).state_dict())
    stage.network.describe_codes(stage.vqvae.quantizer)
    return stage


def test_the_loss_uses_the_labels_except_for_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = labelled_stage()
    seen: list[torch.Tensor] = []
    bits = stage.network.bits

    def spy(codes: torch.Tensor, quality: int, label: torch.Tensor, exact: bool) -> torch.Tensor:
        seen.append(label.clone())
        return bits(codes, quality, label, exact=exact)

    monkeypatch.setattr(stage.network, "bits", spy)
    for step in range(20):
        stage.loss(step, 0.0)
    drawn = torch.cat(seen)
    assert 0.05 < (drawn == -1).double().mean() < 0.25  # hidden, and pictures that are drawn have none
    crops, sources = stage.training.crops_and_sources(40, 16, [1, 4])
    expected = torch.tensor([[2, 0, 1, 0, 2, 1][s] if s >= 0 else -1 for s in sources])
    shown = seen[3] >= 0
    assert torch.equal(seen[3][shown], expected[shown])
    assert len(seen[3][shown].unique()) == 3
    codes = stage._encode(crops, 0)
    assert stage.loss(3, 0.0)[0].item() == bits(codes, 0, seen[3], exact=True).sum().item()
    monkeypatch.setattr(prior_module, "UNLABELLED_SHARE", 0.0)
    stage.loss(3, 0.0)
    assert torch.equal(seen[-1], expected)


def test_validation_is_with_and_without_labels() -> None:
    stage = labelled_stage()
    with torch.no_grad():
        figures = stage.validate()
        codes, labels = stage.held_out[0], torch.tensor([2, 0, 1, 0, 2, 1])
        for name, label in [("exact", None), ("labelled", labels)]:
            expected = stage.network.bits(codes, 0, label, exact=True).sum().item()
            assert figures[f"{name}_q1"] == pytest.approx(expected)
    assert figures["exact_q1"] != figures["labelled_q1"]


def test_labelled_and_unlabelled_grids_match_the_integers() -> None:
    network = random_prior(LABELLED.vqvae, LABELLED.prior, seed=2)
    codes = torch.randint(32, (4, 1, 5, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(codes, 0, torch.tensor([1, -1, 0, 2]), exact=True)[0]
        unknown = network(codes, 0, exact=True)[0]
    assert torch.equal(logits[1], unknown[1])
    tensors = {name: tensor.numpy() for name, tensor in network.integers().items()}
    prior = LABELLED.prior
    layout = Layout((32,), 1, prior.channels, prior.head_channels, prior.blocks, prior.labels)
    for grid, steps, label in zip(codes, logits, (1, None, 0, 2), strict=True):
        found = IntegerPrior(tensors, layout, 0, label)
        counts = found.evaluate(grid.numpy().astype(np.int32))[0]
        share = torch.from_numpy(counts.astype(np.float64) / counts.sum(1, keepdims=True)).log()
        assert torch.allclose(share, torch.log_softmax(steps.double(), 2).flatten(0, 1), atol=0.01, rtol=0)
        others = [IntegerPrior(tensors, layout, 0, n).evaluate(grid.numpy().astype(np.int32))[0] for n in (0, 2)]
        assert not np.array_equal(others[0], others[1])


def test_a_model_with_labels_from_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for index in range(9):
        path = tmp_path / "data" / "abc"[index % 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(synthetic(20, 20, index)).save(path)
    (tmp_path / "config.json").write_text(to_json(LABELLED))
    stage = ("data", "--run", "run", "--steps", "1", "--batch", "3", "--crop", "16", "--augment", "none")
    assert vqcodec_in_process(monkeypatch, "train", "vqvae", *stage, "--config", "config.json").code == 0
    done = vqcodec_in_process(monkeypatch, "train", "prior", *stage)
    assert (done.code, "val_labelled_q1" in done.err) == (0, True)
    assert "Labels: 0 a  1 b  2 c" in done.out
    assert vqcodec_in_process(monkeypatch, "train", "export", "--run", "run", "-o", "mine").code == 0
    done = vqcodec_in_process(monkeypatch, "sample", "--model", "mine", "--label", "2", "-n", "2")
    assert (done.code, Path("samples.png").is_file()) == (0, True)
    refused = vqcodec_in_process(monkeypatch, "train", "prior", "data/a", *stage[1:-2])
    assert (refused.code, "3 labels, but the pictures lie in 1 folders ('a')" in refused.err) == (2, True)
