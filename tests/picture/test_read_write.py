from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageOps

from vqcodec.errors import BadPicture, OutputError, UsageError
from vqcodec.picture import read as module
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import from_image, read_picture
from vqcodec.picture.write import format_for, image_file, to_image

SIZES = [(1, 1), (3, 5000), (5000, 3), (97, 89), (2, 1)]
OPAQUE = ["BMP", "DIB", "EPS", "JPEG", "PCX", "PDF", "PPM"]
TRANSPARENT = ["AVIF", "DDS", "IM", "JPEG2000", "PNG", "QOI", "SGI", "TGA", "TIFF", "WEBP"]
Image.init()
WRITABLE = [name for name in OPAQUE + TRANSPARENT if name in Image.SAVE]  # AVIF came with Pillow 11.3
LOSSLESS = [name for name in WRITABLE if name not in ("AVIF", "EPS", "JPEG", "PDF")]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, name: str = "PNG", **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return io.BytesIO(buffer.getvalue())


def png(width: int, depth: int, colour: int, row: bytes, key: bytes | None = None) -> io.BytesIO:
    """A PNG of one row, written by hand: the depths and colour keys that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    transparency = b"" if key is None else chunk(b"tRNS", key)
    body = chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + header + transparency + body)


def grey(picture: Picture) -> np.ndarray:
    assert picture.mode == "L"
    assert (picture.pixels == picture.pixels[:, :, :1]).all()
    return picture.pixels[:, :, 0]


# --- Picture


def test_size_and_channels_of_a_picture() -> None:
    picture = Picture(noise(4, 7, 3), "RGB", noise(4, 7), ("a notice",))
    assert (picture.height, picture.width, picture.channels) == (4, 7, 3)
    assert Picture(noise(4, 7, 3), "L").channels == 1


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 4, 3)), None),
        (noise(4, 4), None),
        (noise(4, 4, 4), None),
        (noise(0, 4, 3), None),
        (noise(4, 4, 3), noise(4, 5)),
        (noise(4, 4, 3), np.zeros((4, 4))),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="must be uint8"):
        Picture(pixels, "RGB", alpha)


# --- modes


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("mode", "bands"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_plain_modes_are_kept_exactly(mode: str, bands: int, size: tuple[int, int]) -> None:
    samples = noise(*size, bands)
    original = Image.fromarray(samples.squeeze(2) if bands == 1 else samples)
    for picture in (from_image(original), read_picture(saved(original))):
        assert picture.pixels.shape == (*size, 3)
        assert picture.mode == mode[:3].rstrip("A")
        assert (picture.pixels == samples[:, :, : 1 if bands < 3 else 3]).all()
        assert (picture.alpha is not None) == mode.endswith("A")
        assert picture.alpha is None or (picture.alpha == samples[:, :, -1]).all()
        assert picture.notices == ()
        assert picture.pixels.flags.writeable
        assert picture.pixels.flags.c_contiguous
        assert to_image(picture).tobytes() == original.tobytes()


def test_an_opaque_alpha_plane_is_kept() -> None:
    picture = read_picture(saved(Image.new("RGBA", (3, 2), (1, 2, 3, 255))))
    assert picture.alpha is not None
    assert (picture.alpha == 255).all()


@pytest.mark.parametrize(
    ("mode", "value", "rgb", "alpha", "notice"),
    [
        ("1", 1, (255, 255, 255), None, None),
        ("RGBX", (1, 2, 3, 0), (1, 2, 3), None, None),
        ("RGBa", (50, 25, 5, 51), (250, 125, 25), 51, None),
        ("La", (50, 51), (250, 250, 250), 51, None),
        ("HSV", (0, 255, 255), (255, 0, 0), None, "converted from HSV"),
        ("YCbCr", (100, 128, 128), (100, 100, 100), None, "converted from YCbCr"),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0), None, "converted from CMYK to RGB without a colour profile"),
        ("LAB", (255, 128, 128), (255, 255, 255), None, "converted from LAB"),
        ("I;16", 514, (2, 2, 2), None, "16-bit samples from 0 to 65535"),
        ("I;16B", 514, (2, 2, 2), None, "16-bit samples"),
        ("I", 514, (2, 2, 2), None, "32-bit samples from 0 to 65535"),
        ("I", 200, (200, 200, 200), None, "32-bit samples from 0 to 255"),
        ("F", 0.5, (128, 128, 128), None, "floating-point samples from 0 to 1"),
        ("F", 99.6, (100, 100, 100), None, "floating-point samples from 0 to 255"),
    ],
)
def test_other_modes(mode: str, value: object, rgb: tuple, alpha: int | None, notice: str | None) -> None:
    picture = from_image(Image.new(mode, (3, 2), value))
    assert picture.pixels.shape == (2, 3, 3)
    assert np.abs(picture.pixels.astype(int) - np.array(rgb)).max() <= (1 if mode == "LAB" else 0)
    assert (None if picture.alpha is None else picture.alpha.tolist()) == (alpha and [[alpha] * 3] * 2)
    assert [notice in text for text in picture.notices] == [True] * len(picture.notices)
    assert len(picture.notices) == (notice is not None)
    assert picture.mode == ("L" if mode in ("1", "La", "F") or mode.startswith("I") else "RGB")


def test_palettes_with_and_without_transparency() -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([0, 0, 0, 250, 1, 2, 3, 251, 4, 5, 6, 252])
    image.putdata([0, 1, 2, 3])
    colours = [[[0, 0, 0], [250, 1, 2], [3, 251, 4], [5, 6, 252]]]
    assert read_picture(saved(image)).pixels.tolist() == colours
    assert read_picture(saved(image)).alpha is None
    for transparency, alpha in ((2, [255, 255, 0, 255]), (bytes([0, 7, 99]), [0, 7, 99, 255])):
        picture = read_picture(saved(image, transparency=transparency))
        assert picture.pixels.tolist() == colours, "colours are kept under alpha 0"
        assert picture.alpha is not None
        assert picture.alpha.tolist() == [alpha]
    pa = image.convert("PA")
    pa.putalpha(Image.frombytes("L", (4, 1), bytes([9, 8, 7, 0])))
    picture = from_image(pa)
    assert picture.pixels.tolist() == colours
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[9, 8, 7, 0]]


@pytest.mark.parametrize(
    ("source", "pixels", "alpha"),
    [
        (png(4, 1, 0, b"\x50", b"\0\1"), [0, 255, 0, 255], [255, 0, 255, 0]),
        (png(4, 2, 0, b"\x1b", b"\0\2"), [0, 85, 170, 255], [255, 255, 0, 255]),
        (png(4, 4, 0, b"\x01\x2f", b"\0\2"), [0, 17, 34, 255], [255, 255, 0, 255]),
        (png(4, 8, 0, b"\0\1\2\3", b"\0\3"), [0, 1, 2, 3], [255, 255, 255, 0]),
        (png(3, 16, 0, b"\x7f\xff\x80\x00\x80\x01", b"\x80\x00"), [127, 128, 128], [255, 0, 255]),
        (png(2, 8, 2, b"\1\2\3\1\2\4", b"\0\1\0\2\0\4"), [[1, 2, 3], [1, 2, 4]], [255, 0]),
        (png(2, 16, 2, bytes(range(12)), b"\6\7\10\11\12\13"), [[0, 2, 4], [6, 8, 10]], [255, 0]),
        (png(2, 16, 4, bytes(range(8))), [0, 4], [2, 6]),
        (png(2, 8, 4, bytes(range(4))), [0, 2], [1, 3]),
    ],
    ids=["1 bit", "2 bits", "4 bits", "8 bits", "16 bits", "RGB", "RGB 16 bits", "LA 16 bits", "LA"],
)
def test_png_depths_and_colour_keys(source: io.BytesIO, pixels: list, alpha: list[int]) -> None:
    picture = read_picture(source)
    assert (picture.pixels.tolist() if picture.mode == "RGB" else grey(picture).tolist()) == [pixels]
    assert picture.mode == ("RGB" if isinstance(pixels[0], list) else "L")
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [alpha]


# --- more than 8 bits


@pytest.mark.parametrize("name", ["PNG", "TIFF", "memory", "big-endian TIFF"])
def test_every_16_bit_value_is_rounded_to_the_nearest(name: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = Image.fromarray(values)
    if name == "big-endian TIFF":
        image = Image.frombytes("I;16B", (256, 256), values.astype(">u2").tobytes())
    picture = from_image(image) if name == "memory" else read_picture(saved(image, name.split()[-1]))
    nearest = [(2 * v * 255 + 65535) // (2 * 65535) for v in range(65536)]
    assert grey(picture).ravel().tolist() == nearest
    assert len(picture.notices) == 1


def test_32_bit_integers_out_of_range_are_stretched() -> None:
    image = Image.fromarray(np.array([[-100, 0, 100, 155]], dtype=np.int32))
    picture = from_image(image)
    assert grey(picture).tolist() == [[0, 100, 200, 255]]
    assert "from -100 to 155" in picture.notices[0]
    assert grey(from_image(Image.new("I", (1, 1), 70000))).tolist() == [[0]]


def test_32_bit_integers_of_8_bits_from_a_file_are_8_bit_ones() -> None:
    assert grey(read_picture(saved(Image.new("I", (1, 1), 255), "TIFF"))).tolist() == [[255]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 1.5, 254.4], [0, 2, 254]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([-3e38, 0.0, 3e38], [0, 128, 255]),
        ([np.nan, np.inf, -np.inf, 0.25, 0.75], [0, 255, 0, 64, 191]),
        ([np.nan, np.inf, -np.inf], [0, 0, 0]),
    ],
)
def test_floats(values: list[float], expected: list[int]) -> None:
    picture = from_image(Image.fromarray(np.array([values], dtype=np.float32)))
    assert grey(picture).tolist() == [expected]
    assert ("NaN and infinite" in picture.notices[0]) == (not np.isfinite(values).all())


# --- orientation, frames, profiles


@pytest.mark.parametrize("name", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, name: str) -> None:
    corner = np.zeros((16, 32, 3), dtype=np.uint8)
    corner[:8, :8], corner[8:, :8] = 255, 120  # all eight orientations differ
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(Image.fromarray(corner), name, exif=exif)
    expected = np.array(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
    picture = read_picture(file)
    assert picture.pixels.shape == ((32, 16, 3) if orientation > 4 else (16, 32, 3))
    assert (picture.pixels == expected).all()
    row = -1 if orientation in (3, 4, 7, 8) else 0
    column = -1 if orientation in (2, 3, 6, 7) else 0
    assert picture.pixels[row, column].min() > 240, "the white corner"


def test_alpha_is_turned_with_the_colours() -> None:
    samples = noise(3, 5, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = read_picture(saved(Image.fromarray(samples), exif=exif))
    assert (np.dstack([picture.pixels, picture.alpha]) == np.rot90(samples, -1)).all()


@pytest.mark.parametrize("data", [b"junk", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_does_not_refuse_a_picture(data: bytes) -> None:
    samples = noise(4, 6, 3)
    picture = read_picture(saved(Image.fromarray(samples), exif=b"Exif\0\0" + data))
    assert (picture.pixels == samples).all()


def test_an_invalid_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    assert read_picture(saved(Image.new("L", (4, 2)), exif=exif)).width == 4


@pytest.mark.parametrize("name", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_of_several_frames_is_kept(name: str) -> None:
    frames = [Image.new("RGB", (4, 3), (40 * n, 9, 7)) for n in range(1, 4)]
    options = {"lossless": True} if name == "WEBP" else {}
    file = saved(frames[0], name, save_all=True, append_images=frames[1:], **options)
    picture = read_picture(file)
    assert (picture.pixels == [40, 9, 7]).all()
    assert picture.notices == ("several frames or pages: only the first one is kept",)
    with Image.open(file) as opened:
        opened.seek(1)
        assert (from_image(opened).pixels == [80, 9, 7]).all()


def test_changes_to_a_loaded_animation_are_not_thrown_away() -> None:
    frames = [Image.new("RGB", (3, 3), (50 * n, 9, 0)) for n in range(3)]
    with Image.open(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])) as opened:
        opened.load()
        opened.putpalette([200, 201, 202] * 2)
        assert (from_image(opened).pixels == [200, 201, 202]).all()


def rgb_profile(gamma: float) -> bytes:
    """A minimal ICC profile: the primaries of sRGB, and a pure power curve for each channel."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    entries = {
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249),
        b"rXYZ": b"XYZ " + bytes(4) + fixed(0.4361, 0.2225, 0.0139),
        b"gXYZ": b"XYZ " + bytes(4) + fixed(0.3851, 0.7169, 0.0971),
        b"bXYZ": b"XYZ " + bytes(4) + fixed(0.1431, 0.0606, 0.7141),
    } | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = struct.pack(">I", len(entries)), b"", 132 + 12 * len(entries)
    for tag, data in entries.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + table + body


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_colour_profile_is_converted_to_srgb(mode: str) -> None:
    image = Image.new(mode, (2, 2), {"RGB": (128, 128, 128), "RGBA": (128, 128, 128, 7), "L": 128}[mode])
    picture = read_picture(saved(image, icc_profile=rgb_profile(1.0)))
    linear = 128 / 255
    srgb = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    assert np.abs(picture.pixels - srgb).max() <= 1.5
    assert picture.mode == mode[:3]
    assert picture.alpha is None or (picture.alpha == 7).all()
    assert picture.notices == ("the colours were converted to sRGB by the picture's colour profile",)


def test_srgb_is_left_alone() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    samples = noise(8, 8, 3)
    picture = read_picture(saved(Image.fromarray(samples), icc_profile=profile))
    assert (picture.pixels == samples).all()
    assert picture.notices == ()


@pytest.mark.parametrize(
    ("mode", "profile"),
    [("RGB", b"junk"), ("RGB", rgb_profile(1.0)[:200]), ("CMYK", rgb_profile(1.0)), ("L", b"\0")],
)
def test_a_profile_that_cannot_be_used_is_ignored(mode: str, profile: bytes) -> None:
    image = Image.new(mode, (2, 2))
    picture = read_picture(saved(image, "TIFF", icc_profile=profile))
    assert (picture.pixels == np.array(image.convert("RGB"))).all()
    assert picture.notices[0] == "the colour profile cannot be used and was ignored"


# --- unreadable files


def damaged() -> dict[str, bytes]:
    image = Image.fromarray(noise(40, 40, 3))
    whole = {name: saved(image, name).getvalue() for name in ("PNG", "JPEG", "GIF", "TIFF")}
    files = {f"half a {name}": data[: len(data) // 2] for name, data in whole.items()}
    files |= {f"head of a {name}": data[:20] for name, data in whole.items()}
    flipped = bytearray(whole["PNG"])
    flipped[len(flipped) // 2] ^= 0x10
    return files | {
        "empty": b"",
        "text": b"Dear Sir or Madam\n" * 50,
        "one byte": b"\x89",
        "zeros": bytes(5000),
        "bytes": noise(5000).tobytes(),
        "flipped PNG": bytes(flipped),
        "wrong size": whole["PNG"].replace(struct.pack(">II", 40, 40), struct.pack(">II", 41, 40)),
        "EPS": image_file(Picture(noise(4, 4, 3), "RGB"), "EPS"),
        "PNG without data": png(9, 8, 0, b"").getvalue(),
    }


@pytest.mark.parametrize("what", damaged())
def test_damaged_files_are_bad_pictures(what: str, tmp_path: Path) -> None:
    path = tmp_path / "some picture.png"
    data = damaged()[what]
    path.write_bytes(data)
    for source, name in ((path, str(path)), (str(path), str(path)), (io.BytesIO(data), "standard input")):
        with pytest.raises(BadPicture) as caught:
            read_picture(source)
        message = str(caught.value)
        assert message.startswith(f"{name}: ")
        assert len(message) > len(name) + 10
        assert message.isprintable()


def test_errors_state_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadPicture, match=r"nothing\.png: No such file"):
        read_picture(tmp_path / "nothing.png")
    with pytest.raises(BadPicture, match="this is a folder"):
        read_picture(tmp_path)
    with pytest.raises(BadPicture, match="standard input: the file is empty"):
        read_picture(io.BytesIO())
    with pytest.raises(BadPicture, match="standard input: not a picture"):
        read_picture(io.BytesIO(b"hello"))
    with pytest.raises(BadPicture, match="null"):
        read_picture("a\0b.png")
    with pytest.raises(BadPicture, match="EPS is a drawing"):
        read_picture(io.BytesIO(damaged()["EPS"]))
    with pytest.raises(BadPicture, match="truncated"):
        read_picture(io.BytesIO(damaged()["half a JPEG"]))
    with pytest.raises(BadPicture, match="no pixels"):
        from_image(Image.new("RGB", (0, 3)))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadPicture, match=r"secret\.png: Permission denied"):
        read_picture(tmp_path / "secret.png")


def test_control_characters_in_names_are_escaped() -> None:
    with pytest.raises(BadPicture) as caught:
        read_picture("no\nsuch\x1b[31m\udc80 é.png")
    assert str(caught.value).startswith("no\\nsuch\\x1b[31m\\udc80 é.png: ")


@pytest.mark.parametrize("size", [(50, 30), (30, 40), (10**5, 10**5)])
def test_decompression_bombs_are_refused(size: tuple[int, int]) -> None:
    header = png(1, 8, 0, b"\0").getvalue().replace(struct.pack(">II", 1, 1), struct.pack(">II", *size))
    data = header[:29] + struct.pack(">I", zlib.crc32(header[12:29])) + header[33:]
    with pytest.raises(BadPicture, match=r"^standard input: too large .*--max-pixels"):
        read_picture(io.BytesIO(data), max_pixels=1000)
    assert read_picture(saved(Image.new("L", (40, 25))), max_pixels=1000).width == 40


def test_pillows_own_pixel_limit_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow warns above, refuses above twice this
    assert read_picture(saved(Image.new("L", (20, 10)))).width == 20
    with pytest.raises(BadPicture, match="too large"):
        read_picture(saved(Image.new("L", (20, 11))))


def test_running_out_of_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "split_image", no_memory)
    with pytest.raises(BadPicture, match="the image: not enough memory"):
        from_image(Image.new("L", (2, 2)))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "GIF", "TIFF", "BMP", "JPEG", "WEBP", "PPM", "TGA"]), st.data())
def test_flipped_and_cut_bytes_never_raise_anything_else(name: str, data: st.DataObject) -> None:
    file = bytearray(saved(Image.fromarray(noise(9, 11, 3)), name).getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(file)), st.integers(0, len(file))))
    with contextlib.suppress(BadPicture):
        read_picture(io.BytesIO(file[:cut]))


# --- streams


def test_streams_are_read_from_their_beginning_and_left_open(tmp_path: Path) -> None:
    samples = noise(5, 6, 3)
    stream = saved(Image.fromarray(samples))
    stream.seek(7)
    assert (read_picture(stream).pixels == samples).all()
    assert not stream.closed
    path = tmp_path / "a.png"
    path.write_bytes(stream.getvalue()[:40])
    with path.open("rb") as file, pytest.raises(BadPicture, match=r"a\.png: "):
        read_picture(file)


def test_pipes_are_read_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.fromarray(noise(5, 6, 3))).getvalue()
    for limit in (len(data), len(data) - 1):
        monkeypatch.setattr(module, "_MAX_STREAM", limit)
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            if limit == len(data):
                assert (read_picture(pipe).pixels == noise(5, 6, 3)).all()
            else:
                with pytest.raises(BadPicture, match="standard input: longer than"):
                    read_picture(pipe)


def test_warnings_of_pillow_are_suppressed() -> None:
    class Warner(Image.Image):
        def load(self) -> None:
            warnings.warn("something odd", UserWarning, stacklevel=1)

    image = Image.new("P", (2, 2))
    image.__class__ = Warner
    image.info["transparency"] = b"\0\1"  # Pillow also warns about this in convert
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        from_image(image)
    assert seen == []


# --- writing


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (2,), (3,), (4,)])).flatmap(
        lambda size: hnp.arrays(np.uint8, (*size[:2], *size[2]))
    )
)
def test_from_image_and_to_image_are_inverse(samples: np.ndarray) -> None:
    image = Image.fromarray(samples)
    back = to_image(from_image(image))
    assert back.mode == image.mode
    assert (np.asarray(back) == samples).all()
    again = read_picture(io.BytesIO(image_file(from_image(image), "PNG")))
    assert (np.asarray(to_image(again)) == samples).all()


def test_grey_is_the_rounded_mean_of_the_channels() -> None:
    triples = noise(50, 60, 3)
    triples[0, :4] = [[0, 0, 1], [0, 1, 1], [255, 255, 254], [255, 255, 255]]
    image = to_image(Picture(triples, "L"))
    assert image.mode == "L"
    assert (np.asarray(image) == np.floor(triples.astype(float).mean(axis=2) + 0.5)).all()
    assert to_image(Picture(triples, "L", triples[:, :, 0])).mode == "LA"


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", WRITABLE)
def test_encode_image_keeps_the_picture(name: str, mode: str) -> None:
    pixels = np.repeat(noise(17, 23, 1), 3, axis=2) if mode == "L" else noise(17, 23, 3)
    data = image_file(Picture(pixels, mode), name)
    if name in LOSSLESS:
        assert (read_picture(io.BytesIO(data)).pixels == pixels).all()
    elif name in ("JPEG", "AVIF"):
        assert np.abs(read_picture(io.BytesIO(data)).pixels.astype(int) - pixels).mean() < 4
    else:
        assert len(data) > 100


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", WRITABLE)
def test_alpha_is_kept_or_refused(name: str, mode: str) -> None:
    pixels = np.repeat(noise(17, 23, 1), 3, axis=2) if mode == "L" else noise(17, 23, 3)
    alpha = noise(17, 23, seed=1)
    alpha[:5] = 0
    picture = Picture(pixels, mode, alpha)
    if name in OPAQUE:
        with pytest.raises(UsageError, match=f"{name} cannot hold the transparency of this picture; choose"):
            image_file(picture, name)
        return
    back = read_picture(io.BytesIO(image_file(picture, name)))
    assert (back.alpha == alpha).all()
    assert name == "AVIF" or (back.pixels == pixels).all(), "colours are kept under alpha 0"


@pytest.mark.parametrize("name", ["GIF", "ICO", "XBM", "HDF5", "SPIDER", "FITS", "no such format"])
def test_unfit_formats_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} cannot hold every picture; choose PNG"):
        image_file(Picture(noise(2, 2, 3), "RGB"), name)


def test_a_failure_of_the_writer_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="cannot write the picture as WEBP: "):
        image_file(Picture(noise(1, 16384, 3), "RGB"), "WEBP")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.png", "PNG"), ("A.JPG", "JPEG"), ("x/y.z.tiff", "TIFF"), ("a.webp", "WEBP"), ("a.pgm", "PPM")],
)
def test_format_for(name: str, expected: str) -> None:
    assert format_for(Path(name)) == expected


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.vq", r"a\.vq: \.vq is not a picture format"),
        ("a.VQ", "not a picture format"),
        ("a", "a: the suffix is not a known"),
        ("a.xyz", r"a\.xyz: the suffix is not a known"),
        (".png", "not a known picture format"),
        ("a.psd", "PSD cannot hold every picture"),
        ("a.gif", "GIF cannot hold every picture; choose PNG"),
    ],
)
def test_suffixes_without_a_writable_format_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        format_for(Path(name))
