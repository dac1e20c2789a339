"""Stage one: pictures -> trained autoencoder and codebooks.

The loss is distortion + lambda * rate + beta * commitment (+ the codebook term when the codebooks learn by gradient):
van den Oord et al. 2017, equation 3, with the expected bits of the codes added (entropy-constrained quantisation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec.config import VQVAEConfig
from vqcodec.nn.vqvae import PIXEL_SCALE, VQVAE, start_from_pca
from vqcodec.train.data import Pictures
from vqcodec.train.loop import CHECKPOINT, Schedule, Status, autocast, pick_device, run

__all__ = ["VQVAETraining", "train_vqvae"]

START_PICTURES = 512  # for PCA, k-means and the variance of the data
START_LATENTS = 16384  # per quality, for k-means
VALIDATION_PICTURES = 64
PRUNE_EVERY = 200  # steps; about what the moving averages remember
ADOPT_UNTIL = 0.85  # of the training: a new code takes a while to find its place, and the networks to use it


@dataclass(frozen=True)
class VQVAETraining:
    """Settings of stage one."""

    config: VQVAEConfig
    schedule: Schedule
    batch: int = 8
    crop: int = 192  # pixels, a multiple of the stride


class VQVAEStage:
    """One step of the autoencoder's training; every picture of a batch has a quality of its own."""

    hidden = ("stem", "blocks", "down", "up")

    def __init__(
        self, settings: VQVAETraining, training: Pictures, validation: Pictures, network: VQVAE | None = None
    ) -> None:
        """`network`: one that is trained already, instead of a new one that starts by PCA and k-means."""
        self.settings = settings
        self.training = training
        self.device = pick_device()
        seed = settings.schedule.seed
        torch.manual_seed(seed)
        self.network = VQVAE(settings.config) if network is None else network.requires_grad_(True)
        start = training.crops(START_PICTURES, settings.crop, [seed, 0]).float() / 255
        self.variance = float(start.var())
        if network is None:
            self._start(start)
        else:
            self.network.quantizer.restart_averages()
        self.network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        side = min(256, *(min(p.shape[:2]) for p in validation.pixels))
        self.held_out = validation.grid(side - side % settings.config.stride)[:VALIDATION_PICTURES]

    @torch.no_grad()
    def _start(self, pictures: Tensor) -> None:
        """PCA for the linear transforms, then k-means for the codebooks."""
        config = self.settings.config
        if config.transform:
            start_from_pca(self.network, pictures)
        count = min(len(pictures), 1 + START_LATENTS * config.stride**2 // self.settings.crop**2)
        for quality in range(config.qualities):
            index = torch.full((count,), quality)
            latents = self.network.encoder(pictures[:count], index).permute(0, 2, 3, 1).flatten(0, 2)
            self.network.quantizer.start_from(latents[:START_LATENTS], quality)

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        settings = self.settings
        if step % PRUNE_EVERY == 0:  # the cost of a step grows with the codes that could be used
            self.network.quantizer.prune(adopt=progress < ADOPT_UNTIL)
        seed = [settings.schedule.seed, 1 + step]
        pictures = self.training.crops(settings.batch, settings.crop, seed).to(self.device)
        x = pictures.contiguous(memory_format=torch.channels_last).float() / 255
        rng = np.random.default_rng(seed)
        quality = torch.from_numpy(rng.integers(settings.config.qualities, size=len(x))).to(self.device)
        with autocast(self.device):
            output = self.network(x, quality)
        error = (output.reconstruction - x).square().mean((1, 2, 3))  # [B]
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
        psnr = -10 * error.detach().clamp_min(1e-10).log10().mean()
        return loss, {"loss": loss.item(), "psnr": psnr.item(), "soft_bits": quantized.rate.mean().item()}

    def validate(self) -> dict[str, float]:
        """At every quality: PSNR, mean perplexity of the codebooks, zero-order entropy of the codes, bits per pixel."""
        figures: dict[str, float] = {}
        config = self.settings.config
        perplexity = self.network.quantizer.perplexity().mean(1)  # [Q]
        for quality in range(config.qualities):
            errors, codes = [], []
            for chunk in torch.split(self.held_out, 16):
                x = chunk.to(self.device).float() / 255
                with autocast(self.device):
                    found = self.network.encode(x, quality)
                    y = self.network.decode(found, quality).float()
                grey = (y.clamp(0, 1) * 255).round() / 255
                errors.append((grey - x).square().mean((1, 2, 3)).cpu())
                codes.append(found.cpu())
            psnr = -10 * torch.cat(errors).clamp_min(1e-10).log10()
            figures[f"psnr_q{quality + 1}"] = psnr.mean().item()
            figures[f"perplexity_q{quality + 1}"] = perplexity[quality].item()
            figures[f"bpp_q{quality + 1}"] = _entropy(torch.cat(codes), config) / config.stride**2
        return figures


def train_vqvae(
    settings: VQVAETraining,
    data: tuple[Pictures, Pictures],
    folder: Path,
    report: Callable[[Status], None],
    network: VQVAE | None = None,
) -> VQVAE:
    """Train on data = (training, validation), checkpoints in `folder`; returns the network, in eval mode.

    `network`: one to begin with, if there is no checkpoint yet.
    """
    if (folder / CHECKPOINT).exists():
        network = VQVAE(settings.config)  # whatever it holds is replaced: PCA and k-means would be in vain
    stage = VQVAEStage(settings, *data, network)
    run(stage, folder, settings.schedule, report)
    return stage.network.eval().cpu()


def _entropy(codes: Tensor, config: VQVAEConfig) -> float:
    """Zero-order entropy of codes [N, G, h, w], in bits per position."""
    bits = 0.0
    for g, (size, _) in enumerate(config.codebooks):
        share = torch.bincount(codes[:, g].flatten(), minlength=size).double()
        share = share[share > 0] / share.sum()
        bits -= float((share * share.log2()).sum())
    return bits
