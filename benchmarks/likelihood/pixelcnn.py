"""The PixelCNN (van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders"): the package's prior.

For the VQ-VAE it is trained on codes, as in the package. As a separate model it is trained on pixels. These are used as
codes: one of 256 codes from each of three codebooks (red, green, blue) at each position. Every code is predicted from
all previous ones, so the likelihood is exact. The prior computes in integers, so it is also a lossless codec: the
package's range coder writes files, and the table states their size.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.likelihood.data import Dataset
from benchmarks.likelihood.density import Budget, Density, Report, Sheets, Size, Spent, train
from benchmarks.likelihood.likelihoods import LEVELS
from benchmarks.likelihood.vae import rows
from vqcodec.codec.sampling import UNKNOWN, Drawing, draw_codes
from vqcodec.coding.integer_prior import IntegerPrior, Layout
from vqcodec.coding.payloads import write_units
from vqcodec.model.config import PriorConfig, VQVAEConfig
from vqcodec.train.loop import Schedule
from vqcodec.train.networks.pixelcnn import GatedPixelCNN
from vqcodec.train.networks.quantizer import VectorQuantizer
from vqcodec.train.networks.vqvae import VQVAE
from vqcodec.train.prior import PriorStage, PriorTraining

STEP = 4.0  # grey levels: about the finest distance that the prior's features of a value resolve
SAMPLES = 16  # pictures to draw; sampling is slow, one pixel at a time


class PixelCNN(Density):
    """The package's prior as a model of pixels [B, C, H, W]."""

    def __init__(self, dataset: Dataset, size: Size) -> None:
        super().__init__(dataset, size)
        self.pixels = PixelCodes(dataset)
        self.prior: GatedPixelCNN | None = None  # None until it is trained

    def fit(self, dataset: Dataset, folder: Path, budget: Budget, report: Report) -> Spent:
        schedule = budget.schedule(1.0, self.rate)
        size = replace(
            self.size, batch=self.size.batch // 2
        )  # a picture has 16 times as many positions as a grid of codes
        self.prior, spent = train_prior(self.pixels, dataset, folder, schedule, size, report)
        return spent

    def bits(self, x: Tensor, label: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        assert self.prior is not None
        return {
            "exact": bits_of_codes(self.prior, x.long()) / self.dims,
            "a file each": torch.tensor([8 * len(file) / self.dims for file in self.files(x)]),
        }

    def files(self, x: Tensor) -> list[bytes]:
        """Range-coded files of pictures [B, C, H, W], uint8, one for each. The coder verifies them by decoding."""
        assert self.prior is not None
        return write_units(integer_prior(self.prior), [picture.cpu().numpy().astype(np.int32) for picture in x])

    def sheets(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Sheets:
        assert self.prior is not None
        codes = drawn_codes(self.prior, (SAMPLES, self.side, self.side))
        return {"samples": rows(codes.float() / 255, 8)}


class PixelCodes(nn.Module):
    """Takes the place of the VQ-VAE in the training of the prior. The codes of a picture are its pixels."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        # The lambda that corresponds to a quantiser step of STEP. It sets the resolution of the prior's input features.
        self.config = VQVAEConfig(
            "conv", 4, 1, 1, 0, 0, ((LEVELS, 1),) * dataset.train.channels, lambdas=(STEP**2 / 8.7,)
        )
        self.quantizer = VectorQuantizer(self.config)
        pixels = np.stack(dataset.train.pixels)
        for g in range(dataset.train.channels):
            counts = (
                np.bincount(pixels[..., g].ravel(), minlength=LEVELS) + 1
            )  # + 1: values missing in the training set may occur
            self.quantizer.vectors(g)[0, :, 0] = torch.arange(LEVELS) - 127.5
            self.quantizer.get_buffer(f"counts{g}")[0] = torch.from_numpy(counts).float()

    def to_codes(self, pictures: Tensor, quality: int) -> Tensor:
        """Pictures [B, 3, H, W] in 0 to 1 -> codes [B, C, H, W]."""
        return (pictures * (LEVELS - 1)).round().long()[:, : len(self.config.codebooks)]


def train_prior(
    codes: VQVAE | PixelCodes,
    dataset: Dataset,
    folder: Path,
    schedule: Schedule,
    size: Size,
    report: Report,
) -> tuple[GatedPixelCNN, Spent]:
    """Train the package's second stage on the codes of the pictures. Returns the prior, and its steps and seconds."""
    config = PriorConfig(size.prior_channels, size.prior_blocks, size.prior_channels)
    settings = PriorTraining(config, schedule, size.batch, dataset.train.side)
    stage = PriorStage(settings, codes, dataset.train, dataset.held_out)  # type: ignore[arg-type]
    spent = train(stage, folder, schedule, report)
    return stage.network.eval(), spent


def bits_of_codes(prior: GatedPixelCNN, codes: Tensor) -> Tensor:
    """The bits of each grid of codes [B, G, H, W], in the prior's integer arithmetic: [B]."""
    logits = prior(codes, 0, exact=True)
    nats = [F.cross_entropy(x.permute(0, 3, 1, 2).float(), codes[:, g], reduction="none") for g, x in enumerate(logits)]
    return torch.stack(nats).flatten(2).sum((0, 2)) / math.log(2)


def integer_prior(prior: GatedPixelCNN) -> IntegerPrior:
    """The prior in the integer form that the range coder uses."""
    settings, sizes = prior.prior, tuple(size for size, _ in prior.config.codebooks)
    layout = Layout(sizes, 1, settings.channels, settings.head_channels, settings.blocks)
    return IntegerPrior({name: tensor.numpy() for name, tensor in prior.integers().items()}, layout, 0)


def drawn_codes(prior: GatedPixelCNN, shape: tuple[int, int, int]) -> Tensor:
    """Draw codes [N, G, H, W] from the prior. shape: (N, H, W)."""
    count, height, width = shape
    grids = np.full((count, len(prior.config.codebooks), height, width), UNKNOWN, np.int32)
    draw_codes(integer_prior(prior), list(grids), Drawing(count))
    return torch.from_numpy(grids).long()
