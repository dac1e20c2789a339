"""Codes -> the cost in bits of every possible code at every position.

In: the integer prior and codes [G, h, w]. Out: costs as floats, for the encoder's search and for maps of where the bits
of a file go.

Floats may round differently on different machines. So nothing on the path between codes and bytes may use these costs,
and no module of `coding/` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vqcodec.coding.formats import COUNT_BITS, LOGIT_EXPONENT
from vqcodec.coding.integer_prior import ROWS, Codes, Floats, IntegerPrior

__all__ = ["bits_taken", "prices"]

LOGIT_BITS = np.float32(2**-LOGIT_EXPONENT / math.log(2))  # bits per unit of an integer logit


def prices(prior: IntegerPrior, codes: Codes) -> list[Floats]:
    """The cost in bits of every code at every position, given the earlier codes of `codes` [G, h, w]: G x [h * w, K].

    Computed from the logits, not from the rounded counts that the range coder uses. The difference is at most 0.01 bits
    for codes that cost up to 12 bits, and 0.2 bits for those up to 18 bits. No cost exceeds COUNT_BITS; codes that
    expensive are not chosen in practice.
    """
    state = prior.states(codes)
    costs = []
    for g, row in enumerate(codes.reshape(len(codes), -1)):
        logits = prior.logits(g, state)
        for first in range(0, len(logits), ROWS):
            _to_bits(logits[first : first + ROWS])
        costs.append(logits)
        state = prior.advance(g, state, row)
    return costs


def bits_taken(prices: Sequence[Floats], codes: Codes) -> Floats:
    """The cost in bits [G, h, w] of codes [G, h, w], looked up in the prices G x [h * w, K]."""
    taken = [np.take_along_axis(each, row.reshape(-1, 1), axis=1) for each, row in zip(prices, codes, strict=True)]
    return np.stack(taken).reshape(codes.shape)


def _to_bits(logits: Floats) -> None:
    """Convert integer logits [N, K] to -log2 of their softmax, in place."""
    np.subtract(logits.max(axis=1, keepdims=True), logits, out=logits)
    logits *= LOGIT_BITS
    logits += np.log2(np.exp2(-logits).sum(axis=1, keepdims=True))
    np.minimum(logits, COUNT_BITS, out=logits)
