"""Colours under full transparency."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vqcodec.picture.hidden import bled
from vqcodec.picture.metadata import Keep
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import from_image, read_picture

REPLACED = "colours under full transparency were replaced; --keep-hidden-colours keeps them"


def random_picture(height: int, width: int, visible: float, seed: int = 0) -> Picture:
    random = np.random.default_rng(seed)
    alpha = np.where(random.random((height, width)) < visible, random.integers(1, 256, (height, width)), 0)
    return Picture(random.integers(0, 256, (height, width, 3), dtype=np.uint8), "RGB", alpha.astype(np.uint8))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 75), st.integers(1, 75), st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]))
def test_what_is_visible_stays_and_hidden_colours_lie_between(height: int, width: int, visible: float) -> None:
    picture = random_picture(height, width, visible)
    result = bled(picture)
    assert picture.alpha is not None
    assert result.alpha is picture.alpha
    shown = picture.alpha > 0
    assert (result.pixels[shown] == picture.pixels[shown]).all()
    if shown.any() and not shown.all():
        assert (result.pixels[~shown] >= picture.pixels[shown].min(axis=0)).all()
        assert (result.pixels[~shown] <= picture.pixels[shown].max(axis=0)).all()
    again = bled(random_picture(height, width, visible))
    assert (again.pixels == result.pixels).all()


def test_hidden_colours_do_not_matter() -> None:
    picture = random_picture(50, 70, 0.3)
    other = picture.pixels.copy()
    assert picture.alpha is not None
    other[picture.alpha == 0] = 7
    assert (bled(Picture(other, "RGB", picture.alpha)).pixels == bled(picture).pixels).all()


def test_one_visible_colour_fills_everything() -> None:
    pixels = np.zeros((67, 129, 3), dtype=np.uint8)
    alpha = np.zeros((67, 129), dtype=np.uint8)
    pixels[40, 100], alpha[40, 100] = (250, 120, 3), 1
    assert (bled(Picture(pixels, "RGB", alpha)).pixels == [250, 120, 3]).all()


def test_a_colour_reaches_its_own_side() -> None:
    pixels = np.zeros((64, 96, 3), dtype=np.uint8)
    alpha = np.zeros((64, 96), dtype=np.uint8)
    pixels[:, 8], pixels[:, 87], alpha[:, 8], alpha[:, 87] = (200, 0, 0), (0, 0, 200), 255, 255
    filled = bled(Picture(pixels, "RGB", alpha)).pixels.astype(int)
    assert (filled[:, :12, 0] > 150).all()
    assert (filled[:, 84:, 2] > 150).all()
    assert np.abs(np.diff(filled[:, 9:87], axis=1)).max() <= 40, "no new edges"


def test_a_picture_with_nothing_visible_becomes_black() -> None:
    picture = bled(Picture(np.full((5, 6, 3), 9, dtype=np.uint8), "RGB", np.zeros((5, 6), dtype=np.uint8)))
    assert (picture.pixels == 0).all()
    assert picture.notices == ()


def test_pictures_without_hidden_pixels_are_the_same() -> None:
    opaque, alpha = np.zeros((4, 4, 3), dtype=np.uint8), np.ones((4, 4), dtype=np.uint8)
    for picture in (Picture(opaque, "RGB"), Picture(opaque, "RGB", alpha)):
        assert bled(picture) is picture


def test_only_hidden_colours_that_differ_are_worth_a_notice() -> None:
    samples = np.full((6, 6, 4), (9, 9, 9, 0), dtype=np.uint8)
    samples[2, 2] = (200, 100, 50, 255)
    assert bled(from_image(Image.fromarray(samples))).notices == ()
    samples[4, 4, 1] = 10
    assert bled(from_image(Image.fromarray(samples))).notices == (REPLACED,)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_reading_keeps_hidden_colours_unless_asked_not_to(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (10, 200, 10, 0))
    image.paste((90, 90, 90, 255), (0, 0, 4, 8))
    image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    kept, replaced = (read_picture(buffer, Keep(hidden_colours=hidden)) for hidden in (True, False))
    assert kept.alpha is not None
    assert replaced.alpha is not None
    assert (kept.alpha == replaced.alpha).all()
    assert (replaced.pixels == 90).all()
    assert not (kept.pixels == 90).all()
    assert replaced.mode == kept.mode
