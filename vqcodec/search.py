"""Encoding to a wanted size or PSNR: which quality's codebooks, and which lambda.

In: a picture and a `Target`. Out: the bytes of a .vq file like any other. The size of a file falls steadily with
lambda, so a few trials by the secant method find it; every trial is a real encoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vqcodec.codec import DEFAULT_EFFORT, Codec, Progress
from vqcodec.coding.integer_prior import Codes
from vqcodec.errors import UsageError
from vqcodec.image import Picture
from vqcodec.metrics import psnr

__all__ = ["Target", "compress_to"]

TRIALS = 14
LAMBDA_RANGE = 8.0  # beyond the lambdas of the lowest and the highest quality
# How the figures fall with log lambda, to begin with: distortion is about proportional to the root of lambda.
SLOPES = {"bytes": -0.5, "psnr": -1.8}  # of log bytes; of dB


@dataclass(frozen=True)
class Target:
    """A size that is not to be exceeded, or a PSNR that is to be reached, and met closely from that side."""

    kind: Literal["bytes", "psnr"]
    value: float  # bytes of the whole file, or dB

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise UsageError(f"a target must be more than 0, not {self.value:g}")

    def misses_by(self, figure: float) -> float:
        """0 where the figure meets the target, else a positive (too good, too large) or negative distance.

        The unit is that of `SLOPES`. A size must lie within 2 % (or 16 bytes) below its target, a PSNR within 0.05 dB
        above.
        """
        if self.kind == "psnr":
            low, high = self.value, self.value + 0.05
            return 0.0 if low <= figure <= high else figure - (low + high) / 2
        low, high = min(0.98 * self.value, self.value - 16), self.value
        return 0.0 if low <= figure <= high else math.log(figure) - math.log(0.99 * high)

    def text(self, figure: float) -> str:
        """The figure with its unit."""
        return f"{figure:,.0f} bytes" if self.kind == "bytes" else f"{figure:.2f} dB"


@dataclass(frozen=True)
class Trial:
    """An encoding that was tried."""

    log_lambda: float
    quality: int  # from 1
    codes: Codes
    figure: float
    miss: float


def compress_to(
    codec: Codec, picture: Picture, target: Target, progress: Progress | None = None, effort: int = DEFAULT_EFFORT
) -> bytes:
    """The bytes of a .vq file that meets the target. Raises `UsageError` where the model cannot meet it."""
    lambdas = codec.model.config.vqvae.lambdas
    if min(lambdas) <= 0:
        raise UsageError(f"the model {codec.model.name} has no rate to choose; a target needs another model")
    search = _Search(codec, picture, target, effort)
    for count in range(TRIALS):
        trial = search.next()
        if progress:
            progress(0.9 * (1 - 0.75 ** (count + 1)))
        if trial.miss == 0:
            data = codec.pack(picture, trial.codes, trial.quality)
            if progress:
                progress(1.0)
            return data
        if search.exhausted:
            break
    raise UsageError(search.explanation())


class _Search:
    """Trials of one picture. The quality is settled by the first two, lambda by the others."""

    def __init__(self, codec: Codec, picture: Picture, target: Target, effort: int) -> None:
        self.codec, self.picture, self.target, self.effort = codec, picture, target, effort
        self.logs = [math.log(value) for value in codec.model.config.vqvae.lambdas]  # falling: quality 1 first
        self.lowest = min(self.logs) - math.log(LAMBDA_RANGE)
        self.highest = max(self.logs) + math.log(LAMBDA_RANGE)
        self.trials: list[Trial] = []
        self.quality = codec.quality(None)
        self.exhausted = False

    def next(self) -> Trial:
        """Try the most promising lambda."""
        if not self.trials:
            where = self.logs[self.quality - 1]
        else:
            where = self._guess()
            if len(self.trials) <= 2 or where in (self.lowest, self.highest):
                self.quality = 1 + min(range(len(self.logs)), key=lambda q: abs(self.logs[q] - where))
        trial = self._try(where)
        self.exhausted = where == (self.highest if trial.miss > 0 else self.lowest)
        self.trials.append(trial)
        return trial

    def _guess(self) -> float:
        """Where the miss should be 0: by the secant through the nearest trials on both sides, or by the slope."""
        known = [t for t in self.trials if t.quality == self.quality] or self.trials
        over = [t for t in known if t.miss > 0]  # too large, too good: lambda must be higher
        under = [t for t in known if t.miss < 0]
        if over and under:
            a, b = max(over, key=lambda t: t.log_lambda), min(under, key=lambda t: t.log_lambda)
            share = a.miss / (a.miss - b.miss)
            share = min(0.9, max(0.1, share))  # a step must shorten the interval
            where = a.log_lambda + share * (b.log_lambda - a.log_lambda)
        else:
            last = min(known, key=lambda t: abs(t.miss))
            where = last.log_lambda - last.miss / SLOPES[self.target.kind]
        return min(self.highest, max(self.lowest, where))

    def _try(self, log_lambda: float) -> Trial:
        codec, picture, quality = self.codec, self.picture, self.quality
        scale = math.exp(log_lambda - self.logs[quality - 1])
        codes = codec.encode(picture.pixels, quality, None, self.effort, scale)
        if self.target.kind == "psnr":
            figure = psnr(picture.pixels, codec.render(codes, quality, picture.pixels.shape[:2], picture.mode))
        else:
            figure = len(codec.pack(picture, codes, quality, prove=False))
        return Trial(log_lambda, quality, codes, figure, self.target.misses_by(figure))

    def explanation(self) -> str:
        """Why the search gave up."""
        nearest = min(self.trials, key=lambda t: abs(t.miss))
        if not self.exhausted:
            return (
                f"the target of {self.target.text(self.target.value)} cannot be met closely for this picture: "
                f"the nearest is {self.target.text(nearest.figure)}"
            )
        side = "least" if self.target.kind == "bytes" else "highest"
        if (self.target.kind == "bytes") != (nearest.miss > 0):
            side = "most" if self.target.kind == "bytes" else "lowest"
        return (
            f"the target of {self.target.text(self.target.value)} cannot be met: the {side} that the model "
            f"{self.codec.model.name} makes of this picture is {self.target.text(nearest.figure)}"
        )
