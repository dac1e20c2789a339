"""Stage one: pictures -> trained autoencoder and codebooks.

The loss is distortion + lambda * rate + beta * commitment loss, plus the codebook loss if the codebooks learn by
gradient. This is equation 3 of van den Oord et al. 2017 with the expected bits of the codes added (entropy-constrained
quantisation).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec.errors import UsageError
from vqcodec.model.config import VQVAEConfig
from vqcodec.nn.fold import PIXEL_SCALE
from vqcodec.train.data import Pictures
from vqcodec.train.distributed import WHOLE, Part, Processes, pick_device, place
from vqcodec.train.loop import CHECKPOINT, Schedule, Stage, Status, run
from vqcodec.train.networks.distortion import SMALLEST, distortion, structure_shares
from vqcodec.train.networks.precision import autocast
from vqcodec.train.networks.vqvae import VQVAE, start_from_pca

__all__ = ["VQVAETraining", "train_vqvae"]

START_PICTURES = 512  # crops for PCA, k-means and the variance of the data
START_LATENTS = 16384  # per quality, for k-means
VALIDATION_PICTURES = 64  # at most
PRUNE_EVERY = 200  # steps, about the time constant of the moving averages
# The codebooks of a quality have collapsed if all of them have a perplexity below this (one bit). With a rate term, it
# is normal that most codebooks of a low quality have a perplexity close to 1. But unless all pictures are the same, at
# least one codebook must code the colour of a position.
COLLAPSED = 2.0
# Share of the training in which misfits become new codes. After that, vectors and networks need time to adapt to them.
ADOPT_UNTIL = 0.85


@dataclass(frozen=True)
class VQVAETraining:
    """Settings of stage one."""

    config: VQVAEConfig
    schedule: Schedule
    batch: int = 8
    crop: int = 192  # pixels, a multiple of the stride


class VQVAEStage(Stage):
    """The training steps of the autoencoder. Every picture of a batch has its own random quality."""

    hidden = ("stem", "blocks", "down", "up")

    def __init__(
        self,
        settings: VQVAETraining,
        training: Pictures,
        validation: Pictures,
        network: VQVAE | None = None,
        anew: Sequence[Collection[int]] = (),
    ) -> None:
        """`network`: a trained network to start from; None: a new one, initialised by PCA and k-means.

        `anew`: with a trained network, for each quality the indices of the codebooks to initialise by k-means again.
        """
        if any(settings.config.structure) and settings.crop < SMALLEST:
            raise UsageError(f"crops of {settings.crop} pixels are too small for structure; use {SMALLEST} or more")
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
        if self.processes.first:  # `loop.run` copies the result to the other processes
            if network is None and settings.config.transform:
                start_from_pca(self.network, start)
            self._start_codebooks(start, None if network is None else anew)
        place(self.network, self.device)
        side = min(256, *(min(p.shape[:2]) for p in validation.pixels))
        self.held_out = validation.grid(side - side % settings.config.stride)[:VALIDATION_PICTURES]

    @torch.no_grad()
    def _start_codebooks(self, pictures: Tensor, only: Sequence[Collection[int]] | None) -> None:
        """Initialise the codebooks by k-means on pictures [B, 3, H, W]; `only`: their indices at each quality."""
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
        if step % PRUNE_EVERY == 0:  # keeps steps fast: their cost grows with the number of codes in use
            # Different machines round differently, and pruning can turn small differences into large ones.
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
        error = (output.reconstruction.detach() - x).square().mean((1, 2, 3))  # [B]
        psnr = -10 * error.clamp_min(1e-10).log10().mean()
        quantized = output.quantized
        lam = self.network.quantizer.lambdas[quality]
        terms = quantized.codebook_loss + settings.config.commitment * quantized.commitment_loss + lam * quantized.rate
        if settings.config.transform:
            # In units of the latents, in which squared errors of latents and pixels are equal. Divided by the square
            # root of lambda, because the distortion and lambda times the rate are about proportional to it. So a
            # relative change of distortion or rate has the same weight at every quality.
            pixels = 3 * settings.config.stride**2 * PIXEL_SCALE**2
            weight = lam.clamp_min(1e-3).rsqrt()
            found = distortion(output.reconstruction.float(), x, structure_shares(settings.config, quality))
            loss = (weight * (pixels * found + terms)).mean() / pixels
        else:
            error = (output.reconstruction - x).square().mean((1, 2, 3))
            loss = (error / self.variance + terms / settings.config.latent_dim).mean()
        return loss, {"loss": loss.item(), "psnr": psnr.item(), "soft_bits": quantized.rate.mean().item()}

    def learn(self) -> None:
        self.network.quantizer.learn(self.processes)

    def validate(self) -> dict[str, float]:
        """PSNR, bits per pixel (zero-order entropy of the codes) and perplexity of the codebooks at every quality.

        "perplexity" is the mean over the codebooks, from the moving averages. "top_perplexity" is the largest one, from
        the codes of the validation pictures.
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
                rounded = (y.clamp(0, 1) * 255).round() / 255
                errors.append((rounded - x).square().mean((1, 2, 3)).cpu())
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
            f"the codebooks have collapsed at quality {quality}: none has an entropy of even one bit per position; "
            "start a new run with a lower --lr, or a lower lambda for that quality"
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
    """Train on data = (training, validation), with checkpoints in `folder`; returns the network in evaluation mode.

    `network`: a trained network to start from, if there is no checkpoint yet. `anew`: for each quality, the indices of
    its codebooks to initialise again.
    """
    if (folder / CHECKPOINT).exists():
        network, anew = VQVAE(settings.config), ()  # the checkpoint replaces all weights, so skip the initialisation
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
