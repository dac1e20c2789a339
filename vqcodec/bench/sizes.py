"""Rows of `bench --lossless` -> how large the files of each codec are, relative to those of a reference codec."""

from __future__ import annotations

import math
from collections.abc import Iterable

from vqcodec.bench.results import Row, SizeComparison

__all__ = ["compare_sizes"]


def compare_sizes(rows: Iterable[Row], reference: str) -> list[SizeComparison]:
    """One comparison for each codec, in order of appearance, over the pictures where neither codec has an error."""
    sizes: dict[str, dict[str, float]] = {}
    for row in rows:
        found = sizes.setdefault(row.codec, {})
        if row.error is None:
            found[row.image] = row.bytes
    base = sizes.get(reference, {})
    return [_compared(codec, found, reference, base) for codec, found in sizes.items()]


def _compared(codec: str, sizes: dict[str, float], reference: str, base: dict[str, float]) -> SizeComparison:
    both = [image for image in base if image in sizes]
    if not both:
        return SizeComparison(codec, reference, 0, math.nan, math.nan, 0)
    shares = [sizes[image] / base[image] for image in both]
    share = sum(sizes[image] for image in both) / sum(base[image] for image in both)
    typical = math.exp(sum(map(math.log, shares)) / len(shares))
    return SizeComparison(codec, reference, len(both), share, typical, sum(each < 1 for each in shares))
