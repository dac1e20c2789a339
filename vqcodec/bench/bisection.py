"""Searches over a codec's qualities: what a file measures as -> the quality that gives what was asked for.

In: a scale of qualities and a function that rises with the quality (a size, a measure, or whether a demand is met).
Out: the qualities that were tried, or the lowest one that meets the demand. Each trial encodes a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["TRIALS", "Scale", "approach", "lowest"]

TRIALS = 16  # at most, not counting the ends of the scale


class Scale(NamedTuple):
    """The valid qualities of a codec; higher is better."""

    low: float
    high: float
    whole: bool = False  # only whole numbers are valid; then `low` and `high` are whole, too

    def middle(self, low: float, high: float) -> float:
        """A quality half way between two, rounded down if qualities are whole numbers."""
        return math.floor((low + high) / 2) if self.whole else (low + high) / 2


def approach(
    scale: Scale, value: Callable[[float], float], wanted: tuple[float, float], trials: int = TRIALS
) -> dict[float, float]:
    """Bisect until a value lies in the range `wanted`, both ends included. Returns {quality: value} of all trials.

    The last trial of the result is the one within the range, if there is one. Otherwise the result has the values
    next to the range on both sides, as near as the qualities allow, or the end of the scale that misses it.
    """
    low, high = scale.low, scale.high
    tried: dict[float, float] = {}
    for _ in range(trials):
        quality = scale.middle(low, high)
        if quality in tried:
            break
        tried[quality] = value(quality)
        if wanted[0] <= tried[quality] <= wanted[1]:
            return tried
        low, high = (quality, high) if tried[quality] < wanted[0] else (low, quality)
    for end in (scale.low, scale.high):  # bisection approaches an end of the scale but does not try it
        if end in (low, high) and end not in tried:
            tried[end] = value(end)
            if wanted[0] <= tried[end] <= wanted[1]:
                break
    return tried


def lowest(scale: Scale, holds: Callable[[float], bool], trials: int = TRIALS) -> float | None:
    """The lowest quality for which `holds`, which must hold for all higher qualities, too; None if there is none.

    Exact for whole qualities if `trials` suffice; else above the true one by at most (high - low) / 2 ** trials.
    """
    low, high = scale.low, scale.high
    if not holds(high):
        return None
    if holds(low):
        return low
    for _ in range(trials):
        quality = scale.middle(low, high)
        if quality in (low, high):
            break
        low, high = (low, quality) if holds(quality) else (quality, high)
    return high
