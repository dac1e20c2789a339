"""The colour chunks of a PNG: gAMA, cHRM, sRGB, iCCP and cICP, which count in the opposite order."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from vqcodec.picture.colour_space import BT709, PRIMARIES, TRANSFERS, ColourSpace, Curve, possible
from vqcodec.picture.metadata import Keep
from vqcodec.picture.read import from_image, read_picture

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
ORANGE = (200, 100, 50)
P3, SRGB_CODES = bytes([12, 13, 0, 1]), bytes([1, 13, 0, 1])
P3_TO_SRGB = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])  # CSS Color 4


def png(image: Image.Image, icc: bytes | None = None, **chunks: bytes) -> io.BytesIO:
    info = PngImagePlugin.PngInfo()
    for name, data in chunks.items():
        info.add(name.encode(), data)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, icc_profile=icc)
    return io.BytesIO(buffer.getvalue())


def gama(value: float) -> bytes:
    return struct.pack(">I", round(value * 100000))


def chrm(points: tuple[float, ...]) -> bytes:
    return struct.pack(">8I", *(round(value * 100000) for value in points))


def colours_of(profile: bytes, mode: str) -> np.ndarray:
    image = Image.fromarray(RAMP).convert(mode)
    image.info["icc_profile"] = profile
    return from_image(image).pixels.astype(int)


def encoded(light: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: light -> sRGB sample, 0 to 255, not rounded."""
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


def decoded(samples: np.ndarray) -> np.ndarray:
    values = samples / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
@pytest.mark.parametrize("gamma", [1.0, 0.35, 0.7, 2.5, 1 / 1.8])
def test_gama_is_applied(gamma: float, mode: str) -> None:
    picture = read_picture(png(Image.fromarray(RAMP).convert(mode), gAMA=gama(gamma)))
    expected = encoded((np.arange(256) / 255) ** (1 / gamma))
    assert np.abs(picture.pixels.reshape(256, 3) - expected[:, None]).max() <= 0.52
    assert picture.notices == ("the colours were converted to sRGB by the picture's gAMA chunk",)
    assert picture.mode == mode.rstrip("A")
    assert picture.alpha is None or (picture.alpha == 255).all()


def test_linear_light_of_128_is_188() -> None:
    assert (read_picture(png(Image.new("RGB", (2, 2), (128,) * 3), gAMA=gama(1))).pixels == 188).all()


@pytest.mark.parametrize(
    "chunks",
    [
        {"gAMA": gama(0.45455)},
        {"gAMA": gama(0.45)},
        {"gAMA": gama(0.45455), "cHRM": chrm(BT709)},
        {"sRGB": b"\0", "gAMA": gama(1.0), "cHRM": chrm(PRIMARIES[9])},
        {"cICP": SRGB_CODES, "gAMA": gama(1.0)},
    ],
)
def test_srgb_under_any_name_is_left_alone(chunks: dict[str, bytes]) -> None:
    for keep in (Keep(), Keep(True)):
        picture = read_picture(png(Image.new("RGB", (2, 2), ORANGE), **chunks), keep)
        assert (picture.pixels == ORANGE).all()
        assert picture.notices == ()
        assert picture.metadata.icc == b""


@pytest.mark.parametrize("chunks", [{"cICP": P3}, {"cHRM": chrm(PRIMARIES[12]), "gAMA": gama(0.45455)}])
def test_primaries_are_converted(chunks: dict[str, bytes]) -> None:
    samples = np.random.default_rng(0).integers(60, 200, (32, 32, 3), dtype=np.uint8)
    picture = read_picture(png(Image.fromarray(samples), **chunks))
    expected = np.clip(encoded(np.clip(decoded(samples) @ P3_TO_SRGB.T, 0, 1)), 0, 255)
    assert np.abs(picture.pixels - expected).max() <= 1
    assert picture.notices == (f"the colours were converted to sRGB by the picture's {next(iter(chunks))} chunk",)


def test_a_grey_picture_has_no_use_for_primaries() -> None:
    assert read_picture(png(Image.fromarray(RAMP), cHRM=chrm(PRIMARIES[12]))).notices == ()


def test_the_order_of_the_chunks() -> None:
    image = Image.new("RGB", (2, 2), ORANGE)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (read_picture(png(image, srgb, gAMA=gama(1.0))).pixels == ORANGE).all(), "iCCP before gAMA"
    p3 = read_picture(png(image, cICP=P3)).pixels
    assert not (p3 == ORANGE).all()
    assert (read_picture(png(image, srgb, cICP=P3)).pixels == p3).all(), "cICP before iCCP"
    assert (read_picture(png(image, sRGB=b"\0", cICP=P3)).pixels == p3).all(), "cICP before sRGB"


@pytest.mark.parametrize("codes", [bytes([99, 13, 0, 1]), bytes([12, 13, 1, 1]), b"\x0c", bytes([12, 13, 0, 7])])
def test_a_cicp_chunk_that_is_not_known_gives_way_to_the_next(codes: bytes) -> None:
    picture = read_picture(png(Image.new("L", (2, 2), 128), cICP=codes, gAMA=gama(1.0)))
    assert (picture.pixels == 188).all()
    assert picture.notices[0] == "the cICP chunk names an unknown colour space and was ignored"


def test_unspecified_code_points_say_nothing() -> None:
    assert read_picture(png(Image.new("L", (2, 2)), cICP=bytes([2, 2, 0, 1]))).notices == ()


@pytest.mark.parametrize(
    ("chunks", "name"),
    [
        ({"gAMA": gama(0)}, "gAMA"),
        ({"gAMA": struct.pack(">I", 2**32 - 1)}, "gAMA"),
        ({"cHRM": bytes(32)}, "cHRM"),
        ({"cHRM": b"\xff" * 32}, "cHRM"),
        ({"cHRM": chrm((0.1, 0.8, *BT709[2:]))}, "cHRM"),
    ],
)
def test_impossible_values_are_ignored(chunks: dict[str, bytes], name: str) -> None:
    picture = read_picture(png(Image.new("RGB", (2, 2), ORANGE), **chunks))
    assert (picture.pixels == ORANGE).all()
    assert picture.notices == (f"the {name} chunk cannot be used and was ignored",)


def test_a_text_that_is_called_gamma_is_none() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("gamma", "1.0")
    info.add_text("chromaticity", "12345678")
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), ORANGE).save(buffer, "PNG", pnginfo=info)
    assert (read_picture(buffer).pixels == ORANGE).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("chunks", [{"gAMA": gama(1.0)}, {"cICP": bytes([9, 8, 0, 1])}])
def test_keeping_metadata_keeps_an_equivalent_profile(chunks: dict[str, bytes], mode: str) -> None:
    image = Image.merge("RGB", [Image.fromarray(RAMP)] * 3) if mode != "L" else Image.fromarray(RAMP)
    file = png(image.convert(mode), **chunks)
    kept, converted = read_picture(file, Keep(True)), read_picture(file)
    assert (kept.pixels.reshape(256, 3) == np.arange(256)[:, None]).all()
    assert kept.notices == (f"the colours of the picture's {next(iter(chunks))} chunk are kept, as a colour profile",)
    assert len(kept.metadata.icc) < 600
    again = Image.fromarray(kept.pixels if mode != "L" else kept.pixels[:, :, 0])
    again.info["icc_profile"] = kept.metadata.icc
    assert (from_image(again).pixels == converted.pixels).all()


def test_every_code_point_makes_a_profile_or_srgb() -> None:
    for primaries in PRIMARIES.values():
        assert possible(primaries)
        for curve in TRANSFERS.values():
            space = ColourSpace(primaries, curve)
            if space.high_dynamic_range:
                white = space.to_srgb(np.full((1, 1, 3), 255, dtype=np.uint8))
                assert white.min() >= 254
            else:
                for mode in ("L", "RGB"):
                    profile = ImageCms.ImageCmsProfile(io.BytesIO(space.profile(mode)))
                    table = ColourSpace(primaries, Curve(curve.light)).profile(mode)
                    by_table, found = (colours_of(data, mode) for data in (table, space.profile(mode)))
                    assert np.abs(by_table - found).max() <= 2, "formula and table are the same curve"
                    assert profile.profile.xcolor_space.strip() == {"L": "GRAY", "RGB": "RGB"}[mode]
                    assert profile.profile.media_white_point[0] == pytest.approx((0.9642, 1.0, 0.8249), abs=1e-4)


def test_narrow_range() -> None:
    picture = read_picture(png(Image.fromarray(RAMP), cICP=bytes([1, 13, 0, 0])))
    expected = np.clip((np.arange(256.0) - 16) / 219 * 255, 0, 255)
    assert np.abs(picture.pixels.reshape(256, 3) - expected[:, None]).max() <= 1


@pytest.mark.parametrize(("transfer", "white"), [(16, 148), (18, 191)])
def test_high_dynamic_range_becomes_srgb(transfer: int, white: int) -> None:
    """White (203 cd/m2) of a picture with nothing brighter is white; with brighter parts, it is compressed."""
    codes = bytes([9, transfer, 0, 1])
    picture = read_picture(png(Image.new("RGB", (2, 2), (white,) * 3), cICP=codes), Keep(True))
    assert picture.pixels.min() >= 252
    assert picture.notices == ("the colours were converted from high dynamic range (cICP chunk) to sRGB",)
    assert picture.metadata.icc == b""
    ramp = read_picture(png(Image.fromarray(RAMP), cICP=codes))
    assert ramp.mode == "L"
    values = ramp.pixels[:, :, 0].ravel().astype(int)
    assert (np.diff(values) >= 0).all()
    assert (values[0], values[255]) == (0, 255)
    assert 180 < values[white] < 250
