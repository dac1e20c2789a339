"""Which files of a folder a run takes, and what it says about the others."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from command import Result, vqcodec_in_process
from PIL import Image, ImageFile
from stand_in import install, png

from vqcodec.errors import UsageError
from vqcodec.files import folders
from vqcodec.files.folders import not_taken, picture_suffixes, pictures_in, vq_files_in
from vqcodec.picture import plugins

NO_PICTURES = ("mpg", "mpeg", "h5", "hdf", "bufr", "grib", "eps", "ps", "wmf", "emf", "pdf", "vq")


def encoded(format: str) -> bytes:  # noqa: A002 (Pillow's own name for it)
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, format)
    return stream.getvalue()


def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "find_spec", lambda name: None)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "apng", "webp", "tif", "mpo", "gif", "bmp", "qoi", "jp2"])
def test_suffixes_of_pictures(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").touch()
    assert [path.suffix for path in pictures_in(tmp_path)] == [f".{suffix}"]


@pytest.mark.parametrize("suffix", NO_PICTURES)
def test_what_pillow_registers_but_does_not_decode(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(encoded("JPEG"))
    png(tmp_path / "b.png")
    others: Counter[str] = Counter()
    assert [path.name for path in pictures_in(tmp_path, others=others)] == ["b.png"]
    assert others == ({} if suffix == "vq" else {f".{suffix}": 1})


def test_no_format_without_a_decoder_is_a_picture() -> None:
    Image.init()
    for name, (opener, _) in Image.OPEN.items():
        if isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile):
            assert name in folders._NO_PICTURES


@pytest.mark.parametrize("suffix", [".heic", ".heif", ".hif", ".jxl"])
def test_formats_of_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    png(tmp_path / f"a{suffix}")
    monkeypatch.setattr(plugins, "find_spec", lambda name: object())
    assert len(pictures_in(tmp_path)) == 1
    without_plugins(monkeypatch)
    with pytest.raises(UsageError, match=f"not taken: 1 {suffix} .pip install 'vqcodec.formats.'.") as caught:
        pictures_in(tmp_path)
    assert "there are no pictures that can be read" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "taken"),
    [
        ("a.jpg_large", encoded("JPEG"), True),
        ("a.jpeg!d", encoded("PNG"), True),
        ("a", encoded("GIF"), True),
        ("a.image", encoded("WEBP"), True),
        ("a.jpg_large", b"<html>", False),
        ("a.jpg~", encoded("JPEG"), False),
        ("a.dng", encoded("TIFF"), False),
        ("a.nef", b"MM\0*" + bytes(60), False),
        ("a.xyz", b"", False),
        ("a.mp4", b"\0\0\0\x18ftypisom" + bytes(60), False),
        (".a.jpg_large", encoded("JPEG"), False),
    ],
)
def test_other_suffixes_are_recognised_by_their_first_bytes(
    tmp_path: Path, name: str, data: bytes, taken: bool
) -> None:
    png(tmp_path / "z.png")
    (tmp_path / name).write_bytes(data)
    others: Counter[str] = Counter()
    assert (tmp_path / name in pictures_in(tmp_path, others=others)) == taken
    assert others.total() == (not taken and not name.startswith("."))


def test_the_files_that_are_not_taken() -> None:
    assert not_taken(Counter()) == ""
    assert not_taken(Counter({".heic": 12, ".dng": 3, "": 4})) == (
        "not taken: 12 .heic (pip install 'vqcodec[formats]'), 4 without a suffix, 3 .dng"
    )
    many = Counter({f".{n}": 1 for n in range(11)})
    assert not_taken(many).endswith("1 .7, 3 of other kinds") or not_taken(many).endswith(", 3 of other kinds")


def test_vq_files(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a.vq", "b.VQ", "c.png", "below/d.vq"):
        (tmp_path / name).touch()
    assert [path.name for path in vq_files_in(tmp_path)] == ["a.vq", "b.VQ"]
    assert [path.name for path in vq_files_in(tmp_path, recursive=True)] == ["a.vq", "b.VQ", "d.vq"]


def test_an_unreadable_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        pictures_in(tmp_path / "missing")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    install(monkeypatch, tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *args: vqcodec_in_process(monkeypatch, *args)


def test_a_run_says_what_it_did_not_take(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    without_plugins(monkeypatch)
    Path("in/deep").mkdir(parents=True)
    png("in/a.png"), png("in/deep/b.png")
    for name in ("x.heic", "deep/y.heic", "clip.mpg", "z.dng", ".hidden.dng", "old.vq"):
        (Path("in") / name).touch()
    shutil.copy(png("in/c.mpo"), "in/d.jpg_large")
    result = run("compress", "in", "-o", "out", "-r")
    assert result.code == 0
    assert sorted(path.name for path in Path("out").rglob("*.vq")) == ["a.vq", "b.vq", "c.vq", "d.vq"]
    line, last = result.err.splitlines()
    assert line == "vqcodec: not taken: 2 .heic (pip install 'vqcodec[formats]'), 1 .dng, 1 .mpg"
    assert last.startswith("vqcodec: 4 done, ")
    assert "not taken" not in run("decompress", "out", "-o", "back", "-r").err


@pytest.mark.skipif(find_spec("pillow_heif") is None, reason="needs pillow-heif")
def test_a_folder_of_only_heic(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    import pillow_heif

    Path("in").mkdir()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save("in/a.heic")
    assert ".heic" in picture_suffixes()
    assert run("compress", "in", "-o", "out").code == 0
    with monkeypatch.context() as patch:
        without_plugins(patch)
        result = run("compress", "in", "-o", "none")
    assert result.code == 2
    assert "not taken: 1 .heic (pip install 'vqcodec[formats]')" in result.err
