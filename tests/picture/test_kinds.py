"""What a file is, by its first bytes."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image

from vqcodec.picture.kinds import START, kind_of

Image.init()


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("PNG", "a PNG"),
        ("JPEG", "a JPEG"),
        ("TIFF", "a TIFF"),
        ("WEBP", "a WebP"),
        ("GIF", "a GIF"),
        ("BMP", "a BMP"),
        ("JPEG2000", "a JPEG 2000"),
        ("ICO", "an ICO"),
        ("DDS", "a DDS"),
        ("EPS", "an EPS"),
        ("PDF", "a PDF"),
        ("AVIF", "an AVIF"),
    ],
)
def test_what_pillow_writes_is_known(format: str, name: str) -> None:  # noqa: A002 (Pillow's own name for it)
    if format not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {format}")
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, format)
    kind = kind_of(stream.getvalue()[:START])
    assert kind is not None
    assert kind.name == name
    assert (kind.format == format) != (kind.refusal is not None)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "an AVIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a raw file of Canon (CR3)"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a film"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a film"),
        (b"\xff\x0a\x00", "a JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL"),
        (b"II*\0\x10\0\0\0CR\2\0", "a raw file of Canon (CR2)"),
        (b"RIFF\0\0\0\0AVI LIST", "a film"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "an SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a -->\n<!-- b -->\n<svg width='1'>", "an SVG"),
        (b"<!DOCTYPE html><html>", "a web page (HTML)"),
        (b"PK\3\4", "a ZIP archive, or a file made of one"),
    ],
)
def test_other_kinds_are_known(start: bytes, name: str) -> None:
    kind = kind_of(start)
    assert kind is not None
    assert kind.name == name


@pytest.mark.parametrize("start", [b"", b"BMW is a car", b"Dear Sir", bytes(100), b"<?xml version='1.0'?><a>", b"RIFF"])
def test_what_is_not_known(start: bytes) -> None:
    assert kind_of(start) is None


def test_hostile_text_takes_no_time() -> None:
    begin = time.perf_counter()
    assert kind_of((b"<!---->" * 100)[:START]) is None
    assert kind_of(b" " * START) is None
    assert time.perf_counter() - begin < 1
