"""Training, exporting and using a model, all through the command line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import Result, vqcodec_in_process
from PIL import Image

from vqcodec.model.config import ModelConfig, PriorConfig, VQVAEConfig, to_json
from vqcodec.model.store import Model

Run = Callable[..., Result]

TINY = ModelConfig(
    "tiny",
    VQVAEConfig("patch", 8, 8, 4, 1, 1, ((16, 2), (8, 1), (8, 1)), lambdas=(1.0, 0.3)),
    PriorConfig(channels=16, blocks=1, head_channels=8),
    unit=4,
    default_quality=2,
)
STAGE = ("--steps", "2", "--batch", "2", "--crop", "32")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *args, **options: vqcodec_in_process(monkeypatch, *args, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures in data/, a training run in run/ and its exported model in mine/."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data").mkdir()
    rows, columns = np.mgrid[:56, :60]
    for index in range(6):
        waves = [128 + 90 * np.sin(columns / (4 + index) + c) + 30 * np.cos(rows / (3 + c)) for c in range(3)]
        Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(folder / "data" / f"p{index}.png")
    (folder / "tiny.json").write_text(to_json(TINY))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        first = vqcodec_in_process(patch, "train", "vqvae", "data", "--run", "run", "--config", "tiny.json", *STAGE)
        assert (first.code, "val_psnr_q2" in first.err) == (0, True)
        second = vqcodec_in_process(patch, "train", "prior", "data", "--run", "run", *STAGE)
        assert (second.code, "val_" in second.err) == (0, True)
        assert vqcodec_in_process(patch, "train", "export", "--run", "run", "-o", "mine").code == 0
    return folder


def test_a_post_filter_for_a_finished_model(run: Run, trained: Path) -> None:
    data = trained / "data"
    args = ("train", "postfilter", data, "--run", "filter", "--init", trained / "mine", "--crops", "8", "--crop", "32")
    found = run(*args, "--kernels", "4")
    assert found.code == 0
    assert found.out.startswith("4 kernels remove ")
    assert "vqcodec train export --run filter" in found.out
    assert run("train", "export", "--run", "filter", "-o", "filtered").code == 0
    run("compress", data / "p0.png", "-o", "a.vq", "--model", "filtered")
    info = json.loads(run("info", "a.vq", "--json").out)
    assert info["postfilter_bytes"] >= 0
    if info["postfilter_bytes"]:
        assert "weights in" in run("info", "a.vq").out
    assert run("decompress", "a.vq", "-o", "a.png", "--model", "filtered").code == 0
    assert "1 to 64" in run(*args, "--kernels", "65").err
    assert run(*args, "--kernels", "65").code == 2


@pytest.mark.parametrize("stage", ["vqvae", "prior", "decoder", "postfilter"])
def test_every_stage_goes_on_from_a_model_with_a_post_filter(
    run: Run, trained: Path, filtered_model: Model, stage: str
) -> None:
    """As the model that ships: its kernels have five dimensions, which not every layout of memory allows."""
    data = trained / "data"
    if stage == "prior":  # needs the networks of a first stage
        assert run("train", "vqvae", data, "--run", "run", "--init", filtered_model.path, *STAGE).code == 0
    options = ("--kernels", "2", "--crop", "32") if stage == "postfilter" else STAGE
    crops = ("--crops", "4") if stage in ("decoder", "postfilter") else ()
    done = run("train", stage, data, "--run", "run", "--init", filtered_model.path, *options, *crops)
    assert (done.code, "Done." in done.out) == (0, True), done.err
    if stage != "vqvae":
        assert run("train", "export", "--run", "run", "-o", "mine").code == 0
        assert run("compress", data / "p0.png", "-o", "a.vq", "--model", "mine").code == 0
        assert run("decompress", "a.vq", "-o", "a.png", "--model", "mine").code == 0


def test_round_trip_of_a_picture(run: Run, trained: Path) -> None:
    source, model = trained / "data" / "p0.png", trained / "mine"
    record = json.loads(run("compress", source, "-o", "a.vq", "--model", model, "--json").out)[0]
    assert (record["model"], record["quality"], record["width"], record["height"]) == ("mine", 2, 60, 56)
    assert record["bytes"] == Path("a.vq").stat().st_size
    found = json.loads(run("info", "a.vq", "--json").out)
    assert (found["model"], found["model_digest"], found["quality"]) == (None, record["digest"], 2)
    assert (found["rows"], found["cols"], found["total_bytes"]) == (2, 2, record["bytes"])
    assert run("decompress", "a.vq", "-o", "a.png", "--model", model).code == 0
    with Image.open("a.png") as result, Image.open(source) as original:
        error = np.square(np.asarray(result, float) - np.asarray(original, float)).mean()
    assert error < 1000  # even after two training steps, the result resembles the picture
    unknown = run("decompress", "a.vq", "-o", "b.png")
    assert (unknown.code, record["digest"] in unknown.err) == (1, True)


def test_targets_with_a_real_model(run: Run, trained: Path) -> None:
    pictures, model = [trained / "data" / f"p{n}.png" for n in (0, 1)], ("--model", trained / "mine")
    plain = [r["bytes"] for r in json.loads(run("compress", *pictures, "-o", "plain", *model, "--json").out)]
    result = run("compress", *pictures, "-o", "out", *model, "--json", "--target-size", f"{max(plain) / 1000}k")
    sizes = [record["bytes"] for record in json.loads(result.out)]
    assert result.code == 0
    assert all(max(plain) - max(16, 0.02 * max(plain)) <= size <= max(plain) for size in sizes)
    refused = run("compress", pictures[0], "-o", "a.vq", *model, "--target-size", "50")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "cannot be met: the smallest size that the model mine reaches for this picture is" in refused.err
    assert not Path("a.vq").exists()
    stored = run("compress", pictures[0], "-o", "a.vq", *model, "--target-psnr", "90", "--json")
    assert (stored.code, json.loads(stored.out)[0]["psnr"]) == (0, None)  # infinite


def test_no_loss_with_a_real_model(run: Run, trained: Path) -> None:
    source, model = trained / "data" / "p0.png", ("--model", trained / "mine")
    packed = run("compress", source, "-o", "a.vq", *model, "--lossless")
    assert packed.code == 0
    assert packed.out.endswith("  lossless  exact\n")
    [record] = json.loads(run("compress", source, "-o", "b.vq", *model, "--lossless", "--json", "--manifest", "m").out)
    assert (record["stored"], record["psnr"]) == (1, None)
    assert run("decompress", "a.vq", "-o", "a.png", *model).code == 0
    with Image.open("a.png") as back, Image.open(source) as original:
        assert np.array_equal(np.asarray(back), np.asarray(original))
    assert "100.0% of the picture without loss" in run("info", "a.vq").out
    assert run("tokenize", "a.vq", "-o", "t.safetensors", *model).err.endswith("tokenize the picture itself\n")


def test_a_damaged_file_is_refused(run: Run, trained: Path) -> None:
    packed = run("compress", trained / "data" / "p0.png", "-o", "-", "--model", trained / "mine").data
    damaged = packed[:-1] + bytes([packed[-1] ^ 1])
    result = run("decompress", "-", "--model", trained / "mine", stdin=damaged)
    assert (result.code, result.data) == (1, b"")
    assert result.err.startswith("vqcodec: error: standard input: ")


def test_bench_with_a_real_model(run: Run, trained: Path) -> None:
    result = run(
        "bench", trained / "data", "--model", trained / "mine", "-q", "all", "--json", "-", "--jobs", "0", "--no-cache"
    )
    means = json.loads(result.out)["means"]
    assert [(row["image"], row["quality"]) for row in means] == [("mean of 6", 1), ("mean of 6", 2)]
    assert means[0]["naive_ratio"] == pytest.approx(60 * 56 * 3 * 8 / (8 * 7 * 10))  # 4 + 3 + 3 bits per position


def test_a_finished_run_is_not_trained_again(run: Run, trained: Path) -> None:
    log = trained / "run" / "vqvae" / "log.csv"
    before = log.read_text()
    assert run("train", "vqvae", trained / "data", "--run", trained / "run", *STAGE).code == 0
    assert log.read_text() == before
    longer = ("--steps", "3", "--batch", "2", "--crop", "32")
    shutil.copytree(trained / "run", "run")
    assert run("train", "vqvae", trained / "data", "--run", "run", *longer).code == 0
    assert Path("run/vqvae/log.csv").read_text().splitlines()[-1].startswith("3,")


def test_a_model_is_not_replaced_without_force(run: Run, trained: Path) -> None:
    result = run("train", "export", "--run", trained / "run", "-o", trained / "mine")
    assert result.code == 1
    assert "--force" in result.err
    assert run("train", "export", "--run", trained / "run", "-o", "other", "--name", "ours").code == 0
    assert json.loads(Path("other/config.json").read_text())["name"] == "ours"
    again = run("train", "export", "--run", trained / "run", "-o", "other", "--force")
    assert (again.code, again.out.split(":")[0]) == (0, "The model other")


@pytest.mark.parametrize(
    "arguments",
    [
        ["vqvae", "data", "--run", "new", "--steps", "1"],  # no --config
        ["vqvae", "data", "--run", "new", "--steps", "1", "--config", "nothing.json"],
        ["vqvae", "data", "--run", "new", "--config", "tiny.json"],  # neither --steps nor --minutes
        ["vqvae", "data", "--run", "new", "--config", "tiny.json", "--steps", "1", "--minutes", "1"],
        ["vqvae", "nothing", "--run", "new", "--config", "tiny.json", "--steps", "1"],
        ["prior", "data", "--run", "new", "--steps", "1"],
        ["export", "--run", "new", "-o", "out"],
    ],
)
def test_usage_errors(run: Run, arguments: list[str]) -> None:
    Path("tiny.json").write_text(to_json(TINY))
    os.mkdir("data")
    result = run("train", *arguments)
    assert result.code == 2
    assert result.err.startswith("vqcodec: error: ")
    assert result.err.count("\n") == 1
    assert not Path("out").exists()


def test_a_run_starts_from_the_networks_of_another(run: Run, trained: Path) -> None:
    from safetensors.torch import load_file

    assert run("train", "export", "--run", trained / "run", "--networks", "-o", "networks").code == 0
    assert sorted(os.listdir("networks")) == ["config.json", "weights.safetensors"]
    again = run("train", "vqvae", trained / "data", "--run", "next", "--init", "networks", *STAGE, "--lr", "1e-9")
    assert again.code == 0
    assert Path("next/config.json").read_text() == Path("networks/config.json").read_text()
    before, after = load_file("networks/weights.safetensors"), load_file("next/vqvae/checkpoint.safetensors")
    for name in ("encoder.linear.weight", "decoder.blocks.0.conv.weight", "quantizer.vectors0"):
        assert np.allclose(before[name].float(), after[f"network.{name}"], atol=2e-2), name
    wrong = run("train", "vqvae", trained / "data", "--run", "other", "--init", "nowhere", *STAGE)
    assert (wrong.code, "nowhere" in wrong.err) == (2, True)


def pixels_of(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image).astype(int)


def test_crop_verify_and_salvage(run: Run, trained: Path) -> None:
    model = ("--model", trained / "mine")
    assert run("compress", trained / "data" / "p0.png", "-o", "a.vq", *model).code == 0
    assert run("decompress", "a.vq", "-o", "a.png", *model).code == 0
    assert run("decompress", "a.vq", "-o", "part.png", "--crop", "30,20,17,11", *model).code == 0
    whole, part = pixels_of("a.png"), pixels_of("part.png")
    assert np.abs(whole[20:31, 30:47] - part).max() <= 1
    assert run("verify", "a.vq").code == 0
    assert run("verify", "a.vq", "--deep", *model).code == 0

    damaged = bytearray(Path("a.vq").read_bytes())
    damaged[-1] ^= 1
    Path("b.vq").write_bytes(damaged)
    checked = run("verify", "a.vq", "b.vq", "--json")
    assert checked.code == 1
    assert [bool(entry["error"]) for entry in json.loads(checked.out)] == [False, True]
    assert run("decompress", "b.vq", "-o", "b.png", *model).code == 1
    assert not Path("b.png").exists()
    saved = run("decompress", "b.vq", "-o", "b.png", "--salvage", *model)
    assert (saved.code, "was lost" in saved.err) == (3, True)
    assert pixels_of("b.png").shape == (56, 60, 3)

    assert run("decompress", "a.vq", "-o", "c.png", "--crop", "50,0,20,5", *model).code == 2
    assert run("decompress", "a.vq", "-o", "c.png", "--crop", "1,2,3", *model).code == 2
    assert run("decompress", "a.vq", "-o", "c.png", "--crop", "1,2,3,4", "--salvage", *model).code == 2
