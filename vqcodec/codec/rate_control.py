"""Rate control: encoding to a target size, SSIMULACRA2 or PSNR, by choosing a quality and adjusting its lambda.

In: a picture and a `Target`. Out: an ordinary .vq file, as `Encoded`.

Size, SSIMULACRA2 and PSNR fall as lambda rises, with rare exceptions. The search first tries qualities with their own
lambda, until no other quality is expected to be nearer to the target. It then adjusts lambda at the nearest quality,
with secant steps and bisection. Every trial is a complete encoding. At the highest quality lambda may fall far below
its own, down to a file that stores every pixel: the smaller it is, the more blocks are stored without loss.

A size is an upper bound; an SSIMULACRA2 or a PSNR is a lower bound. If the largest file is smaller than the size, or
the smallest file is better than the lower bound, that file is the result, with a notice. If no file keeps the bound,
that is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vqcodec.codec.codec import DEFAULT_EFFORT, Codec
from vqcodec.codec.content import Content
from vqcodec.codec.encoded import Encoded, measured_file
from vqcodec.codec.target import Target
from vqcodec.errors import UsageError
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.ssimulacra2 import SMALLEST, ssimulacra2
from vqcodec.progress import Progress

__all__ = ["Target", "compress_to"]

TRIALS = 16  # at most
LAMBDA_RANGE = math.log(8.0)  # largest change of log lambda from that of a quality, up or down
LOSSLESS = -math.log(1000.0)  # the smallest change at the highest quality: there, all pixels are stored
FINEST = 0.004  # smallest interval of log lambda that is worth another trial
# Initial estimates, on the scales of `Target.misses_by`.
SLOPES = {"bytes": -0.17, "psnr": -0.65, "ssimulacra2": -0.12}  # change of the figure per unit of log lambda
STEPS = {"bytes": 0.33, "psnr": 1.35, "ssimulacra2": 0.21}  # difference of the figure between neighbouring qualities


@dataclass(frozen=True)
class Trial:
    """The result of one trial encoding."""

    quality: int  # from 1
    shift: float  # difference of log lambda from that of the quality
    figure: float  # bytes, dB or score
    miss: float  # from `Target.misses_by`
    psnr: float | None = None  # dB; None: the picture was not decoded


def compress_to(
    codec: Codec,
    picture: Picture,
    target: Target,
    progress: Progress | None = None,
    effort: int = DEFAULT_EFFORT,
    *,
    measure: bool = False,
) -> Encoded:
    """Compress a picture to a .vq file that keeps the bound of the target. `measure`: also compute its PSNR.

    The result has a notice if every file that the model makes of the picture keeps the bound and none is near to it.
    It has its SSIMULACRA2 if that is the target. Raises `UsageError` if no file keeps the bound or the picture is too
    small for the measure, `LimitExceeded` for a picture beyond the codec's limits.
    """
    if target.kind == "ssimulacra2" and min(picture.width, picture.height) < SMALLEST:
        raise UsageError(
            f"the picture has {picture.width}x{picture.height} pixels, and SSIMULACRA2 is defined from "
            f"{SMALLEST}x{SMALLEST} on; use a quality or another target"
        )
    if min(codec.model.config.vqvae.lambdas) <= 0:
        raise UsageError(f"the model {codec.model.name} has no rate term and cannot meet a target; use another model")
    search = _Search(codec, picture, target, effort)
    for count in range(TRIALS):
        point = search.next()
        if point is None:
            break
        search.run_trial(*point)
        if progress:
            progress(0.9 * (1 - 0.75 ** (count + 1)))
    if search.best is None:
        raise UsageError(search.explanation())
    trial, content = search.best
    data = codec.pack(picture, content, trial.quality)
    reached, notices = trial.psnr if measure else None, search.notices()
    if measure and reached is None:  # the target is a size: what quality that gives may be a surprise
        reached, more = measured_file(codec, picture, content, data)
        notices = (*notices, *more)
    if progress:
        progress(1.0)
    return Encoded(data, reached, notices, trial.figure if target.kind == "ssimulacra2" else None)


class _Search:
    """The trials for one picture."""

    def __init__(self, codec: Codec, picture: Picture, target: Target, effort: int) -> None:
        self.codec, self.picture, self.target, self.effort = codec, picture, target, effort
        self.qualities = codec.model.config.vqvae.qualities
        self.trials: list[Trial] = []
        self.best: tuple[Trial, Content] | None = None  # the nearest trial that keeps the bound

    def next(self) -> tuple[int, float] | None:
        """The quality and the shift to try next; None if the target is met or nothing is left to try."""
        if self.best is not None and self.best[0].miss == 0:
            return None
        unshifted = {trial.quality: trial for trial in self.trials if trial.shift == 0}
        if not unshifted:
            return self.codec.quality(None), 0.0
        # Of equally near ones, the furthest towards the target: flat pictures have the same figure at many qualities.
        nearest = min(unshifted.values(), key=lambda t: (abs(t.miss), t.quality if t.miss > 0 else -t.quality))
        steps = round(max(-self.qualities, min(self.qualities, nearest.miss / STEPS[self.target.kind])))
        neighbour = nearest.quality + (-1 if nearest.miss > 0 else 1)  # towards the target
        expected = min(max(nearest.quality - steps, 1), self.qualities)
        if expected not in unshifted:
            return expected, 0.0
        # If no lambda of the nearest quality reaches the target, one of the next quality may.
        for quality in (nearest.quality, neighbour):
            if 1 <= quality <= self.qualities:
                shift = self._shift(quality) if quality in unshifted else 0.0
                if shift is not None:
                    return quality, shift
        return self._end()

    def _end(self) -> tuple[int, float] | None:
        """An extreme of quality and lambda that is not tried yet, if all trials miss the target on the same side."""
        if any(trial.miss > 0 for trial in self.trials):
            end, shift, same = 1, LAMBDA_RANGE, all(trial.miss > 0 for trial in self.trials)
        else:
            end, shift, same = self.qualities, self._lowest(self.qualities), True
        tried = {(trial.quality, trial.shift) for trial in self.trials}
        return next((point for point in ((end, 0.0), (end, shift)) if same and point not in tried), None)

    def _shift(self, quality: int) -> float | None:
        """The shift at which the miss of a quality is expected to be 0; None if no shift is left to try.

        Interpolates between the trials on both sides of the target by secant or bisection. If all trials are on one
        side, extrapolates along the secant, at most to `LAMBDA_RANGE` or `_lowest`.
        """
        trials = [trial for trial in self.trials if trial.quality == quality]
        over = max((t for t in trials if t.miss > 0), key=lambda t: t.shift, default=None)  # lambda must be higher
        under = min((t for t in trials if t.miss < 0), key=lambda t: t.shift, default=None)
        if over and under:
            gap = under.shift - over.shift
            if gap < FINEST:
                return None
            share = over.miss / (over.miss - under.miss)
            if not 0.1 < share < 0.9 or len(trials) % 3 == 0:  # bisect, in case the secant makes too little progress
                share = 0.5
            return over.shift + share * gap
        edge = over or under
        assert edge is not None
        lowest = self._lowest(quality)
        if edge.shift in (lowest, LAMBDA_RANGE):
            return None
        slope = SLOPES[self.target.kind]
        near = min((t for t in trials if t is not edge), key=lambda t: abs(t.shift - edge.shift), default=None)
        if near and math.isfinite(edge.miss - near.miss):
            slope = min((edge.miss - near.miss) / (edge.shift - near.shift), slope / 8)
        step = max(abs(edge.miss / slope), 0.05)
        return max(lowest, min(LAMBDA_RANGE, edge.shift + math.copysign(step, edge.miss)))

    def _lowest(self, quality: int) -> float:
        """The smallest shift at a quality."""
        return LOSSLESS if quality == self.qualities and self.codec.can_store else -LAMBDA_RANGE

    def run_trial(self, quality: int, shift: float) -> None:
        """Encode once and record the result."""
        codec, picture = self.codec, self.picture
        if shift == LOSSLESS:
            content = codec.store(picture.pixels, quality, None, self.effort)
        else:
            content = codec.encode(picture.pixels, quality, None, self.effort, math.exp(shift))
        decibels: float | None = None
        if self.target.kind == "bytes":
            figure: float = len(codec.pack(picture, content, quality, prove=False))
        else:
            weights = codec.fit(picture.pixels, content, quality)
            shape = picture.pixels.shape[:2]
            decoded = codec.decode(content, quality, shape, picture.mode, weights=weights)
            figure = decibels = psnr(picture.pixels, decoded)
            if self.target.kind == "ssimulacra2":
                figure = ssimulacra2(picture.pixels, decoded)
        trial = Trial(quality, shift, figure, self.target.misses_by(figure), decibels)
        self.trials.append(trial)
        # Of two equal figures the later one is better: the trials come nearer to the bound.
        if self.target.holds(trial.miss) and (self.best is None or abs(trial.miss) <= abs(self.best[0].miss)):
            self.best = trial, content

    def notices(self) -> tuple[str, ...]:
        """A notice if all trials keep the bound and none of them meets the target."""
        assert self.best is not None
        if not all(t.miss != 0 and self.target.holds(t.miss) for t in self.trials):
            return ()
        wanted, reached = self.target.text(self.target.value), self.target.text(self.best[0].figure)
        name = self.codec.model.name
        if self.target.kind == "bytes":
            return (f"the best that the model {name} makes of this picture is {reached}, below the target of {wanted}",)
        return (f"the smallest file that {name} makes of this picture has {reached}, above the target of {wanted}",)

    def explanation(self) -> str:
        """The error message for a target whose bound no trial keeps."""
        nearest = min(self.trials, key=lambda t: abs(t.miss))
        extreme = {"bytes": "smallest size", "psnr": "highest PSNR", "ssimulacra2": "highest score"}[self.target.kind]
        return (
            f"the target of {self.target.text(self.target.value)} cannot be met: the {extreme} that the model "
            f"{self.codec.model.name} reaches for this picture is {self.target.text(nearest.figure)}"
        )
