"""Encoder and decoder: picture -> codes -> payloads -> file, and back.

In: a `Picture` and a `Model`. Out: the bytes of a .vq file, and back. Decoding a file to its codes uses no torch and no
floating-point operation that rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from threading import RLock
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from vqcodec.codec.code_search import Search, refine
from vqcodec.codec.fit_postfilter import fit_weights
from vqcodec.coding.filter_weights import Weights, pack_weights, unpack_weights
from vqcodec.coding.integer_prior import Codes, IntegerPrior
from vqcodec.coding.payloads import read_units, write_units
from vqcodec.errors import DamagedFile, LimitExceeded, UnknownModel, UsageError
from vqcodec.format import container
from vqcodec.format.container import Frame, VqFile
from vqcodec.limits import ANY_SIZE, DEFAULT_LIMITS, Limits
from vqcodec.model.store import Model, find
from vqcodec.picture.alpha import pack_alpha, unpack_alpha
from vqcodec.picture.picture import Picture, grey_of
from vqcodec.progress import Progress, share_of
from vqcodec.threads import Workers
from vqcodec.windows import bounds, split

if TYPE_CHECKING:
    from vqcodec.nn.networks import Networks
    from vqcodec.nn.tiled import Tiled

__all__ = [
    "Codec", "grid_shape", "model_for", "read_codes", "read_part",
    "split", "unit_bounds",
]  # fmt: skip

Samples = npt.NDArray[np.uint8]

# Relative durations of the steps, for progress reports; the unit is one pass of the encoder. See benchmarks/speed.py.
DECODER, FITTING, PACKING, READING = 1, 1, 8, 5
PRICES, ROUND = 2, 2  # steps of the search: computing the prices, and one round
ROUNDS = (0, 3, 8, 20)  # rounds of the search (code_search.py) at each effort
DEFAULT_EFFORT = 1


class Codec:
    """Compresses and decompresses with one model. Loading takes a moment, so keep the object for several pictures.

    Qualities count from 1. Threads may share a `Codec`: it loads networks and priors once and only reads them after
    that. Pictures beyond the `limits` are refused, in both directions, before they cost memory or time. `threads` is
    the number of threads that share the work on a picture, by default one for each core; results do not depend on it.
    """

    def __init__(self, model: Model, limits: Limits = DEFAULT_LIMITS, threads: int | None = None) -> None:
        self.model, self.limits = model, limits
        self.workers = Workers(threads)
        self._loading = RLock()
        self._prior = cache(model.prior)

    def prior(self, quality: int) -> IntegerPrior:
        """The integer prior at one quality (0-based)."""
        with self._loading:
            return self._prior(quality)

    @property
    def network(self) -> Networks:
        """The autoencoder, loaded at first use."""
        with self._loading:
            return self._network

    @cached_property
    def _network(self) -> Networks:
        from vqcodec.nn.weights import open_network

        return open_network(self.model)

    def compress(
        self,
        picture: Picture,
        quality: int | None = None,
        progress: Progress | None = None,
        effort: int = DEFAULT_EFFORT,
    ) -> bytes:
        """Compress a picture to the bytes of a .vq file.

        `effort`, 0 to 3: how long to search for codes with a better rate-distortion trade-off. Any decoder reads the
        result. Raises `UsageError` for a quality that the model does not have, or another effort, and `LimitExceeded`
        for a picture beyond the limits.
        """
        return self.compress_keeping_codes(picture, quality, progress, effort)[0]

    def compress_keeping_codes(
        self, picture: Picture, quality: int | None, progress: Progress | None, effort: int
    ) -> tuple[bytes, Codes]:
        """As `compress`, and also returns the codes [G, h, w] of the file."""
        quality = self.quality(quality)
        passes = self._passes(self._rounds(effort))
        encoded = passes / (passes + FITTING + PACKING)
        codes = self.to_codes(picture.pixels, quality, share_of(progress, 0, encoded), effort)
        return self.pack(picture, codes, quality, share_of(progress, encoded, 1)), codes

    def pack(
        self, picture: Picture, codes: Codes, quality: int, progress: Progress | None = None, *, prove: bool = True
    ) -> bytes:
        """The bytes of a .vq file with the codes [G, h, w] of a picture.

        `prove`: decode the payloads again and check that they give the same codes.
        """
        config = self.model.config
        index = quality - 1
        weights = self.fit(picture.pixels, codes, quality)
        if progress:
            progress(FITTING / (FITTING + PACKING))
        rest = share_of(progress, FITTING / (FITTING + PACKING), 1)
        grids = split(codes, config.unit)
        payloads = write_units(
            self.prior(index), [grid for row in grids for grid in row], rest, prove=prove, workers=self.workers
        )
        file = VqFile(
            model_digest=self.model.digest,
            width=picture.width,
            height=picture.height,
            mode=picture.mode,
            quality=index,
            unit=config.unit,
            rows=len(grids),
            cols=len(grids[0]),
            units=tuple(payloads),
            alpha=None if picture.alpha is None else pack_alpha(picture.alpha),
            postfilter=None if weights is None else pack_weights(weights),
            metadata=picture.metadata,
        )
        return container.pack(file)

    def decompress(self, data: bytes, progress: Progress | None = None) -> Picture:
        """Decompress a .vq file. Raises `BadFile`, or `UnknownModel` when the file was written with another model."""
        file = container.unpack(data, self.limits)
        read = READING / (READING + DECODER)
        codes = read_codes(file, self.model, self.prior, share_of(progress, 0, read), self.workers)
        shape = (file.height, file.width)
        weights = self.weights(file.postfilter)
        pixels = self.render(codes, file.quality + 1, shape, file.mode, share_of(progress, read, 1), weights)
        alpha = None if file.alpha is None else unpack_alpha(file.alpha, file.height, file.width)
        return Picture(pixels, file.mode, alpha, metadata=file.metadata)

    def render(
        self,
        codes: Codes,
        quality: int,
        shape: tuple[int, int],
        mode: Literal["RGB", "L"],
        progress: Progress | None = None,
        weights: Weights | None = None,
    ) -> Samples:
        """Decode codes [G, h, w] to pixels [H, W, 3] of a picture of shape (H, W); mode "L": three equal channels.

        `weights`: the post-filter weights of the file, if it has any.
        """
        pixels = self.to_pixels(codes, quality, progress, weights)[: shape[0], : shape[1]]
        if mode == "L":
            pixels = np.repeat(grey_of(pixels)[:, :, None], 3, axis=2)
        return np.ascontiguousarray(pixels)

    def quality(self, wanted: int | None) -> int:
        """Check a quality; None gives the model's default. Raises `UsageError` if the model does not have it."""
        config = self.model.config
        wanted = config.default_quality if wanted is None else wanted
        if not 1 <= wanted <= config.vqvae.qualities:
            raise UsageError(f"the model {config.name} has the qualities 1 to {config.vqvae.qualities}, not {wanted}")
        return wanted

    def to_codes(
        self,
        pixels: Samples,
        quality: int,
        progress: Progress | None = None,
        effort: int = DEFAULT_EFFORT,
        rate_scale: float = 1.0,
    ) -> Codes:
        """Pixels [H, W, 3] -> codes [G, ceil(H / stride), ceil(W / stride)].

        `rate_scale` multiplies lambda: more than 1 gives a smaller file with the codebooks of the same quality. An
        `effort` above 0 then improves the codes by the search of code_search.py. Raises `LimitExceeded` for a picture
        beyond the limits, and `UsageError` for an unknown effort.
        """
        rounds = self._rounds(effort)
        self.refuse_beyond_limits(*pixels.shape[:2])
        networks = self._networks(quality, rate_scale)
        share = 1 / self._passes(rounds)
        codes = networks.to_codes(pixels, share_of(progress, 0, share))
        if rounds:
            prior, rest = self.prior(quality - 1), share_of(progress, share, 1)
            refine(codes, pixels, networks, Search(prior, self.model.config.unit, rounds, self.workers), rest)
        return codes

    def to_pixels(
        self, codes: Codes, quality: int, progress: Progress | None = None, weights: Weights | None = None
    ) -> Samples:
        """Codes [G, h, w] -> pixels [h * stride, w * stride, 3]."""
        return self._networks(quality).to_pixels(codes, progress, () if weights is None else weights.values)

    def fit(self, pixels: Samples, codes: Codes, quality: int) -> Weights | None:
        """The post-filter weights for pixels [H, W, 3] and their codes [G, h, w].

        None if the model has no post-filter, or if no weights are worth their bytes.
        """
        if not self.model.config.vqvae.postfilter:
            return None
        return fit_weights(self._networks(quality), pixels, codes)

    def weights(self, payload: bytes | None) -> Weights | None:
        """Unpack the post-filter weights of a file. Raises `DamagedFile` if they do not fit the model."""
        if payload is None:
            return None
        if not self.model.config.vqvae.postfilter:
            raise DamagedFile("the file has post-filter weights, but its model has none; the file is damaged")
        return unpack_weights(payload, self.model.config.vqvae.postfilter)

    def refuse_beyond_limits(self, height: int, width: int) -> None:
        """Raise `LimitExceeded` for a picture, or a part of one, that exceeds the limits; sizes are in pixels."""
        limits = self.limits
        if max(height, width) > limits.side:
            over = f"{width}x{height} is beyond the limit of {limits.side} pixels per side"
            raise LimitExceeded(f"{over}; split the picture into parts")
        if height * width > limits.pixels:
            over = f"{width}x{height} is beyond the limit of {limits.pixels} pixels"
            raise LimitExceeded(f"{over}; raise it with --max-pixels {height * width}, or split the picture into parts")

    def _rounds(self, effort: int) -> int:
        """Rounds of the search at an effort; 0 for the conv family, whose latents are not in units of pixels."""
        if not 0 <= effort < len(ROUNDS):
            raise UsageError(f"the effort must be 0 to {len(ROUNDS) - 1}, not {effort}")
        return ROUNDS[effort] if self.model.config.vqvae.transform else 0

    @staticmethod
    def _passes(rounds: int) -> int:
        """The duration of encoding and search, in passes of the encoder."""
        return 1 + (PRICES + ROUND * rounds if rounds else 0)

    def _networks(self, quality: int, rate_scale: float = 1.0) -> Tiled:
        from vqcodec.nn.tiled import Tiled

        return Tiled(self.network, quality - 1, rate_scale, workers=self.workers)


def read_codes(
    file: VqFile,
    model: Model,
    prior: Callable[[int], IntegerPrior] | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> Codes:
    """Codes [G, h, w] of an unpacked file. `prior` returns the prior at a quality (0-based).

    Raises `UnknownModel` if the file was written with another model, `DamagedFile` if it does not fit its model.
    """
    return read_part(file, model, dict(enumerate(file.units)), prior, progress, workers)


def read_part(
    frame: Frame,
    model: Model,
    payloads: Mapping[int, bytes],
    prior: Callable[[int], IntegerPrior] | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> Codes:
    """Codes [G, h, w] with only the units that `payloads` (index -> bytes) gives; the others are 0.

    Raises the same errors as `read_codes`.
    """
    bounds = unit_bounds(frame, model)
    shapes = [(bounds[i][1] - bounds[i][0], bounds[i][3] - bounds[i][2]) for i in payloads]
    loaded = (prior or model.prior)(frame.quality)
    grids = read_units(loaded, list(payloads.values()), shapes, progress, workers=workers)
    height, width = grid_shape(frame.height, frame.width, model.config.vqvae.stride)
    codes = np.zeros((len(model.config.vqvae.codebooks), height, width), np.int32)
    for index, grid in zip(payloads, grids, strict=True):
        top, bottom, left, right = bounds[index]
        codes[:, top:bottom, left:right] = grid
    return codes


def unit_bounds(frame: Frame, model: Model) -> list[tuple[int, int, int, int]]:
    """The bounds of a file's units in its grid: (top, bottom, left, right) in positions, in row-major order.

    Raises `UnknownModel` if the file was written with another model, `DamagedFile` if it does not fit its model.
    """
    config = model.config
    if frame.model_digest != model.digest:
        raise UnknownModel(
            f"the file was written with another model (digest {frame.model_digest.hex()}), not with {model.name} "
            f"(digest {model.digest.hex()})"
        )
    height, width = grid_shape(frame.height, frame.width, config.vqvae.stride)
    # Check the counts before building the list: the header of a hostile file may declare any size.
    if frame.unit != config.unit or (frame.rows, frame.cols) != grid_shape(height, width, config.unit):
        raise DamagedFile("the file's units do not fit its model; the file is damaged")
    if frame.quality >= config.vqvae.qualities:
        raise DamagedFile(f"the file's model has no quality {frame.quality + 1}; the file is damaged")
    rows, cols = bounds(height, config.unit), bounds(width, config.unit)
    return [(*vertical, *horizontal) for vertical in rows for horizontal in cols]


def model_for(data: bytes, *, partial: bool = False) -> Model:
    """The bundled model whose digest is in the header of a .vq file; `partial`: the file may be truncated.

    Raises `BadFile`, or `UnknownModel` if no bundled model has that digest.
    """
    return find(container.read_header(data, ANY_SIZE, partial=partial).model_digest)


def grid_shape(height: int, width: int, stride: int) -> tuple[int, int]:
    """Latent positions (rows, columns) of a picture of height x width pixels."""
    return -(-height // stride), -(-width // stride)
