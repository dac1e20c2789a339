"""`vqcodec inspect`: images of a model's codebooks, and of the reconstruction of a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import vqcodec_in_process
from conftest import synthetic
from PIL import Image

from vqcodec.bench.code_maps import NAMES, PICTURE_NAMES, _heat, _principal, bits_of, show_model, show_picture
from vqcodec.codec.codec import Codec
from vqcodec.codec.content import Content
from vqcodec.format.container import unpack
from vqcodec.model.store import Model
from vqcodec.picture.picture import Picture
from vqcodec.windows import split


def test_the_bits_of_the_positions_add_up_to_the_units_of_the_file(model: Model) -> None:
    codec, picture = Codec(model), Picture(synthetic(75, 101), "RGB")
    quality = model.config.default_quality
    codes = codec.to_codes(picture.pixels, quality)
    data = codec.pack(picture, Content.of(codes), quality)
    bits = bits_of(codec, codes, quality)
    assert bits.shape == codes.shape[1:]
    grids = [grid for row in split(bits[None], model.config.unit) for grid in row]
    for grid, payload in zip(grids, unpack(data).units, strict=True):
        assert 0 <= 8 * len(payload) - grid.sum() <= 36  # a range coder ends on a whole word


def test_a_model_and_a_picture_are_shown(model: Model) -> None:
    codec, picture = Codec(model), Picture(synthetic(30, 45), "L")
    drawn = show_model(codec, 1)
    assert tuple(drawn.images) == tuple(drawn.lines) == NAMES
    books = len(model.config.vqvae.codebooks)
    used = [int(codec.network.quantizer.live(g)[0]) for g in range(books)]
    assert f"{sum(used)} codes" in drawn.lines["codebooks.png"]
    for image in drawn.images.values():
        assert len(image.getcolors(2**24)) > 10  # the image is not blank
    shown = show_picture(codec, picture, 1)
    assert tuple(shown.images) == PICTURE_NAMES
    assert all(image.size == (45, 30) for image in shown.images.values())
    whole = codec.decompress(codec.compress(picture, 1))
    assert np.array_equal(np.asarray(shown.images["reconstruction.png"]), whole.pixels)


def test_a_codebook_with_a_single_code_can_be_drawn(patch_model: Model) -> None:
    codec = Codec(patch_model)
    for g in range(3):
        codec.network.quantizer._counts[g][0, 1:] = 0
    assert int(codec.network.quantizer.live(0)[0]) == 1
    assert show_model(codec, 1).lines["codebooks.png"].startswith("3 codes in use")


def test_axes_are_the_principal_components_weighted_by_use() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, (1, 9, 3, 0.1), (200, 4))
    vectors[:20] = rng.normal(0, (1, 1, 1, 1e6), (20, 4))  # hardly ever used
    share = np.where(np.arange(200) < 20, 1e-20, 1.0)
    places = _principal(vectors, share)[20:]
    for axis, column in enumerate((1, 2)):
        assert abs(np.corrcoef(places[:, axis], vectors[20:, column])[0, 1]) > 0.8


def test_the_heat_colours_increase_in_brightness() -> None:
    colours = _heat(np.linspace(0, 2, 99, dtype=np.float32)[None])[0].astype(int)
    assert (colours[0] == 0).all()
    assert (colours[49:] == 255).all()
    assert (np.diff(colours[:50] @ (299, 587, 114)) > 0).all()


def test_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Callable[..., Path], patch_model: Model
) -> None:
    bundle(photo=patch_model)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(synthetic(20, 30)).save("a.png")
    done = vqcodec_in_process(monkeypatch, "inspect", "a.png", "-q", "1", "-o", "x/y", "--json")
    assert [Path(record["output"]).name for record in json.loads(done.out)] == [*NAMES, *PICTURE_NAMES]
    assert sorted(os.listdir("x/y")) == sorted([*NAMES, *PICTURE_NAMES])
    for arguments, code in [
        (["-o", "x/y"], 1),  # the files are there
        (["missing.png", "-o", "new"], 1),
        (["-o", "new", "--effort", "0"], 2),
        (["-o", "new", "-q", "3"], 2),
    ]:
        assert vqcodec_in_process(monkeypatch, "inspect", *arguments).code == code
    assert not os.path.exists("new")
