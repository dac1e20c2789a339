"""Stage three: a finished model and pictures -> the same model with a decoder trained on the codes of the search.

In stage one the decoder is trained on the codes that are nearest to the latents. But files hold the codes of the
encoder's search (code_search.py). These depend on the prior and take seconds per picture. So this stage searches them
once, for a fixed set of crops, and then trains only the decoder on them. Encoder, codebooks and prior do not change.

The search depends on the decoded picture, so with the new decoder it finds different codes. They are a few tenths of a
percent larger, but the gain in quality is worth more than that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vqcodec.codec.codec import DEFAULT_EFFORT, Codec
from vqcodec.model.store import Model
from vqcodec.train.data import Pictures
from vqcodec.train.distributed import WHOLE, Part, Processes, pick_device, place
from vqcodec.train.loop import Schedule, Stage, Status, run
from vqcodec.train.networks.distortion import distortion, structure_shares
from vqcodec.train.networks.precision import autocast
from vqcodec.train.networks.vqvae import VQVAE, to_samples
from vqcodec.train.networks.weights import open_network

__all__ = ["CodesToSearch", "DecoderStage", "DecoderTraining", "Searched", "searched_codes", "train_decoder"]

SHARE = 64  # crops per file; the validation set is one more file


@dataclass(frozen=True)
class CodesToSearch:
    """Which crops to search codes for, for the stages that train on such codes."""

    crop: int = 256  # side in pixels, a multiple of the stride
    crops: int = 4096  # number for all qualities together, rounded up to whole files
    seed: int = 1
    effort: int = DEFAULT_EFFORT


@dataclass(frozen=True)
class DecoderTraining:
    """Settings of stage three."""

    schedule: Schedule
    codes: CodesToSearch
    batch: int = 8


@dataclass(frozen=True)
class Searched:
    """Crops [N, H, W, 3], uint8, and the codes [N, G, h, w], int32, found by the search at qualities [N] (0-based)."""

    pixels: Tensor
    codes: Tensor
    quality: Tensor


class DecoderStage(Stage):
    """The training steps of the decoder, on crops and codes that were computed before."""

    hidden = ("stem", "blocks", "up")

    def __init__(self, settings: DecoderTraining, network: VQVAE, training: Searched, validation: Searched) -> None:
        self.settings, self.training, self.held_out = settings, training, validation
        self.device = pick_device()
        self.network = place(network, self.device)
        self.network.quantizer.restart_averages()  # a model does not store the averages, but checkpoints do
        self.network.requires_grad_(False)
        self.network.decoder.requires_grad_(True)

    def loss(self, step: int, progress: float, part: Part = WHOLE) -> tuple[Tensor, dict[str, float]]:
        settings = self.settings
        rng = np.random.default_rng([settings.schedule.seed, 1 + step])
        rows = torch.from_numpy(
            rng.integers(len(self.training.quality), size=settings.batch)[part.rows(settings.batch)]
        )
        decoded, pictures, quality = self._decoded(self.training, rows)
        found = distortion(decoded, pictures, structure_shares(self.network.config, quality))
        psnr = -10 * (decoded.detach() - pictures).square().mean((1, 2, 3)).clamp_min(1e-10).log10().mean()
        # As in stage one: a relative change of the distortion has the same weight at every quality.
        weight = self.network.quantizer.lambdas[quality].clamp_min(1e-3).rsqrt()
        loss = (weight * found).mean()
        return loss, {"loss": loss.item(), "psnr": psnr.item()}

    def validate(self) -> dict[str, float]:
        """The mean PSNR of the held-out crops at every quality."""
        figures: dict[str, float] = {}
        for quality in range(self.network.config.qualities):
            rows = (self.held_out.quality == quality).nonzero()[:, 0]
            if len(rows):
                decoded, pictures, _ = self._decoded(self.held_out, rows)
                errors = (to_samples(decoded) / 255 - pictures).square().mean((1, 2, 3))
                figures[f"psnr_q{quality + 1}"] = float(-10 * errors.clamp_min(1e-10).log10().mean())
        return figures

    def _decoded(self, data: Searched, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The crops with the indices `rows` [B]: decoded and original [B, 3, H, W], 0 to 1, and their qualities [B]."""
        quality = data.quality[rows].to(self.device)
        x = data.pixels[rows].to(self.device).permute(0, 3, 1, 2).float() / 255  # channels last in memory
        latents = self.network.quantizer.dequantize_each(data.codes[rows].to(self.device), quality)
        with autocast(self.device):
            y = self.network.decoder(latents.contiguous(memory_format=torch.channels_last), quality).float()
        return y, x, quality


def train_decoder(
    settings: DecoderTraining,
    model: Model,
    data: tuple[Pictures, Pictures],
    folder: Path,
    report: Callable[[Status], None],
    progress: Callable[[float], None] | None = None,
) -> VQVAE:
    """Train the decoder of a model on data = (training, validation) and return the networks.

    `folder` holds checkpoints and the searched codes, so that an interrupted run can resume. `progress` reports on the
    search.
    """
    training, held_out = searched_codes(settings.codes, model, data, folder, progress)
    stage = DecoderStage(settings, open_network(model), training, held_out)
    run(stage, folder, settings.schedule, report)
    return stage.network.eval().cpu()


def searched_codes(
    settings: CodesToSearch,
    model: Model,
    data: tuple[Pictures, Pictures],
    folder: Path,
    progress: Callable[[float], None] | None = None,
) -> tuple[Searched, Searched]:
    """Crops of data = (training, validation) with the codes that the model's search finds for them.

    Reads the files in `folder`, and computes those that are missing; several processes share this work.
    """
    codec, processes = Codec(model), Processes()
    parts: list[int | None] = [None, *range(-(-settings.crops // SHARE))]
    folder.mkdir(parents=True, exist_ok=True)
    mine = parts[processes.rank :: processes.count]
    for done, part in enumerate(mine, 1):
        path = folder / _name(settings, part)
        if not path.exists():
            _search(codec, settings, data, part, path)
        if progress:
            progress(done / len(mine))
    processes.wait()
    held_out, *found = (load_file(folder / _name(settings, part)) for part in parts)
    training = {key: torch.cat([each[key] for each in found]) for key in held_out}
    return Searched(**training), Searched(**held_out)


def _search(
    codec: Codec, settings: CodesToSearch, data: tuple[Pictures, Pictures], part: int | None, path: Path
) -> None:
    """Write one file of crops, their qualities (each in turn) and the codes that the search finds for them.

    `part`: the index of the file; None: the validation set.
    """
    training, validation = data
    seed = [settings.seed, 0, 0 if part is None else 1 + part]
    crops = (validation if part is None else training).crops(SHARE, settings.crop, seed)
    pixels = crops.permute(0, 2, 3, 1).contiguous()
    quality = torch.arange(SHARE) % codec.model.config.vqvae.qualities
    codes = [
        codec.to_codes(each.numpy(), at + 1, effort=settings.effort)
        for each, at in zip(pixels, quality.tolist(), strict=True)
    ]
    partial = path.with_suffix(".partial")
    save_file({"pixels": pixels, "codes": torch.from_numpy(np.stack(codes)), "quality": quality}, partial)
    os.replace(partial, path)


def _name(settings: CodesToSearch, index: int | None) -> str:
    """The name of a file of codes; None: the validation set. It contains the settings that the codes depend on."""
    part = "held-out" if index is None else f"{index:05d}"
    return f"codes-{settings.crop}px-effort{settings.effort}-seed{settings.seed}-{part}.safetensors"
