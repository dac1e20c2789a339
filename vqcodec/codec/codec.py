"""Encoder and decoder: picture -> codes -> payloads -> file, and back.

In: a `Picture` and a `Model`. Out: the bytes of a .vq file, and back. content.py reads and writes the units.
"""

from __future__ import annotations

from functools import cache, cached_property
from threading import RLock
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from vqcodec.codec import stored
from vqcodec.codec.code_search import Search, refine
from vqcodec.codec.content import Content, Mask, around, filled, grid_shape, paste, payloads_of, read_part
from vqcodec.codec.fit_postfilter import fit_weights
from vqcodec.coding.filter_weights import Weights, pack_weights, unpack_weights
from vqcodec.coding.integer_prior import Codes, IntegerPrior
from vqcodec.errors import DamagedFile, LimitExceeded, UsageError, VqError
from vqcodec.format import container
from vqcodec.format.container import VqFile
from vqcodec.limits import ANY_SIZE, DEFAULT_LIMITS, Limits
from vqcodec.model.store import Model, find
from vqcodec.picture.alpha import pack_alpha, unpack_alpha
from vqcodec.picture.lossless import LONGEST_SIDE, is_available
from vqcodec.picture.picture import Picture, grey_of
from vqcodec.progress import Progress, share_of
from vqcodec.threads import Workers

if TYPE_CHECKING:
    from vqcodec.nn.networks import Networks
    from vqcodec.nn.tiled import Tiled

__all__ = ["DECODER", "DEFAULT_EFFORT", "PACKING", "ROUNDS", "Codec", "model_for"]

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
        return self.compress_keeping_content(picture, quality, progress, effort)[0]

    def compress_keeping_content(
        self, picture: Picture, quality: int | None, progress: Progress | None, effort: int, *, lossless: bool = False
    ) -> tuple[bytes, Content]:
        """As `compress`, and also returns the content of the file. `lossless`: store the whole picture without loss."""
        quality = self.quality(quality)
        passes = self._passes(self._rounds(effort))
        encoded = passes / (passes + FITTING + PACKING)
        encode = self.store if lossless else self.encode
        content = encode(picture.pixels, quality, share_of(progress, 0, encoded), effort)
        return self.pack(picture, content, quality, share_of(progress, encoded, 1)), content

    def encode(
        self,
        pixels: Samples,
        quality: int,
        progress: Progress | None = None,
        effort: int = DEFAULT_EFFORT,
        rate_scale: float = 1.0,
    ) -> Content:
        """Pixels [H, W, 3] -> codes, or stored pixels where they are worth their bits.

        The arguments and errors are those of `to_codes`. A model of the conv family stores nothing.
        """
        codes, kept = self._encode(pixels, quality, progress, effort, rate_scale, storing=True)
        return self.with_stored(codes, pixels, kept, effort)

    def store(
        self, pixels: Samples, quality: int, progress: Progress | None = None, effort: int = DEFAULT_EFFORT
    ) -> Content:
        """Pixels [H, W, 3] -> the content of a file that stores all of them without loss."""
        self._rounds(effort)
        self.refuse_beyond_limits(*pixels.shape[:2])
        config = self.model.config
        if not self.can_store:
            raise UsageError(
                f"{config.name} cannot store pixels here: its units are longer than {LONGEST_SIDE} pixels, or Pillow "
                "lacks WebP, which its wheels have"
            )
        shape = grid_shape(pixels.shape[0], pixels.shape[1], config.vqvae.stride)
        codes = np.zeros((len(config.vqvae.codebooks), *shape), np.int32)
        return self.with_stored(codes, pixels, np.ones(shape, bool), effort, progress)

    @property
    def can_store(self) -> bool:
        """Whether units of this model can be stored without loss, with this installation of Pillow."""
        return is_available() and self.model.config.unit * self.model.config.vqvae.stride <= LONGEST_SIDE

    def with_stored(
        self, codes: Codes, pixels: Samples, kept: Mask, effort: int, progress: Progress | None = None
    ) -> Content:
        """The content of a picture with these codes [G, h, w], and these positions [h, w], whole blocks, stored."""
        if not kept.any():
            return Content.of(codes)
        config = self.model.config
        how = (config.vqvae.stride, config.unit, effort)
        coded = around(~kept)
        streams = stored.streams_of(pixels, kept, how, self.workers, progress)
        return Content(np.where(coded, codes, 0), coded, kept, streams)

    def pack(
        self, picture: Picture, content: Content, quality: int, progress: Progress | None = None, *, prove: bool = True
    ) -> bytes:
        """The bytes of a .vq file with the content of a picture.

        `prove`: decode the payloads again and check that they give the same codes and pixels.
        """
        config = self.model.config
        index = quality - 1
        weights = self.fit(picture.pixels, content, quality)
        if progress:
            progress(FITTING / (FITTING + PACKING))
        rest = share_of(progress, FITTING / (FITTING + PACKING), 1)
        prior = self.prior(index)
        payloads = payloads_of(content, prior, config.unit, rest, prove=prove, workers=self.workers)
        if prove and content.streams:
            self._prove_stored(picture.pixels, content)
        rows, cols = grid_shape(content.codes.shape[1], content.codes.shape[2], config.unit)
        file = VqFile(
            model_digest=self.model.digest,
            width=picture.width,
            height=picture.height,
            mode=picture.mode,
            quality=index,
            unit=config.unit,
            rows=rows,
            cols=cols,
            units=tuple(payloads),
            alpha=None if picture.alpha is None else pack_alpha(picture.alpha),
            postfilter=None if weights is None else pack_weights(weights),
            metadata=picture.metadata,
            stored=bool(content.streams),
        )
        return container.pack(file)

    def decompress(self, data: bytes, progress: Progress | None = None) -> Picture:
        """Decompress a .vq file. Raises `BadFile`, or `UnknownModel` when the file was written with another model."""
        file = container.unpack(data, self.limits)
        read = READING / (READING + DECODER)
        units = dict(enumerate(file.units))
        content = read_part(file, self.model, units, self.prior, share_of(progress, 0, read), self.workers)
        shape = (file.height, file.width)
        weights = self.weights(file.postfilter)
        pixels = self.decode(content, file.quality + 1, shape, file.mode, share_of(progress, read, 1), weights)
        alpha = None if file.alpha is None else unpack_alpha(file.alpha, file.height, file.width)
        return Picture(pixels, file.mode, alpha, metadata=file.metadata)

    def decode(
        self,
        content: Content,
        quality: int,
        shape: tuple[int, int],
        mode: Literal["RGB", "L"],
        progress: Progress | None = None,
        weights: Weights | None = None,
    ) -> Samples:
        """The pixels [H, W, 3] of a picture of shape (H, W) from the content of its file; see `render`.

        Raises `DamagedFile` if stored pixels cannot be decoded.
        """
        config = self.model.config
        if content.coded.any():
            codes = filled(content.codes, content.coded)
            networks = self._networks(quality)
            decoded = networks.to_pixels(codes, progress, () if weights is None else weights.values, content.coded)
            pixels = decoded[: shape[0], : shape[1]]
        else:
            pixels = np.zeros((*shape, 3), np.uint8)
        paste(pixels, content, config.unit, config.vqvae.stride)
        if mode == "L":
            pixels = np.repeat(grey_of(pixels)[:, :, None], 3, axis=2)
        return np.ascontiguousarray(pixels)

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
        return self.decode(Content.of(codes), quality, shape, mode, progress, weights)

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
        return self._encode(pixels, quality, progress, effort, rate_scale, storing=False)[0]

    def _encode(
        self,
        pixels: Samples,
        quality: int,
        progress: Progress | None,
        effort: int,
        rate_scale: float,
        *,
        storing: bool,
    ) -> tuple[Codes, Mask]:
        """Codes of all positions, and the positions [h, w] to store: none without `storing`, or in the conv family."""
        rounds = self._rounds(effort)
        self.refuse_beyond_limits(*pixels.shape[:2])
        config = self.model.config
        networks = self._networks(quality, rate_scale)
        share = 1 / self._passes(rounds)
        codes = networks.to_codes(pixels, share_of(progress, 0, share))
        kept = np.zeros(codes.shape[1:], bool)
        if storing and config.vqvae.transform and self.can_store:
            choice = stored.Choice(self.prior(quality - 1), config.unit, self.workers)
            kept = stored.choose(codes, pixels, networks, choice)
        if rounds:
            search = Search(self.prior(quality - 1), config.unit, rounds, self.workers)
            refine(codes, pixels, networks, search, share_of(progress, share, 1), kept)
        return codes, kept

    def to_pixels(
        self, codes: Codes, quality: int, progress: Progress | None = None, weights: Weights | None = None
    ) -> Samples:
        """Codes [G, h, w] -> pixels [h * stride, w * stride, 3]."""
        return self._networks(quality).to_pixels(codes, progress, () if weights is None else weights.values)

    def fit(self, pixels: Samples, content: Content, quality: int) -> Weights | None:
        """The post-filter weights for pixels [H, W, 3] and the content of their file.

        None if the model has no post-filter, or if no weights are worth their bytes.
        """
        if not self.model.config.vqvae.postfilter or content.stored.all():
            return None
        return fit_weights(self._networks(quality), pixels, filled(content.codes, content.coded), ~content.stored)

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

    def _prove_stored(self, pixels: Samples, content: Content) -> None:
        """Raise `VqError` unless the stored pixels are read back as they are, which only a faulty library can cause."""
        config = self.model.config
        again = pixels.copy()
        paste(again, content, config.unit, config.vqvae.stride)
        if not np.array_equal(again, pixels):
            raise VqError("the stored pixels read back differ from those written; nothing was saved")

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


def model_for(data: bytes, *, partial: bool = False) -> Model:
    """The bundled model whose digest is in the header of a .vq file; `partial`: the file may be truncated.

    Raises `BadFile`, or `UnknownModel` if no bundled model has that digest.
    """
    return find(container.read_header(data, ANY_SIZE, partial=partial).model_digest)
