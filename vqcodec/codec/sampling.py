"""New pictures from a model: codes drawn from its prior, then decoded (van den Oord et al. 2017, section 4.2).

In: a `Codec`, a size, or a picture whose upper part is kept, and the `Drawing` options. Out: a `Picture` for each
sample.

The traversal is the wavefront of entropy coding, with a `Sampler` in place of the range decoder. It processes several
pictures at once. A picture is a single grid here, whatever its size. It has no units of coding, so there are no unit
boundaries that could be visible.

The same seed gives the same codes on every machine. The counts are integers, and so are the random numbers: they are
the raw output of PCG64, which numpy guarantees to stay the same (NEP 19). `top_p` keeps this property. A `temperature`
other than 1 needs a logarithm and an exponential, whose last bits depend on the C library. A code may then differ after
rounding, about once in millions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqcodec.codec.codec import Codec
from vqcodec.codec.content import grid_shape
from vqcodec.coding.formats import COUNT_BITS
from vqcodec.coding.integer_prior import Codes, Floats, IntegerPrior
from vqcodec.coding.payloads import BATCH
from vqcodec.coding.wavefront import traverse
from vqcodec.errors import UsageError
from vqcodec.picture.picture import Picture
from vqcodec.progress import Progress, share_of

__all__ = ["UNKNOWN", "Drawing", "Sampler", "complete", "default_side", "draw_codes", "sample", "sheet", "weights_of"]

Samples = npt.NDArray[np.uint8]
Weights = npt.NDArray[np.int64]

UNKNOWN = -1  # marks a code to draw
DRAWING_SHARE = 0.9  # share of the time that drawing takes, for progress reports
LARGEST_SIDE = 256  # pixels: limit of the default size, about the size of the crops that priors are trained on
MARGIN = 2  # pixels between the pictures of a sheet
DRAW_BITS = 40  # bits of a random number; its product with a sum of weights (23 bits) fits into 64 bits


@dataclass(frozen=True)
class Drawing:
    """Sampling options. Raises `UsageError` for values out of range."""

    count: int = 1  # samples
    quality: int | None = None  # from 1; None: the model's default
    temperature: float = 1.0  # divides the log-probabilities: below 1 more typical samples, above 1 more varied ones
    top_p: float = 1.0  # draw from the most probable codes that make up this share (Holtzman et al. 2020)
    seed: int = 1
    label: int | None = None  # the class, for a model with labels; None: any

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"the number of samples must be at least 1, not {self.count}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"the temperature must be more than 0, not {self.temperature:g}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be more than 0 and at most 1, not {self.top_p:g}")
        if self.seed < 0:
            raise UsageError(f"the seed must be 0 or more, not {self.seed}")


class Sampler:
    """Draws codes from counts, for several grids at once, each with its own random stream; keeps known codes."""

    def __init__(self, how: Drawing, numbers: Sequence[int]) -> None:
        """`numbers`: one for each grid, which selects its random stream. So the codes do not depend on the batch."""
        self.how = how
        self._streams = [np.random.PCG64(np.random.SeedSequence([how.seed, number])) for number in numbers]

    def code(self, unit: int, symbols: Codes, counts: Floats) -> Codes:
        """Draw a code for each row of counts [N, K] whose symbol [N] is `UNKNOWN`; returns all codes [N].

        `unit` is the index of the grid.
        """
        ends = np.cumsum(weights_of(counts, self.how), axis=1)
        raw = self._streams[unit].random_raw(len(counts)) >> np.uint64(64 - DRAW_BITS)
        drawn = (raw * ends[:, -1].astype(np.uint64)) >> np.uint64(DRAW_BITS)
        codes: Codes = (ends <= drawn[:, None].astype(np.int64)).sum(axis=1).astype(np.int32)
        return np.where(symbols == UNKNOWN, codes, symbols)


def weights_of(counts: Floats, how: Drawing) -> Weights:
    """Counts [N, K] -> integer weights [N, K] after temperature and top-p; some may be 0."""
    weights = counts.astype(np.int64)
    if how.temperature != 1:
        logarithms = np.log(counts.astype(np.float64) / counts.max(axis=1, keepdims=True))
        with np.errstate(over="ignore"):  # at a temperature close to 0 the result is minus infinity, as it should be
            powers = np.exp(logarithms / how.temperature)
        shares = powers / powers.sum(axis=1, keepdims=True)
        weights = np.floor(shares * (1 << COUNT_BITS) + 0.5).astype(np.int64)
    if how.top_p < 1:
        order = np.argsort(-weights, axis=1, kind="stable")
        ranked = np.take_along_axis(weights, order, axis=1)
        ends = np.cumsum(ranked, axis=1)
        ranked[ends - ranked >= how.top_p * ends[:, -1:]] = 0  # the codes before it already reach top_p
        np.put_along_axis(weights, order, ranked, axis=1)
    return weights


def draw_codes(prior: IntegerPrior, grids: Sequence[Codes], how: Drawing, progress: Progress | None = None) -> None:
    """Draw the `UNKNOWN` codes of grids [G, h, w] in place, each given all codes before it in the wavefront."""
    for grid in grids:
        for g in range(len(grid)):
            if prior.constant(g):  # a codebook with a single code: the traversal skips it
                grid[g] = 0
    for first in range(0, len(grids), BATCH):
        group = grids[first : first + BATCH]
        last = first + len(group)
        part = share_of(progress, first / len(grids), last / len(grids))
        traverse(prior, group, Sampler(how, range(first, last)), part)


def sample(codec: Codec, size: tuple[int, int], how: Drawing, progress: Progress | None = None) -> list[Picture]:
    """Draw new pictures of a size (height, width) in pixels. Raises `UsageError` or `LimitExceeded`."""
    prior, codes = _start(codec, size, how)
    draw_codes(prior, list(codes), how, share_of(progress, 0, DRAWING_SHARE))
    return _decoded(codec, codes, Picture(np.zeros((*size, 3), np.uint8), "RGB"), how)


def complete(
    codec: Codec, picture: Picture, keep: float, how: Drawing, progress: Progress | None = None
) -> list[Picture]:
    """Keep the upper share `keep` of a picture and draw the rest, once for each sample.

    The lower part of the picture is ignored. The upper part is kept as codes and decoded together with the rest. Raises
    `UsageError` or `LimitExceeded`.
    """
    if not 0 < keep < 1:
        raise UsageError(f"the share to keep must be more than 0 and less than 1, not {keep:g}")
    prior, codes = _start(codec, (picture.height, picture.width), how)
    rows = math.floor(keep * codes.shape[2] + 0.5)
    if rows:
        upper = np.ascontiguousarray(picture.pixels[: rows * codec.model.config.vqvae.stride])
        codes[:, :, :rows] = codec.to_codes(upper, codec.quality(how.quality))
    draw_codes(prior, list(codes), how, share_of(progress, 0, DRAWING_SHARE))
    return _decoded(codec, codes, picture, how)


def default_side(codec: Codec) -> int:
    """Default height and width of samples, in pixels: the side of a unit of coding, at most `LARGEST_SIDE`."""
    config = codec.model.config
    return min(config.unit * config.vqvae.stride, LARGEST_SIDE)


def sheet(pictures: Sequence[Picture], columns: int | None = None) -> Picture:
    """Arrange pictures of equal size row by row on a white sheet.

    By default the sheet is about square: it has as many columns as rows, or one or two more.
    """
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    height, width = (side + MARGIN for side in pictures[0].pixels.shape[:2])
    rows = -(-len(pictures) // columns)
    pixels = np.full((rows * height - MARGIN, columns * width - MARGIN, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * height, index % columns * width
        pixels[top : top + picture.height, left : left + picture.width] = picture.pixels
    return Picture(pixels, pictures[0].mode)


def _start(codec: Codec, size: tuple[int, int], how: Drawing) -> tuple[IntegerPrior, Codes]:
    """The prior to draw from, and codes [N, G, h, w], all `UNKNOWN`, for pictures of (height, width) pixels."""
    height, width = size
    if min(height, width) < 1:
        raise UsageError("samples must be at least one pixel high and wide")
    codec.refuse_beyond_limits(height, width)
    if how.count * height * width > codec.limits.pixels:
        over = f"{how.count} samples of {width}x{height} are beyond the limit of {codec.limits.pixels} pixels"
        raise UsageError(f"{over}; ask for fewer, or raise it with --max-pixels {how.count * height * width}")
    model, quality = codec.model, codec.quality(how.quality) - 1
    labels = model.config.prior.labels
    if how.label is None:
        prior = codec.prior(quality)
    elif labels == 0:
        raise UsageError(f"the model {model.name} has no labels; omit the label")
    elif not 0 <= how.label < labels:
        raise UsageError(f"the model {model.name} has the labels 0 to {labels - 1}, not {how.label}")
    else:
        prior = model.prior(quality, how.label)
    config = model.config.vqvae
    shape = how.count, len(config.codebooks), *grid_shape(height, width, config.stride)
    return prior, np.full(shape, UNKNOWN, np.int32)


def _decoded(codec: Codec, codes: Codes, like: Picture, how: Drawing) -> list[Picture]:
    """Decode codes [N, G, h, w] to pictures with the size and mode of `like`."""
    quality, size = codec.quality(how.quality), (like.height, like.width)
    return [Picture(codec.render(grid, quality, size, like.mode), like.mode) for grid in codes]
