"""Stage three: a finished model and its pictures -> the same model with a decoder for the codes that files hold.

In stage one the decoder sees the codes that are nearest to the latents. Files hold those of the encoder's search
(refine.py), which depend on the prior and take seconds a picture: so they are made once, for crops that stay, and only
the decoder learns from them. Encoder, codebooks and prior stay as they are. A new search, which looks at the decoded
picture, finds other codes with the new decoder, some tenths of a percent larger and better by more.
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
from vqcodec.nn.vqvae import VQVAE, to_samples
from vqcodec.nn.weights import open_network
from vqcodec.train.data import Pictures
from vqcodec.train.distributed import WHOLE, Part, Processes, pick_device
from vqcodec.train.loop import Schedule, Stage, Status, autocast, run

__all__ = ["CodesToSearch", "DecoderStage", "DecoderTraining", "Searched", "searched_codes", "train_decoder"]

SHARE = 64  # crops in a file; as many are held out


@dataclass(frozen=True)
class CodesToSearch:
    """Which codes are made for the stages that need those of the search."""

    crop: int = 256  # pixels, a multiple of the stride
    crops: int = 4096  # of all qualities together, rounded up to whole files
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
    """Crops [N, H, W, 3], uint8, and the codes [N, G, h, w], int32, that the search found at the qualities [N]."""

    pixels: Tensor
    codes: Tensor
    quality: Tensor


class DecoderStage(Stage):
    """One step of the decoder's training, on crops and codes that were made before."""

    hidden = ("stem", "blocks", "up")

    def __init__(self, settings: DecoderTraining, network: VQVAE, training: Searched, validation: Searched) -> None:
        self.settings, self.training, self.held_out = settings, training, validation
        self.device = pick_device()
        self.network: VQVAE = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.quantizer.restart_averages()  # not in a model, but in checkpoints
        self.network.requires_grad_(False)
        self.network.decoder.requires_grad_(True)

    def loss(self, step: int, progress: float, part: Part = WHOLE) -> tuple[Tensor, dict[str, float]]:
        settings = self.settings
        rng = np.random.default_rng([settings.schedule.seed, 1 + step])
        rows = torch.from_numpy(
            rng.integers(len(self.training.quality), size=settings.batch)[part.rows(settings.batch)]
        )
        errors, quality = self._errors(self.training, rows)
        psnr = -10 * errors.detach().clamp_min(1e-10).log10().mean()
        # As in stage one: a percent of the distortion pulls with the same force at every quality.
        weight = self.network.quantizer.lambdas[quality].clamp_min(1e-3).rsqrt()
        loss = (weight * errors).mean()
        return loss, {"loss": loss.item(), "psnr": psnr.item()}

    def validate(self) -> dict[str, float]:
        """The mean PSNR of the held-out crops at every quality."""
        figures: dict[str, float] = {}
        for quality in range(self.network.config.qualities):
            rows = (self.held_out.quality == quality).nonzero()[:, 0]
            if len(rows):
                errors, _ = self._errors(self.held_out, rows, whole_numbers=True)
                figures[f"psnr_q{quality + 1}"] = float(-10 * errors.clamp_min(1e-10).log10().mean())
        return figures

    def _errors(self, of: Searched, rows: Tensor, *, whole_numbers: bool = False) -> tuple[Tensor, Tensor]:
        """Mean squared errors [B] of decoded crops, those of the given `rows`, and their qualities [B]."""
        quality = of.quality[rows].to(self.device)
        x = of.pixels[rows].to(self.device).permute(0, 3, 1, 2).float() / 255  # channels last in memory
        latents = self.network.quantizer.dequantize_each(of.codes[rows].to(self.device), quality)
        with autocast(self.device):
            y = self.network.decoder(latents.contiguous(memory_format=torch.channels_last), quality).float()
        if whole_numbers:
            y = to_samples(y) / 255
        return (y - x).square().mean((1, 2, 3)), quality


def train_decoder(
    settings: DecoderTraining,
    model: Model,
    data: tuple[Pictures, Pictures],
    folder: Path,
    report: Callable[[Status], None],
    progress: Callable[[float], None] | None = None,
) -> VQVAE:
    """Train the decoder of a model on data = (training, validation), checkpoints in `folder`; returns the networks.

    The codes are kept in `folder` too: a run that was stopped goes on with them. `progress` is of their making.
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
    """Crops of data = (training, validation), and their codes by the model's search; made where `folder` lacks them."""
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
    """Write crops, their qualities in turn, and the codes that the search finds for them."""
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
    """Of the file with a part of the codes; None: those that are held out. It says what they depend on."""
    part = "held-out" if index is None else f"{index:05d}"
    return f"codes-{settings.crop}px-effort{settings.effort}-seed{settings.seed}-{part}.safetensors"
