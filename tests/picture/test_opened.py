"""Opening files of all kinds: optional plugins, PNG chunks that Pillow refuses, and what is refused by name."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from vqcodec.errors import BadPicture
from vqcodec.picture import jxl
from vqcodec.picture.metadata import Keep
from vqcodec.picture.plugins import PLUGINS, suffixes
from vqcodec.picture.read import read_picture

KEEP = Keep(metadata=True)
Image.init()


def corner(mode: str = "RGB") -> Image.Image:
    """A dark picture, wider than high, with a white corner."""
    image = Image.new(mode, (64, 32))
    image.paste((255,) * len(mode), (0, 0, 16, 16))
    return image


def saved(image: Image.Image, name: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def read(data: bytes, *arguments: object) -> object:
    return read_picture(io.BytesIO(data), *arguments)


def message(data: bytes) -> str:
    with pytest.raises(BadPicture) as caught:
        read(data)
    return str(caught.value).removeprefix("standard input: ")


def with_plugin(name: str) -> Callable[..., bytes]:
    """Register a plugin as the package does; skips the test where it is not installed."""
    pytest.importorskip(PLUGINS[name].module)
    PLUGINS[name].register()
    return saved


# --- plugins


@pytest.mark.parametrize(
    ("plugin", "start", "kind"),
    [("heif", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC"), ("jxl", b"\xff\x0a\x00\x00", "a JPEG XL")],
)
def test_without_its_plugin_a_file_names_the_extra(
    plugin: str, start: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PLUGINS[plugin].module, None)
    assert not suffixes() & set(PLUGINS[plugin].suffixes)
    expected = f"{kind}, which needs {PLUGINS[plugin].package}; run: pip install 'vqcodec[formats]'"
    assert message(start) == expected


@pytest.mark.parametrize(("plugin", "name"), [("heif", "HEIF"), ("jxl", "JXL")])
def test_heic_and_jpeg_xl_are_read(plugin: str, name: str) -> None:
    data = with_plugin(plugin)(corner(), name, quality=95)
    picture = read(data)
    assert (picture.width, picture.height, picture.notices) == (64, 32, ())
    assert picture.pixels[:12, :12].min() > 230
    assert picture.pixels[20:, 20:].max() < 25
    assert message(data[: len(data) // 2]).startswith("a damaged " + {"HEIF": "HEIC", "JXL": "JPEG XL"}[name])


@pytest.mark.parametrize(("plugin", "name"), [("heif", "HEIF"), ("jxl", "JXL")])
def test_the_size_of_heic_and_jpeg_xl_is_limited(plugin: str, name: str) -> None:
    data = with_plugin(plugin)(corner(), name)
    assert read(data, Keep(), 64 * 32).width == 64
    with pytest.raises(BadPicture, match=r"too large .*--max-pixels"):
        read(data, Keep(), 64 * 32 - 1)


def test_a_jpeg_xl_that_is_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    with_plugin("jxl")

    def refuse(*_: object) -> None:
        raise AssertionError("it was opened")

    monkeypatch.setitem(Image.OPEN, "JXL", (refuse, Image.OPEN["JXL"][1]))
    bits = 0 | 3 << 1 | (2**30 - 1) << 3 | 0 << 33 | 3 << 36 | (2**30 - 1) << 38  # not small; 2**30 x 2**30
    with pytest.raises(BadPicture, match="1073741824x1073741824"):
        read(b"\xff\x0a" + bits.to_bytes(14, "little"))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (256, 256), (520, 3), (4, 600), (160, 90), (400, 300), (9000, 1)])
@pytest.mark.parametrize("container", [False, True])
def test_the_size_in_the_header_of_a_jpeg_xl(size: tuple[int, int], container: bool) -> None:
    data = with_plugin("jxl")(Image.new("L", size), "JXL", use_container=container, effort=1)
    assert jxl.size_of(io.BytesIO(data)) == size


def test_orientation_of_heic_and_jpeg_xl() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    heic = read(with_plugin("heif")(corner(), "HEIF", exif=exif.tobytes(), quality=95))
    assert (heic.width, heic.height) == (32, 64)
    assert heic.pixels[4:12, -12:-4].min() > 230, "the white corner"
    codestream = read(with_plugin("jxl")(corner(), "JXL", exif=exif.tobytes()))
    assert (codestream.width, codestream.height) == (64, 32), "the orientation of the EXIF data does not count"


def test_a_jpeg_in_a_jpeg_xl_keeps_its_orientation(tmp_path: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = f"{tmp_path}/a.jpg"
    corner().save(path, exif=exif)
    with Image.open(path) as image:
        data = with_plugin("jxl")(image, "JXL", lossless_jpeg=True)
    picture = read(data)
    assert (picture.width, picture.height) == (32, 64)
    start = data.index(b"jbrd") - 4
    without = data[:start] + data[start + int.from_bytes(data[start : start + 4], "big") :]
    assert (read(without).width, read(without).height) == (32, 64), "libjxl has turned it already"


def test_metadata_of_heic_and_jpeg_xl_is_kept() -> None:
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a/></x:xmpmeta>'
    exif = Image.Exif()
    exif[0x010F] = "maker"
    for plugin, name in (("heif", "HEIF"), ("jxl", "JXL")):
        picture = read(with_plugin(plugin)(corner(), name, exif=exif.tobytes(), xmp=packet), KEEP)
        assert b"maker" in picture.metadata.exif, name
        assert b"<a></a>" in picture.metadata.xmp, name


# --- PNG chunks


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, behind: bytes = b"") -> bytes:
    """A PNG of 64 x 32 pixels with these chunks before its samples, and some behind."""
    plain = saved(corner(), "PNG")
    end = plain.index(b"IEND") - 4
    return plain[:33] + b"".join(chunks) + plain[33:end] + behind + plain[end:]


MB = 1 << 20
BIG = zlib.compress(b"x" * (MB + 1))
PACKET = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a/></x:xmpmeta>'
TEXTS = {
    "zTXt": chunk(b"zTXt", b"workflow\0\0" + BIG),
    "iTXt": chunk(b"iTXt", b"workflow\0\1\0en\0\0" + BIG),
    "damaged zTXt": chunk(b"zTXt", b"workflow\0\1" + BIG),
    "wrong checksum": chunk(b"zTXt", b"workflow\0\0" + BIG)[:-1] + b"?",
    "many": chunk(b"tEXt", b"workflow\0" + b"x" * MB) * 70,
}


@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("before", [True, False])
def test_texts_that_are_thrown_away_refuse_no_png(what: str, before: bool) -> None:
    data = png(TEXTS[what]) if before else png(behind=TEXTS[what])
    for keep in (Keep(), KEEP):
        picture = read(data, keep)
        assert (picture.pixels == np.asarray(corner())).all()
        assert picture.notices == ()


def test_xmp_and_exif_beside_such_texts_are_kept() -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    packed = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(PACKET))
    picture = read(png(TEXTS["zTXt"], packed, chunk(b"eXIf", exif.tobytes()[6:])), KEEP)
    assert b"<a></a>" in picture.metadata.xmp
    assert b"maker" in picture.metadata.exif


def test_xmp_that_is_too_long_once_inflated_is_dropped_with_a_notice() -> None:
    data = png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BIG))
    assert read(data).notices == ()
    picture = read(data, KEEP)
    assert picture.metadata.xmp == b""
    assert picture.notices == ("a part of the XMP or EXIF was dropped: it is too long or damaged",)


def long_profile(size: int) -> bytes:
    """The sRGB profile with a green curve of pure 1.0, padded to `size` bytes."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for index in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * index
        if profile[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            place = int.from_bytes(profile[entry + 4 : entry + 8], "big")
            profile[place : place + 14] = b"curv" + bytes(4) + struct.pack(">IH", 1, 256)
            profile[entry + 8 : entry + 12] = struct.pack(">I", 14)
    profile += bytes(size - len(profile))
    profile[:4] = struct.pack(">I", size)
    return bytes(profile)


@pytest.mark.parametrize("keep", [Keep(), KEEP])
def test_a_long_colour_profile_is_applied(keep: Keep) -> None:
    grey = Image.new("RGB", (64, 32), (128, 128, 128))
    expected = read(saved(grey, "PNG", icc_profile=long_profile(10_000)))
    plain = saved(grey, "PNG")
    data = plain[:33] + chunk(b"iCCP", b"a\0\0" + zlib.compress(long_profile(2 * MB))) + plain[33:]
    picture = read(data, keep)
    assert picture.pixels[0, 0].tolist() == [188, 188, 188]
    assert (picture.pixels == expected.pixels).all()
    assert picture.notices[0] == expected.notices[0]


@pytest.mark.parametrize("data", [b"a\0\0" + zlib.compress(bytes(17 * MB)), b"a\0\0junk", b"a\0\1" + BIG, b"a"])
def test_a_colour_profile_that_cannot_be_used_is_noticed(data: bytes) -> None:
    picture = read(png(chunk(b"iCCP", data)))
    assert (picture.pixels == np.asarray(corner())).all()
    assert picture.notices == ("the colour profile cannot be used and was ignored",)


def test_bombs_in_chunks_take_little_memory() -> None:
    inflater = zlib.compressobj(9)
    bomb = b"".join(inflater.compress(bytes(MB)) for _ in range(500)) + inflater.flush()  # half a gigabyte
    xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)
    data = png(chunk(b"zTXt", b"a\0\0" + bomb), xmp, xmp, chunk(b"iCCP", b"a\0\0" + bomb))
    tracemalloc.start()
    picture = read(data, KEEP)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picture.width == 64
    assert peak < 64 * MB


# --- damaged and refused files


@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "JPEG2000"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_damaged_file_of_a_known_kind_is_called_damaged(name: str, part: float) -> None:
    if name not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {name}")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), name)
    words = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}.get(name, name)
    assert message(data[: int(len(data) * part)]).startswith(f"a damaged {words}")


def test_a_damaged_header_of_a_png_is_named() -> None:
    data = bytearray(png())
    data[20] ^= 1
    assert message(bytes(data)) == "a damaged PNG: broken PNG file (bad header checksum in IHDR)"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(99), "a film: films are not read"),
        (b"\0\0\1\xba" + bytes(99), "a film: films are not read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG: please convert it to PNG first"),
        (b"%PDF-1.7\n", "a PDF: please convert it to PNG first"),
        (b"FUJIFILMCCD-RAW 0201", "a raw file of Fujifilm (RAF): it holds the raw samples of a sensor"),
        (b"\x76\x2f\x31\x01" + bytes(50), "an OpenEXR: Pillow does not read this format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file: it is not a picture"),
    ],
)
def test_other_kinds_are_refused_by_name(data: bytes, expected: str) -> None:
    assert message(data).startswith(expected)
