"""The training loop: steps, learning rate, checkpoints, resuming. The stage defines what a step computes.

In: a `Stage` (autoencoder, prior or decoder). Out: a folder with `checkpoint.safetensors`, from which the same command
resumes an interrupted run, and `log.csv` with one line for each figure of a report.
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

__all__ = ["CHECKPOINT", "Schedule", "Stage", "Status", "run"]

CHECKPOINT = "checkpoint.safetensors"  # in the folder of a run
REPORT_SECONDS = 20.0
CHECKPOINT_SECONDS = 180.0
BETWEEN_VALIDATIONS = 10  # times as long as the last validation took, at least; the other processes wait for it
WARM_UP = 0.02  # share of the run in which the learning rate rises
FLOOR = 0.02  # final learning rate, as a share of the peak
CLIP = 1.0  # largest norm of the gradient; larger ones are scaled down


@dataclass(frozen=True)
class Schedule:
    """The length and learning rate of a run: the length is in steps or in `minutes`, which count earlier runs too.

    Raises `UsageError` for values that are not positive and finite, or if both steps and minutes are given.
    """

    steps: int = 0
    minutes: float = 0.0
    rate: float = 3e-4  # peak learning rate
    seed: int = 1
    accumulate: int = 1  # parts of a batch that each process computes one at a time: less memory, same result

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.minutes > 0):
            raise UsageError("give either steps or minutes, and a number above 0")
        if not (0 < self.rate < math.inf and self.minutes < math.inf):
            raise UsageError("the learning rate and the minutes must be numbers above 0")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, 0 to 1."""
        return min(1.0, step / self.steps if self.steps else seconds / (60 * self.minutes))

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up, then cosine decay (Loshchilov & Hutter 2017, section 3)."""
        if progress < WARM_UP:
            return self.rate * (0.05 + 0.95 * progress / WARM_UP)
        cosine = 0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))
        return self.rate * (FLOOR + (1 - FLOOR) * cosine)


@dataclass(frozen=True)
class Status:
    """A report on a run."""

    step: int
    progress: float  # 0 to 1
    seconds: float  # spent in this and earlier runs
    figures: dict[str, float]  # means since the last report; validation figures begin with "val_"
    warnings: list[str] = field(default_factory=list)  # problems found by validation


class Stage(Protocol):
    """A training stage. `network` holds everything that is learned.

    The loop calls for each step: `prepare` once, `loss` for each part of the batch, `learn` once.
    """

    network: nn.Module
    hidden: tuple[str, ...]  # names of modules with hidden layers: Muon trains their weight matrices

    @property
    def memory(self) -> dict[str, Tensor]:
        """Further state that a step depends on. It is stored in checkpoints, but not in models."""
        return {}

    def prepare(self, step: int, progress: float) -> None:
        """Called before the first part of a step."""
        return

    def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
        """The loss of one part of a step, a mean over its pictures, and figures to report.

        Must depend only on the weights, the memory and the arguments, and must not use torch's random generators.
        """

    def learn(self) -> None:
        """Updates that do not use gradients; called after the last part of a step."""
        return

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures on pictures that are not trained on."""

    def warnings(self, figures: dict[str, float]) -> list[str]:
        """Problems that the figures of a validation show, one line for each."""
        return []


def run(stage: Stage, folder: Path, schedule: Schedule, report: Callable[[Status], None]) -> None:
    """Train until the schedule ends. Resumes if `folder` holds a checkpoint of the same network.

    With several processes, only the first one reports and writes files. Raises `UsageError` for a checkpoint that does
    not fit and for a loss that is not finite, `OutputError` if a checkpoint cannot be written.
    """
    processes = Processes()
    optimizer = Muon(*hidden_weights(stage.network, stage.hidden), lr=schedule.rate)
    step, before = _resume(folder, stage, optimizer)
    if processes.agree(step) != step:
        raise UsageError(f"the processes read different checkpoints; {folder} must be the same folder for all of them")
    processes.follow([*stage.network.parameters(), *stage.network.buffers()])
    if processes.first:
        folder.mkdir(parents=True, exist_ok=True)
        _shorten_log(folder, step)
    started = time.monotonic()
    last_report = last_save = next_validation = before
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
                if done or seconds > next_validation:
                    found = _validate(stage)
                    warnings = stage.warnings(found)
                    figures |= {f"val_{key}": value for key, value in found.items()}
                    taken = before + time.monotonic() - started - seconds
                    next_validation = seconds + (1 + BETWEEN_VALIDATIONS) * taken
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
        torch.manual_seed(schedule.seed + step)  # so that random numbers do not depend on when the run was resumed
        figures = _step(stage, optimizer, step, progress, processes.parts(schedule.accumulate))
        step, since = step + 1, since + 1
        for key, value in figures.items():
            sums[key] = sums.get(key, 0.0) + value


def _step(stage: Stage, optimizer: Muon, step: int, progress: float, parts: Sequence[Part]) -> dict[str, float]:
    """Run one step, of which this process computes `parts`. Returns the figures of the whole step."""
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
            f"step {step}: the loss or its gradient is not finite; give a lower --lr "
            "(the same --run resumes from its last checkpoint, a new one starts from the beginning)"
        )
    stage.learn()
    optimizer.step()
    return figures


def _validate(stage: Stage) -> dict[str, float]:
    stage.network.eval()
    with torch.no_grad():
        return stage.validate()


def _save(folder: Path, stage: Stage, optimizer: Muon, step: int, seconds: float) -> None:
    """Write the checkpoint atomically, as a single file: a kill at any time leaves a complete checkpoint."""
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
    """Load the checkpoint in `folder`, if there is one. Returns the steps and the seconds that are done."""
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
                elif kind == "memory":  # missing in checkpoints of earlier versions
                    stage.memory[name].copy_(file.get_tensor(key))
                else:
                    raise KeyError(f"{key} belongs to another optimiser")
        stage.network.load_state_dict(weights)
        state = optimizer.state_dict()
        optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path} does not fit this run ({reason}); give another --run folder") from None
    return progress["step"], progress["seconds"]


def _log(folder: Path, status: Status) -> None:
    """Append a report to the log, a table in long format: one line for each figure, because not all come every time."""
    path = folder / "log.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(["step", "seconds", "figure", "value"])
        for key, value in status.figures.items():
            writer.writerow([status.step, round(status.seconds, 1), key, f"{value:.6g}"])


def _shorten_log(folder: Path, step: int) -> None:
    """Remove the log lines after the checkpoint of a run that was killed, because those steps will be repeated."""
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
