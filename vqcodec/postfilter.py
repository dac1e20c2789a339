"""A picture and its codes -> the weights of the post-filter that make the decoded picture most like it.

In: pixels [H, W, 3] and codes [G, h, w]. Out: `Weights`, or None where none are worth their bytes. The squared error is
a quadratic function of the weights, so the best ones are the solution of K linear equations (Tsai et al. 2013, section
III); how finely they are told is chosen with the price of a bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqcodec.coding.integer_prior import Codes
from vqcodec.coding.weights import MAX_EXPONENT, MAX_NUMBER, Weights, pack_weights

if TYPE_CHECKING:
    from vqcodec.nn.tiled import Tiled

__all__ = ["CHUNK_BYTES", "fit_weights"]

Samples = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

CHUNK_BYTES = 7  # of a file beside the weights: number of chunks, type, length, checksum
RIDGE = 1e-7  # of the mean response, on the diagonal: kernels may do the same, or nothing, to a flat picture


def fit_weights(networks: Tiled, pixels: Samples, codes: Codes) -> Weights | None:
    """The best weights for pixels [H, W, 3] and codes [G, h, w]; None where the picture is better off without."""
    gram, lacking = networks.normal_equations(codes, pixels)
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram)
    best, least = None, 0.0
    for exponent in range(MAX_EXPONENT + 1):
        numbers = _numbers(gram, lacking, exponent)
        if numbers is None or not numbers.any():
            continue
        values = numbers / 2.0**exponent
        weights = Weights(tuple(numbers.astype(int).tolist()), exponent)
        bits = 8 * (len(pack_weights(weights)) + CHUNK_BYTES)
        change = float(values @ gram @ values - 2 * lacking @ values) + networks.price * bits
        if change < least:
            best, least = weights, change
    return best


def _numbers(gram: Doubles, lacking: Doubles, exponent: int) -> Doubles | None:
    """Whole numbers [K] of the unit 2^-exponent near the solution; None where they would be too large.

    One after another is rounded, and those after it make up for that.
    """
    numbers = np.zeros(len(lacking))
    rest = lacking * 2.0**exponent
    for k in range(len(numbers)):
        try:
            numbers[k] = np.linalg.solve(gram[k:, k:], rest[k:])[0].round()
        except np.linalg.LinAlgError:
            return None
        rest = rest - gram[:, k] * numbers[k]
    return numbers if np.abs(numbers).max() <= MAX_NUMBER else None
