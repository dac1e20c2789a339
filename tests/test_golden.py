"""Files that were written once decode to the same codes and the same pictures, for ever."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden import CODES, DEMO, FOLDER, codes_digest, pictures

import vqcodec
from vqcodec.codec.codec import Codec
from vqcodec.codec.describe import describe
from vqcodec.model.store import bundled, find, open_model
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture

FILES = sorted(FOLDER.glob("*.vq"))


@pytest.fixture(scope="module")
def codecs() -> dict[str, Codec]:
    return {name: Codec(open_model(name)) for name in bundled()}


def test_every_model_and_quality_has_golden_files() -> None:
    expected = {
        f"{name}-{open_model(name).digest.hex()}-q{quality}-{kind}"
        for name in bundled()
        for quality in range(1, open_model(name).config.vqvae.qualities + 1)
        for kind in pictures()
    }
    assert expected <= {path.stem for path in FILES}
    assert {path.stem for path in FILES} == set(json.loads(CODES.read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_codes_are_exactly_those_that_were_written(path: Path) -> None:
    data = path.read_bytes()
    model = find(bytes.fromhex(describe(data).model_digest))
    assert codes_digest(data, model) == json.loads(CODES.read_text())[path.stem]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pixels_are_within_one_grey_level(path: Path, codecs: dict[str, Codec]) -> None:
    data = path.read_bytes()
    decoded = codecs[str(describe(data).model)].decompress(data)
    golden = read_picture(path.with_suffix(".png"))
    assert decoded.mode == golden.mode
    assert np.abs(decoded.pixels.astype(int) - golden.pixels.astype(int)).max() <= 1
    assert (decoded.alpha is None) == (golden.alpha is None)
    if decoded.alpha is not None:
        assert np.array_equal(decoded.alpha, pictures()["alpha"].alpha)


@pytest.mark.parametrize("name", bundled())
def test_a_bundled_model_makes_a_recognisable_picture(name: str, codecs: dict[str, Codec]) -> None:
    picture = landscape()
    codec = codecs[name]
    data = codec.compress(picture, codec.model.config.vqvae.qualities)
    assert psnr(codec.decompress(data).pixels, picture.pixels) > 27
    assert len(data) < picture.pixels.nbytes / 30


def landscape() -> Picture:
    """A sky, a sun and a hill, softly drawn, as a photograph might be: [120, 200, 3]."""
    y, x = np.mgrid[:120, :200].astype(float)
    sun = 1 / (1 + np.exp((np.hypot(x - 150, y - 30) - 15) / 2))
    hill = 1 / (1 + np.exp((70 + 20 * np.sin(x / 30) - y) / 2))
    sky = np.stack([120 + y / 2, 150 + y / 2, 210 - y / 4], 2)
    ground = np.stack([70 + y / 6, 95 + x / 8, 50 + y / 8], 2)
    pixels = sky + sun[:, :, None] * (np.array([250, 235, 190]) - sky)
    pixels += hill[:, :, None] * (ground - pixels)
    return Picture(pixels.round().astype(np.uint8), "RGB")


def test_all_weights_of_the_package_stay_small() -> None:
    assert sum(open_model(name).size for name in bundled()) < 16e6


@pytest.mark.parametrize("name", bundled())
def test_a_bundled_model_says_what_it_is(name: str) -> None:
    model = open_model(name)
    assert model.name == name
    card = (model.path / "README.md").read_text(encoding="utf-8")
    for word in ("## Data", "## Recipe", "## Figures", "vqcodec train"):
        assert word in card


def test_the_picture_of_the_demo_decodes(codecs: dict[str, Codec]) -> None:
    data = (Path(vqcodec.__file__).parent / "bench" / "demo.vq").read_bytes()
    found = describe(data)
    picture = codecs[str(found.model)].decompress(data)
    assert (picture.width, picture.height) == (found.width, found.height)
    assert codes_digest(data, find(bytes.fromhex(found.model_digest))) == json.loads(DEMO.read_text())["codes"]
