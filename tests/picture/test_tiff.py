"""TIFFs that Pillow does not read: refused by what they are, or read with tifffile; raw photos are refused."""

from __future__ import annotations

import io
import struct
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vqcodec.errors import BadPicture
from vqcodec.picture.metadata import Keep
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture

RNG = np.random.default_rng(0)


def by_hand(samples: np.ndarray, bits: int, more: dict[int, int]) -> bytes:
    """A TIFF of one strip of uncompressed samples [H, W, C], with tags of one value each."""
    height, width, channels = samples.shape
    data = samples.tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 2 if channels == 3 else 1, 277: channels, 278: height}
    tags |= {279: len(data)} | more
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted((tags | {273: start}).items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags) + 1) + entries + bytes(4) + data


def message(data: bytes) -> str:
    with pytest.raises(BadPicture) as caught:
        read_picture(io.BytesIO(data))
    return str(caught.value).removeprefix("standard input: ")


@pytest.mark.parametrize(
    ("samples", "bits", "more", "expected"),
    [
        (np.zeros((4, 4, 3), "<f4"), 32, {339: 3}, "a TIFF of 32-bit floats in 3 channels"),
        (np.zeros((4, 4, 1), "<f8"), 64, {339: 3}, "a TIFF of 64-bit floats in 1 channel"),
        (np.zeros((4, 5, 1), "<u1"), 10, {}, "a TIFF of 10-bit unsigned integers in 1 channel"),
        (np.zeros((4, 4, 1), "<u2"), 16, {262: 3}, "a TIFF of 16-bit unsigned integers in 1 channel (a palette)"),
    ],
)
def test_without_tifffile_they_are_named(
    samples: np.ndarray, bits: int, more: dict[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    rest = ", which Pillow does not read; run: pip install 'vqcodec[formats]', or convert it first"
    assert message(by_hand(samples, bits, more)) == expected + rest


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({50706: 0x00000401}, "a DNG: please develop it"),
        ({262: 32803}, "a raw photo: please develop it"),
        ({254: 1, 330: 8}, "a raw photo, or a TIFF that begins with a preview: please develop it"),
    ],
)
def test_raw_photos_are_refused_instead_of_their_previews(more: dict[int, int], expected: str) -> None:
    data = by_hand(np.zeros((4, 4, 3), np.uint8), 8, {})
    assert read_picture(io.BytesIO(data)).width == 4
    assert message(by_hand(np.zeros((4, 4, 3), np.uint8), 8, more)).startswith(expected)


# --- with tifffile


def read(samples: np.ndarray, keep: Keep | None = None, **options: Any) -> Picture:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return read_picture(stream, keep or Keep())


def near(picture: Picture, expected: np.ndarray) -> bool:
    return bool(np.abs(picture.pixels - np.atleast_3d(expected)).max() <= 0.5001)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_floats_in_three_channels(dtype: str) -> None:
    samples = RNG.random((9, 7, 3)).astype(dtype)
    samples[0, 0], samples[0, 1] = 0, 1
    picture = read(samples, photometric="rgb", compression="zlib", predictor=True)
    assert near(picture, samples.astype(float) * 255)
    assert picture.mode == "RGB"
    assert "floating-point samples from 0 to 1" in picture.notices[0]
    assert near(read(samples.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), samples * 255.0)
    assert near(read(samples, photometric="rgb", bigtiff=True), samples * 255.0)


@pytest.mark.parametrize(("bits", "channels"), [(10, 1), (14, 1), (10, 3), (12, 3), (14, 3)])
def test_odd_depths(bits: int, channels: int) -> None:
    samples = RNG.integers(0, 2**bits, (9, 7, channels)).astype(np.uint16)
    kind = "rgb" if channels == 3 else "minisblack"
    picture = read(samples if channels == 3 else samples[:, :, 0], photometric=kind, bitspersample=bits)
    assert near(picture, samples / (2**bits - 1) * 255)
    assert picture.notices == (f"{bits} bits per channel were reduced to 8",)


def test_white_is_zero() -> None:
    samples = RNG.integers(0, 1024, (9, 7)).astype(np.uint16)
    assert near(read(samples, photometric="miniswhite", bitspersample=10), 255 - samples / 1023 * 255)


def test_palettes_of_16_bits() -> None:
    colours = RNG.integers(0, 65536, (3, 65536)).astype(np.uint16)
    samples = RNG.integers(0, 65536, (9, 7)).astype(np.uint16)
    picture = read(samples, photometric="palette", colormap=colours)
    assert near(picture, np.moveaxis(colours[:, samples], 0, 2) / 65535 * 255)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_a_fourth_channel(kind: str) -> None:
    samples = RNG.random((9, 7, 4)).astype(np.float32)
    samples[0, 0], samples[0, 1] = 1, (0, 0, 0, 1)
    straight = samples[:, :, :3].copy()
    if kind == "assocalpha":
        samples[:, :, :3] *= samples[:, :, 3:]
    picture = read(samples, photometric="rgb", extrasamples=[kind])
    if kind == "unspecified":
        assert picture.alpha is None
        assert "1 further channel was left out" in picture.notices
    else:
        assert picture.alpha is not None
        assert np.abs(picture.alpha - samples[:, :, 3] * 255).max() <= 0.5001
    solid = samples[:, :, 3] > 0.5  # where alpha is small, 8 bits are not enough
    assert np.abs(picture.pixels - straight * 255)[solid].max() <= (2 if kind == "assocalpha" else 0.5001)


def test_orientation_metadata_and_pages() -> None:
    samples = RNG.random((2, 9, 7, 3)).astype(np.float32)
    tags = [(274, "H", 1, 6, True), (271, "s", 0, "maker", True)]
    picture = read(samples, Keep(metadata=True), photometric="rgb", extratags=tags)
    assert (picture.width, picture.height) == (9, 7)
    assert b"maker" in picture.metadata.exif
    assert "several frames or pages: only the first one is kept" in picture.notices


@pytest.mark.parametrize(
    ("samples", "options", "expected"),
    [
        (
            np.zeros((9, 7), np.complex64),
            {},
            "a TIFF of 64-bit complex floats in 1 channel, which is not read; convert",
        ),
        (
            np.zeros((9, 7, 4), np.float32),
            {"photometric": "separated"},
            "4 channels (CMYK), which is not read; convert",
        ),
    ],
)
def test_what_tifffile_reads_but_is_no_picture(samples: np.ndarray, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(BadPicture) as caught:
        read(samples, **options)
    assert expected in str(caught.value)


def test_limits_and_damage() -> None:
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, RNG.random((9, 7, 3)).astype(np.float32), photometric="rgb", compression="zlib")
    data = stream.getvalue()
    with pytest.raises(BadPicture, match=r"too large .7x9, over the limit of 62 pixels"):
        read_picture(stream, Keep(), 62)
    assert message(data[:-100]).startswith("a TIFF of 32-bit floats in 3 channels, damaged or not supported (")


def test_what_tifffile_logs_is_a_notice(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tifffile")
    data = by_hand(np.zeros((4, 4, 3), "<f4"), 32, {339: 3}).replace(struct.pack("<H", 279), struct.pack("<H", 60000))
    assert any("ByteCounts" in notice for notice in read_picture(io.BytesIO(data)).notices)
    assert capfd.readouterr().err == ""


def test_what_pillow_reads_does_not_need_tifffile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    stream = io.BytesIO()
    Image.new("RGB", (3, 2)).save(stream, "TIFF")
    assert read_picture(stream).width == 3
