"""Steps split into parts or processes give the result of a whole step, and killed runs that of uninterrupted ones."""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PATCH, synthetic
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from training import Interrupted, silent, stop_at

import vqcodec
from vqcodec.errors import UsageError
from vqcodec.train import decoder as decoder_module
from vqcodec.train import loop
from vqcodec.train import prior as prior_module
from vqcodec.train import vqvae as vqvae_module
from vqcodec.train.data import Pictures
from vqcodec.train.distributed import Part, Processes, check_batch, joined
from vqcodec.train.loop import Schedule, Status
from vqcodec.train.networks import codebooks
from vqcodec.train.networks.quantizer import VectorQuantizer
from vqcodec.train.project import Project

CROP, BATCH, STEPS = 32, 4, 5
STAGES = ("vqvae", "prior", "decoder")
CONFIG = dataclasses.replace(PATCH, vqvae=dataclasses.replace(PATCH.vqvae, restart_dead_codes=True))
NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, to load torch once")
# Sums in another order differ by relative rounding errors of 1e-7, and Muon rounds to bf16. A weight moves by about the
# learning rate per step. A hundredth of that is far more than rounding causes in a few steps, and far less than a bug.
RATE = 1e-3
TOLERANCE = 0.01 * RATE * STEPS


def settle(put: Callable[[Any, str, Any], None]) -> None:
    """Checkpoints at every step, pruning and restarts within few steps, and no bf16, whose rounding would hide bugs."""
    put(loop, "REPORT_SECONDS", -1.0)
    put(loop, "CHECKPOINT_SECONDS", -1.0)
    put(vqvae_module, "START_PICTURES", 64)
    put(vqvae_module, "PRUNE_EVERY", 3)
    put(codebooks, "DECAY", 0.8)
    put(decoder_module, "SHARE", 8)
    for module in (vqvae_module, prior_module, decoder_module):
        put(module, "autocast", lambda device: torch.autocast(device.type, enabled=False))


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch.setattr)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(6):
        Image.fromarray(synthetic(40, 48, seed)).save(folder / f"{seed}.png")
    return folder


def train(
    folder: Path,
    data: Path,
    stage: str,
    accumulate: int = 1,
    steps: int = STEPS,
    report: Callable[[Status], None] = silent,
) -> None:
    project, schedule = Project(folder, [data], report), Schedule(steps=steps, rate=RATE, accumulate=accumulate)
    if stage == "vqvae":
        project.train_vqvae(CONFIG, schedule, BATCH, CROP)
    elif stage == "prior":
        project.train_prior(schedule, BATCH, CROP)
    else:
        project.train_decoder(schedule, BATCH, CROP, 16)


def weights(folder: Path, stage: str) -> dict[str, Tensor]:
    found = load_file(folder / stage / "checkpoint.safetensors")
    return {name: tensor for name, tensor in found.items() if not name.startswith("optimizer")}


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of a weight. For the tensors of the codebooks it is relative to their largest entry."""
    assert set(a) == set(b)
    differences = []
    for name, value in a.items():
        scale = max(1.0, float(value.abs().max()) / RATE) if "quantizer" in name else 1.0
        differences.append(float((value - b[name]).abs().max()) / scale)
    return max(differences)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process with undivided steps."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        settle(patch.setattr)
        for stage in STAGES:
            train(folder, data, stage)
    return folder


def beside(folder: Path, whole: Path, stage: str) -> None:
    """Prepare a new run for one stage: copy the inputs of the stage from another run."""
    names = {
        "vqvae": [],
        "prior": ["config.json", "vqvae/checkpoint.safetensors"],
        "decoder": ["config.json", "model/*", "decoder/codes-*"],
    }
    for path in [path for name in names[stage] for path in whole.glob(name)]:
        target = folder / path.relative_to(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def run_script(script: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-c", script, str(Path(__file__).parents[1]), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(vqcodec.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr


TWO = """
import os, signal, sys, traceback
from pathlib import Path
sys.path[:0] = [sys.argv[1], f"{sys.argv[1]}/train"]
import test_distributed as tests
data, networks, resumed, prior, decoder = map(Path, sys.argv[2:7])
tests.settle(setattr)
children = []
for rank in range(2):
    child = os.fork()
    if child:
        children.append(child)
        continue
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[7]}
    os.environ |= address | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    try:
        with tests.joined():
            tests.train(networks, data, "vqvae", accumulate=2)
            tests.train(resumed, data, "vqvae")
            tests.train(prior, data, "prior")
            tests.train(decoder, data, "decoder")
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
for _ in range(2):
    if os.wait()[1]:
        for child in children:
            os.kill(child, signal.SIGKILL)
        sys.exit(1)
"""


@NEEDS_FORK
def test_two_processes_give_the_result_of_one(data: Path, whole: Path, tmp_path: Path) -> None:
    """Stage one from the start, with two parts each; stage one from a checkpoint of one process; prior; decoder."""
    with pytest.raises(Interrupted):
        train(tmp_path / "resumed", data, "vqvae", report=stop_at(2))
    for stage in ("prior", "decoder"):
        beside(tmp_path / stage, whole, stage)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stages = {"networks": "vqvae", "resumed": "vqvae", "prior": "prior", "decoder": "decoder"}
    run_script(TWO, data, *(tmp_path / name for name in stages), str(port))
    for name, stage in stages.items():
        assert distance(weights(whole, stage), weights(tmp_path / name, stage)) < TOLERANCE, name
    with (tmp_path / "networks" / "vqvae" / "log.csv").open(newline="") as file:
        losses = [(row["step"], float(row["value"])) for row in csv.DictReader(file) if row["figure"] == "loss"]
    with (whole / "vqvae" / "log.csv").open(newline="") as file:
        expected = [(row["step"], float(row["value"])) for row in csv.DictReader(file) if row["figure"] == "loss"]
    assert [step for step, _ in losses] == [step for step, _ in expected], "one process writes the log"
    assert [value for _, value in losses] == pytest.approx([value for _, value in expected], rel=1e-3)


@pytest.mark.parametrize("stage", STAGES)
def test_steps_in_parts_give_the_result_of_whole_steps(data: Path, whole: Path, tmp_path: Path, stage: str) -> None:
    beside(tmp_path / "run", whole, stage)
    train(tmp_path / "run", data, stage, accumulate=4)
    assert distance(weights(whole, stage), weights(tmp_path / "run", stage)) < TOLERANCE
    assert Processes().parts(2) == [Part(0, 2), Part(1, 2)]


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], f"{sys.argv[1]}/train"]
import test_distributed as tests
data, folder = map(Path, sys.argv[2:4])
tests.settle(setattr)
chance = random.Random(7)
checkpoint = folder / "vqvae" / "checkpoint.safetensors"
for life in range(4):
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    child = os.fork()
    if not child:
        tests.train(folder, data, "vqvae", steps=16)
        os._exit(0)
    if life < 3:
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))  # about the time of a step
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) == (life < 3), (life, status)
"""


@NEEDS_FORK
def test_a_run_that_is_killed_repeatedly_gives_the_same_result(data: Path, tmp_path: Path) -> None:
    run_script(KILLED, data, tmp_path / "killed")
    train(tmp_path / "whole", data, "vqvae", steps=16)
    runs = [load_file(tmp_path / name / "vqvae" / "checkpoint.safetensors") for name in ("whole", "killed")]
    assert set(runs[0]) == set(runs[1])
    assert [name for name in runs[0] if not torch.equal(runs[0][name], runs[1][name])] == []
    with (tmp_path / "killed" / "vqvae" / "log.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["figure"] == "loss"]
    assert steps == sorted(set(steps)), "no step is logged twice"


def test_checkpoints_contain_the_misfits(data: Path, tmp_path: Path) -> None:
    train(tmp_path, data, "vqvae", steps=2)
    memory = {name: value for name, value in weights(tmp_path, "vqvae").items() if name.startswith("memory.")}
    assert sorted(memory) == [f"memory.quantizer.misfits{g}" for g in range(3)]
    assert all(value.any() for value in memory.values())


def test_log_lines_after_the_checkpoint_are_removed(data: Path, tmp_path: Path) -> None:
    train(tmp_path, data, "vqvae", steps=2)
    log = tmp_path / "vqvae" / "log.csv"
    before = log.read_text()
    log.write_text(before + "3,1.0,loss,0.5\n3,1.0,ps")
    train(tmp_path, data, "vqvae", steps=2)
    assert log.read_text() == before


# Batches in parts.


def test_the_codebooks_learn_from_all_parts_of_a_batch() -> None:
    torch.manual_seed(1)
    z, quality = torch.randn(6, 7, 4, 4), torch.tensor([0, 1, 1, 0, 1, 0])
    learned = []
    for size in (6, 2):
        torch.manual_seed(2)
        quantizer = VectorQuantizer(CONFIG.vqvae).train()
        for part, some in zip(z.split(size), quality.split(size), strict=True):
            quantizer(part, some)
        quantizer.learn()
        learned.append(dict(quantizer.named_buffers()))
        quantizer.learn()  # there is nothing to learn from
    assert [name for name in learned[0] if not torch.equal(learned[0][name], learned[1][name])] == []


def test_a_part_of_a_batch_has_the_crops_of_the_whole() -> None:
    pictures = Pictures([synthetic(40, 48, seed) for seed in range(4)], list("abcd"))
    crops = pictures.crops(12, 24, [3, 1])
    for index in range(4):
        rows = Part(index, 4).rows(12)
        assert torch.equal(pictures.crops(3, 24, [3, 1], rows.start), crops[rows])


# Errors and warnings.


def test_a_batch_must_be_split_evenly(data: Path, tmp_path: Path) -> None:
    check_batch(6, 3)
    for stage in ("vqvae", "prior"):
        with pytest.raises(UsageError, match="multiple of 3"):
            train(tmp_path, data, stage, accumulate=3)
    assert not list(tmp_path.iterdir())


def test_processes_that_cannot_connect_get_an_error_that_names_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="torchrun"), joined():
        pass


@pytest.mark.parametrize("fields", [{"rate": 0.0}, {"rate": float("nan")}, {"minutes": float("inf"), "steps": 0}])
def test_a_schedule_needs_positive_finite_numbers(fields: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be numbers"):
        Schedule(**{"steps": 5, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_ends_the_run_before_an_update(tmp_path: Path, wrong: str) -> None:
    class Diverging(loop.Stage):
        network = nn.Linear(1, 1)
        hidden = ()
        learned = 0

        def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
            loss = self.network.weight.sum()
            if step == 2:
                loss = loss * float("inf") if wrong == "loss" else (loss - loss.detach()).abs().sqrt()
            return loss, {"loss": loss.item()}

        def learn(self) -> None:
            self.learned += 1

        def validate(self) -> dict[str, float]:
            return {}

    stage = Diverging()
    with pytest.raises(UsageError, match=r"step 2.*lower --lr"):
        loop.run(stage, tmp_path, Schedule(steps=4), silent)
    kept = load_file(tmp_path / "checkpoint.safetensors")["network.weight"]
    assert stage.learned == 2
    assert torch.equal(kept, stage.network.weight)


def test_collapsed_codebooks_cause_a_warning(data: Path, tmp_path: Path) -> None:
    told: list[Status] = []
    train(tmp_path / "fine", data, "vqvae", steps=1, report=told.append)
    assert told[-1].warnings == []
    assert told[-1].figures["val_top_perplexity_q1"] > vqvae_module.COLLAPSED
    poor = dataclasses.replace(CONFIG, vqvae=dataclasses.replace(CONFIG.vqvae, lambdas=(1e6, 0.1)))
    Project(tmp_path / "poor", [data], told.append).train_vqvae(poor, Schedule(steps=1), BATCH, CROP)
    assert [warning.split(":")[0] for warning in told[-1].warnings] == ["the codebooks have collapsed at quality 1"]


def test_event_files_are_written(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from vqcodec.train.events import Events

    train(tmp_path, data, "vqvae", steps=2, report=Events(tmp_path / "events"))
    read = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    assert [event.step for event in read.Scalars("loss")] == [1, 2]
    assert "val_psnr_q1" in read.Tags()["scalars"]
