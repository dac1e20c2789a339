"""Whether a decoded picture is much worse than photographs are at its quality: two pictures -> a notice, or none.

In: a picture before and after coding, and the score that photographs have at that quality, which the model's
configuration gives (`expected_quality`). Out: one line for the user, or None.

The score is SSIMULACRA2 of the places with the largest squared error: at most 8 tiles of 128 x 128 pixels, one for
every 8 tiles of the picture. So a picture that is half text is judged by its text, and no picture takes longer than 8
tiles do. What photographs have is measured once for each model, by benchmarks/expected_quality.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vqcodec.picture.ssimulacra2 import SMALLEST, ssimulacra2

__all__ = ["poor", "worst_score"]

Samples = NDArray[np.uint8]

TILE = 128  # pixels a side: six scales of SSIMULACRA2
MOST_TILES = 8
SHARE = 8  # one tile is scored for so many of the picture


def poor(original: Samples, decoded: Samples, expected: float) -> str | None:
    """A notice if `worst_score` of a picture is below `expected`, the score that photographs exceed; else None.

    `original`, `decoded`: uint8 [H, W, 3], sRGB.
    """
    score = worst_score(original, decoded)
    if math.isnan(score) or score >= expected:
        return None
    return (
        f"the picture comes out much worse than photographs at this quality: SSIMULACRA2 {score:.0f} in its worst "
        f"parts, where photographs have at least {expected:.0f}; --lossless keeps it exactly, a higher -q may help"
    )


def worst_score(original: Samples, decoded: Samples) -> float:
    """The mean SSIMULACRA2 of the tiles with the largest squared error, at most 100.

    `original`, `decoded`: uint8 [H, W, 3], sRGB. `nan` if a side is shorter than 8 pixels.
    """
    if min(original.shape[:2]) < SMALLEST:
        return math.nan
    tiles = list(_tiles(*original.shape[:2]))
    errors = [_squared_error(original[tile], decoded[tile]) for tile in tiles]
    count = min(max(len(tiles) // SHARE, 1), MOST_TILES)
    worst = sorted(range(len(tiles)), key=lambda index: -errors[index])[:count]
    return float(np.mean([ssimulacra2(original[tiles[index]], decoded[tiles[index]]) for index in worst]))


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Tiles that cover a picture. The last of a row or column ends at the border, and may overlap the one before."""
    for top in _starts(height):
        for left in _starts(width):
            yield slice(top, top + TILE), slice(left, left + TILE)


def _starts(side: int) -> list[int]:
    return [min(start, max(side - TILE, 0)) for start in range(0, side, TILE)]


def _squared_error(first: Samples, second: Samples) -> float:
    """The mean squared difference; the products are integers that do not overflow."""
    difference = np.subtract(first, second, dtype=np.int16).astype(np.int32)
    return float(np.mean(np.square(difference)))
