"""More than 8 bits, floats and signed samples: which range becomes 0 to 255."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from vqcodec.picture.depth import Deep, eight_bits
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import from_image, read_picture

RAMP = np.linspace(0, 1, 4096)


def tiff(samples: np.ndarray, photometric: int = 1, no_data: str = "") -> io.BytesIO:
    """A TIFF of grey samples [H, W], written by hand: Pillow writes neither signed bytes nor WhiteIsZero."""
    data, text = samples.tobytes(), no_data.encode() + b"\0"
    height, width = samples.shape
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8 * samples.itemsize), (259, 3, 1, 1),
        (262, 3, 1, photometric), (273, 4, 1, 0), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(data)),
        (339, 3, 1, {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]),
    ]  # fmt: skip
    end = 8 + 2 + 12 * (len(entries) + bool(no_data)) + 4
    if no_data:
        entries.append((42113, 2, len(text), end + len(data)))
        assert len(text) > 4, "a shorter text would lie in the entry itself"
    body = b""
    for tag, kind, count, value in entries:
        body += struct.pack("<HHII", tag, kind, count, end if tag == 273 else value)
    return io.BytesIO(b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + data + text)


def grey(picture: Picture) -> np.ndarray:
    assert picture.mode == "L"
    return picture.pixels[:, :, 0]


@pytest.mark.parametrize(
    ("samples", "start", "top"),
    [
        (RAMP.astype("f4"), 0, 1),
        ((RAMP * 0.1).astype("f4"), 0, 1),
        ((RAMP * 1.2).astype("f4"), 0, 1.2),
        ((RAMP * 0.001).astype("f4"), 0, 0.001),
        ((RAMP * 200).astype("f4"), 0, 255),
        ((RAMP * 12).astype("f4"), 0, 12),
        ((RAMP * 3000 - 100).astype("f4"), -100, 2900),
        (np.arange(256, dtype="i4"), 0, 255),
        (np.arange(1000, dtype="i4"), 0, 1023),
        (np.arange(4096, dtype="i4"), 0, 4095),
        (np.arange(0, 60000, 7, dtype="i4"), 0, 65535),
        (np.arange(0, 90001, 9, dtype="i4"), 0, 90000),
        (np.arange(0, 90001, 9, dtype="u4") + 2**31, 2**31, 2**31 + 90000),
        (np.arange(4096, dtype="u2"), 0, 4095),
        (np.arange(1000, dtype="u2"), 0, 1023),
        (np.arange(0, 16000, dtype="u2"), 0, 65535),
        (np.arange(-1024, 3072, dtype="i2"), -1024, 3071),
        (np.arange(0, 20000, dtype="i2"), 0, 32767),
        (np.arange(-128, 128).astype("i1"), -128, 127),
        (np.arange(0, 128).astype("i1"), 0, 127),
        (np.zeros(9, dtype="u2"), 0, 65535),
        (np.zeros(9, dtype="f4"), 0, 1),
    ],
    ids=lambda value: f"{value.dtype}" if isinstance(value, np.ndarray) else None,
)
def test_the_range_of_values(samples: np.ndarray, start: float, top: float) -> None:
    result, notices = eight_bits(Deep(samples))
    expected = np.floor((samples.astype(float) - start) / (top - start) * 255 + 0.5)
    assert np.abs(result - expected).max() <= 1
    assert f"from {start:g} to {top:g} were reduced to 8 bits" in notices[0]
    assert len(notices) == 1
    assert (result == expected).mean() > 0.99


@pytest.mark.parametrize("value", [-3.4e38, 3.4e38, -9999.0, 1e20, 50.0, -7.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", [1, 4])
def test_lone_outliers_do_not_set_the_range(value: float, count: int) -> None:
    samples = RAMP.astype("f4")
    samples[100 : 100 + count] = value
    result, notices = eight_bits(Deep(samples))
    assert np.abs(np.delete(result, slice(100, 104)) - np.delete(RAMP, slice(100, 104)) * 255).max() <= 0.51
    assert "from 0 to 1 were" in notices[0]
    assert ("NaN and infinite" if not np.isfinite(value) else f"{count} outside of this range") in notices[0]
    assert (result[100 : 100 + count] == (255 if value > 0 else 0)).all()


@pytest.mark.parametrize("value", [-9999, -32768, -(2**31)])
def test_many_samples_without_data_do_not_set_the_range(value: int) -> None:
    samples = (RAMP * 3000).astype("i4")
    samples[:1500] = value
    result, notices = eight_bits(Deep(samples))
    assert "from 0 to 4095" in notices[0]
    assert result[-1] == 187
    assert result[0] == 0


def test_a_few_bright_samples_on_black_are_no_outliers() -> None:
    samples = np.zeros(4096, dtype="f4")
    samples[7] = 5
    result, _ = eight_bits(Deep(samples))
    assert result[7] == 255
    samples = np.arange(4096, dtype="u2") % 4000
    samples[7] = 65535
    assert "from 0 to 65535" in eight_bits(Deep(samples))[1][0], "16-bit pictures may have lamps in the dark"


@pytest.mark.parametrize("text", ["-3.4028234663852886e+38", "-9999", "17.123456789"])
def test_the_no_data_tag_of_gdal(text: str) -> None:
    samples = (RAMP.reshape(64, 64) * 10 + 20).astype("f4")
    samples[:30] = float(text)
    picture = read_picture(tiff(samples, no_data=text))
    assert (grey(picture)[:30] == 0).all()
    assert grey(picture)[30:].max() == 255
    assert "became black" in picture.notices[0]
    assert f"to {30:g} were" in picture.notices[0]


def test_a_no_data_tag_that_is_no_number_is_ignored() -> None:
    assert "became black" not in read_picture(tiff(RAMP.reshape(64, 64).astype("f4"), no_data="nothing")).notices[0]


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_white_is_zero_is_inverted(dtype: str) -> None:
    samples = np.linspace(0, 65535 if dtype == "u2" else 1, 256).astype(dtype).reshape(16, 16)
    picture = read_picture(tiff(samples, photometric=0))
    assert (grey(picture).ravel() == np.arange(256)[::-1]).all()


def test_signed_bytes_do_not_wrap() -> None:
    picture = read_picture(tiff(np.arange(-128, 128).astype("i1").reshape(16, 16)))
    assert (grey(picture).ravel() == np.arange(256)).all()
    assert picture.notices == ("signed 8-bit samples from -128 to 127 were reduced to 8 bits",)


@pytest.mark.parametrize("dtype", ["i2", "u4", "i4"])
def test_integers_of_tiffs_have_their_own_sign(dtype: str) -> None:
    samples = np.array([[-300, -299, 0, 700]]).astype(dtype)
    picture = read_picture(tiff(samples))
    wrapped = dtype == "u4"
    assert grey(picture).tolist() == [[255, 255, 0, 0]] if wrapped else [[0, 0, 77, 255]]


@pytest.mark.parametrize(
    ("samples", "levels"),
    [
        (np.arange(4096, dtype="u2") % 4, 4),
        (np.arange(4096, dtype="i4") % 3, 3),
        (np.where(np.arange(4096) % 5, RAMP, 1000 * (np.arange(4096) % 2)).astype("f4"), 2),
    ],
)
def test_a_picture_of_few_levels_gets_a_warning(samples: np.ndarray, levels: int) -> None:
    _, notices = eight_bits(Deep(samples))
    assert [f"only {levels} of 256 levels are used" in notice for notice in notices] == [False, True]


def test_a_picture_that_had_few_levels_gets_none() -> None:
    assert len(eight_bits(Deep((np.arange(99) % 2 * 65535).astype("u2")))[1]) == 1
    assert len(eight_bits(Deep(np.zeros(99, dtype="f4")))[1]) == 1


@pytest.mark.parametrize("top", [1, 15, 16])
def test_colours_of_12_bits_in_16_get_a_warning(top: int) -> None:
    from test_read_write import png

    row = np.array([0, 9, top << 8] * 4, dtype=">u2").tobytes()
    notices = read_picture(png(4, 16, 2, row)).notices
    assert any("below 1/16 of the 16-bit range" in notice for notice in notices) == (top < 16)


def test_pictures_in_memory_follow_the_same_rules() -> None:
    picture = from_image(Image.fromarray((RAMP.reshape(64, 64) * 1.2).astype("f4")))
    assert (grey(picture).min(), grey(picture).max()) == (0, 255)
