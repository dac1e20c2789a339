"""The PSNR that the encoder computes from codes and weights is that of the file, decoded from its bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import synthetic

from vqcodec.codec.codec import DEFAULT_EFFORT, Codec
from vqcodec.codec.encode_options import EncodeOptions, compress
from vqcodec.format import container
from vqcodec.model.store import Model
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture

GREY = np.repeat(synthetic(60, 50)[:, :, :1], 3, axis=2)
PICTURES = {
    "colour": Picture(synthetic(70, 90), "RGB"),
    "grey": Picture(GREY, "L"),
    "alpha": Picture(synthetic(40, 30), "RGB", synthetic(40, 30, 5)[:, :, 0].copy()),
    "one pixel": Picture(synthetic(1, 1), "RGB"),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("family", ["filtered", "fine", "conv"])
@pytest.mark.parametrize("effort", [0, DEFAULT_EFFORT])
def test_the_psnr_of_the_file(name: str, family: str, effort: int, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(f"{family}_model")
    codec, picture = Codec(model), PICTURES[name]
    plain = compress(codec, picture, EncodeOptions(effort=effort))
    told: list[float] = []
    found = compress(codec, picture, EncodeOptions(effort=effort), told.append, measure=True)
    assert (plain.psnr, plain.notices, found.data, found.notices) == (None, (), plain.data, ())
    assert found.psnr == psnr(picture.pixels, codec.decompress(found.data).pixels)
    assert (told, told[-1]) == (sorted(told), 1)


def test_the_weights_of_the_file_count(filtered_model: Model) -> None:
    codec = Codec(filtered_model)
    pixels = codec.decompress(codec.compress(PICTURES["colour"], 1)).pixels
    sharper = np.clip(1.3 * (pixels.astype(float) - 128) + 128, 0, 255).astype(np.uint8)
    picture = Picture(sharper, "RGB")
    found = compress(codec, picture, EncodeOptions(quality=2), measure=True)
    assert container.unpack(found.data).postfilter is not None
    assert found.psnr is not None
    assert math.isclose(found.psnr, psnr(sharper, codec.decompress(found.data).pixels))
