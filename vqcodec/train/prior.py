"""Stage two: a trained autoencoder and its pictures -> trained prior, in integers.

The autoencoder is frozen; its codes are made anew from the crops of every step, so the prior never sees one grid twice.
It first learns in floats and then, for the last part of the run, in the arithmetic of the integers it will be exported
to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vqcodec.config import PriorConfig
from vqcodec.nn.pixelcnn import GatedPixelCNN
from vqcodec.nn.vqvae import VQVAE
from vqcodec.train.data import Pictures
from vqcodec.train.loop import Schedule, Status, autocast, pick_device, run

__all__ = ["PriorStage", "PriorTraining", "train_prior"]

CHUNK = 16  # pictures that the encoder sees at once
VALIDATION_GRIDS = 48


@dataclass(frozen=True)
class PriorTraining:
    """Settings of stage two."""

    config: PriorConfig
    schedule: Schedule
    batch: int = 10  # grids
    crop: int = 256  # pixels of a training picture, each way; a multiple of the stride
    exact_from: float = 0.7  # share of the run after which rounding is simulated


class PriorStage:
    """One step of the prior's training: the codes of fresh crops at one quality, qualities in turn."""

    hidden = ("entry", "blocks", "to_state", "heads")

    def __init__(self, settings: PriorTraining, vqvae: VQVAE, training: Pictures, validation: Pictures) -> None:
        self.settings = settings
        self.device = pick_device()
        self.vqvae = vqvae.to(self.device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.training = training
        crops = validation.grid(settings.crop)[:VALIDATION_GRIDS]
        self.held_out = [
            torch.cat([self._encode(chunk, quality) for chunk in torch.split(crops, CHUNK)])
            for quality in range(vqvae.config.qualities)
        ]
        torch.manual_seed(settings.schedule.seed)
        self.network = GatedPixelCNN(vqvae.config, settings.config)
        self.network.describe_codes(vqvae.quantizer)
        self.network.to(self.device)
        self.exact = False

    @torch.no_grad()
    def _encode(self, crops: Tensor, quality: int) -> Tensor:
        """Codes [B, G, h, w] of crops [B, 3, H, W], uint8."""
        x = crops.to(self.device).contiguous(memory_format=torch.channels_last).float() / 255
        with autocast(self.device):
            codes: Tensor = self.vqvae.encode(x, quality)
        return codes

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        settings = self.settings
        quality = step % self.vqvae.config.qualities
        crops = self.training.crops(settings.batch, settings.crop, [settings.schedule.seed, 1 + step])
        codes = self._encode(crops, quality)
        self.exact = progress >= settings.exact_from
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
                    self.network.bits(chunk, quality, exact=exact).sum() * len(chunk)
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
    stage = PriorStage(settings, vqvae, *data)
    run(stage, folder, settings.schedule, report)
    return stage.network.eval().cpu()
