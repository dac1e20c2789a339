"""The common interface and training of the models.

In: a `Dataset` and a `Budget`. Out: a trained `Density`. Its method `bits` computes the bits per dimension of pictures.
The training loop, with optimiser, learning-rate schedule, checkpoints and resuming, is that of `vqcodec.train.loop`.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from benchmarks.likelihood.data import Dataset
from vqcodec.train.distributed import WHOLE, Part, pick_device, place
from vqcodec.train.loop import CHECKPOINT, Schedule, Stage, Status, run
from vqcodec.train.networks.precision import autocast

Report = Callable[[Status], None]
Spent = tuple[int, float]  # steps and seconds of training
Sheets = dict[str, list[list[Tensor]]]  # name -> rows of pictures [C, H, W], 0 to 1

START_PICTURES = 512  # for initialisations that depend on data


@dataclass(frozen=True)
class Size:
    """Sizes of the networks. Defaults as for the VQ-VAE on CIFAR-10 (van den Oord et al. 2017, section 4.1)."""

    width: int = 256  # channels of encoder and decoder
    residual_width: int = 256  # channels inside a residual block
    residual_blocks: int = 2
    codebooks: int = 10  # discrete latents at each of the 8 x 8 positions (section 3.2)
    codes: int = 512  # K
    code_dim: int = 16
    latents: int = 64  # continuous latents at each position
    flow_steps: int = 12  # at each level of Glow
    flow_width: int = 160  # channels inside a coupling
    prior_channels: int = 96
    prior_blocks: int = 6
    batch: int = 32
    samples: int = 64  # for the importance-weighted bound


FULL = Size()
# The same networks at a size that trains within seconds, for tests and quick experiments.
TINY = Size(16, 16, 1, 2, 8, 4, 4, 2, 16, 16, 2, 8, 4)


@dataclass(frozen=True)
class Budget:
    """The training budget of a model with all its parts, in minutes or steps."""

    minutes: float = 0.0
    steps: int = 0
    seed: int = 1

    def schedule(self, share: float, rate: float) -> Schedule:
        """The schedule for a share of the budget, at a peak learning rate."""
        steps = max(1, round(share * self.steps)) if self.steps else 0
        return Schedule(steps=steps, minutes=share * self.minutes, rate=rate, seed=self.seed)


class Density(nn.Module):
    """A density model of pictures x [B, C, H, W], uint8, with labels [B] (-1: unknown)."""

    hidden: tuple[str, ...] = ()  # names of the modules whose weights are matrices between hidden layers
    rate = 2e-3  # peak learning rate

    def __init__(self, dataset: Dataset, size: Size) -> None:
        super().__init__()
        self.size, self.side, self.channels, self.dims = size, dataset.train.side, dataset.train.channels, dataset.dims

    def start(self, x: Tensor, label: Tensor) -> None:
        """Data-dependent initialisation before the first step."""
        return

    @abstractmethod
    def loss(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Tensor:
        """The training loss, in bits per dimension: [B]. All random numbers come from `noise`."""

    def learn(self) -> None:
        """Updates after a step that do not use gradients."""
        return

    @abstractmethod
    def bits(self, x: Tensor, label: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        """Bits per dimension [B] of the pictures, for each measure in the table."""

    def sheets(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Sheets:
        """Sheets of pictures that show what the model has learned. x: some test pictures."""
        return {}

    def fit(self, dataset: Dataset, folder: Path, budget: Budget, report: Report) -> Spent:
        """Train, or resume a training, with checkpoints in `folder`."""
        return train(DensityStage(self, dataset, budget.seed), folder, budget.schedule(1.0, self.rate), report)


class DensityStage(Stage):
    """Training stage: each step computes the model's loss on random pictures."""

    def __init__(self, model: Density, dataset: Dataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.device = pick_device()
        self.network, self.hidden = model, model.hidden
        torch.manual_seed(seed)
        x, label = dataset.train.batch(min(START_PICTURES, len(dataset.train)), [seed, 0])
        with torch.no_grad():
            model.start(x, label)
        place(model, self.device)

    def loss(self, step: int, progress: float, part: Part = WHOLE) -> tuple[Tensor, dict[str, float]]:
        rows = part.rows(self.network.size.batch)
        x, label = self.dataset.train.batch(rows.stop - rows.start, [self.seed, 1 + step], rows.start)
        noise = torch.Generator(self.device).manual_seed((self.seed << 40) + (step << 10) + rows.start)
        with autocast(self.device):
            loss = self.network.loss(x.to(self.device), label.to(self.device), noise).mean()
        return loss, {"loss": loss.item()}

    def learn(self) -> None:
        self.network.learn()

    def validate(self) -> dict[str, float]:
        """The mean loss on the held-out pictures."""
        x, label = self.dataset.held_out.first(len(self.dataset.held_out))
        noise = torch.Generator(self.device).manual_seed(0)
        losses = [
            self.network.loss(some.to(self.device), its.to(self.device), noise)
            for some, its in zip(x.split(64), label.split(64), strict=True)
        ]
        return {"loss": torch.cat(losses).mean().item()}


def train(stage: Stage, folder: Path, schedule: Schedule, report: Report) -> Spent:
    """Train a stage with the package's loop, or resume it. Returns the steps and seconds of training."""
    run(stage, folder, schedule, report)
    with safe_open(folder / CHECKPOINT, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
    return progress["step"], progress["seconds"]
