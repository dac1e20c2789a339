"""The notice about a picture that comes out much worse than photographs do: worst places, sizes, the encoder."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from conftest import synthetic

from vqcodec.codec.codec import Codec
from vqcodec.codec.encoded import measured_file
from vqcodec.codec.judge import poor, worst_score
from vqcodec.model.store import Model
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.ssimulacra2 import ssimulacra2


def noisy(pixels: np.ndarray, amount: int) -> np.ndarray:
    noise = np.random.default_rng(1).integers(-amount, amount + 1, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def test_a_notice_names_both_scores_and_what_to_do() -> None:
    pixels = synthetic(130, 140)
    decoded = noisy(pixels, 60)
    score = worst_score(pixels, decoded)
    assert poor(pixels, decoded, score) is None
    notice = poor(pixels, decoded, score + 5)
    assert notice is not None
    assert f"SSIMULACRA2 {score:.0f} " in notice
    assert f"at least {score + 5:.0f}" in notice
    assert "--lossless" in notice
    assert "\n" not in notice


def test_a_small_picture_is_one_tile() -> None:
    pixels = synthetic(100, 60)
    assert worst_score(pixels, noisy(pixels, 9)) == ssimulacra2(pixels, noisy(pixels, 9))


def test_the_worst_places_count() -> None:
    pixels = synthetic(256, 512)  # eight tiles, of which one is scored
    decoded = pixels.copy()
    decoded[128:, 256:384] = noisy(pixels[128:, 256:384], 50)
    tile = (slice(128, 256), slice(256, 384))
    assert worst_score(pixels, decoded) == ssimulacra2(pixels[tile], decoded[tile])
    assert worst_score(pixels, decoded) < ssimulacra2(pixels, decoded)


def test_the_last_rows_and_columns_count() -> None:
    pixels = synthetic(140, 300)
    decoded = pixels.copy()
    decoded[-4:, -4:] = 255 - decoded[-4:, -4:]
    assert worst_score(pixels, decoded) < 100


def test_a_picture_that_is_too_small_is_not_judged() -> None:
    pixels = synthetic(7, 300)
    assert math.isnan(worst_score(pixels, 255 - pixels))
    assert poor(pixels, 255 - pixels, 100) is None


def test_equal_pictures_are_never_poor() -> None:
    pixels = synthetic(64, 64)
    assert worst_score(pixels, pixels) == 100
    assert poor(pixels, pixels, 100) is None


@pytest.mark.parametrize(("expected", "count"), [((), 0), ((-1000.0, 100.0), 1), ((100.0, -1000.0), 0)])
def test_the_encoder_uses_the_score_of_its_quality(patch_model: Model, expected: tuple[float, ...], count: int) -> None:
    model = dataclasses.replace(patch_model, config=dataclasses.replace(patch_model.config, expected_quality=expected))
    codec, picture = Codec(model), Picture(synthetic(70, 90), "RGB")
    data, content = codec.compress_keeping_content(picture, 2, None, 0)
    reached, notices = measured_file(codec, picture, content, data)
    assert reached == psnr(picture.pixels, codec.decompress(data).pixels)
    assert len(notices) == count
