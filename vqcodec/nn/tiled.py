"""Runs the networks on pictures of any size, window by window, so that memory does not grow with the picture.

In: pixels [H, W, 3], uint8, of any H and W. Out: codes [G, h, w], h = ceil(H / stride), and back. The interface uses
numpy arrays, the networks torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.nn.distortion import SMALLEST
from vqcodec.nn.postfilter import REACH, padded
from vqcodec.nn.precision import autocast
from vqcodec.nn.vqvae import PIXEL_SCALE, VQVAE, PatchDecoder, to_samples
from vqcodec.windows import Window, cover

__all__ = ["Tiled"]

Samples = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int32]
Latents = npt.NDArray[np.float32]
Map = npt.NDArray[np.float32]  # one value per position: [h, w]
Doubles = npt.NDArray[np.float64]
Progress = Callable[[float], None]

WINDOW = 1024  # pixels: side of a window's core
SAMPLES = 1 << 17  # pixels that are enough to fit a post-filter; larger pictures are subsampled
CPU = torch.device("cpu")


class Tiled:
    """A trained autoencoder at one quality (0-based); `rate_scale` multiplies the lambda of its quantiser."""

    def __init__(self, network: VQVAE, quality: int, rate_scale: float = 1.0) -> None:
        self.network, self.quality, self.rate_scale = network, quality, float(rate_scale)
        self.stride = network.config.stride
        shares = network.config.structure
        self.structure = shares[quality] if shares else 0.0  # of the structural term in the distortion

    def to_codes(self, pixels: Samples, progress: Progress | None = None) -> Codes:
        """Pixels [H, W, 3] -> codes [G, h, w]."""
        height, width = (-(-side // self.stride) for side in pixels.shape[:2])
        codes = np.empty((len(self.network.config.codebooks), height, width), np.int32)
        for window in self._windows(height, width, self.network.encoder_reach, progress):
            part = _padded(pixels[window.outer(self.stride)], self.stride)
            found = self.network.to_codes(_tensor(part), self.quality, self.rate_scale)[0]
            codes[(slice(None), *window.core())] = found.numpy()[(slice(None), *window.inner())]
        return codes

    def descend(self, codes: Codes, pixels: Samples, steps: Map) -> tuple[Latents, Map]:
        """One step down the gradient of the distortion of codes [G, h, w] and pixels [H, W, 3]; see `VQVAE.descend`.

        `steps` [h, w] are the step lengths. Returns the moved latents [D, h, w] and the `errors` [h, w] of the codes.
        """
        with autocast(CPU):
            moved, errors = self.network.descend(
                _batch_of(codes),
                _tensor(pixels),
                self.quality,
                torch.from_numpy(steps),
                self._decoder,
                self._share(pixels),
            )
        return moved[0].numpy(), errors[0].numpy()

    def errors(self, codes: Codes, pixels: Samples) -> Map:
        """Distortion [h, w] of the decoded codes [G, h, w] against pixels [H, W, 3], in units of the latents."""
        return self.network.errors(self._decoded(codes), _tensor(pixels), self._share(pixels))[0].numpy()

    def _share(self, pixels: Samples) -> float:
        """The share of the structural term in the distortion; none where the picture is smaller than its window."""
        return self.structure if min(pixels.shape[:2]) >= SMALLEST else 0.0

    @cached_property
    def _decoder(self) -> PatchDecoder:
        """The decoder specialised to this quality, for the encoder's search, which decodes many times."""
        assert isinstance(self.network.decoder, PatchDecoder), "the latents of the conv family are not in pixel units"
        return self.network.decoder.at(self.quality)

    def _decoded(self, codes: Codes) -> Tensor:
        """Decode codes [G, h, w] to [1, 3, H, W], in bf16 where that is faster; only for decisions of the encoder."""
        latents = self.network.quantizer.dequantize(_batch_of(codes), self.quality)
        with autocast(CPU):
            decoded: Tensor = self._decoder(latents, torch.tensor([self.quality]))
        return decoded

    def choose(self, latents: Latents, bits: Sequence[npt.NDArray[np.float32]], steps: Map) -> Codes:
        """Quantise latents [D, h, w] to codes [G, h, w] with the given costs.

        `bits`: G arrays [h * w, K], the cost of every code at every position. `steps` [h, w]: factors of lambda.
        """
        z = torch.from_numpy(np.ascontiguousarray(latents))[None]
        costs = [torch.from_numpy(each)[None] for each in bits]
        scale = torch.from_numpy(self.rate_scale * steps).view(1, -1)
        return self.network.quantizer.quantize(z, self.quality, scale, costs)[0].numpy().astype(np.int32)

    @property
    def price(self) -> float:
        """Lambda, the price of a bit in the unit of `errors`."""
        return float(self.network.quantizer.lambdas[self.quality]) * self.rate_scale

    def normal_equations(self, codes: Codes, pixels: Samples) -> tuple[Doubles, Doubles]:
        """The least-squares problem of the post-filter weights, for codes [G, h, w] of pixels [H, W, 3].

        Returns the matrix A [K, K] and the vector b [K]. Weights w [K] change the squared error by w A w - 2 b w, in
        units of the latents.
        """
        assert self.network.postfilter is not None
        _, rows, columns = codes.shape
        height, width = pixels.shape[:2]
        # Use every third pixel or so of a large picture. Odd, to avoid aliasing with patterns of 2 or 8 pixels.
        step = math.ceil(math.sqrt(height * width / SAMPLES)) | 1
        count = len(self.network.postfilter.kernels)
        gram, correlation = np.zeros((count, count)), np.zeros(count)
        for window in self._windows(rows, columns, self.network.decoder_reach, None):
            decoded = self._decoded(codes[(slice(None), *window.outer())])
            down, right = (slice(s.start, s.stop + 2 * REACH) for s in window.inner(self.stride))
            around = padded(decoded)[:, :, down, right]
            part = _tensor(pixels[window.core(self.stride)])
            around = around[:, :, : part.shape[2] + 2 * REACH, : part.shape[3] + 2 * REACH]
            a, b = self.network.postfilter.normal_equations(around, part, step)
            gram += a.numpy()
            correlation += b.numpy()
        scale = PIXEL_SCALE**2 * step**2
        return gram * scale, correlation * scale

    def to_pixels(self, codes: Codes, progress: Progress | None = None, weights: Sequence[float] = ()) -> Samples:
        """Codes [G, h, w] -> pixels [h * stride, w * stride, 3]; empty `weights`: no post-filter."""
        _, height, width = codes.shape
        pixels = np.empty((height * self.stride, width * self.stride, 3), np.uint8)
        for window in self._windows(height, width, self.network.decoder_reach, progress):
            decoded = self.network.to_pictures(_batch_of(codes[(slice(None), *window.outer())]), self.quality, weights)
            samples = to_samples(decoded[0]).to(torch.uint8).permute(1, 2, 0)
            pixels[window.core(self.stride)] = samples.numpy()[window.inner(self.stride)]
        return pixels

    def _windows(self, height: int, width: int, reach: int, progress: Progress | None) -> Iterator[Window]:
        """The windows over a grid of positions; calls `progress` with the share of them that is done."""
        windows = list(cover(height, width, max(1, WINDOW // self.stride), reach))
        for done, window in enumerate(windows, 1):
            yield window
            if progress:
                progress(done / len(windows))


def _batch_of(codes: Codes) -> Tensor:
    """Codes [G, h, w] -> a batch of one, [1, G, h, w]."""
    return torch.from_numpy(codes.astype(np.int64))[None]


def _tensor(pixels: Samples) -> Tensor:
    """Pixels [H, W, 3] -> a batch of one, [1, 3, H, W] in [0, 1]."""
    x = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] / 255  # a copy: pixels may be read-only
    return x.contiguous(memory_format=torch.channels_last)


def _padded(pixels: Samples, stride: int) -> Samples:
    """Pixels [H, W, 3] padded to multiples of the stride by repeating the last row and column."""
    below, right = -pixels.shape[0] % stride, -pixels.shape[1] % stride
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
