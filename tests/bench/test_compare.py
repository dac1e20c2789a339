"""Two pictures -> every measure: against direct calls, with transparency, grey, colour profiles; and the page."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import synthetic
from PIL import Image, ImageCms

from vqcodec.bench.compare import Compared, Input, compare, facts, load, shown
from vqcodec.bench.compare_html import to_html
from vqcodec.codec.codec import Codec
from vqcodec.errors import BadFile, BadPicture
from vqcodec.files.work import Decompressor
from vqcodec.model.store import Model
from vqcodec.picture.measures import MEASURES, measured
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture, grey_of

Samples = npt.NDArray[np.uint8]
PIXELS = synthetic(64, 96)


def noisy(pixels: Samples, seed: int = 1, most: int = 12) -> Samples:
    noise = np.random.default_rng(seed).integers(-most, most + 1, pixels.shape)
    return (pixels.astype(int) + noise).clip(0, 255).astype(np.uint8)


NOISY = noisy(PIXELS)


def compared(a: Picture, b: Picture) -> Compared:
    return compare(Input("a.png", "PNG", 4000, a), Input("b.png", "PNG", 1000, b))


def opened(source: Path | bytes, model: Model | None = None) -> Input:
    decompressor = Decompressor(None if model is None else str(model.path), force=False)
    decompressor.open()
    return load("it", source, decompressor, lambda fraction: None)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_the_measures_are_those_of_direct_calls() -> None:
    found = compared(Picture(PIXELS, "RGB"), Picture(NOISY, "RGB"))
    assert list(found.measures) == [measure.name for measure in MEASURES]
    assert found.measures == pytest.approx(measured(PIXELS, NOISY), nan_ok=True)
    assert found.measures["psnr"] == pytest.approx(psnr(PIXELS, NOISY))
    assert (found.a.bpp, found.b.bpp) == (8 * 4000 / (64 * 96), 8 * 1000 / (64 * 96))
    assert not found.identical
    assert [layer.ground for layer in found.layers] == [None]


def test_a_is_the_reference() -> None:
    found = compared(Picture(PIXELS, "RGB"), Picture(NOISY, "RGB")).measures["ssimulacra2"]
    swapped = compared(Picture(NOISY, "RGB"), Picture(PIXELS, "RGB")).measures["ssimulacra2"]
    assert found == measured(PIXELS, NOISY)["ssimulacra2"]
    assert swapped != found


def test_equal_pictures() -> None:
    found = compared(Picture(PIXELS, "RGB"), Picture(PIXELS.copy(), "RGB"))
    assert found.identical
    assert found.measures["psnr"] == math.inf
    assert found.measures["ssimulacra2"] == pytest.approx(100)


def test_different_sizes_are_one_error_with_both() -> None:
    with pytest.raises(BadPicture, match=r"^a\.png has 96 x 64 pixels and b\.png has 64 x 96 pixels; "):
        compared(Picture(PIXELS, "RGB"), Picture(synthetic(96, 64), "RGB"))


def test_two_grey_pictures_have_one_channel_and_grey_beside_colours_three() -> None:
    grey, other = (np.repeat(grey_of(pixels)[:, :, None], 3, 2) for pixels in (PIXELS, NOISY))
    found = compared(Picture(grey, "L"), Picture(other, "L"))
    assert found.layers[0].before.shape == (64, 96, 1)
    assert found.measures["psnr"] == pytest.approx(psnr(grey, other))
    mixed = compared(Picture(grey, "L"), Picture(PIXELS, "RGB"))
    assert mixed.layers[0].before.shape == (64, 96, 3)
    assert mixed.measures["psnr"] == pytest.approx(psnr(grey, PIXELS))


def test_a_grey_picture_equals_its_three_channels() -> None:
    uneven = np.stack([PIXELS[:, :, 0]] * 3, 2)
    uneven[:, :, 0] ^= 1  # as a decoder leaves them; their rounded mean is the grey
    assert compared(Picture(uneven, "L"), Picture(np.repeat(grey_of(uneven)[:, :, None], 3, 2), "RGB")).identical


def over(pixels: Samples, alpha: Samples, level: int) -> Samples:
    share = alpha[:, :, None] / 255
    return np.floor(pixels * share + level * (1 - share) + 0.5).astype(np.uint8)


def test_transparency_counts_over_black_and_over_white() -> None:
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[:, 48:] = 100
    found = compared(Picture(PIXELS, "RGB"), Picture(PIXELS, "RGB", alpha))
    assert [layer.ground for layer in found.layers] == ["black", "white"]
    each = [measured(PIXELS, over(PIXELS, alpha, level)) for level in (0, 255)]
    for measure in MEASURES:
        values = [values[measure.name] for values in each]
        worst = min(values) if measure.rising else max(values)
        assert found.measures[measure.name] == pytest.approx(worst, nan_ok=True), measure.name
    assert len({values["psnr"] for values in each}) == 2, "or the choice would not show"
    assert not found.identical


def test_hidden_colours_are_not_seen_and_opaque_alpha_is_none() -> None:
    alpha = np.full((64, 96), 255, np.uint8)
    assert len(compared(Picture(PIXELS, "RGB", alpha), Picture(NOISY, "RGB")).layers) == 1
    alpha[:32] = 0
    other = np.where(alpha[:, :, None] == 0, 255 - PIXELS, PIXELS)
    found = compared(Picture(PIXELS, "RGB", alpha), Picture(other, "RGB", alpha))
    assert found.identical
    assert found.measures["psnr"] == math.inf


def test_a_vq_file_is_decoded_and_recognised_by_its_first_bytes(model: Model, tmp_path: Path) -> None:
    codec = Codec(model)
    data = codec.compress(Picture(PIXELS, "RGB"))
    path = tmp_path / "really.png"
    path.write_bytes(data)
    for source in (data, path):
        found = opened(source, model)
        assert np.array_equal(found.picture.pixels, codec.decompress(data).pixels)
        assert (found.format, found.bytes, found.model) == ("VQ", len(data), model.name)
        assert found.quality == model.config.default_quality
        assert facts(found)[-1] == f"model {model.name}, quality {found.quality}"
    (tmp_path / "cut.vq").write_bytes(data[:-5])
    with pytest.raises(BadFile):
        opened(tmp_path / "cut.vq", model)


def test_a_vq_file_with_a_colour_profile_becomes_srgb(model: Model) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = _with_red_and_blue_swapped(profile)
    picture = Picture(PIXELS, "RGB")
    picture = replace(picture, metadata=replace(picture.metadata, icc=swapped))
    codec = Codec(model)
    found = opened(codec.compress(picture), model)
    raw = codec.decompress(codec.compress(picture)).pixels
    assert psnr(found.picture.pixels, raw[:, :, ::-1]) > psnr(found.picture.pixels, raw) + 3
    assert any("colour" in notice for notice in found.picture.notices)


def _with_red_and_blue_swapped(profile: bytes) -> bytes:
    """A colour profile in which the tags rXYZ and bXYZ have changed places."""
    return profile.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def test_pictures_are_read_as_compress_reads_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # turn right by 90 degrees
    (tmp_path / "turned.png").write_bytes(file_of(Image.fromarray(np.rot90(PIXELS)), exif=exif))
    found = opened(tmp_path / "turned.png")
    assert np.array_equal(found.picture.pixels, PIXELS)
    assert (found.format, found.bytes) == ("PNG", (tmp_path / "turned.png").stat().st_size)
    sixteen = file_of(Image.fromarray(np.full((8, 8), 40000, np.uint16)))
    assert opened(sixteen).picture.notices
    with pytest.raises(BadPicture, match=r"^it: "):
        opened(b"no picture at all")
    with pytest.raises(BadPicture, match=r"none\.png: No such file"):
        opened(tmp_path / "none.png")


def test_values_for_people() -> None:
    by_name = {measure.name: measure for measure in MEASURES}
    assert shown(by_name["psnr"], 31.234) == "31.23 dB"
    assert shown(by_name["psnr"], math.inf) == "inf dB"
    assert shown(by_name["ssimulacra2"], math.nan) == "-"


def blocks(page: str) -> dict[str, Any]:
    found = re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', page, re.DOTALL)
    return {name: json.loads(text) for name, text in found}


def pixels_of(side: dict[str, Any]) -> Samples:
    return np.array(Image.open(io.BytesIO(base64.b64decode(side["src"].partition(",")[2]))))


def test_the_page_holds_both_pictures_without_loss_and_every_measure() -> None:
    found = compared(Picture(PIXELS, "RGB"), Picture(NOISY, "RGB"))
    page = to_html(found)
    data = blocks(page)
    assert data["pictures-data"] == [""]
    left, right = data["picture-0"]["sides"]
    assert data["picture-0"]["start"] == [0, 1]
    assert np.array_equal(pixels_of(left), PIXELS)
    assert np.array_equal(pixels_of(right), NOISY)
    for measure in MEASURES:
        value = shown(measure, found.measures[measure.name])
        assert f"<span>{measure.title}</span>" in page
        assert value == "-" or f"{measure.title} {value}" in right["facts"]
    assert "curves-data" not in data
    assert "<title>a.png and b.png</title>" in page
    assert to_html(found) == page


def test_the_page_has_both_grounds_and_grey_pictures() -> None:
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[:20] = 0
    grey = np.repeat(grey_of(PIXELS)[:, :, None], 3, 2)
    data = blocks(to_html(compared(Picture(grey, "L", alpha), Picture(grey, "L"))))
    assert data["pictures-data"] == ["over black", "over white"]
    for index, level in enumerate((0, 255)):
        left, right = data[f"picture-{index}"]["sides"]
        assert (pixels_of(left)[:20] == level).all()
        assert np.array_equal(pixels_of(right)[:, :, 0], grey[:, :, 0])


def test_hostile_names_are_text_on_the_page() -> None:
    name = "<img src=x onerror=alert(1)></script>.png"
    a = Input(name, None, 10, Picture(PIXELS, "RGB", notices=("<b>",)))
    page = to_html(compare(a, replace(a, name="b.png")))
    assert "<img" not in page
    assert "<b>" not in page
    assert "The pictures are identical." in page
