"""Glow (Kingma & Dhariwal 2018, "Glow: generative flow with invertible 1x1 convolutions").

A chain of invertible functions maps a picture x to latents z, which have a standard normal distribution under the
model. The density follows exactly from the change of variables (equation 3):

    log p(x) = log N(z; 0, 1) + sum of log |det of the Jacobian of each function|.

A step of the flow (table 1) is an ActNorm, an invertible 1x1 convolution and an affine coupling. A level is a squeeze
(2 x 2 pixels become channels), several steps and a split, after which half of the channels are final (section 2 and
figure 2). The coupling and the levels are those of RealNVP (Dinh, Sohl-Dickstein & Bengio 2017, sections 3.2 and 3.6).

Every module has `forward`, from pictures to latents, which also returns the log-determinant, and `inverse`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.likelihood.data import Dataset
from benchmarks.likelihood.density import Density, Sheets, Size
from benchmarks.likelihood.likelihoods import LEVELS, bits_of_density, dequantized
from benchmarks.likelihood.vae import interpolated, rows

MOST_LEVELS = 3
TEMPERATURE = 0.7  # of the samples (section 5.2): standard deviation of the latents, below 1
Latents = list[Tensor]  # one tensor for each level, in order


class Glow(Density):
    """The flow over pictures [B, C, H, W]. Every level halves the sides; at most `MOST_LEVELS` levels."""

    hidden = ("into", "inner")
    rate = 1e-3

    def __init__(self, dataset: Dataset, size: Size) -> None:
        super().__init__(dataset, size)
        count = max(n for n in range(1, MOST_LEVELS + 1) if self.side % 2**n == 0)
        widths = [
            self.channels * 2 ** (n + 2) for n in range(count)
        ]  # a squeeze gives four times the channels, a split keeps half
        self.levels = nn.ModuleList(Level(width, size) for width in widths)
        self.splits = nn.ModuleList(Split(width) for width in widths[:-1])
        self.last = ActNorm(widths[-1])

    def start(self, x: Tensor, label: Tensor) -> None:
        # Every ActNorm starts with the parameters that normalise the activations of these pictures (section 3.1).
        for module in self.modules():
            if isinstance(module, ActNorm):
                module.waiting = True
        self(x.float() / LEVELS)

    def loss(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Tensor:
        return bits_of_density(self.log_density(dequantized(x, noise)), self.dims)

    def bits(self, x: Tensor, label: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        return {"exact": self.loss(x, label, noise)}

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) in nats [B] of real-valued pictures in [0, 1)."""
        z, log_det = self(x)
        flat = torch.cat([part.flatten(1) for part in z], 1)
        return log_det - 0.5 * flat.square().sum(1) - 0.5 * self.dims * math.log(2 * math.pi)

    def forward(self, x: Tensor) -> tuple[Latents, Tensor]:
        """[B, C, H, W] in [0, 1) -> latents and log |det| [B]."""
        h, log_det, z = x - 0.5, x.new_zeros(len(x)), []
        for n, level in enumerate(self.levels):
            h, change = level(h)
            log_det = log_det + change
            if n < len(self.splits):
                h, done, change = self.splits[n](h)
                log_det = log_det + change
                z.append(done)
        h, change = self.last(h)
        return [*z, h], log_det + change

    def inverse(self, z: Latents) -> Tensor:
        """The inverse of `forward`: latents -> pictures [B, C, H, W]."""
        h = self.last.inverse(z[-1])
        for n in reversed(range(len(self.levels))):
            if n < len(self.splits):
                h = self.splits[n].inverse(h, z[n])
            h = self.levels[n].inverse(h)
        return h + 0.5

    def sheets(self, x: Tensor, label: Tensor, noise: torch.Generator) -> Sheets:
        z, _ = self((x.float() + 0.5) / LEVELS)
        shapes = [part.shape[1:] for part in z]

        def pictures(flat: Tensor) -> Tensor:
            parts = flat.split([shape.numel() for shape in shapes], 1)
            return self.inverse([p.view(-1, *s) for p, s in zip(parts, shapes, strict=True)]).clamp(0, 1)

        flat = torch.cat([part.flatten(1) for part in z], 1)
        drawn = torch.randn((64, self.dims), generator=noise, device=noise.device)
        return {
            "reconstructions": [[*(x.float() / 255)[:8]], [*pictures(flat[:8])]],
            "samples": rows(pictures(TEMPERATURE * drawn), 8),
            "interpolation": interpolated(flat, pictures),
        }


class Level(nn.Module):
    """A squeeze and the steps of the flow: [B, C, H, W] <-> [B, 4C, H/2, W/2]."""

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            part
            for _ in range(size.flow_steps)
            for part in (ActNorm(channels), Mixing(channels), Coupling(channels, size.flow_width))
        )

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        h, log_det = F.pixel_unshuffle(h, 2), h.new_zeros(len(h))
        for step in self.steps:
            h, change = step(h)
            log_det = log_det + change
        return h, log_det

    def inverse(self, h: Tensor) -> Tensor:
        for step in reversed(self.steps):
            h = step.inverse(h)
        return F.pixel_shuffle(h, 2)


class ActNorm(nn.Module):
    """ActNorm: a scale and a shift for each channel, initialised from data (section 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.waiting = False  # True: the next batch initialises the parameters

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        if self.waiting:
            with torch.no_grad():
                self.shift.copy_(-h.mean((0, 2, 3))[:, None, None])
                self.log_scale.copy_(-h.std((0, 2, 3)).clamp_min(1e-4).log()[:, None, None])
            self.waiting = False
        places = h.shape[2] * h.shape[3]
        return (h + self.shift) * self.log_scale.exp(), places * self.log_scale.sum()

    def inverse(self, h: Tensor) -> Tensor:
        return h * torch.exp(-self.log_scale) - self.shift


class Mixing(nn.Module):
    """An invertible 1x1 convolution, W = P L (U + diag(s)). Its determinant is the product of s (section 3.2).

    It is initialised as a random rotation. P is not trained.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.permutation: Tensor
        self.sign: Tensor
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        places = h.shape[2] * h.shape[3]
        with torch.autocast(h.device.type, enabled=False):  # bf16 would be too imprecise for exact pixel values
            mixed = F.conv2d(h, (self.permutation @ lower @ upper)[:, :, None, None])
        return mixed, places * self.log_diagonal.sum()

    def inverse(self, h: Tensor) -> Tensor:
        lower, upper = self._factors()
        flat = self.permutation.T @ h.flatten(2)  # [B, C, H * W]
        flat = torch.linalg.solve_triangular(lower, flat, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, flat, upper=True).view_as(h)

    def _factors(self) -> tuple[Tensor, Tensor]:
        one = torch.eye(len(self.sign), device=self.sign.device)
        return self.lower.tril(-1) + one, self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())


class Coupling(nn.Module):
    """Affine coupling: one half of the channels determines scale and shift of the other half (section 3.3)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(channels // 2, width, 3, padding=1)
        self.inner = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)  # initially close to the identity
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        known, other = h.chunk(2, 1)
        log_scale, shift = self._scale_and_shift(known)
        return torch.cat([known, (other + shift) * log_scale.exp()], 1), log_scale.flatten(1).sum(1)

    def inverse(self, h: Tensor) -> Tensor:
        known, other = h.chunk(2, 1)
        log_scale, shift = self._scale_and_shift(known)
        return torch.cat([known, other * torch.exp(-log_scale) - shift], 1)

    def _scale_and_shift(self, known: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.out(F.relu(self.inner(F.relu(self.into(known))))).float().chunk(2, 1)
        return F.logsigmoid(raw + 2), shift  # scales below 1, initially near 1, for numerical stability


class Split(nn.Module):
    """Split off half of the channels as latents, normalised with a mean and deviation predicted from the other half."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.tell = nn.Conv2d(channels // 2, channels, 3, padding=1)
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, C, H, W] -> the half that continues, the latents [B, C/2, H, W], and log |det| [B]."""
        kept, done = h.chunk(2, 1)
        mean, log_deviation = self.tell(kept).float().chunk(2, 1)
        return kept, (done - mean) * torch.exp(-log_deviation), -log_deviation.flatten(1).sum(1)

    def inverse(self, kept: Tensor, done: Tensor) -> Tensor:
        mean, log_deviation = self.tell(kept).float().chunk(2, 1)
        return torch.cat([kept, mean + torch.exp(log_deviation) * done], 1)
