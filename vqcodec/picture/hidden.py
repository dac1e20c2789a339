"""Colours under full transparency -> colours that cost few bytes and do not darken the rims of what is visible.

In: a picture with an alpha channel. Out: the same picture; each colour under alpha 0 is replaced by one that continues
the visible colours nearby. Nobody sees these colours, but a coder pays for them, and a sharp edge between visible and
hidden colours spreads into the visible ones. Alpha and the colours under alpha 1 to 255 are not changed.

The method is pull-push interpolation (Gortler et al. 1996, "The Lumigraph", section 3.4): means of the visible
colours, weighted with alpha, over 2 x 2, 4 x 4, 8 x 8 ... pixels; each hidden pixel takes the mean over the smallest
block that has a visible pixel, smoothed from block to block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqcodec.picture.picture import Picture

__all__ = ["bled"]

Samples = NDArray[np.uint8]
Floats = NDArray[np.float32]

_BAND = 32  # rows that are worked on at once, which then stay in the cache of a processor; even
_REPLACED = "colours under full transparency were replaced; --keep-hidden-colours keeps them"


def bled(picture: Picture) -> Picture:
    """The picture with its hidden colours replaced. A notice says so if they were more than one colour."""
    if picture.alpha is None or picture.alpha.all():
        return picture
    pixels, varied = _filled(picture.pixels, picture.alpha)
    return replace(picture, pixels=pixels, notices=(*picture.notices, *([_REPLACED] if varied else [])))


def _filled(pixels: Samples, alpha: Samples) -> tuple[Samples, bool]:
    """`pixels` [H, W, 3] with new colours where `alpha` [H, W] is 0, and whether those were of more than one colour.

    Without a visible pixel, all become black.
    """
    result = pixels.copy() if alpha.any() else np.zeros_like(pixels)
    first = pixels.reshape(-1, 3)[(alpha == 0).argmax()]
    coarse = _bled(*_halved(list(np.moveaxis(pixels, 2, 0)), alpha)) if alpha.any() else None
    varied = False
    for top in range(0, len(pixels), _BAND):
        band = slice(top, top + _BAND)
        hidden = alpha[band] == 0
        if not hidden.any():
            continue
        for channel in range(3):
            varied = varied or bool((pixels[band, :, channel][hidden] != first[channel]).any())
            if coarse is not None:
                fine = _doubled(coarse[channel], top, *hidden.shape)
                np.copyto(result[band, :, channel], (fine + np.float32(0.5)).astype(np.uint8), where=hidden)
    return result, varied


def _bled(planes: list[Floats], weights: Floats) -> list[Floats]:
    """Mean colours, three planes [h, w], with those of weight 0 filled in. At least one weight is not 0."""
    empty = weights == 0
    if empty.any():
        coarse = _bled(*_halved(planes, weights))
        for plane, filling in zip(planes, coarse, strict=True):
            np.copyto(plane, _doubled(filling, 0, *empty.shape), where=empty)
    return planes


def _halved(planes: Sequence[NDArray[Any]], weights: NDArray[Any]) -> tuple[list[Floats], Floats]:
    """Weighted means over 2 x 2 blocks of planes and weights [H, W], each -> [h, w] with h = ceil(H / 2).

    The weight of a block is the largest of its weights: what is weakly visible counts little, but counts.
    """
    height, width = weights.shape
    size = ((height + 1) // 2, (width + 1) // 2)
    means: list[Floats] = [np.empty(size, dtype=np.float32) for _ in planes]
    most = np.zeros(size, dtype=np.float32)
    for top in range(0, height, _BAND):
        band = slice(top // 2, (top + _BAND) // 2)
        parts = [(slice(top + y, top + _BAND, 2), slice(x, None, 2)) for y in (0, 1) for x in (0, 1)]
        shares = [weights[part].astype(np.float32) for part in parts]
        sums = np.zeros_like(most[band])
        for share in shares:
            corner = most[band][: share.shape[0], : share.shape[1]]  # an odd size has no right or lower half there
            np.maximum(corner, share, out=corner)
            sums[: share.shape[0], : share.shape[1]] += share
        np.maximum(sums, np.float32(1), out=sums)
        for plane, mean in zip(planes, means, strict=True):
            total = np.zeros_like(sums)
            for part, share in zip(parts, shares, strict=True):
                total[: share.shape[0], : share.shape[1]] += plane[part] * share
            np.divide(total, sums, out=mean[band])
    return means, most


def _doubled(coarse: Floats, top: int, rows: int, columns: int) -> Floats:
    """Rows `top` to `top + rows` of a plane [H, columns] of twice the size, bilinear. `top` is even.

    A fine pixel lies at 1/4 or 3/4 of the way between the centres of two coarse ones.
    """
    first, count = top // 2, (rows + 1) // 2
    part = coarse[max(first - 1, 0) : first + count + 1]
    below = first + count == len(coarse)
    part = np.pad(part, ((int(first == 0), int(below)), (1, 1)), "edge")  # count + 2 rows
    middle = part[1:-1] * np.float32(0.75)
    tall = np.empty((2 * count, part.shape[1]), dtype=np.float32)
    np.add(middle, part[:-2] * np.float32(0.25), out=tall[0::2])
    np.add(middle, part[2:] * np.float32(0.25), out=tall[1::2])
    middle = tall[:rows, 1:-1] * np.float32(0.75)
    quarter = tall[:rows] * np.float32(0.25)
    fine = np.empty((rows, 2 * middle.shape[1]), dtype=np.float32)
    np.add(middle, quarter[:, :-2], out=fine[:, 0::2])
    np.add(middle, quarter[:, 2:], out=fine[:, 1::2])
    return fine[:, :columns]
