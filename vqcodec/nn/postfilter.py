"""Decoded pictures -> corrected pictures: a linear filter whose coefficients are adapted to each picture.

A decoder that serves all pictures cannot adapt to the properties of a single one, for example softer colours than usual
or colour edges that follow the luma edges. So a model has K kernels. The encoder, which has the original, finds the
weighted sum of the kernels that lowers the error most, and stores the K weights in the file.

This is the adaptive loop filter of video codecs (Tsai et al. 2013, "Adaptive Loop Filtering for Video Coding", IEEE
JSTSP 7(6)), with two differences. It is applied outside the coding loop, and its coefficients come from a learnt space
(see train/postfilter_kernels.py) instead of being sent one by one. The encoder's search does not apply the filter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from vqcodec.nn.fold import GREY
from vqcodec.nn.tiles import Floats
from vqcodec.windows import bounds

__all__ = ["REACH", "SIDE", "Postfilter", "padded"]

Doubles = npt.NDArray[np.float64]

SIDE = 5  # height and width of a kernel in pixels
REACH = SIDE // 2  # pixels beside its own that a filtered pixel depends on
RUN = 8  # neighbouring pixels of a row that one product computes together
PRODUCTS = 256  # runs of one product, about


class Postfilter:
    """K kernels [K, 3, 3, SIDE, SIDE], output channel before input channel. All qualities share them."""

    def __init__(self, kernels: Floats) -> None:
        self.kernels = kernels

    def apply(self, decoded: Floats, weights: Sequence[float]) -> Floats:
        """Pixel values [H, W, 3] plus the sum of the K kernel responses, each times its weight; from 0 to 255."""
        height, width, _ = decoded.shape
        around = padded(decoded, -width % RUN)
        kernel = np.tensordot(np.asarray(weights, np.float32), self.kernels, 1)  # [3, 3, SIDE, SIDE]
        kernel[range(3), range(3), REACH, REACH] += 1
        matrix = _for_runs(kernel)
        runs, values = -(-width // RUN), (RUN + 2 * REACH) * 3
        down, right, channel = around.strides
        shape = (height, runs, SIDE, values)
        # The inputs of a run overlap with those of the next one, above, and below.
        inputs = as_strided(around, shape, (down, RUN * right, down, channel), writeable=False)
        result = np.empty((height, runs, RUN * 3), np.float32)
        for first, last in bounds(height, max(1, PRODUCTS // runs)):
            part = np.ascontiguousarray(inputs[first:last]).reshape(-1, SIDE * values)
            np.matmul(part, matrix, out=result[first:last].reshape(len(part), -1))
        result += np.float32(GREY)
        return result.reshape(height, runs * RUN, 3)[:, :width]

    def normal_equations(
        self, around: Floats, pixels: npt.NDArray[np.uint8], step: int, wanted: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Doubles, Doubles]:
        """The Gram matrix [K, K] of the responses and their correlation [K] with the residual of the pixels; float64.

        `around`: decoded pixel values from `padded`, with REACH pixels more on each side than the original pixels
        [H, W, 3]. Uses every `step`th pixel in both directions; of these the `wanted` [H, W], or all.
        """
        windows = sliding_window_view(around, (SIDE, SIDE), axis=(0, 1))[::step, ::step]  # [h, w, 3, SIDE, SIDE]
        inner = around[REACH:-REACH:, REACH:-REACH][::step, ::step]
        residual = (pixels[::step, ::step] - GREY - inner).reshape(-1, 3)
        taken = None if wanted is None else wanted[::step, ::step].reshape(-1)
        kernels = self.kernels.reshape(len(self.kernels), 3, -1).astype(np.float64)  # [K, 3, 3 * SIDE * SIDE]
        size = kernels.shape[2]
        gram, correlation = np.zeros((size, size)), np.zeros((size, 3))
        for first, last in bounds(len(windows), max(1, 4096 // windows.shape[1])):
            rows = windows[first:last].reshape(-1, size).astype(np.float64)
            span = slice(first * windows.shape[1], last * windows.shape[1])
            errors = residual[span]
            if taken is not None:
                rows, errors = rows[taken[span]], errors[taken[span]]
            gram += rows.T @ rows
            correlation += rows.T @ errors
        return np.einsum("kci,ij,lcj->kl", kernels, gram, kernels, optimize=True), np.einsum(
            "kci,ic->k", kernels, correlation
        )


def padded(pixels: Floats, right: int = 0) -> Floats:
    """Pixel values [H, W, 3] minus middle grey (127.5), padded by REACH repeated edge pixels on each side.

    `right`: pixels more on that side.
    """
    return np.pad(pixels - np.float32(GREY), ((REACH, REACH), (REACH, REACH + right), (0, 0)), mode="edge")


def _for_runs(kernel: Floats) -> Floats:
    """A kernel [3, 3, SIDE, SIDE] as a matrix: the values around RUN pixels of a row -> their filtered values."""
    matrix = np.zeros((SIDE, RUN + 2 * REACH, 3, RUN, 3), np.float32)
    for pixel in range(RUN):
        matrix[:, pixel : pixel + SIDE, :, pixel] = kernel.transpose(2, 3, 1, 0)
    return matrix.reshape(-1, RUN * 3)
