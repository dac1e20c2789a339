"""Encoding to a wanted size or PSNR: which quality's codebooks, and which lambda.

In: a picture and a `Target`. Out: the bytes of a .vq file like any other. Size and PSNR fall with lambda, by and large:
qualities are tried with their own lambda until none should be nearer to the target, then lambda moves. Every trial is a
real encoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vqcodec.codec.codec import DEFAULT_EFFORT, Codec
from vqcodec.coding.integer_prior import Codes
from vqcodec.errors import UsageError
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.progress import Progress

__all__ = ["Target", "compress_to"]

TRIALS = 16
LAMBDA_RANGE = math.log(8.0)  # how far lambda may go from that of a quality, each way
FINEST = 0.004  # of log lambda: steps that are not worth a trial
# How the figures fall with log lambda, to begin with, and about how far they lie apart from quality to quality.
SLOPES = {"bytes": -0.17, "psnr": -0.65}  # log bytes; dB
STEPS = {"bytes": 0.33, "psnr": 1.35}


@dataclass(frozen=True)
class Target:
    """A size that is not to be exceeded, or a PSNR that is to be reached, and met closely from that side.

    Where the codes of a small picture leave no figure so close, the nearest on that side will do.
    """

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

    def holds(self, miss: float) -> bool:
        """Whether a figure that misses by so much is on the right side."""
        return miss >= 0 if self.kind == "psnr" else miss <= 0

    def text(self, figure: float) -> str:
        """The figure with its unit."""
        return f"{figure:,.0f} bytes" if self.kind == "bytes" else f"{figure:.2f} dB"


@dataclass(frozen=True)
class Trial:
    """An encoding that was tried."""

    quality: int  # from 1
    shift: float  # log lambda beside that of the quality
    figure: float
    miss: float


def compress_to(
    codec: Codec, picture: Picture, target: Target, progress: Progress | None = None, effort: int = DEFAULT_EFFORT
) -> bytes:
    """The bytes of a .vq file that meets the target. Raises `UsageError` where the model cannot meet it."""
    if min(codec.model.config.vqvae.lambdas) <= 0:
        raise UsageError(f"the model {codec.model.name} has no rate to choose; a target needs another model")
    search = _Search(codec, picture, target, effort)
    for count in range(TRIALS):
        place = search.next()
        if place is None:
            break
        search.visit(*place)
        if progress:
            progress(0.9 * (1 - 0.75 ** (count + 1)))
    if search.best is None or search.one_sided():
        raise UsageError(search.explanation())
    trial, codes = search.best
    data = codec.pack(picture, codes, trial.quality)
    if progress:
        progress(1.0)
    return data


class _Search:
    """Trials of one picture."""

    def __init__(self, codec: Codec, picture: Picture, target: Target, effort: int) -> None:
        self.codec, self.picture, self.target, self.effort = codec, picture, target, effort
        self.qualities = codec.model.config.vqvae.qualities
        self.trials: list[Trial] = []
        self.best: tuple[Trial, Codes] | None = None  # the nearest on the right side

    def next(self) -> tuple[int, float] | None:
        """The quality and the shift to try; None where the target is met, or nothing is left to try."""
        if self.best is not None and self.best[0].miss == 0:
            return None
        plain = {trial.quality: trial for trial in self.trials if trial.shift == 0}
        if not plain:
            return self.codec.quality(None), 0.0
        nearest = min(plain.values(), key=lambda trial: abs(trial.miss))
        steps = round(max(-self.qualities, min(self.qualities, nearest.miss / STEPS[self.target.kind])))
        beyond = nearest.quality + (-1 if nearest.miss > 0 else 1)  # towards the target
        wanted = min(max(nearest.quality - steps, 1), self.qualities)
        if wanted not in plain:
            return wanted, 0.0
        for quality in (nearest.quality, beyond):  # if lambda does not reach so far, the next quality's may
            if 1 <= quality <= self.qualities:
                shift = self._shift(quality) if quality in plain else 0.0
                if shift is not None:
                    return quality, shift
        return None

    def _shift(self, quality: int) -> float | None:
        """Where the miss of a quality should be 0: between trials on both sides, or farther out, along their secant."""
        mine = [trial for trial in self.trials if trial.quality == quality]
        over = max((t for t in mine if t.miss > 0), key=lambda t: t.shift, default=None)  # lambda must be higher
        under = min((t for t in mine if t.miss < 0), key=lambda t: t.shift, default=None)
        if over and under:
            gap = under.shift - over.shift
            if gap < FINEST:
                return None
            share = over.miss / (over.miss - under.miss)
            if not 0.1 < share < 0.9 or len(mine) % 3 == 0:  # a secant that hardly moves finds nothing
                share = 0.5
            return over.shift + share * gap
        edge = over or under
        assert edge is not None
        if abs(edge.shift) == LAMBDA_RANGE:
            return None
        slope = SLOPES[self.target.kind]
        near = min((t for t in mine if t is not edge), key=lambda t: abs(t.shift - edge.shift), default=None)
        if near and math.isfinite(edge.miss - near.miss):
            slope = min((edge.miss - near.miss) / (edge.shift - near.shift), slope / 8)
        step = max(abs(edge.miss / slope), 0.05)
        return max(-LAMBDA_RANGE, min(LAMBDA_RANGE, edge.shift + math.copysign(step, edge.miss)))

    def visit(self, quality: int, shift: float) -> None:
        """Try an encoding."""
        codec, picture = self.codec, self.picture
        codes = codec.to_codes(picture.pixels, quality, None, self.effort, math.exp(shift))
        if self.target.kind == "psnr":
            weights = codec.fit(picture.pixels, codes, quality)
            shape = picture.pixels.shape[:2]
            figure = psnr(picture.pixels, codec.render(codes, quality, shape, picture.mode, weights=weights))
        else:
            figure = len(codec.pack(picture, codes, quality, prove=False))
        trial = Trial(quality, shift, figure, self.target.misses_by(figure))
        self.trials.append(trial)
        if self.target.holds(trial.miss) and (self.best is None or abs(trial.miss) < abs(self.best[0].miss)):
            self.best = trial, codes

    def one_sided(self) -> bool:
        """Whether all that the model makes of the picture is too much, or all too little."""
        return all(t.miss > 0 for t in self.trials) or all(t.miss < 0 for t in self.trials)

    def explanation(self) -> str:
        """Why the target cannot be met."""
        nearest = min(self.trials, key=lambda t: abs(t.miss))
        too_much, too_little = ("least", "most") if self.target.kind == "bytes" else ("lowest", "highest")
        return (
            f"the target of {self.target.text(self.target.value)} cannot be met: the "
            f"{too_much if nearest.miss > 0 else too_little} that the model {self.codec.model.name} makes of this "
            f"picture is {self.target.text(nearest.figure)}"
        )
