"""The Pillow plugin: lazy decoding, metadata, the error types of Pillow, threads, registration."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

import vqcodec
from vqcodec.api.pillow_plugin import VqImageFile
from vqcodec.errors import LimitExceeded, UnknownModel, UsageError, VqError
from vqcodec.format import container
from vqcodec.model.store import Model
from vqcodec.picture.read import from_image, read_picture
from vqcodec.picture.write import image_file


@pytest.fixture(autouse=True)
def package(patch_model: Model, bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The patch model is the default model, and the current folder is empty."""
    bundle(photo=patch_model)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def picture(mode: str = "RGB", size: tuple[int, int] = (60, 40), seed: int = 0) -> Image.Image:
    return Image.fromarray(synthetic(size[1], size[0], seed)).convert(mode)


def same(a: Image.Image, b: Image.Image) -> bool:
    return (a.mode, a.size) == (b.mode, b.size) and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_no_loss(mode: str) -> None:
    image = picture(mode)
    image.save("a.vq", lossless=True)
    with Image.open("a.vq") as opened:
        assert same(opened, image)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_save_and_open(mode: str) -> None:
    image = picture(mode)
    image.save("a.vq", quality=1)
    assert Path("a.vq").read_bytes() == vqcodec.encode(image, quality=1)
    with Image.open("a.vq") as opened:
        assert isinstance(opened, VqImageFile)
        assert (opened.format, opened.mode, opened.size) == ("VQ", mode, (60, 40))
        assert same(opened, vqcodec.decode(Path("a.vq").read_bytes()))
        opened.putpixel((0, 0), 0 if mode == "L" else (1,) * len(mode))  # it can be modified like any image


def test_every_option_reaches_the_encoder(conv_model: Model) -> None:
    image = picture()
    image.info["icc_profile"] = b"no profile"
    image.getexif()[ExifTags.Base.Make] = "Camera"
    for options in (
        {"quality": 1},
        {"effort": 0},
        {"effort": 3},
        {"target_ssimulacra2": -300},
        {"model": conv_model.path},
        {"keep_metadata": True},
        {"keep_metadata": True, "keep_location": True},
    ):
        stream = io.BytesIO()
        image.save(stream, "vq", optimize=True, **options)  # Pillow ignores options that are not known
        assert stream.getvalue() == vqcodec.encode(image, **options)
    assert vqcodec.encode(image, effort=0) != vqcodec.encode(image, effort=3)


class Counting(io.BytesIO):
    """A stream that counts the bytes read."""

    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


def test_opening_reads_the_header_and_loading_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = {"model_digest": b"nobody's", "width": 8000, "height": 8000, "mode": "RGB", "quality": 0}
    units = tuple(bytes(20_000) for _ in range(4))
    data = container.pack(container.VqFile(**frame, unit=500, rows=2, cols=2, units=units))
    stream = Counting(data)
    opened = Image.open(stream)
    assert opened.size == (8000, 8000)
    assert stream.bytes_read < 5000 < len(data)
    with pytest.raises(OSError, match="model") as caught:
        opened.load()
    assert isinstance(caught.value.__cause__, UnknownModel)

    data = vqcodec.encode(picture())
    calls = []
    monkeypatch.setattr(vqcodec.api.functions, "decode", lambda data: calls.append(1) or vqcodec.decode(data))
    opened = Image.open(io.BytesIO(data))
    assert calls == []
    opened.load(), opened.load(), opened.getpixel((1, 1))
    assert calls == [1]


def test_a_header_longer_than_the_first_read() -> None:
    frame = {"model_digest": b"nobody's", "width": 8000, "height": 80, "mode": "L", "quality": 0}
    data = container.pack(container.VqFile(**frame, unit=1, rows=1, cols=8000, units=(b"",) * 8000))
    assert container.read_header(data).header_bytes > 8000
    assert Image.open(io.BytesIO(data)).mode == "L"
    with pytest.raises(OSError, match="damaged"):
        Image.open(io.BytesIO(data[:7000] + b"\1" + data[7001:]))


def test_metadata_is_available_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageCms

    image = picture("RGBA")
    exif = image.getexif()
    exif[ExifTags.Base.Make] = "Camera"
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.info["icc_profile"] = profile
    image.save("all.vq", keep_metadata=True, keep_location=True)
    image.save("safe.vq", keep_metadata=True)
    image.save("none.vq")
    for name, found in [("all", (True, True)), ("safe", (True, False)), ("none", (False, False))]:
        reference = vqcodec.decode(Path(f"{name}.vq").read_bytes()).info
        with Image.open(f"{name}.vq") as opened:
            monkeypatch.setattr(opened, "load", None)
            assert opened.info == reference
            exif = opened.getexif()
            assert (exif.get(ExifTags.Base.Make) == "Camera", bool(exif.get_ifd(ExifTags.IFD.GPSInfo))) == found
            assert opened.info.get("icc_profile") == (profile if name != "none" else None)


def test_other_data_is_left_to_other_plugins() -> None:
    png = io.BytesIO()
    picture().save(png, "PNG")
    with pytest.raises(SyntaxError, match="PNG"):
        VqImageFile(png)
    Path("a.vq").write_bytes(png.getvalue())
    with Image.open("a.vq") as image:
        assert image.format == "PNG"
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"\x89VQ\rnot at all"))


DAMAGE = {
    "cut off in the header": lambda data: data[:20],
    "cut off in a unit": lambda data: data[:-1],
    "header": lambda data: data[:13] + b"\x40" + data[14:],
    "newer": lambda data: data[:4] + b"\7" + data[5:],
    "metadata": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "unit": lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
    "longer": lambda data: data + b"\0",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_an_oserror(kind: str) -> None:
    image = picture()
    image.getexif()[ExifTags.Base.Make] = "Camera"
    sound = vqcodec.encode(image, keep_metadata=True)
    Path("a.vq").write_bytes(DAMAGE[kind](sound))
    for use in (lambda opened: opened.load(), lambda opened: opened.verify()):
        with pytest.raises(OSError, match=r"damaged|truncated|newer") as caught, Image.open("a.vq") as opened:
            use(opened)
        assert isinstance(caught.value.__cause__, VqError)
    with Image.open(io.BytesIO(sound)) as opened:
        assert opened.verify() is None


def test_a_file_that_is_cut_off_is_refused_when_it_is_opened() -> None:
    data = vqcodec.encode(picture())
    for length in (16, len(data) // 2, len(data) - 1):
        with pytest.raises(OSError, match=f"truncated.*{length}"):
            Image.open(io.BytesIO(data[:length]))


def test_the_limits_of_pillow_and_of_vqcodec_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    data = vqcodec.encode(picture())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 40 // 3)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    frame = {"model_digest": b"nobody's", "width": 2**14, "height": 2**14, "mode": "L", "quality": 0}
    bomb = container.pack(container.VqFile(**frame, unit=2**14, rows=1, cols=1, units=(b"",)))
    with pytest.raises(OSError, match="over the limit") as caught:
        Image.open(io.BytesIO(bomb))
    assert isinstance(caught.value.__cause__, LimitExceeded)


@pytest.mark.parametrize(
    ("options", "kind", "cause"),
    [
        ({"quality": 99}, ValueError, UsageError),
        ({"quality": 2.5}, ValueError, UsageError),
        ({"effort": 7}, ValueError, UsageError),
        ({"target_ssimulacra2": 101}, ValueError, UsageError),
        ({"keep_location": True}, ValueError, UsageError),
        ({"model": "nobody"}, OSError, UnknownModel),
    ],
)
def test_saving_that_fails_leaves_no_file(options: dict[str, object], kind: type, cause: type) -> None:
    with pytest.raises(kind) as caught:
        picture().save("a.vq", **options)
    assert isinstance(caught.value.__cause__, cause)
    assert os.listdir() == []


def test_streams_copies_and_other_formats() -> None:
    data = vqcodec.encode(picture())
    reference = vqcodec.decode(data)

    class Pipe(io.RawIOBase):
        read = io.BytesIO(data).read

    assert same(Image.open(Pipe()), reference)
    assert same(Image.open(io.BytesIO(data)).copy(), reference)
    assert same(pickle.loads(pickle.dumps(Image.open(io.BytesIO(data)))), reference)
    parser = ImageFile.Parser()
    for start in range(0, len(data), 50):
        parser.feed(data[start : start + 50])
    assert same(parser.close(), reference)
    Path("a.vq").write_bytes(data)
    with Image.open("a.vq") as opened:
        opened.save("a.png")
        opened.save("a.vq", quality=1)  # over the file that it came from
    assert same(Image.open("a.png"), reference)
    assert vqcodec.info(Path("a.vq").read_bytes()).quality == 1
    opened = Image.open("a.vq")
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.load()
    opened = Image.open("a.vq")
    opened.verify()
    with pytest.raises(ValueError, match="closed"):  # as after the `verify` of other formats
        opened.load()


def test_the_command_line_does_not_read_vq_files_as_pictures() -> None:
    picture().save("a.vq")
    with pytest.raises(vqcodec.BadPicture, match="decompress it first"):
        read_picture("a.vq")
    with pytest.raises(UsageError, match="VQ cannot hold"):
        image_file(from_image(picture()), "VQ")


def test_threads_share_models_and_keep_the_warning_filters() -> None:
    images = [picture(seed=seed, mode=mode) for seed in range(6) for mode in ("RGB", "LA")]
    expected = [vqcodec.encode(image) for image in images]
    decoded = [vqcodec.decode(data) for data in expected]
    vqcodec.api.functions.forget()
    filters = list(warnings.filters)

    def round_trip(image: Image.Image) -> tuple[bytes, Image.Image]:
        stream = io.BytesIO()
        image.save(stream, "VQ")
        opened = Image.open(stream)
        opened.load()
        return stream.getvalue(), opened

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(round_trip, images))
    assert [data for data, _ in results] == expected
    assert all(same(opened, reference) for (_, opened), reference in zip(results, decoded, strict=True))
    assert list(warnings.filters) == filters
    assert np.array(results[0][1]).shape == (40, 60, 3)


ORDERS = {
    "Pillow first": "from PIL import Image; import vqcodec",
    "Pillow later": "import vqcodec; assert 'PIL' not in sys.modules; from PIL import Image",
    "twice": "import vqcodec, importlib; importlib.reload(vqcodec); from PIL import Image",
    "the plugin itself": "import vqcodec.api.pillow_plugin; from PIL import Image",
    "loaded again": "import vqcodec, importlib; from PIL import Image; importlib.reload(Image)",
    "with its source": "import vqcodec, inspect; from PIL import Image; assert 'def open' in inspect.getsource(Image)",
    "without Pillow": "sys.modules['PIL'] = None; import vqcodec; del sys.modules['PIL']; from PIL import Image",
}


@pytest.mark.parametrize("order", ORDERS)
def test_importing_vqcodec_registers_the_format_and_loads_nothing_else(order: str) -> None:
    code = (
        f"import sys; {ORDERS[order]}; assert type(Image.__loader__).__module__ == '_frozen_importlib_external'\n"
        "print(Image.registered_extensions()['.vq'], sorted({'torch', 'numpy', 'constriction'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(vqcodec.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (result.stdout, result.stderr) == ("VQ []\n", "")
