"""Stage one: pictures -> trained autoencoder and codebooks.

The loss is distortion + lambda * rate + beta * commitment (+ the codebook term when the codebooks learn by gradient):
van den Oord et al. 2017, equation 3, with the expected bits of the codes added (entropy-constrained quantisation).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec.model.config import VQVAEConfig
from vqcodec.nn.vqvae import PIXEL_SCALE, VQVAE, start_from_pca
from vqcodec.train.data import Pictures
from vqcodec.train.distributed import WHOLE, Part, Processes, pick_device
from vqcodec.train.loop import CHECKPOINT, Schedule, Stage, Status, autocast, run

__all__ = ["VQVAETraining", "train_vqvae"]

START_PICTURES = 512  # for PCA, k-means and the variance of the data
START_LATENTS = 16384  # per quality, for k-means
VALIDATION_PICTURES = 64
PRUNE_EVERY = 200  # steps; about what the moving averages remember
# Largest perplexity of a codebook, of all at a quality, that is none any more: one bit. With a rate term most codebooks
# of a low quality are rightly close to 1, but in pictures that differ at all some codebook tells a position's colour.
COLLAPSED = 2.0
ADOPT_UNTIL = 0.85  # of the training: a new code takes a while to find its place, and the networks to use it


@dataclass(frozen=True)
class VQVAETraining:
    """Settings of stage one."""

    config: VQVAEConfig
    schedule: Schedule
    batch: int = 8
    crop: int = 192  # pixels, a multiple of the stride


class VQVAEStage(Stage):
    """One step of the autoencoder's training; every picture of a batch has a quality of its own."""

    hidden = ("stem", "blocks", "down", "up")

    def __init__(
        self,
        settings: VQVAETraining,
        training: Pictures,
        validation: Pictures,
        network: VQVAE | None = None,
        anew: Sequence[Collection[int]] = (),
    ) -> None:
        """`network`: one that is trained already, instead of a new one that starts by PCA and k-means.

        `anew`: of each quality the codebooks that start by k-means nevertheless.
        """
        self.settings = settings
        self.training = training
        self.device = pick_device()
        self.processes = Processes()
        seed = settings.schedule.seed
        torch.manual_seed(seed)
        self.network = VQVAE(settings.config) if network is None else network.requires_grad_(True)
        start = training.crops(START_PICTURES, settings.crop, [seed, 0]).float() / 255
        self.variance = float(start.var())
        if network is not None:
            self.network.quantizer.restart_averages()
        if self.processes.first:  # the others get it from there
            if network is None and settings.config.transform:
                start_from_pca(self.network, start)
            self._start_codebooks(start, None if network is None else anew)
        self.network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        side = min(256, *(min(p.shape[:2]) for p in validation.pixels))
        self.held_out = validation.grid(side - side % settings.config.stride)[:VALIDATION_PICTURES]

    @torch.no_grad()
    def _start_codebooks(self, pictures: Tensor, only: Sequence[Collection[int]] | None) -> None:
        """K-means for the codebooks, at each quality for all or for `only` some."""
        config = self.settings.config
        count = min(len(pictures), 1 + START_LATENTS * config.stride**2 // self.settings.crop**2)
        for quality in range(config.qualities) if only is None else range(len(only)):
            some = None if only is None else only[quality]
            if some is None or some:
                index = torch.full((count,), quality)
                latents = self.network.encoder(pictures[:count], index).permute(0, 2, 3, 1).flatten(0, 2)
                self.network.quantizer.start_from(latents[:START_LATENTS], quality, only=some)

    @property
    def memory(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.network.named_buffers() if "misfits" in name}

    def prepare(self, step: int, progress: float) -> None:
        if step % PRUNE_EVERY == 0:  # the cost of a step grows with the codes that could be used
            # Processes on unlike machines may have drifted apart, and here a small cause has a large effect.
            self.processes.follow([*self.network.parameters(), *self.network.buffers()])
            self.network.quantizer.prune(adopt=progress < ADOPT_UNTIL)

    def loss(self, step: int, progress: float, part: Part = WHOLE) -> tuple[Tensor, dict[str, float]]:
        settings = self.settings
        seed, rows = [settings.schedule.seed, 1 + step], part.rows(settings.batch)
        pictures = self.training.crops(rows.stop - rows.start, settings.crop, seed, rows.start).to(self.device)
        x = pictures.contiguous(memory_format=torch.channels_last).float() / 255
        rng = np.random.default_rng(seed)
        quality = torch.from_numpy(rng.integers(settings.config.qualities, size=settings.batch)[rows]).to(self.device)
        with autocast(self.device):
            output = self.network(x, quality)
        error = (output.reconstruction - x).square().mean((1, 2, 3))  # [B]
        psnr = -10 * error.detach().clamp_min(1e-10).log10().mean()
        quantized = output.quantized
        lam = self.network.quantizer.lambdas[quality]
        terms = quantized.codebook_loss + settings.config.commitment * quantized.commitment_loss + lam * quantized.rate
        if settings.config.transform:
            # In units of the latents, where squared errors of latents and of pixels are the same thing. Divided by the
            # root of lambda, to which the distortion is about proportional (as is lambda times the rate): so a
            # percent of distortion or rate pulls with the same force at every quality.
            pixels = 3 * settings.config.stride**2 * PIXEL_SCALE**2
            weight = lam.clamp_min(1e-3).rsqrt()
            loss = (weight * (pixels * error + terms)).mean() / pixels
        else:
            loss = (error / self.variance + terms / settings.config.latent_dim).mean()
        return loss, {"loss": loss.item(), "psnr": psnr.item(), "soft_bits": quantized.rate.mean().item()}

    def learn(self) -> None:
        self.network.quantizer.learn(self.processes)

    def validate(self) -> dict[str, float]:
        """At every quality: PSNR, bits per pixel by the zero-order entropy of the codes, perplexity of the codebooks.

        Of their perplexities the mean, by the moving averages, and the largest, by the codes of these pictures.
        """
        figures: dict[str, float] = {}
        config = self.settings.config
        perplexity = self.network.quantizer.perplexity().mean(1)  # [Q]
        for quality in range(config.qualities):
            errors, codes = [], []
            for chunk in torch.split(self.held_out, 16):
                x = chunk.to(self.device).float() / 255
                with autocast(self.device):
                    found = self.network.to_codes(x, quality)
                    y = self.network.to_pictures(found, quality).float()
                grey = (y.clamp(0, 1) * 255).round() / 255
                errors.append((grey - x).square().mean((1, 2, 3)).cpu())
                codes.append(found.cpu())
            psnr = -10 * torch.cat(errors).clamp_min(1e-10).log10()
            figures[f"psnr_q{quality + 1}"] = psnr.mean().item()
            figures[f"perplexity_q{quality + 1}"] = perplexity[quality].item()
            entropies = _entropies(torch.cat(codes), config)
            figures[f"top_perplexity_q{quality + 1}"] = 2 ** max(entropies)
            figures[f"bpp_q{quality + 1}"] = sum(entropies) / config.stride**2
        return figures

    def warnings(self, figures: dict[str, float]) -> list[str]:
        return [
            f"the codebooks have collapsed at quality {quality}: none tells a bit about a position; "
            "start anew with a lower --lr, or a lower lambda of that quality"
            for quality in range(1, self.settings.config.qualities + 1)
            if figures[f"top_perplexity_q{quality}"] < COLLAPSED
        ]


def train_vqvae(
    settings: VQVAETraining,
    data: tuple[Pictures, Pictures],
    folder: Path,
    report: Callable[[Status], None],
    network: VQVAE | None = None,
    anew: Sequence[Collection[int]] = (),
) -> VQVAE:
    """Train on data = (training, validation), checkpoints in `folder`; returns the network, in eval mode.

    `network`: one to begin with, if there is no checkpoint yet; `anew`: those of its codebooks, at each quality, that
    are not worth keeping.
    """
    if (folder / CHECKPOINT).exists():
        network, anew = VQVAE(settings.config), ()  # whatever they hold is replaced: a start would be in vain
    stage = VQVAEStage(settings, *data, network, anew)
    run(stage, folder, settings.schedule, report)
    return stage.network.eval().cpu()


def _entropies(codes: Tensor, config: VQVAEConfig) -> list[float]:
    """Zero-order entropy of the codes [N, G, h, w] of each codebook, in bits per position."""
    bits = []
    for g, (size, _) in enumerate(config.codebooks):
        share = torch.bincount(codes[:, g].flatten(), minlength=size).double()
        share = share[share > 0] / share.sum()
        bits.append(-float((share * share.log2()).sum()))
    return bits
