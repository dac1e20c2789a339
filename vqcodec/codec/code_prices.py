"""Codes -> what every code would cost in their place, in bits: for an encoder's choices, and to show where bits go.

In: the integer prior and codes [G, h, w]. Out: floats, which round differently on different machines: nothing between
codes and bytes may use them, so no module of `coding/` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vqcodec.coding.formats import COUNT_BITS, LOGIT_EXPONENT
from vqcodec.coding.integer_prior import ROWS, Codes, Floats, IntegerPrior

__all__ = ["bits_taken", "prices"]

LOGIT_BITS = np.float32(2**-LOGIT_EXPONENT / math.log(2))  # of a step of a logit


def prices(prior: IntegerPrior, codes: Codes) -> list[Floats]:
    """The bits every code would cost at every cell, with the codes [G, h, w] before it as they are: G x [h * w, K].

    From logits, not from the counts that they are rounded to: to within 0.01 bits for a code that costs up to 12 and
    0.2 up to 18; beyond that COUNT_BITS at most, which nobody pays.
    """
    state = prior.states(codes)
    found = []
    for g, known in enumerate(codes.reshape(len(codes), -1)):
        logits = prior.logits(g, state)
        for first in range(0, len(logits), ROWS):
            _to_bits(logits[first : first + ROWS])
        found.append(logits)
        state = prior.advance(g, state, known)
    return found


def bits_taken(prices: Sequence[Floats], codes: Codes) -> Floats:
    """The bits [G, h, w] that codes [G, h, w] take at the prices G x [h * w, K]."""
    taken = [np.take_along_axis(each, row.reshape(-1, 1), axis=1) for each, row in zip(prices, codes, strict=True)]
    return np.stack(taken).reshape(codes.shape)


def _to_bits(logits: Floats) -> None:
    """Logits [N, K] -> -log2 of their softmax, in place."""
    np.subtract(logits.max(axis=1, keepdims=True), logits, out=logits)
    logits *= LOGIT_BITS
    logits += np.log2(np.exp2(-logits).sum(axis=1, keepdims=True))
    np.minimum(logits, COUNT_BITS, out=logits)
