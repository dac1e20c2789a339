"""Stage two: a trained autoencoder and pictures -> a trained prior that can be exported to integers.

The autoencoder is frozen. Every step encodes new random crops, so the prior is never trained twice on the same grid of
codes. Training first uses floats. For the last part of the run it simulates the integer arithmetic of the exported
prior.

If the prior has labels, a share of the crops is trained without them (as in classifier-free guidance, Ho & Salimans
2022). So the prior also predicts pictures of unknown class, as in files, which carry no label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec.model.config import PriorConfig
from vqcodec.model.store import Model
from vqcodec.train.data import Pictures, class_names
from vqcodec.train.distributed import WHOLE, Part, pick_device, place
from vqcodec.train.loop import CHECKPOINT, Schedule, Stage, Status, run
from vqcodec.train.networks.pixelcnn import GatedPixelCNN
from vqcodec.train.networks.precision import autocast
from vqcodec.train.networks.vqvae import VQVAE
from vqcodec.train.warm_start import start_from_model

__all__ = ["PriorStage", "PriorTraining", "train_prior"]

CHUNK = 16  # pictures that are encoded or evaluated at once
VALIDATION_GRIDS = 48  # at most
UNLABELLED_SHARE = 0.1  # share of the crops that are trained without their label


@dataclass(frozen=True)
class PriorTraining:
    """Settings of stage two."""

    config: PriorConfig
    schedule: Schedule
    batch: int = 10  # grids
    crop: int = 256  # side of the training crops in pixels, a multiple of the stride
    exact_from: float = 0.7  # share of the run after which rounding is simulated


class PriorStage(Stage):
    """The training steps of the prior: each uses the codes of new crops at one quality, with the qualities in turn."""

    hidden = ("entry", "blocks", "to_state", "heads")

    def __init__(
        self,
        settings: PriorTraining,
        vqvae: VQVAE,
        training: Pictures,
        validation: Pictures,
        start: Model | None = None,
    ) -> None:
        self.settings = settings
        self.device = pick_device()
        self.vqvae = place(vqvae, self.device).eval()
        self.training = training
        self.labels = _labels(settings.config.labels, training, validation)
        crops = validation.grid(settings.crop)[:VALIDATION_GRIDS]
        self.held_out_labels = self._label(1, validation.roomy(settings.crop)[:VALIDATION_GRIDS])
        self.held_out = [
            torch.cat([self._encode(chunk, quality) for chunk in torch.split(crops, CHUNK)])
            for quality in range(vqvae.config.qualities)
        ]
        torch.manual_seed(settings.schedule.seed)
        self.network = GatedPixelCNN(vqvae.config, settings.config)
        self.network.describe_codes(vqvae.quantizer)
        if start is not None:
            start_from_model(self.network, vqvae.quantizer, start)
        self.network.to(self.device)
        self.exact = False

    @torch.no_grad()
    def _encode(self, crops: Tensor, quality: int) -> Tensor:
        """Codes [B, G, h, w] of crops [B, 3, H, W], uint8, at one quality (0-based)."""
        x = crops.to(self.device).contiguous(memory_format=torch.channels_last).float() / 255
        with autocast(self.device):
            codes: Tensor = self.vqvae.to_codes(x, quality)
        return codes

    def loss(self, step: int, progress: float, part: Part = WHOLE) -> tuple[Tensor, dict[str, float]]:
        settings = self.settings
        rows = part.rows(settings.batch)
        quality = step % self.vqvae.config.qualities
        seed = [settings.schedule.seed, 1 + step]
        crops, sources = self.training.crops_and_sources(rows.stop - rows.start, settings.crop, seed, rows.start)
        label = self._label(0, sources)
        if label is not None:
            chances = np.random.default_rng(seed).random(settings.batch)[rows]
            label[torch.from_numpy(chances) < UNLABELLED_SHARE] = -1
        codes = self._encode(crops, quality)
        self.exact = progress >= settings.exact_from
        if self.exact:
            bits = self.network.bits(codes, quality, label, exact=True)
        else:
            with autocast(self.device):
                bits = self.network.bits(codes, quality, label)
        total = bits.sum()
        return total, {"bits": total.item()}

    def validate(self) -> dict[str, float]:
        """Bits per latent position at every quality: in floats, in integers, and in integers with labels if any."""
        figures: dict[str, float] = {}
        ways: list[tuple[str, bool, Tensor | None]] = [("float", False, None), ("exact", True, None)]
        if self.held_out_labels is not None:
            ways.append(("labelled", True, self.held_out_labels))
        for quality, grids in enumerate(self.held_out):
            for name, exact, label in ways:
                labels = [None] * len(grids) if label is None else torch.split(label, CHUNK)
                parts = [
                    self.network.bits(chunk, quality, some, exact=exact).sum() * len(chunk)
                    for chunk, some in zip(torch.split(grids, CHUNK), labels, strict=False)
                ]
                figures[f"{name}_q{quality + 1}"] = float(torch.stack(parts).sum()) / len(grids)
        return figures

    def _label(self, part: int, sources: Sequence[int]) -> Tensor | None:
        """The labels [B] of pictures by their indices; -1 for the index -1. None for a prior without labels.

        `part`: 0 for training pictures, 1 for validation pictures.
        """
        if not self.labels:
            return None
        labels = self.labels[part]
        return torch.tensor([labels[index] if index >= 0 else -1 for index in sources], device=self.device)


def _labels(count: int, training: Pictures, validation: Pictures) -> list[list[int]]:
    """The labels of all training and all validation pictures; an empty list for a prior without labels."""
    if count == 0:
        return []
    place = {name: index for index, name in enumerate(class_names([training, validation], count))}
    return [[place[folder] for folder in pictures.folders] for pictures in (training, validation)]


def train_prior(
    settings: PriorTraining,
    vqvae: VQVAE,
    data: tuple[Pictures, Pictures],
    folder: Path,
    report: Callable[[Status], None],
    start: Model | None = None,
) -> GatedPixelCNN:
    """Train on the codes of data = (training, validation), with checkpoints in `folder`; returns the prior.

    `start`: a model whose prior initialises the new one, if there is no checkpoint yet.
    """
    stage = PriorStage(settings, vqvae, *data, None if (folder / CHECKPOINT).exists() else start)
    run(stage, folder, settings.schedule, report)
    return stage.network.eval().cpu()
