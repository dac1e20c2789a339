"""The one training loop: steps, learning rate, checkpoints, resuming. What a step does is the stage's business.

In: a `Stage` (the autoencoder or the prior). Out: a folder with `checkpoint.safetensors`, from which the same command
goes on where it was stopped, and a line per report in `log.csv`.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vqcodec.errors import OutputError, UsageError
from vqcodec.train.optimizer import Muon, hidden_weights

__all__ = ["CHECKPOINT", "Schedule", "Stage", "Status", "autocast", "pick_device", "run"]

CHECKPOINT = "checkpoint.safetensors"  # in the folder of a run
REPORT_SECONDS = 20.0
CHECKPOINT_SECONDS = 180.0
WARM_UP = 0.02  # share of the run in which the learning rate rises
FLOOR = 0.02  # of the learning rate, at the end
CLIP = 1.0  # largest norm of the gradient


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: by steps or, where `minutes` is given, by time spent in this and earlier runs."""

    steps: int = 0
    minutes: float = 0.0
    rate: float = 3e-4  # peak learning rate
    seed: int = 1

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.minutes > 0):
            raise UsageError("give either a number of steps or of minutes, more than 0")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, 0 to 1."""
        return min(1.0, step / self.steps if self.steps else seconds / (60 * self.minutes))

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up, then half a cosine (Loshchilov & Hutter 2017, section 3)."""
        if progress < WARM_UP:
            return self.rate * (0.05 + 0.95 * progress / WARM_UP)
        cosine = 0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))
        return self.rate * (FLOOR + (1 - FLOOR) * cosine)


@dataclass(frozen=True)
class Status:
    """What is told now and then about a run."""

    step: int
    progress: float  # 0 to 1
    seconds: float  # spent in this and earlier runs
    figures: dict[str, float]  # means since the last report; validation figures begin with "val_"


class Stage(Protocol):
    """What is trained: `network` holds all that a checkpoint must keep."""

    @property
    def network(self) -> nn.Module:
        """All that is learned, as one module."""

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names of the modules whose weights are matrices between hidden layers: Muon trains them."""

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of one step, and figures to report. Must depend on nothing but the weights and the arguments."""

    def validate(self) -> dict[str, float]:
        """Figures on pictures that were not trained on."""


def pick_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> torch.autocast:
    """bf16 for the products that stand it."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def run(stage: Stage, folder: Path, schedule: Schedule, report: Callable[[Status], None]) -> None:
    """Train until the schedule ends; resumes from `folder` when it holds a checkpoint of the same network."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters = [p for p in stage.network.parameters() if p.requires_grad]
    optimizer = Muon(*hidden_weights(stage.network, stage.hidden), lr=schedule.rate)
    step, before = _resume(folder, stage.network, optimizer)
    started = last_report = last_save = time.monotonic()
    sums: dict[str, float] = {}
    since = 0
    while True:
        now = time.monotonic()
        seconds = before + now - started
        progress = schedule.progress(step, seconds)
        done = progress >= 1.0
        if since and (done or now - last_report > REPORT_SECONDS):
            figures = {key: value / since for key, value in sums.items()}
            if done or now - last_save > CHECKPOINT_SECONDS:
                figures |= {f"val_{key}": value for key, value in _validate(stage).items()}
                _save(folder, stage.network, optimizer, step, seconds)
                last_save = time.monotonic()
            status = Status(step, progress, seconds, figures)
            _log(folder, status)
            report(status)
            last_report, sums, since = time.monotonic(), {}, 0
        if done:
            return
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate(progress)
        stage.network.train()
        torch.manual_seed(schedule.seed + step)  # what a step draws does not depend on when the run was resumed
        loss, figures = stage.loss(step, progress)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        step, since = step + 1, since + 1
        for key, value in figures.items():
            sums[key] = sums.get(key, 0.0) + value


def _validate(stage: Stage) -> dict[str, float]:
    stage.network.eval()
    with torch.no_grad():
        return stage.validate()


def _save(folder: Path, network: nn.Module, optimizer: Muon, step: int, seconds: float) -> None:
    """Everything in one file, so that a kill at any moment leaves one whole checkpoint, old or new."""
    tensors = {f"network.{key}": value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
    target = folder / CHECKPOINT
    partial = folder / "checkpoint.partial"
    try:
        save_file(tensors, partial, {"progress": json.dumps({"step": step, "seconds": seconds})})
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{target}: cannot write the checkpoint ({error})") from None


def _resume(folder: Path, network: nn.Module, optimizer: Muon) -> tuple[int, float]:
    path = folder / CHECKPOINT
    if not path.exists():
        return 0, 0.0
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            progress = json.loads(file.metadata()["progress"])
            for key in file.keys():  # noqa: SIM118 -- not a mapping
                kind, _, name = key.partition(".")
                if kind == "network":
                    weights[name] = file.get_tensor(key)
                elif kind == "optimizer":
                    index, _, name = name.partition(".")
                    moments.setdefault(int(index), {})[name] = file.get_tensor(key)
                else:
                    raise KeyError(f"{key} is of another optimiser")
        network.load_state_dict(weights)
        state = optimizer.state_dict()
        optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path} does not fit this run ({reason}); give another --run folder") from None
    return progress["step"], progress["seconds"]


def _log(folder: Path, status: Status) -> None:
    """A long table: one line for each figure, so that a figure that comes seldom needs no column of its own."""
    path = folder / "log.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(["step", "seconds", "figure", "value"])
        for key, value in status.figures.items():
            writer.writerow([status.step, round(status.seconds, 1), key, f"{value:.6g}"])
