"""A picture and its codes -> the weights of the post-filter that make the decoded picture most like it.

In: pixels [H, W, 3] and codes [G, h, w]. Out: `Weights`, or None where none are worth their bytes. The squared error is
a quadratic function of the weights, so the best ones are the solution of K linear equations (Tsai et al. 2013, section
III); how finely they are told is chosen with the price of a bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqcodec.coding.filter_weights import MAX_EXPONENT, MAX_NUMBER, Weights, pack_weights
from vqcodec.coding.integer_prior import Codes

if TYPE_CHECKING:
    from vqcodec.nn.tiled import Tiled

__all__ = ["fit_weights"]

Samples = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

CHUNK_BYTES = 7  # of a file beside the weights: number of chunks, type, length, checksum
RIDGE = 1e-7  # of the mean response, on the diagonal: kernels may do the same, or nothing, to a flat picture


def fit_weights(networks: Tiled, pixels: Samples, codes: Codes) -> Weights | None:
    """The best weights for pixels [H, W, 3] and codes [G, h, w]; None where the picture is better off without."""
    gram, lacking = networks.normal_equations(codes, pixels)
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram)
    try:
        # Upper triangular: gram = factor factor^T.
        factor: Doubles = np.asarray(np.linalg.cholesky(gram[::-1, ::-1])[::-1, ::-1], np.float64)
        target: Doubles = np.asarray(np.linalg.solve(factor, lacking), np.float64)
    except np.linalg.LinAlgError:
        return None  # kernels that do nothing to this picture
    best, least = None, 0.0
    for exponent in range(MAX_EXPONENT + 1):
        numbers = _numbers(factor, target, exponent)
        if not 0 < np.abs(numbers).max() <= MAX_NUMBER:
            continue
        values = numbers / 2.0**exponent
        weights = Weights(tuple(numbers.astype(int).tolist()), exponent)
        bits = 8 * (len(pack_weights(weights)) + CHUNK_BYTES)
        change = float(values @ gram @ values - 2 * lacking @ values) + networks.price * bits
        if change < least:
            best, least = weights, change
    return best


def _numbers(factor: Doubles, target: Doubles, exponent: int) -> Doubles:
    """Whole numbers [K] of the unit 2^-exponent near the solution w of factor^T w = target.

    One after another is rounded, and those after it make up for that (Babai 1986, the nearest plane).
    """
    numbers = np.zeros(len(target))
    for k in range(len(numbers)):
        rest = target[k] * 2.0**exponent - factor[:k, k] @ numbers[:k]
        numbers[k] = (rest / factor[k, k]).round()
    return numbers
