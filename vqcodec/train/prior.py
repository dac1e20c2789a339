"""Stage two: a trained autoencoder and its pictures -> trained prior, in integers.

The autoencoder is frozen; its codes of all training pictures are computed once. The prior first learns in floats and
then, for the last part of the run, in the arithmetic of the integers it will be exported to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec.config import PriorConfig
from vqcodec.nn.pixelcnn import GatedPixelCNN
from vqcodec.nn.vqvae import VQVAE
from vqcodec.train.data import Pictures
from vqcodec.train.loop import Schedule, Status, autocast, pick_device, run

__all__ = ["PriorTraining", "encode_all", "train_prior"]

CHUNK = 16  # pictures that the encoder sees at once
VALIDATION_GRIDS = 48


@dataclass(frozen=True)
class PriorTraining:
    """Settings of stage two."""

    config: PriorConfig
    schedule: Schedule
    batch: int = 10  # grids
    crop: int = 256  # pixels of a training picture, each way; a multiple of the stride
    exact_from: float = 0.5  # share of the run after which rounding is simulated


class PriorStage:
    """One step of the prior's training: a batch of grids of one quality, qualities in turn."""

    hidden = ("entry", "blocks", "to_state", "heads")

    def __init__(self, settings: PriorTraining, vqvae: VQVAE, codes: tuple[Tensor, Tensor]) -> None:
        self.settings = settings
        self.device = pick_device()
        self.training, self.held_out = codes  # [Q, N, G, h, w]
        torch.manual_seed(settings.schedule.seed)
        self.network = GatedPixelCNN(vqvae.config, settings.config)
        self.network.describe_codes(vqvae.quantizer)
        self.network.to(self.device)
        self.exact = False

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([self.settings.schedule.seed, step])
        quality = step % self.training.shape[0]
        grids = rng.integers(self.training.shape[1], size=self.settings.batch)
        codes = self.training[quality, torch.from_numpy(grids)].long().to(self.device)
        self.exact = progress >= self.settings.exact_from
        if self.exact:
            bits = self.network.bits(codes, quality, exact=True)
        else:
            with autocast(self.device):
                bits = self.network.bits(codes, quality)
        total = bits.sum()
        return total, {"bits": total.item()}

    def validate(self) -> dict[str, float]:
        """Bits per latent position at every quality, in floats and in integers."""
        figures: dict[str, float] = {}
        for quality, grids in enumerate(self.held_out):
            for name, exact in (("float", False), ("exact", True)):
                parts = [
                    self.network.bits(chunk.long().to(self.device), quality, exact=exact).sum() * len(chunk)
                    for chunk in torch.split(grids, CHUNK)
                ]
                figures[f"{name}_q{quality + 1}"] = float(torch.stack(parts).sum()) / len(grids)
        return figures


def train_prior(
    settings: PriorTraining,
    vqvae: VQVAE,
    data: tuple[Pictures, Pictures],
    folder: Path,
    report: Callable[[Status], None],
) -> GatedPixelCNN:
    """Train on the codes of data = (training, validation), checkpoints in `folder`; returns the prior."""
    training, validation = data
    rng = np.random.default_rng([settings.schedule.seed, 7])
    codes = encode_all(vqvae, training, settings.crop, rng), encode_all(vqvae, validation, settings.crop, None)
    stage = PriorStage(settings, vqvae, (codes[0], codes[1][:, :VALIDATION_GRIDS]))
    run(stage, folder, settings.schedule, report)
    return stage.network.eval().cpu()


@torch.no_grad()
def encode_all(vqvae: VQVAE, pictures: Pictures, side: int, rng: np.random.Generator | None) -> Tensor:
    """Codes [Q, N, G, side/stride, side/stride] (uint8 or int16) of a crop of every picture, at every quality.

    With `rng` the crops are mirrored at random, otherwise as they are.
    """
    device = pick_device()
    vqvae.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    kind = torch.uint8 if all(size <= 256 for size, _ in vqvae.config.codebooks) else torch.int16
    crops = pictures.grid(side)
    qualities = []
    for quality in range(vqvae.config.qualities):
        parts = []
        for chunk in torch.split(crops, CHUNK):
            x = chunk.to(device).float() / 255
            if rng is not None:
                mirrored = torch.from_numpy(rng.random(len(x)) < 0.5).to(device)
                x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
            with autocast(device):
                codes = vqvae.encode(x.contiguous(memory_format=torch.channels_last), quality)
            parts.append(codes.to(kind).cpu())
        qualities.append(torch.cat(parts))
    return torch.stack(qualities)
