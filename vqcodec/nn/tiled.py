"""Runs the networks on pictures of any size, window by window, so that memory does not grow with the picture.

In: pixels [H, W, 3], uint8, of any H and W. Out: codes [G, h, w], h = ceil(H / stride), and back.

The windows of a picture are computed in several threads; of a picture with one window, the strips of each layer are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vqcodec.nn.decoder import PatchDecoder
from vqcodec.nn.distortion import C2, SMALLEST, STRUCTURE, gradient, local_distortion
from vqcodec.nn.fold import PIXEL_SCALE, WHITE
from vqcodec.nn.networks import Networks
from vqcodec.nn.postfilter import REACH, padded
from vqcodec.nn.quantizer import Costs
from vqcodec.nn.trunk import Signs
from vqcodec.progress import Progress
from vqcodec.threads import Workers
from vqcodec.windows import Window, cover

__all__ = ["Slopes", "Tiled"]

Samples = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int32]
Latents = npt.NDArray[np.float32]
Map = npt.NDArray[np.float32]  # one value per position: [h, w]
Mask = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]
R = TypeVar("R")

WINDOW = 1024  # pixels: side of a window's core
WINDOWS_PER_THREAD = 2  # with fewer, the threads share the work on each window instead
SAMPLES = 1 << 17  # pixels that are enough to fit a post-filter; larger pictures are subsampled
SAMPLED = 1 << 21  # pixels that are decoded for that, about, in windows of 256 x 256 over the whole picture
SAMPLED_WINDOW = 256
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Slopes:
    """The latents of codes, and at each position the distortion of the decoded picture and its gradient."""

    latents: Latents  # [h, w, D]
    gradient: Latents  # [h, w, D], of half the distortion with respect to the latents
    errors: Map  # [h, w], as `Tiled.errors`

    def where(self, chosen: npt.NDArray[np.bool_], other: Slopes) -> Slopes:
        """These values at the chosen positions [h, w], and those of `other` elsewhere."""
        places = chosen[:, :, None]
        return Slopes(
            np.where(places, self.latents, other.latents),
            np.where(places, self.gradient, other.gradient),
            np.where(chosen, self.errors, other.errors),
        )


class Tiled:
    """A trained autoencoder at one quality (0-based); `rate_scale` multiplies the lambda of its quantiser.

    `workers` share the work; the results do not depend on their number.
    """

    def __init__(
        self, network: Networks, quality: int, rate_scale: float = 1.0, *, workers: Workers | None = None
    ) -> None:
        self.network, self.quality, self.rate_scale = network, quality, float(rate_scale)
        self.stride = network.config.stride
        self._workers = workers or Workers(1)
        shares = network.config.structure
        self.structure = shares[quality] if shares else 0.0  # of the structural term in the distortion

    def to_codes(self, pixels: Samples, progress: Progress | None = None) -> Codes:
        """Pixels [H, W, 3] -> codes [G, h, w]."""
        height, width = (-(-side // self.stride) for side in pixels.shape[:2])
        codes = np.empty((len(self.network.config.codebooks), height, width), np.int32)

        def compute(window: Window) -> None:
            part = _whole_blocks(pixels[window.outer(self.stride)], self.stride)
            found = self.network.to_codes(part, self.quality, self.rate_scale, self._workers, window.inner())
            codes[(slice(None), *window.core())] = found

        self._each(compute, self._windows(height, width, self.network.config.encoder_reach), progress)
        return codes

    def slopes(self, codes: Codes, pixels: Samples) -> Slopes:
        """The distortion of codes [G, h, w], decoded, against pixels [H, W, 3], and its gradient.

        Subtracting a step length times the gradient from the latents and quantising them with as many times lambda is
        a step of proximal gradient descent (Beck & Teboulle 2009, section 2.2) on |picture - decoder(e)|^2 / 2 +
        lambda * bits / 2, or with a share of the structural term in the distortion (distortion.py). Decoded pixels
        outside the picture are ignored.
        """
        decoder = self.network.decoder(self.quality)
        assert isinstance(decoder, PatchDecoder), "the latents of the conv family are not in pixel units"
        latents = self.network.quantizer.dequantize(codes, self.quality)
        signs = Signs()
        decoded = decoder.forward(latents, self._workers, signs)
        height, width, _ = pixels.shape
        by_pixel = np.zeros_like(decoded)
        # The distortion is a mean over pixels from 0 to 1; what is minimised is half the sum, in units of the latents.
        scale = np.float32(pixels.size * PIXEL_SCALE**2 / 2 / WHITE)
        inside = _unit(decoded[:height, :width])
        by_pixel[:height, :width] = scale * gradient(inside, _unit(pixels), self._share(pixels))
        return Slopes(latents, decoder.back(by_pixel, signs, self._workers), self._errors(decoded, pixels))

    def errors(self, codes: Codes, pixels: Samples) -> Map:
        """Distortion [h, w] of the decoded codes [G, h, w], rounded to 8 bits, against pixels [H, W, 3].

        The sums are per position, in units of the latents. Pixels outside the picture do not count.
        """
        return self._errors(self.network.to_pictures(codes, self.quality, self._workers), pixels)

    def _errors(self, decoded: Latents, pixels: Samples) -> Map:
        height, width, _ = pixels.shape
        samples = _to_samples(decoded[:height, :width])
        scale = np.float32(3 * self.stride**2 * PIXEL_SCALE**2)
        return scale * local_distortion(_unit(samples), _unit(pixels), self._share(pixels), self.stride)

    def flat_errors(self, pixels: Samples) -> Map:
        """What `errors` would be if every position was decoded to its mean colour, about: [h, w] for pixels [H, W, 3].

        Codes seldom do worse, and this takes a hundredth of the time of decoding them. The structural dissimilarity of
        a flat position is at most its variance over the constant of the contrast term (distortion.py).
        """
        height, width, _ = pixels.shape
        down, right = np.arange(0, height, self.stride), np.arange(0, width, self.stride)
        counts = np.outer(np.diff(down, append=height), np.diff(right, append=width))[:, :, None]
        values = _unit(pixels)

        def means(x: Latents) -> Latents:
            found: Latents = np.add.reduceat(np.add.reduceat(x, down, axis=0), right, axis=1) / counts
            return found

        variance = np.maximum(means(values * values) - np.square(means(values)), 0).mean(2)
        share = self._share(pixels)
        structure = STRUCTURE * np.minimum(variance / C2, 1)
        scale = 3 * self.stride**2 * PIXEL_SCALE**2
        bound: Map = (scale * ((1 - share) * variance + share * structure)).astype(np.float32)
        return bound

    def _share(self, pixels: Samples) -> float:
        """The share of the structural term in the distortion; none where the picture is smaller than its window."""
        return self.structure if min(pixels.shape[:2]) >= SMALLEST else 0.0

    def _around(self, codes: Codes, window: Window) -> tuple[Latents, Window]:
        """Pixel values, neither rounded nor clipped, of a window's core and of one position around it.

        That is enough for the post-filter. The returned window has the same core; its outer rectangle is what was
        decoded.
        """
        _, height, width = codes.shape
        near = replace(
            window,
            outer_top=max(0, window.top - 1),
            outer_bottom=min(height, window.bottom + 1),
            outer_left=max(0, window.left - 1),
            outer_right=min(width, window.right + 1),
        )
        rows, columns = near.outer()
        top, left = window.outer_top, window.outer_left
        wanted = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        part = codes[(slice(None), *window.outer())]
        return self.network.to_pictures(part, self.quality, self._workers, wanted), near

    def choose(self, latents: Latents, costs: Sequence[Costs], scale: Map) -> Codes:
        """Quantise latents [h, w, D] to codes [G, h, w] with the given costs, as they are or in levels.

        `costs`: G arrays [h * w, K], the cost of every code at every position. `scale` [h, w]: factors of lambda.
        """
        factors = np.float32(self.rate_scale) * scale
        return self.network.quantizer.quantize(latents, self.quality, factors, self._workers, costs)

    @property
    def price(self) -> float:
        """Lambda, the price of a bit in the unit of `errors`."""
        return float(self.network.quantizer.lambdas[self.quality]) * self.rate_scale

    def normal_equations(self, codes: Codes, pixels: Samples, wanted: Mask | None = None) -> tuple[Doubles, Doubles]:
        """The least-squares problem of the post-filter weights, for codes [G, h, w] of pixels [H, W, 3].

        Returns the matrix A [K, K] and the vector b [K]. Weights w [K] change the squared error by w A w - 2 b w, in
        units of the latents. `wanted`: the positions [h, w] whose pixels count, at least one; None: all.
        """
        postfilter = self.network.postfilter
        assert postfilter is not None
        _, rows, columns = codes.shape
        height, width = pixels.shape[:2]
        counted = np.ones((rows, columns), bool) if wanted is None else wanted
        total = height * width * float(counted.mean())  # pixels that count
        reach, side = self.network.config.decoder_reach, WINDOW // self.stride
        if total > 2 * SAMPLED:
            side = SAMPLED_WINDOW // self.stride
        windows = [window for window in cover(rows, columns, side, reach) if counted[window.core()].any()]
        if total > 2 * SAMPLED:
            windows = _spread(windows, total / SAMPLED)
        used = sum(
            pixels[window.core(self.stride)][:, :, 0].size * float(counted[window.core()].mean()) for window in windows
        )
        # Of these, use every third pixel or so. Odd, to avoid aliasing with patterns of 2 or 8 pixels.
        step = math.ceil(math.sqrt(used / SAMPLES)) | 1

        def compute(window: Window) -> tuple[Doubles, Doubles]:
            decoded, near = self._around(codes, window)
            around = padded(decoded)
            part = pixels[window.core(self.stride)]
            down, right = (slice(s.start, s.stop + 2 * REACH) for s in near.inner(self.stride))
            around = around[down, right][: part.shape[0] + 2 * REACH, : part.shape[1] + 2 * REACH]
            return postfilter.normal_equations(around, part, step, self._by_pixel(wanted, window, part))

        found = self._each(compute, windows)
        scale = (PIXEL_SCALE / WHITE) ** 2 * step**2 * total / used
        gram, correlation = (np.stack(parts).sum(0) for parts in zip(*found, strict=True))
        return gram * scale, correlation * scale

    def to_pixels(
        self,
        codes: Codes,
        progress: Progress | None = None,
        weights: Sequence[float] = (),
        wanted: Mask | None = None,
    ) -> Samples:
        """Codes [G, h, w] -> pixels [h * stride, w * stride, 3]; empty `weights`: no post-filter.

        `wanted`: positions [h, w]; windows that have none of them are black. None: all.
        """
        _, height, width = codes.shape
        pixels = np.zeros((height * self.stride, width * self.stride, 3), np.uint8)
        postfilter = self.network.postfilter

        def compute(window: Window) -> None:
            decoded, near = self._around(codes, window)
            if postfilter and weights:
                decoded = postfilter.apply(decoded, weights)
            pixels[window.core(self.stride)] = _to_samples(decoded[near.inner(self.stride)])

        windows = self._windows(height, width, self.network.config.decoder_reach)
        if wanted is not None:
            windows = [window for window in windows if wanted[window.core()].any()]
        self._each(compute, windows, progress)
        return pixels

    def _by_pixel(self, wanted: Mask | None, window: Window, pixels: Samples) -> Mask | None:
        """The wanted pixels [H, W] of a window's core, from the wanted positions of the grid; None: all."""
        if wanted is None or wanted[window.core()].all():
            return None
        spread = wanted[window.core()].repeat(self.stride, 0).repeat(self.stride, 1)
        return spread[: pixels.shape[0], : pixels.shape[1]]

    def _each(
        self, compute: Callable[[Window], R], windows: Sequence[Window], progress: Progress | None = None
    ) -> list[R]:
        """The results for the windows, in threads. Few windows are computed in turn, each by all threads."""
        if len(windows) >= WINDOWS_PER_THREAD * self._workers.count:
            return self._workers.map(compute, windows, progress)
        results = []
        for done, window in enumerate(windows, 1):
            results += self._workers.map(compute, [window])
            if progress:
                progress(done / len(windows))
        return results

    def _windows(self, height: int, width: int, reach: int) -> list[Window]:
        """The windows over a grid of positions."""
        return list(cover(height, width, max(1, WINDOW // self.stride), reach))


def _unit(pixels: npt.NDArray[np.generic]) -> Latents:
    """Pixel values on the scale 0 to 1."""
    scaled: Latents = np.divide(pixels, np.float32(WHITE), dtype=np.float32)
    return scaled


def _to_samples(values: Latents) -> Samples:
    """Pixel values, neither rounded nor clipped -> 8-bit samples."""
    rounded = np.rint(values)
    return np.clip(rounded, 0, WHITE, out=rounded).astype(np.uint8)


def _whole_blocks(pixels: Samples, stride: int) -> Samples:
    """Pixels [H, W, 3] padded to multiples of the stride by repeating the last row and column."""
    below, right = -pixels.shape[0] % stride, -pixels.shape[1] % stride
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")


def _spread(windows: Sequence[Window], share: float) -> list[Window]:
    """About one of every `share` windows, evenly spread: those where multiples of the golden ratio are the smallest.

    The fractional parts of such multiples are as evenly distributed as those of any number (Knuth, The Art of Computer
    Programming, volume 3, section 6.4), so that the windows form no columns.
    """
    return [window for index, window in enumerate(windows) if index * GOLDEN % 1 < 1 / share]
