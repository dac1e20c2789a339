"""The networks on pictures of any size: window by window, so that memory does not grow with the picture.

In: pixels [H, W, 3], uint8, of any H and W. Out: codes [G, h, w], h = ceil(H / stride), and back; numpy outside, torch
inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.nn.postfilter import REACH, padded
from vqcodec.nn.vqvae import PIXEL_SCALE, VQVAE, PatchDecoder, to_samples
from vqcodec.windows import Window, cover

__all__ = ["Tiled"]

Samples = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int32]
Latents = npt.NDArray[np.float32]
Map = npt.NDArray[np.float32]  # a number for each position: [h, w]
Doubles = npt.NDArray[np.float64]
Progress = Callable[[float], None]

WINDOW = 1024  # pixels, of the side of a window's core
SAMPLES = 1 << 17  # pixels that are enough to fit a post-filter: of larger pictures every third or so, each way
BF16 = ("avx512_bf16", "amx_bf16")  # any of these capabilities of a processor


class Tiled:
    """A trained autoencoder at one quality (0-based); `rate_scale` multiplies the lambda of its quantiser."""

    def __init__(self, network: VQVAE, quality: int, rate_scale: float = 1.0) -> None:
        self.network, self.quality, self.rate_scale = network, quality, float(rate_scale)
        self.stride = network.config.stride

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
        """Latents [D, h, w], a gradient step of lengths [h, w] from those of codes [G, h, w] towards pixels [H, W, 3].

        And the `errors` of the codes. See `VQVAE.descend`.
        """
        with _quick_products():
            moved, errors = self.network.descend(
                _batch_of(codes), _tensor(pixels), self.quality, torch.from_numpy(steps), self._decoder
            )
        return moved[0].numpy(), errors[0].numpy()

    def errors(self, codes: Codes, pixels: Samples) -> Map:
        """Squared errors [h, w] of the decoded codes [G, h, w] from pixels [H, W, 3], in the unit of the latents."""
        return self.network.errors(self._decoded(codes), _tensor(pixels))[0].numpy()

    @cached_property
    def _decoder(self) -> PatchDecoder:
        """For the search, which decodes again and again."""
        assert isinstance(self.network.decoder, PatchDecoder), "only its latents measure pixels"
        return self.network.decoder.at(self.quality)

    def _decoded(self, codes: Codes) -> Tensor:
        """Codes [G, h, w] -> a batch of one, for an encoder's choices."""
        latents = self.network.quantizer.dequantize(_batch_of(codes), self.quality)
        with _quick_products():
            decoded: Tensor = self._decoder(latents, torch.tensor([self.quality]))
        return decoded

    def choose(self, latents: Latents, bits: Sequence[npt.NDArray[np.float32]], steps: Map) -> Codes:
        """Latents [D, h, w] -> codes [G, h, w] at given costs: G arrays [h * w, K] of bits, lambda times `steps`."""
        z = torch.from_numpy(np.ascontiguousarray(latents))[None]
        costs = [torch.from_numpy(each)[None] for each in bits]
        scale = torch.from_numpy(self.rate_scale * steps).view(1, -1)
        return self.network.quantizer.quantize(z, self.quality, scale, costs)[0].numpy().astype(np.int32)

    @property
    def price(self) -> float:
        """Lambda: what a bit costs, in the unit of `errors`."""
        return float(self.network.quantizer.lambdas[self.quality]) * self.rate_scale

    def normal_equations(self, codes: Codes, pixels: Samples) -> tuple[Doubles, Doubles]:
        """What the weights [K] of the post-filter depend on, for codes [G, h, w] of pixels [H, W, 3].

        With matrix A [K, K] and vector b [K] the squared error changes by w A w - 2 b w, in the unit of the latents.
        """
        assert self.network.postfilter is not None
        _, rows, columns = codes.shape
        height, width = pixels.shape[:2]
        step = math.ceil(math.sqrt(height * width / SAMPLES)) | 1  # odd: in step with no pattern of 2 or 8 pixels
        count = len(self.network.postfilter.kernels)
        gram, lacking = np.zeros((count, count)), np.zeros(count)
        for window in self._windows(rows, columns, self.network.decoder_reach, None):
            decoded = self._decoded(codes[(slice(None), *window.outer())])
            down, right = (slice(s.start, s.stop + 2 * REACH) for s in window.inner(self.stride))
            around = padded(decoded)[:, :, down, right]
            part = _tensor(pixels[window.core(self.stride)])
            around = around[:, :, : part.shape[2] + 2 * REACH, : part.shape[3] + 2 * REACH]
            a, b = self.network.postfilter.normal_equations(around, part, step)
            gram += a.numpy()
            lacking += b.numpy()
        scale = PIXEL_SCALE**2 * step**2
        return gram * scale, lacking * scale

    def to_pixels(self, codes: Codes, progress: Progress | None = None, weights: Sequence[float] = ()) -> Samples:
        """Codes [G, h, w] -> pixels [h * stride, w * stride, 3], with weights of the post-filter."""
        _, height, width = codes.shape
        pixels = np.empty((height * self.stride, width * self.stride, 3), np.uint8)
        for window in self._windows(height, width, self.network.decoder_reach, progress):
            decoded = self.network.to_pictures(_batch_of(codes[(slice(None), *window.outer())]), self.quality, weights)
            samples = to_samples(decoded[0]).to(torch.uint8).permute(1, 2, 0)
            pixels[window.core(self.stride)] = samples.numpy()[window.inner(self.stride)]
        return pixels

    def _windows(self, height: int, width: int, reach: int, progress: Progress | None) -> Iterator[Window]:
        """The windows over a grid; tells `progress` which share of them is done."""
        windows = list(cover(height, width, max(1, WINDOW // self.stride), reach))
        for done, window in enumerate(windows, 1):
            yield window
            if progress:
                progress(done / len(windows))


def _quick_products() -> torch.autocast:
    """bf16 where the processor has products of it: half the time, and the search finds as good codes and weights.

    Only for an encoder's choices. A decoder's products are in float32 everywhere.
    """
    tell = getattr(torch.cpu, "get_capabilities", None)  # which older versions lack
    capabilities: Mapping[str, object] = tell() if tell else {}
    return torch.autocast("cpu", torch.bfloat16, enabled=any(map(capabilities.get, BF16)))


def _batch_of(codes: Codes) -> Tensor:
    """Codes [G, h, w] -> a batch of one, [1, G, h, w]."""
    return torch.from_numpy(codes.astype(np.int64))[None]


def _tensor(pixels: Samples) -> Tensor:
    """Pixels [H, W, 3] -> a batch of one, [1, 3, H, W] in [0, 1]."""
    x = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] / 255  # a copy: pixels may be read-only
    return x.contiguous(memory_format=torch.channels_last)


def _padded(pixels: Samples, stride: int) -> Samples:
    """Pixels [H, W, 3] with the last row and column repeated up to whole multiples of the stride."""
    below, right = -pixels.shape[0] % stride, -pixels.shape[1] % stride
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
