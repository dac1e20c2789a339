"""A picture and its codes -> the post-filter weights that minimise the error of the decoded picture.

In: pixels [H, W, 3] and codes [G, h, w]. Out: `Weights`, or None if no weights are worth their bytes.

The squared error is a quadratic function of the weights, so the best weights solve a system of K linear equations (Tsai
et al. 2013, section III). The precision of the weights is chosen by rate-distortion cost, with lambda as the price of a
bit.
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

CHUNK_BYTES = 7  # overhead in the file: number of chunks, type, length, checksum
# Added to the diagonal, relative to its mean. On a flat picture, several kernels may have the same response, or none.
RIDGE = 1e-7


def fit_weights(
    networks: Tiled, pixels: Samples, codes: Codes, wanted: npt.NDArray[np.bool_] | None = None
) -> Weights | None:
    """The best weights for pixels [H, W, 3] and codes [G, h, w]; None if no weights lower the rate-distortion cost.

    `wanted`: the positions [h, w] whose pixels count; None: all.
    """
    gram, correlation = networks.normal_equations(codes, pixels, wanted)
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram)
    try:
        # Upper triangular: gram = factor factor^T.
        factor: Doubles = np.asarray(np.linalg.cholesky(gram[::-1, ::-1])[::-1, ::-1], np.float64)
        target: Doubles = np.asarray(np.linalg.solve(factor, correlation), np.float64)
    except np.linalg.LinAlgError:
        return None  # the kernels have no response to this picture
    best, best_change = None, 0.0
    for exponent in range(MAX_EXPONENT + 1):
        numbers = _numbers(factor, target, exponent)
        if not 0 < np.abs(numbers).max() <= MAX_NUMBER:
            continue
        values = numbers / 2.0**exponent
        weights = Weights(tuple(numbers.astype(int).tolist()), exponent)
        bits = 8 * (len(pack_weights(weights)) + CHUNK_BYTES)
        change = float(values @ gram @ values - 2 * correlation @ values) + networks.price * bits
        if change < best_change:
            best, best_change = weights, change
    return best


def _numbers(factor: Doubles, target: Doubles, exponent: int) -> Doubles:
    """Integers [K], in units of 2^-exponent, near the solution w of factor^T w = target.

    The numbers are rounded one at a time; later numbers compensate for the rounding of the earlier ones (Babai 1986,
    the nearest-plane algorithm).
    """
    numbers = np.zeros(len(target))
    for k in range(len(numbers)):
        remainder = target[k] * 2.0**exponent - factor[:k, k] @ numbers[:k]
        numbers[k] = (remainder / factor[k, k]).round()
    return numbers
