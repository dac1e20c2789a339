"""The one training loop: steps, learning rate, checkpoints, resuming. What a step does is the stage's business.

In: a `Stage` (the autoencoder or the prior). Out: a folder with `checkpoint.safetensors`, from which the same command
goes on where it was stopped, and a line for each figure of a report in `log.csv`.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vqcodec.errors import OutputError, UsageError
from vqcodec.train.distributed import Part, Processes
from vqcodec.train.optimizer import Muon, hidden_weights

__all__ = ["CHECKPOINT", "Schedule", "Stage", "Status", "autocast", "run"]

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
    accumulate: int = 1  # parts of a batch that each process computes one after another: less memory, same result

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.minutes > 0):
            raise UsageError("give either a number of steps or of minutes, more than 0")
        if not (0 < self.rate < math.inf and self.minutes < math.inf):
            raise UsageError("the learning rate and the minutes must be numbers, more than 0")

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
    warnings: list[str] = field(default_factory=list)  # of what validation found


class Stage(Protocol):
    """What is trained: `network` holds all that is learned. A step is prepare, loss for each part, learn."""

    network: nn.Module
    hidden: tuple[str, ...]  # names of the modules whose weights are matrices between hidden layers: Muon trains them

    @property
    def memory(self) -> dict[str, Tensor]:
        """What else a step depends on: is kept in checkpoints, but not in models."""
        return {}

    def prepare(self, step: int, progress: float) -> None:
        """What comes before the first part of a step."""
        return

    def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
        """The loss of a part of a step, a mean over its pictures, and figures to report.

        Must depend on nothing but the weights, the memory and the arguments, and draw from no generator of torch.
        """

    def learn(self) -> None:
        """What is learned otherwise than by gradient, after the last part of a step."""
        return

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures on pictures that were not trained on."""

    def warnings(self, figures: dict[str, float]) -> list[str]:
        """What is wrong with the figures of a validation, a line for each thing."""
        return []


def autocast(device: torch.device) -> torch.autocast:
    """bf16 for the products that stand it."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def run(stage: Stage, folder: Path, schedule: Schedule, report: Callable[[Status], None]) -> None:
    """Train until the schedule ends; resumes from `folder` when it holds a checkpoint of the same network.

    Of several processes the first one reports and writes.
    """
    processes = Processes()
    optimizer = Muon(*hidden_weights(stage.network, stage.hidden), lr=schedule.rate)
    step, before = _resume(folder, stage, optimizer)
    if processes.agree(step) != step:
        raise UsageError(f"the processes see different checkpoints; {folder} must be the same folder for all of them")
    processes.follow([*stage.network.parameters(), *stage.network.buffers()])
    if processes.first:
        folder.mkdir(parents=True, exist_ok=True)
        _shorten_log(folder, step)
    started = time.monotonic()
    last_report = last_save = before
    sums: dict[str, float] = {}
    since = 0
    while True:
        seconds = processes.agree(before + time.monotonic() - started)
        progress = schedule.progress(step, seconds)
        done = progress >= 1.0
        if processes.first and since and (done or seconds - last_report > REPORT_SECONDS):
            figures = {key: value / since for key, value in sums.items()}
            warnings: list[str] = []
            if done or seconds - last_save > CHECKPOINT_SECONDS:
                found = _validate(stage)
                warnings = stage.warnings(found)
                figures |= {f"val_{key}": value for key, value in found.items()}
                _save(folder, stage, optimizer, step, seconds)
                last_save = before + time.monotonic() - started
            status = Status(step, progress, seconds, figures, warnings)
            _log(folder, status)
            report(status)
            last_report, sums, since = before + time.monotonic() - started, {}, 0
        if done:
            return
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate(progress)
        torch.manual_seed(schedule.seed + step)  # what a step draws does not depend on when the run was resumed
        figures = _step(stage, optimizer, step, progress, processes.parts(schedule.accumulate))
        step, since = step + 1, since + 1
        for key, value in figures.items():
            sums[key] = sums.get(key, 0.0) + value


def _step(stage: Stage, optimizer: Muon, step: int, progress: float, parts: Sequence[Part]) -> dict[str, float]:
    """One step, of which this process computes `parts`; returns the figures of the whole step."""
    parameters = [p for p in stage.network.parameters() if p.requires_grad]
    stage.network.train()
    stage.prepare(step, progress)
    optimizer.zero_grad(set_to_none=True)
    figures: dict[str, float] = {}
    for part in parts:
        loss, found = stage.loss(step, progress, part)
        (loss / part.count).backward()  # type: ignore[no-untyped-call]
        for key, value in found.items():
            figures[key] = figures.get(key, 0.0) + value / part.count
    processes = Processes()
    processes.add_up_gradients(parameters)
    figures = processes.total(figures)
    norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    if not (torch.isfinite(norm) and all(map(math.isfinite, figures.values()))):
        raise UsageError(
            f"step {step}: the loss or its gradient is no finite number any more; give a lower --lr "
            "(the same --run goes on from its last checkpoint, a new one starts anew)"
        )
    stage.learn()
    optimizer.step()
    return figures


def _validate(stage: Stage) -> dict[str, float]:
    stage.network.eval()
    with torch.no_grad():
        return stage.validate()


def _save(folder: Path, stage: Stage, optimizer: Muon, step: int, seconds: float) -> None:
    """Everything in one file, so that a kill at any moment leaves one whole checkpoint, old or new."""
    kept = {f"network.{key}": value for key, value in stage.network.state_dict().items()}
    kept |= {f"memory.{key}": value for key, value in stage.memory.items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            kept[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    tensors = {key: value.detach().cpu().contiguous() for key, value in kept.items()}
    target = folder / CHECKPOINT
    partial = folder / "checkpoint.partial"
    try:
        save_file(tensors, partial, {"progress": json.dumps({"step": step, "seconds": seconds})})
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{target}: cannot write the checkpoint ({error})") from None


def _resume(folder: Path, stage: Stage, optimizer: Muon) -> tuple[int, float]:
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
                elif kind == "memory":  # not in checkpoints of earlier versions
                    stage.memory[name].copy_(file.get_tensor(key))
                else:
                    raise KeyError(f"{key} is of another optimiser")
        stage.network.load_state_dict(weights)
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


def _shorten_log(folder: Path, step: int) -> None:
    """Leave out what came after the checkpoint of a run that was killed: those steps come again."""
    path = folder / "log.csv"
    if not path.exists():
        return
    with path.open(newline="") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    kept = [row for row in rows if len(row) == len(head) and row[0].isdecimal() and int(row[0]) <= step]
    if len(kept) < len(rows):
        partial = folder / "log.partial"
        with partial.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *kept])
        os.replace(partial, path)
