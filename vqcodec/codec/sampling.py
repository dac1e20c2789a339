"""New pictures from a model: codes drawn from its prior, then decoded (van den Oord et al. 2017, section 4.2).

In: a `Codec`, a size, or a picture whose upper part is to be kept, and how to draw. Out: a `Picture` for each sample.

The codes are drawn in the wavefront: the traversal is that of coding, with a `Sampler` in the place of a reader, and
goes through several pictures at once. A picture is one grid here, however large: nothing is stored in units, so no edge
of one can show.

The same seed gives the same codes on every machine: the counts are integers, and so are the random numbers, taken from
the raw output of PCG64 (which numpy keeps as it is, NEP 19). Cutting to `top_p` keeps that. A `temperature` other than
1 takes a logarithm and an exponential, whose last bits are the C library's: after rounding to integers a code may then
differ, about once in millions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqcodec.codec.codec import Codec, grid_shape
from vqcodec.coding.formats import COUNT_BITS
from vqcodec.coding.integer_prior import Codes, Floats, IntegerPrior
from vqcodec.coding.rangecoder import BATCH
from vqcodec.coding.wavefront import traverse
from vqcodec.errors import UsageError
from vqcodec.picture.picture import Picture
from vqcodec.progress import Progress, share_of

__all__ = ["UNKNOWN", "Drawing", "Sampler", "complete", "default_side", "draw_codes", "sample", "sheet", "weights_of"]

Samples = npt.NDArray[np.uint8]
Weights = npt.NDArray[np.int64]

UNKNOWN = -1  # a code that is to be drawn
DRAWING_SHARE = 0.9  # of the time, as progress is told
LARGEST_SIDE = 256  # pixels, of a sample whose size is not asked for: about what priors are trained on
MARGIN = 2  # pixels between the pictures of a sheet
DRAW_BITS = 40  # of a random number; with a sum of weights, which takes 23, they fit into 64


@dataclass(frozen=True)
class Drawing:
    """What to draw, and how. Raises `UsageError` for what makes no sense."""

    count: int = 1  # samples
    quality: int | None = None  # from 1; None: the model's default
    temperature: float = 1.0  # divides the logarithms of the probabilities: less is safer, more is wilder
    top_p: float = 1.0  # only the likeliest codes that make up this share of the probability (Holtzman et al. 2020)
    seed: int = 1
    label: int | None = None  # the class, for a model that has some; None: any

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
    """Counts -> codes, for several grids at once, each with random numbers of its own; codes that are known stay."""

    def __init__(self, how: Drawing, numbers: Sequence[int]) -> None:
        """`numbers` tells the grids' streams of random numbers apart: what is drawn does not depend on the batch."""
        self.how = how
        self._streams = [np.random.PCG64(np.random.SeedSequence([how.seed, number])) for number in numbers]

    def code(self, unit: int, symbols: Codes, counts: Floats) -> Codes:
        """Draw a code for each row of counts [N, K] whose symbol is `UNKNOWN`; returns all N."""
        ends = np.cumsum(weights_of(counts, self.how), axis=1)
        raw = self._streams[unit].random_raw(len(counts)) >> np.uint64(64 - DRAW_BITS)
        drawn = (raw * ends[:, -1].astype(np.uint64)) >> np.uint64(DRAW_BITS)
        codes: Codes = (ends <= drawn[:, None].astype(np.int64)).sum(axis=1).astype(np.int32)
        return np.where(symbols == UNKNOWN, codes, symbols)


def weights_of(counts: Floats, how: Drawing) -> Weights:
    """Counts [N, K] -> integers [N, K] in proportion to the probabilities that are drawn from; some may be 0."""
    weights = counts.astype(np.int64)
    if how.temperature != 1:
        logarithms = np.log(counts.astype(np.float64) / counts.max(axis=1, keepdims=True))
        with np.errstate(over="ignore"):  # minus infinity is right where the temperature is next to nothing
            powers = np.exp(logarithms / how.temperature)
        shares = powers / powers.sum(axis=1, keepdims=True)
        weights = np.floor(shares * (1 << COUNT_BITS) + 0.5).astype(np.int64)
    if how.top_p < 1:
        order = np.argsort(-weights, axis=1, kind="stable")
        ranked = np.take_along_axis(weights, order, axis=1)
        ends = np.cumsum(ranked, axis=1)
        ranked[ends - ranked >= how.top_p * ends[:, -1:]] = 0  # those before it are enough
        np.put_along_axis(weights, order, ranked, axis=1)
    return weights


def draw_codes(prior: IntegerPrior, grids: Sequence[Codes], how: Drawing, progress: Progress | None = None) -> None:
    """Fill in the `UNKNOWN` codes of grids [G, h, w], each given all codes before it in the wavefront."""
    for grid in grids:
        for g in range(len(grid)):
            if prior.constant(g):  # the traversal has no symbols there
                grid[g] = 0
    for first in range(0, len(grids), BATCH):
        group = grids[first : first + BATCH]
        last = first + len(group)
        part = share_of(progress, first / len(grids), last / len(grids))
        traverse(prior, group, Sampler(how, range(first, last)), part)


def sample(codec: Codec, size: tuple[int, int], how: Drawing, progress: Progress | None = None) -> list[Picture]:
    """New pictures of a size (height, width). Raises `UsageError` or `LimitExceeded`."""
    prior, codes = _start(codec, size, how)
    draw_codes(prior, list(codes), how, share_of(progress, 0, DRAWING_SHARE))
    return _decoded(codec, codes, Picture(np.zeros((*size, 3), np.uint8), "RGB"), how)


def complete(
    codec: Codec, picture: Picture, keep: float, how: Drawing, progress: Progress | None = None
) -> list[Picture]:
    """Pictures that begin, from the top, with the share `keep` of a picture, and go on in ways of their own.

    The lower part of the picture is not looked at. What is kept is kept as codes: it is decoded with the rest.
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
    """Height and width, in pixels, of samples whose size is not asked for: those of a unit, if that is not large."""
    config = codec.model.config
    return min(config.unit * config.vqvae.stride, LARGEST_SIDE)


def sheet(pictures: Sequence[Picture], columns: int | None = None) -> Picture:
    """Pictures of one size in rows, from left to right, on white; as many columns as rows, or one more, if not told."""
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    height, width = (side + MARGIN for side in pictures[0].pixels.shape[:2])
    rows = -(-len(pictures) // columns)
    pixels = np.full((rows * height - MARGIN, columns * width - MARGIN, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * height, index % columns * width
        pixels[top : top + picture.height, left : left + picture.width] = picture.pixels
    return Picture(pixels, pictures[0].mode)


def _start(codec: Codec, size: tuple[int, int], how: Drawing) -> tuple[IntegerPrior, Codes]:
    """The prior to draw from, and codes [N, G, h, w] of pictures of (height, width) pixels, none of them known yet."""
    height, width = size
    if min(height, width) < 1:
        raise UsageError("samples must be at least one pixel high and wide")
    codec.refuse_beyond_limits(height, width)
    if how.count * height * width > codec.limits.pixels:
        asked = f"{how.count} samples of {width}x{height} are more than {codec.limits.pixels} pixels"
        raise UsageError(f"{asked}; ask for fewer, or raise it with --max-pixels {how.count * height * width}")
    model, quality = codec.model, codec.quality(how.quality) - 1
    labels = model.config.prior.labels
    if how.label is None:
        prior = codec.prior(quality)
    elif labels == 0:
        raise UsageError(f"the model {model.name} has no labels; leave the label out")
    elif not 0 <= how.label < labels:
        raise UsageError(f"the model {model.name} has the labels 0 to {labels - 1}, not {how.label}")
    else:
        prior = model.prior(quality, how.label)
    config = model.config.vqvae
    shape = how.count, len(config.codebooks), *grid_shape(height, width, config.stride)
    return prior, np.full(shape, UNKNOWN, np.int32)


def _decoded(codec: Codec, codes: Codes, like: Picture, how: Drawing) -> list[Picture]:
    """The pictures of codes [N, G, h, w], of the size and mode of another one."""
    quality, size = codec.quality(how.quality), (like.height, like.width)
    return [Picture(codec.render(grid, quality, size, like.mode), like.mode) for grid in codes]
