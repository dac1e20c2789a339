"""Codes -> the cost in bits of every possible code at every position.

In: the integer prior and codes [G, h, w]. Out: costs, for the encoder's search and for maps of where the bits of a file
go. The prior gives them as levels, which are integers (`coding.integer_prior.Levels`); in bits they are floats.

Floats may round differently on different machines. So nothing on the path between codes and bytes may use bits, and no
module of `coding/` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vqcodec.coding.formats import COUNT_BITS, LOGIT_EXPONENT
from vqcodec.coding.integer_prior import Codes, IntegerPrior, Levels
from vqcodec.coding.native import price_levels

__all__ = ["LEVEL_BITS", "bits_taken", "levels_taken", "prices"]

Floats = npt.NDArray[np.float32]

LEVEL_BITS = 2**-LOGIT_EXPONENT / math.log(2)  # bits per level
TOTAL_BITS = 23  # the totals are in units of 2^-23


def prices(prior: IntegerPrior, codes: Codes) -> list[Levels]:
    """The cost of every code at every position, given the earlier codes of `codes` [G, h, w]: one `Levels` a codebook.

    Computed from the logits, not from the rounded counts that the range coder uses. In bits, the difference is at most
    0.01 for codes that cost up to 12 bits, and 0.2 for those up to 18 bits.
    """
    return price_levels(prior, codes)


def levels_taken(prices: Sequence[Levels], codes: Codes) -> npt.NDArray[np.int32]:
    """The levels [G, h, w] of codes [G, h, w]. Only differences between codes of a position mean anything."""
    taken = [np.take_along_axis(each.level, _rows(row), axis=1) for each, row in zip(prices, codes, strict=True)]
    return np.stack(taken).reshape(codes.shape).astype(np.int32)


def bits_taken(prices: Sequence[Levels], codes: Codes) -> Floats:
    """The cost in bits [G, h, w] of codes [G, h, w]: at most `COUNT_BITS` each."""
    totals = np.stack([np.log2(each.total.astype(np.float32)) for each in prices]).reshape(codes.shape)
    bits = levels_taken(prices, codes).astype(np.float32) * np.float32(LEVEL_BITS) + (totals - np.float32(TOTAL_BITS))
    return np.minimum(bits, np.float32(COUNT_BITS))


def _rows(codes: Codes) -> Codes:
    """Codes [h, w] as indices [h * w, 1]."""
    return codes.reshape(-1, 1)
