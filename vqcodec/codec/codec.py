"""The whole path: picture -> codes -> payloads -> file, and back. Encoding stands above decoding, step by step.

In: a `Picture` and a `Model`. Out: the bytes of a .vq file, and back. Reading a file up to its codes uses neither torch
nor a floating-point number that is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from threading import RLock
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from vqcodec.codec.code_search import refine
from vqcodec.codec.fit_postfilter import fit_weights
from vqcodec.coding.filter_weights import Weights, pack_weights, unpack_weights
from vqcodec.coding.integer_prior import Codes, IntegerPrior
from vqcodec.coding.rangecoder import read_units, write_units
from vqcodec.errors import DamagedFile, LimitExceeded, UnknownModel, UsageError
from vqcodec.format import container
from vqcodec.format.container import Frame, VqFile
from vqcodec.limits import ANY_SIZE, DEFAULT_LIMITS, Limits
from vqcodec.model.store import Model, find
from vqcodec.picture.alpha import pack_alpha, unpack_alpha
from vqcodec.picture.picture import Picture, grey_of
from vqcodec.progress import Progress, share_of
from vqcodec.windows import bounds, split

if TYPE_CHECKING:
    from vqcodec.nn.tiled import Tiled
    from vqcodec.nn.vqvae import VQVAE

__all__ = [
    "Codec", "grid_shape", "model_for", "read_codes", "read_part",
    "split", "unit_bounds",
]  # fmt: skip

Samples = npt.NDArray[np.uint8]

# What parts of the work take, in passes of the encoder, as progress is told: see benchmarks/speed.py.
DECODER, FITTING, PACKING, READING = 1, 1, 8, 5
PRICES, ROUND = 2, 2  # of the search
ROUNDS = (0, 3, 8, 20)  # of the search for better codes (refine.py) at each effort
DEFAULT_EFFORT = 1


class Codec:
    """A model at work. Loading takes a moment; keep the object for several pictures. Qualities count from 1.

    Threads may share it: what it keeps is loaded once, and only read from then on.
    Pictures beyond the `limits` are refused, both ways, before they cost memory or time.
    """

    def __init__(self, model: Model, limits: Limits = DEFAULT_LIMITS) -> None:
        self.model, self.limits = model, limits
        self._loading = RLock()
        self._prior = cache(model.prior)

    def prior(self, quality: int) -> IntegerPrior:
        """The prior at one quality (0-based)."""
        with self._loading:
            return self._prior(quality)

    @property
    def network(self) -> VQVAE:
        """The autoencoder."""
        with self._loading:
            return self._network

    @cached_property
    def _network(self) -> VQVAE:
        from vqcodec.nn.weights import open_network

        return open_network(self.model)

    def compress(
        self,
        picture: Picture,
        quality: int | None = None,
        progress: Progress | None = None,
        effort: int = DEFAULT_EFFORT,
    ) -> bytes:
        """The bytes of a .vq file. Raises `UsageError` for a quality that the model does not have.

        `effort`, 0 to 3: how long to search for codes that give a better picture for their bits. Any decoder reads
        the result.
        """
        quality = self.quality(quality)
        passes = self._passes(self._rounds(effort))
        encoded = passes / (passes + FITTING + PACKING)
        codes = self.to_codes(picture.pixels, quality, share_of(progress, 0, encoded), effort)
        return self.pack(picture, codes, quality, share_of(progress, encoded, 1))

    def pack(
        self, picture: Picture, codes: Codes, quality: int, progress: Progress | None = None, *, prove: bool = True
    ) -> bytes:
        """The bytes of a .vq file with the codes of a picture; `prove`: decode them again to the same codes."""
        config = self.model.config
        index = quality - 1
        weights = self.fit(picture.pixels, codes, quality)
        if progress:
            progress(FITTING / (FITTING + PACKING))
        rest = share_of(progress, FITTING / (FITTING + PACKING), 1)
        grids = split(codes, config.unit)
        payloads = write_units(self.prior(index), [grid for row in grids for grid in row], rest, prove=prove)
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
        """The picture of a .vq file. Raises `BadFile`, or `UnknownModel` when another model wrote it."""
        file = container.unpack(data, self.limits)
        read = READING / (READING + DECODER)
        codes = read_codes(file, self.model, self.prior, share_of(progress, 0, read))
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
        """Codes [G, h, w] -> the pixels of a picture of shape (H, W), [H, W, 3]; mode "L": three equal channels.

        `weights`: those of the post-filter, which a file may hold.
        """
        pixels = self.to_pixels(codes, quality, progress, weights)[: shape[0], : shape[1]]
        if mode == "L":
            pixels = np.repeat(grey_of(pixels)[:, :, None], 3, axis=2)
        return np.ascontiguousarray(pixels)

    def quality(self, wanted: int | None) -> int:
        """A quality of the model, or its default. Raises `UsageError`."""
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

        `rate_scale` multiplies lambda: more than 1 gives a smaller file with the codebooks of the same quality. With
        `effort` the codes then move, step by step, to where the decoded picture is better for its bits (refine.py).
        """
        rounds = self._rounds(effort)
        self.refuse_beyond_limits(*pixels.shape[:2])
        networks = self._networks(quality, rate_scale)
        share = 1 / self._passes(rounds)
        codes = networks.to_codes(pixels, share_of(progress, 0, share))
        if rounds:
            prior, rest = self.prior(quality - 1), share_of(progress, share, 1)
            refine(codes, pixels, networks, prior, self.model.config.unit, rounds, rest)
        return codes

    def to_pixels(
        self, codes: Codes, quality: int, progress: Progress | None = None, weights: Weights | None = None
    ) -> Samples:
        """Codes [G, h, w] -> pixels [h * stride, w * stride, 3]."""
        return self._networks(quality).to_pixels(codes, progress, () if weights is None else weights.values)

    def fit(self, pixels: Samples, codes: Codes, quality: int) -> Weights | None:
        """The weights of the post-filter for pixels [H, W, 3] and their codes; None where a file needs none."""
        if not self.model.config.vqvae.postfilter:
            return None
        return fit_weights(self._networks(quality), pixels, codes)

    def weights(self, payload: bytes | None) -> Weights | None:
        """The weights of the post-filter that a file holds. Raises `DamagedFile` when they contradict the model."""
        if payload is None:
            return None
        if not self.model.config.vqvae.postfilter:
            raise DamagedFile("the file has weights for a post-filter, and its model has none; the file is damaged")
        return unpack_weights(payload, self.model.config.vqvae.postfilter)

    def refuse_beyond_limits(self, height: int, width: int) -> None:
        """Raise `LimitExceeded` for a picture, or a part of one, that is larger than the limits allow."""
        limits = self.limits
        if max(height, width) > limits.side:
            over = f"{width}x{height} is beyond the limit of {limits.side} pixels a side"
            raise LimitExceeded(f"{over}; cut the picture into parts")
        if height * width > limits.pixels:
            over = f"{width}x{height} is beyond the limit of {limits.pixels} pixels"
            raise LimitExceeded(f"{over}; raise it with --max-pixels {height * width}, or cut the picture into parts")

    def _rounds(self, effort: int) -> int:
        """Of the search; none where the latents do not measure pixels."""
        if not 0 <= effort < len(ROUNDS):
            raise UsageError(f"the effort is 0 to {len(ROUNDS) - 1}, not {effort}")
        return ROUNDS[effort] if self.model.config.vqvae.transform else 0

    @staticmethod
    def _passes(rounds: int) -> int:
        """What encoding takes, in passes of the encoder."""
        return 1 + (PRICES + ROUND * rounds if rounds else 0)

    def _networks(self, quality: int, rate_scale: float = 1.0) -> Tiled:
        from vqcodec.nn.tiled import Tiled

        return Tiled(self.network, quality - 1, rate_scale)


def read_codes(
    file: VqFile,
    model: Model,
    prior: Callable[[int], IntegerPrior] | None = None,
    progress: Progress | None = None,
) -> Codes:
    """Codes [G, h, w] of an unpacked file; needs no torch. `prior` gives the prior at a quality (0-based).

    Raises `UnknownModel` when another model wrote the file, `DamagedFile` when it contradicts its model.
    """
    return read_part(file, model, dict(enumerate(file.units)), prior, progress)


def read_part(
    frame: Frame,
    model: Model,
    payloads: Mapping[int, bytes],
    prior: Callable[[int], IntegerPrior] | None = None,
    progress: Progress | None = None,
) -> Codes:
    """Codes [G, h, w] of which only the units with the given payloads are filled; raises as `read_codes` does."""
    bounds = unit_bounds(frame, model)
    shapes = [(bounds[i][1] - bounds[i][0], bounds[i][3] - bounds[i][2]) for i in payloads]
    grids = read_units((prior or model.prior)(frame.quality), list(payloads.values()), shapes, progress)
    height, width = grid_shape(frame.height, frame.width, model.config.vqvae.stride)
    codes = np.zeros((len(model.config.vqvae.codebooks), height, width), np.int32)
    for index, grid in zip(payloads, grids, strict=True):
        top, bottom, left, right = bounds[index]
        codes[:, top:bottom, left:right] = grid
    return codes


def unit_bounds(frame: Frame, model: Model) -> list[tuple[int, int, int, int]]:
    """Where the units of a file lie in its grid: (top, bottom, left, right) each, row-major.

    Raises `UnknownModel` when another model wrote the file, `DamagedFile` when it contradicts its model.
    """
    config = model.config
    if frame.model_digest != model.digest:
        raise UnknownModel(
            f"the file was written with another model (digest {frame.model_digest.hex()}) than {model.name} "
            f"({model.digest.hex()})"
        )
    height, width = grid_shape(frame.height, frame.width, config.vqvae.stride)
    # Counted before they are listed: a header may declare any size.
    if frame.unit != config.unit or (frame.rows, frame.cols) != grid_shape(height, width, config.unit):
        raise DamagedFile("the file's units do not fit its model; the file is damaged")
    if frame.quality >= config.vqvae.qualities:
        raise DamagedFile(f"the file's quality {frame.quality + 1} is not one of its model; the file is damaged")
    rows, cols = bounds(height, config.unit), bounds(width, config.unit)
    return [(*vertical, *horizontal) for vertical in rows for horizontal in cols]


def model_for(data: bytes, *, partial: bool = False) -> Model:
    """The bundled model that a .vq file names by its digest; `partial`: the file may be cut.

    Raises `BadFile` or `UnknownModel`.
    """
    return find(container.read_header(data, ANY_SIZE, partial=partial).model_digest)


def grid_shape(height: int, width: int, stride: int) -> tuple[int, int]:
    """Latent positions (rows, columns) of a picture of height x width pixels."""
    return -(-height // stride), -(-width // stride)
