"""Synthetic graphics: they have the requested size, are reproducible, and have colours that photographs lack."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import synthetic

from vqcodec.train.data import DRAWN_SHARE, VIVID_SHARE, Pictures
from vqcodec.train.graphics import draw, vivid


@pytest.mark.parametrize("side", [8, 64, 200])
def test_drawn_pictures_depend_on_the_generator_alone(side: int) -> None:
    first = [draw(side, np.random.default_rng(seed)) for seed in range(40)]
    again = [draw(side, np.random.default_rng(seed)) for seed in range(40)]
    for one, other in zip(first, again, strict=True):
        assert one.shape == (side, side, 3)
        assert one.dtype == np.uint8
        assert np.array_equal(one, other)
    assert len({picture.tobytes() for picture in first}) > 30


def test_every_corner_of_the_colour_cube_is_drawn() -> None:
    pixels = np.concatenate([draw(64, np.random.default_rng(seed)).reshape(-1, 3) for seed in range(80)])
    corners = pixels[np.isin(pixels, (0, 255)).all(1)]
    assert len(np.unique(corners, axis=0)) == 8


def test_vivid_pictures_have_stronger_colours() -> None:
    source = synthetic(64, 64)

    def colourfulness(pixels: np.ndarray) -> float:
        return float(np.abs(pixels - pixels.mean(2, keepdims=True)).mean())

    strong = [vivid(source, np.random.default_rng(seed)) for seed in range(20)]
    assert np.mean([colourfulness(pixels) for pixels in strong]) > 1.5 * colourfulness(source)
    assert all(pixels.shape == source.shape and pixels.dtype == np.uint8 for pixels in strong)


def test_a_few_crops_are_drawn_and_most_are_photographs() -> None:
    grey = np.full((40, 40, 3), 99, np.uint8)
    crops = Pictures([grey], ["grey"]).crops(600, 16, [5])
    photographs = sum(bool((crop == 99).all()) for crop in crops)
    expected = 600 * (1 - DRAWN_SHARE - VIVID_SHARE)
    assert abs(photographs - expected) < 40
