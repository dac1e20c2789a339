"""The whole path: picture -> codes -> payloads -> file, and back. Encoding stands above decoding, step by step.

In: a `Picture` and a `Model`. Out: the bytes of a .vq file, and back. Reading a file up to its codes uses neither torch
nor a floating-point number that is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from vqcodec import container
from vqcodec.alpha import decode_alpha, encode_alpha
from vqcodec.coding.integer_prior import Codes, IntegerPrior
from vqcodec.coding.rangecoder import read_units, write_units
from vqcodec.container import Limits, VqFile
from vqcodec.errors import DamagedFile, LimitExceeded, ModelError, UnknownModel, UsageError
from vqcodec.image import Picture
from vqcodec.metrics import bits_per_dim, bits_per_pixel, compression_ratio
from vqcodec.store import Model, find
from vqcodec.windows import cover

if TYPE_CHECKING:
    from torch import Tensor

    from vqcodec.nn.vqvae import VQVAE

__all__ = ["Codec", "Info", "Progress", "describe", "model_for", "read_codes"]

Progress = Callable[[float], None]
Samples = npt.NDArray[np.uint8]

WINDOW = 1024  # pixels, of the side of a window's core: bounds the memory of the networks
NETWORK_SHARE = 0.3  # of the time, as progress is told
# Step sizes of the search for better codes (`VQVAE.refine`) at each effort: long steps first.
STEPS: tuple[tuple[float, ...], ...] = ((), (0.6,), (0.7, 0.6, 0.5), (0.8, 0.8, 0.7, 0.7, 0.7, 0.6, 0.6, 0.5))
DEFAULT_EFFORT = 1


@dataclass(frozen=True)
class Info:
    """What a file says about itself without being decoded."""

    model_digest: str  # hexadecimal
    model: str | None  # name, where the model is in the package
    width: int
    height: int
    mode: Literal["RGB", "L"]
    alpha: bool
    quality: int  # from 1
    unit: int  # side of a unit of coding, in latent positions
    rows: int  # of the grid of units
    cols: int
    unit_bytes: tuple[int, ...]  # row-major
    header_bytes: int
    alpha_bytes: int
    total_bytes: int

    @property
    def channels(self) -> int:
        """Colour channels, alpha not counted."""
        return 3 if self.mode == "RGB" else 1

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return bits_per_pixel(self.total_bytes, self.height, self.width)

    @property
    def bits_per_dim(self) -> float:
        """Bits per pixel and colour channel of the whole file."""
        return bits_per_dim(self.total_bytes, self.height, self.width, self.channels)

    @property
    def ratio(self) -> float:
        """Bytes of the plain samples over the bytes of the file."""
        return compression_ratio(self.total_bytes, self.height, self.width, self.channels)


class Codec:
    """A model at work. Loading takes a moment; keep the object for several pictures. Qualities count from 1."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._prior = cache(model.prior)

    @cached_property
    def _network(self) -> VQVAE:
        return self.model.network()

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
        _refuse_beyond_the_format(picture)
        codes = self.encode(picture.pixels, quality, _share(progress, 0, NETWORK_SHARE), effort)
        return self.pack(picture, codes, quality, _share(progress, NETWORK_SHARE, 1))

    def pack(
        self, picture: Picture, codes: Codes, quality: int, progress: Progress | None = None, *, prove: bool = True
    ) -> bytes:
        """The bytes of a .vq file with the codes of a picture; `prove`: decode them again to the same codes."""
        config = self.model.config
        index = quality - 1
        grids = split(codes, config.unit)
        payloads = write_units(self._prior(index), [grid for row in grids for grid in row], progress, prove=prove)
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
            alpha=None if picture.alpha is None else encode_alpha(picture.alpha),
        )
        return container.pack(file)

    def decompress(self, data: bytes, progress: Progress | None = None) -> Picture:
        """The picture of a .vq file. Raises `BadFile`, or `UnknownModel` when another model wrote it."""
        file = container.unpack(data)
        codes = read_codes(file, self.model, self._prior, _share(progress, 0, 1 - NETWORK_SHARE))
        shape = (file.height, file.width)
        pixels = self.render(codes, file.quality + 1, shape, file.mode, _share(progress, 1 - NETWORK_SHARE, 1))
        alpha = None if file.alpha is None else decode_alpha(file.alpha, file.height, file.width)
        return Picture(pixels, file.mode, alpha)

    def render(
        self,
        codes: Codes,
        quality: int,
        shape: tuple[int, int],
        mode: Literal["RGB", "L"],
        progress: Progress | None = None,
    ) -> Samples:
        """Codes [G, h, w] -> the pixels of a picture of shape (H, W), [H, W, 3]; mode "L": three equal channels."""
        pixels = self.decode(codes, quality, progress)[: shape[0], : shape[1]]
        if mode == "L":
            grey = pixels.mean(axis=2, keepdims=True).round().astype(np.uint8)
            pixels = np.repeat(grey, 3, axis=2)
        return np.ascontiguousarray(pixels)

    def quality(self, wanted: int | None) -> int:
        """A quality of the model, or its default. Raises `UsageError`."""
        config = self.model.config
        wanted = config.default_quality if wanted is None else wanted
        if not 1 <= wanted <= config.vqvae.qualities:
            raise UsageError(f"the model {config.name} has the qualities 1 to {config.vqvae.qualities}, not {wanted}")
        return wanted

    def encode(
        self,
        pixels: Samples,
        quality: int,
        progress: Progress | None = None,
        effort: int = DEFAULT_EFFORT,
        rate_scale: float = 1.0,
    ) -> Codes:
        """Pixels [H, W, 3] -> codes [G, ceil(H / stride), ceil(W / stride)], window by window.

        `rate_scale` multiplies lambda: more than 1 gives a smaller file with the codebooks of the same quality.
        """
        if not 0 <= effort < len(STEPS):
            raise UsageError(f"the effort is 0 to {len(STEPS) - 1}, not {effort}")
        vqvae, network, index = self.model.config.vqvae, self._network, quality - 1
        steps = STEPS[effort] if vqvae.stem == "patch" else ()
        # A better code is one for the decoded picture around it; what is decoded there follows from codes around that.
        reach = network.encoder_reach + (2 * network.decoder_reach if steps else 0)
        height, width = grid_shape(pixels.shape[0], pixels.shape[1], vqvae.stride)
        codes = np.empty((len(vqvae.codebooks), height, width), np.int32)
        windows = list(cover(height, width, WINDOW // vqvae.stride, reach))
        for done, window in enumerate(windows, 1):
            part = pixels[window.outer(vqvae.stride)]
            x = _to_network(_padded(part, vqvae.stride))
            found = network.encode(x, index, rate_scale)
            for step in steps:
                found = network.refine(found, x[:, :, : part.shape[0], : part.shape[1]], index, step, rate_scale)
            codes[(slice(None), *window.core())] = found[0].numpy()[(slice(None), *window.inner())]
            if progress:
                progress(done / len(windows))
        return codes

    def decode(self, codes: Codes, quality: int, progress: Progress | None = None) -> Samples:
        """Codes [G, h, w] -> pixels [h * stride, w * stride, 3], window by window."""
        import torch

        stride = self.model.config.vqvae.stride
        _, height, width = codes.shape
        pixels = np.empty((height * stride, width * stride, 3), np.uint8)
        windows = list(cover(height, width, WINDOW // stride, self._network.decoder_reach))
        for done, window in enumerate(windows, 1):
            part = torch.from_numpy(codes[(slice(None), *window.outer())].astype(np.int64))[None]
            y = self._network.decode(part, quality - 1)[0].permute(1, 2, 0)
            y = (y * 255).round().clamp(0, 255).to(torch.uint8)
            pixels[window.core(stride)] = y.numpy()[window.inner(stride)]
            if progress:
                progress(done / len(windows))
        return pixels


def read_codes(
    file: VqFile,
    model: Model,
    prior: Callable[[int], IntegerPrior] | None = None,
    progress: Progress | None = None,
) -> Codes:
    """Codes [G, h, w] of an unpacked file; needs no torch. `prior` gives the prior at a quality (0-based).

    Raises `UnknownModel` when another model wrote the file, `DamagedFile` when it contradicts its model.
    """
    config = model.config
    if file.model_digest != model.digest:
        raise UnknownModel(
            f"the file was written with another model (digest {file.model_digest.hex()}) than {model.name} "
            f"({model.digest.hex()})"
        )
    height, width = grid_shape(file.height, file.width, config.vqvae.stride)
    bounds = [_bounds(length, config.unit) for length in (height, width)]
    if file.unit != config.unit or (file.rows, file.cols) != (len(bounds[0]), len(bounds[1])):
        raise DamagedFile("the file's units do not fit its model; the file is damaged")
    if file.quality >= config.vqvae.qualities:
        raise DamagedFile(f"the file's quality {file.quality + 1} is not one of its model; the file is damaged")
    shapes = [(bottom - top, right - left) for top, bottom in bounds[0] for left, right in bounds[1]]
    grids = read_units((prior or model.prior)(file.quality), file.units, shapes, progress)
    codes = np.empty((len(config.vqvae.codebooks), height, width), np.int32)
    for index, grid in enumerate(grids):
        (top, bottom), (left, right) = bounds[0][index // file.cols], bounds[1][index % file.cols]
        codes[:, top:bottom, left:right] = grid
    return codes


def model_for(data: bytes) -> Model:
    """The bundled model that a .vq file names by its digest. Raises `BadFile` or `UnknownModel`."""
    return find(container.read_header(data).model_digest)


def describe(data: bytes) -> Info:
    """What the header of a .vq file says. Raises `BadFile`."""
    header = container.read_header(data)
    try:
        name = find(header.model_digest).name
    except ModelError:
        name = None
    return Info(
        model_digest=header.model_digest.hex(),
        model=name,
        width=header.width,
        height=header.height,
        mode=header.mode,
        alpha=header.alpha_bytes > 0,
        quality=header.quality + 1,
        unit=header.unit,
        rows=header.rows,
        cols=header.cols,
        unit_bytes=header.unit_lengths,
        header_bytes=header.header_bytes,
        alpha_bytes=header.alpha_bytes,
        total_bytes=len(data),
    )


def grid_shape(height: int, width: int, stride: int) -> tuple[int, int]:
    """Latent positions (rows, columns) of a picture of height x width pixels."""
    return -(-height // stride), -(-width // stride)


def split(codes: Codes, unit: int) -> list[list[Codes]]:
    """Codes [G, h, w] -> rows of units [G, <= unit, <= unit]."""
    _, height, width = codes.shape
    return [
        [codes[:, top:bottom, left:right] for left, right in _bounds(width, unit)]
        for top, bottom in _bounds(height, unit)
    ]


def _bounds(length: int, unit: int) -> list[tuple[int, int]]:
    return [(start, min(start + unit, length)) for start in range(0, length, unit)]


def _to_network(pixels: Samples) -> Tensor:
    """Pixels [H, W, 3] -> a batch of one, [1, 3, H, W] in [0, 1]."""
    import torch

    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return x.contiguous(memory_format=torch.channels_last)


def _refuse_beyond_the_format(picture: Picture) -> None:
    limits = Limits()
    if picture.height * picture.width > limits.pixels or max(picture.pixels.shape) > limits.side:
        size = f"{picture.width}x{picture.height}"
        raise LimitExceeded(f"a picture of {size} is beyond the format's {limits.pixels} pixels; cut it into parts")


def _padded(pixels: Samples, stride: int) -> Samples:
    """Pixels [H, W, 3] with the last row and column repeated up to whole multiples of the stride."""
    below, right = -pixels.shape[0] % stride, -pixels.shape[1] % stride
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")


def _share(progress: Progress | None, start: float, stop: float) -> Progress | None:
    if progress is None:
        return None
    return lambda done: progress(start + (stop - start) * done)
