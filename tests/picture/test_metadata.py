"""Metadata: kept only on request, without the location unless requested, and safe for hostile input."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Result, vqcodec_in_process
from conftest import synthetic
from containers import TINY, build
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

import vqcodec
from vqcodec.codec.codec import Codec
from vqcodec.codec.partial import Region, decompress_region, salvage
from vqcodec.errors import BadPicture, DamagedFile, UsageError, VqError
from vqcodec.format import container
from vqcodec.format.container import VqFile, pack, read_header, unpack
from vqcodec.model.store import Model
from vqcodec.picture import exif, xmp
from vqcodec.picture.metadata import LIMIT, Keep, Metadata, cleaned, save
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import from_image, read_picture
from vqcodec.picture.write import fitted, image_file, to_image

Image.init()
HOLDERS = [name for name in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF") if name in Image.SAVE]
Fields = dict[int, Any]  # tag -> (type, values) or the fields of a directory


def tiff(fields: Fields, order: str = "<", thumbnail: bytes = b"") -> bytes:
    """EXIF data in the simplest layout: every directory is followed by its values."""

    def directory(fields: Fields, at: int, following: bytes = b"") -> bytes:
        table, body, start = struct.pack(order + "H", len(fields)), b"", at + 6 + 12 * len(fields)
        for tag, entry in fields.items():
            kind, values = (4, b"") if isinstance(entry, dict) else entry
            size = {3: 2, 4: 4, 5: 8, 10: 8}.get(kind, 1)
            place = struct.pack(order + "I", start + len(body))
            if isinstance(entry, dict):
                body, count = body + directory(entry, start + len(body)), 1
            else:
                place = place if len(values) > 4 else values.ljust(4, b"\0")
                body, count = body + (values if len(values) > 4 else b""), len(values) // size
            table += struct.pack(order + "HHI", tag, kind, count) + place
        return table + struct.pack(order + "I", start + len(body) if following else 0) + body + following

    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8) + directory(fields, 8, thumbnail)


LATITUDE = {order: struct.pack(order + "6I", 48, 1, 51, 1, 2961, 100) for order in "<>"}
MAKE = "Caméra de l'été\0".encode()  # not ASCII, which Pillow would lose
MAKE_READ = MAKE[:-1].decode("latin-1")  # as Pillow reads it
PLACE = "48,51.49345N"


def photo_exif(order: str = "<", orientation: int = 6) -> bytes:
    """EXIF as a phone writes it."""
    number = {2: order + "H", 4: order + "I"}
    inner = {
        0x829A: (5, struct.pack(order + "2I", 1, 125)),
        0x9204: (10, struct.pack(order + "2i", -1, 3)),
        0x927C: (7, b"Maker\0" + LATITUDE[order]),
        0x9214: (3, struct.pack(order + "4H", 1, 2, 3, 4)),
        0xA002: (3, struct.pack(number[2], 48)),
        0xA003: (4, struct.pack(number[4], 40)),
        0xA005: {0x0001: (2, b"R98\0")},
    }
    fields = {
        0x0213: (3, struct.pack(number[2], 1)),  # of the old samples
        0x010F: (2, MAKE),
        0x0112: (3, struct.pack(number[2], orientation)),
        0x8769: inner,
        0x8825: {0x0001: (2, b"N\0"), 0x0002: (5, LATITUDE[order])},
        0x87AF: (3, LATITUDE[order]),  # GeoTIFF
    }
    return tiff(fields, order, b"thumbnail" + LATITUDE[order])


def packet(attributes: str = "", elements: str = "") -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
        ' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
        ' xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:dji="http://www.dji.com/drone-dji/1.0/" xmlns:v="http://ns.adobe.com/exif/1.0/" '
        f'dc:format="A &amp; B" {attributes}><dc:title><rdf:Alt><rdf:li xml:lang="x-default">A "T&#xEF;tle" &lt;'
        f"</rdf:li></rdf:Alt></dc:title>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>"
        f'{" " * 2000}<?xpacket end="w"?>'
    ).encode()


def profile(space: bytes = b"RGB ", gamma: float = 1.0) -> bytes:
    """A minimal ICC profile: the wide primaries of Display P3, and a pure power curve for each channel."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    entries = {b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249)}
    if space == b"GRAY":
        entries[b"kTRC"] = curve
    else:
        entries |= {
            b"rXYZ": b"XYZ " + bytes(4) + fixed(0.5151, 0.2412, -0.0011),
            b"gXYZ": b"XYZ " + bytes(4) + fixed(0.2920, 0.6922, 0.0419),
            b"bXYZ": b"XYZ " + bytes(4) + fixed(0.1571, 0.0666, 0.7841),
        } | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = struct.pack(">I", len(entries)), b"", 132 + 12 * len(entries)
    for tag, data in entries.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + table + body


XMP = packet(f'exif:GPSLatitude="{PLACE}" tiff:Orientation="6"', "<photoshop:City>Aix</photoshop:City>")
FULL = Metadata(photo_exif(), XMP, profile(gamma=1.8))
SOUND = cleaned(FULL, 40, 48, location=True)[0]


def saved(name: str, metadata: Metadata = FULL, samples: Any = None) -> bytes:
    """A picture of 48 x 40 pixels with metadata that was not cleaned, as a file of a format."""
    image = Image.fromarray(synthetic(40, 48) if samples is None else samples)
    if name not in ("AVIF", "TIFF"):
        return save(image, metadata, name, {})
    entries, buffer = Image.Exif(), io.BytesIO()  # `save` would clean it for these
    entries.load(metadata.exif)
    entries[0x010F] = MAKE[:-1]
    if name == "TIFF":
        entries[700] = metadata.xmp
    image.save(buffer, name, exif=entries, xmp=metadata.xmp, icc_profile=metadata.icc)
    return buffer.getvalue()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Any, patch_model: Model) -> Callable[..., Result]:
    """The command line, with a tiny model for `photo`, in an empty folder."""
    bundle(photo=patch_model)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *args: vqcodec_in_process(monkeypatch, *args)


Run = Callable[..., Result]


def contains_location(data: bytes) -> bool:
    """Whether the coordinates or the name of the town occur anywhere in a .vq file, compressed or not."""
    header = read_header(data)
    parts = [data, *dataclasses.astuple(container.read_metadata(data, header))]
    return any(secret in part for part in parts for secret in (*LATITUDE.values(), PLACE.encode(), b"Aix"))


# --- through the command line


@pytest.mark.parametrize("name", HOLDERS)
def test_the_options_select_what_is_kept(run: Run, name: str) -> None:
    Path("a.pic").write_bytes(saved(name))
    assert contains_location(pack(dataclasses.replace(TINY, metadata=FULL))), "the check must detect a location"
    results = {}
    for option in ("", "--keep-metadata", "--keep-metadata --keep-location"):
        result = run("compress", "a.pic", "-o", "a.vq", "-f", *option.split())
        assert result.code == 0, result.err
        results[option] = Path("a.vq").read_bytes(), result.err
    data, err = results[""]
    assert read_header(data).chunk_types == ()
    assert "converted to sRGB" in err
    assert "note: a.pic: EXIF and XMP were left out; --keep-metadata keeps them" in err

    data, err = results["--keep-metadata"]
    assert not contains_location(data)
    assert "note: a.pic: the location was removed; --keep-location keeps it" in err
    assert "proprietary entries" in err
    assert "sRGB" not in err
    metadata = unpack(data).metadata
    with Image.open(io.BytesIO(saved("PNG", metadata))) as image:
        entries = image.getexif()
    make = MAKE_READ if name != "AVIF" else MAKE_READ.encode("ascii", "replace").decode()  # lost when that was made
    assert {0x010F: make, 0x0112: 1}.items() <= dict(entries).items()
    assert set(entries) == {0x010F, 0x0112, 0x8769}
    assert entries.get_ifd(0x8769)[0xA002] == 40, "the picture was turned"
    assert entries.get_ifd(0x8769)[0xA003] == 48
    assert b"T\xc3\xaftle" in metadata.xmp
    assert metadata.icc == FULL.icc

    data, err = results["--keep-metadata --keep-location"]
    assert "the location was removed" not in err
    metadata = unpack(data).metadata
    assert any(latitude in metadata.exif for latitude in LATITUDE.values())
    assert PLACE.encode() in metadata.xmp
    assert b"Aix" in metadata.xmp
    assert b"Maker\0" not in metadata.exif


@pytest.mark.parametrize("name", HOLDERS)
def test_decompress_restores_the_metadata(run: Run, name: str) -> None:
    Path("a.png").write_bytes(saved("PNG"))
    assert run("compress", "a.png", "--keep-metadata", "--keep-location").code == 0
    assert run("decompress", "a.vq", "-o", f"b.{name.lower()}").err == ""
    again = read_picture(f"b.{name.lower()}", Keep(True, True))
    assert again.notices == ()
    assert again.metadata.xmp == SOUND.xmp
    assert again.metadata.icc == SOUND.icc
    with Image.open(f"b.{name.lower()}") as image:
        entries = image.getexif()
        inner, place = entries.get_ifd(0x8769), entries.get_ifd(0x8825)
    assert (entries[0x010F], entries.get(0x0112, 1)) == (MAKE_READ, 1)
    assert (float(inner[0x829A]), inner[0xA002], inner[0xA003]) == (1 / 125, 40, 48)
    assert float(inner[0x9204]) == pytest.approx(-1 / 3)
    assert [float(value) for value in place[2]] == [48, 51, 29.61]


def test_a_format_without_metadata_gives_notices_and_srgb(run: Run) -> None:
    Path("a.png").write_bytes(saved("PNG"))
    run("compress", "a.png", "--keep-metadata")
    result = run("decompress", "a.vq", "-o", "b.bmp")
    assert result.code == 0
    assert [line.split(": ", 3)[3] for line in result.err.splitlines()] == [
        "the EXIF was left out: BMP cannot hold it",
        "the XMP was left out: BMP cannot hold it",
        "the colour profile was left out (BMP cannot hold it): the colours were converted to sRGB by the picture's "
        "colour profile",
    ]
    run("decompress", "a.vq", "-o", "c.png")
    wide = read_picture("c.png", Keep(True)).pixels.astype(int)
    srgb = read_picture("c.png").pixels.astype(int)
    bmp = read_picture("b.bmp").pixels.astype(int)
    assert np.abs(bmp - srgb).max() <= 1
    assert np.abs(bmp - wide).max() > 10


def test_xmp_too_long_for_a_jpeg_gives_a_notice(run: Run) -> None:
    text = np.random.default_rng(1).bytes(35_000).hex()
    Path("a.png").write_bytes(saved("PNG", dataclasses.replace(FULL, xmp=packet(elements=f"<dc:a>{text}</dc:a>"))))
    run("compress", "a.png", "--keep-metadata")
    result = run("decompress", "a.vq", "-o", "b.jpg")
    assert result.err == "vqcodec: note: a.vq: the XMP was left out: it is too long for JPEG\n"
    assert read_picture("b.jpg", Keep(True)).metadata.icc == FULL.icc


def test_info_lists_the_sizes_of_the_metadata(run: Run) -> None:
    Path("a.png").write_bytes(saved("PNG"))
    run("compress", "a.png", "--keep-metadata")
    header = read_header(Path("a.vq").read_bytes())
    sizes = json.loads(run("info", "a.vq", "--json").out)["metadata_bytes"]
    assert list(sizes) == ["exif", "xmp", "icc"]
    assert tuple(sizes.values()) == header.chunk_lengths
    expected = f"metadata   EXIF {sizes['exif']}, XMP {sizes['xmp']}, colour profile {sizes['icc']} bytes\n"
    assert expected in run("info", "a.vq").out
    run("compress", "a.png", "-f")
    assert json.loads(run("info", "a.vq", "--json").out)["metadata_bytes"] == {}
    assert "metadata" not in run("info", "a.vq").out


def test_keep_location_needs_keep_metadata(run: Run) -> None:
    Path("a.png").write_bytes(saved("PNG"))
    result = run("compress", "a.png", "--keep-location")
    assert (result.code, Path("a.vq").exists()) == (2, False)
    assert "give --keep-metadata too" in result.err
    with pytest.raises(UsageError):
        vqcodec.encode(Image.new("L", (8, 8)), keep_location=True)


def test_a_region_and_a_salvaged_picture_keep_it(patch_model: Model) -> None:
    codec = Codec(patch_model)
    data = codec.compress(Picture(synthetic(48, 40), "RGB", metadata=SOUND))
    part = fitted(decompress_region(codec, data, Region(3, 5, 20, 10)), "PNG")
    with Image.open(io.BytesIO(image_file(part, "PNG"))) as image:
        inner = image.getexif().get_ifd(0x8769)
    assert (inner[0xA002], inner[0xA003]) == (20, 10)
    assert (part.metadata.xmp, part.metadata.icc) == (SOUND.xmp, SOUND.icc)

    assert salvage(codec, data).picture.metadata == SOUND
    header = read_header(data)
    for number, lost in enumerate(["EXIF", "XMP", "colour profile"]):
        broken = bytearray(data)
        broken[header.offsets[len(header.unit_lengths) + number] + 9] ^= 1
        with pytest.raises(DamagedFile, match=f"the chunk of type {129 + number}"):
            codec.decompress(bytes(broken))
        saved = salvage(codec, bytes(broken))
        assert saved.damage == (f"its {lost} was lost",)
        assert len(saved.picture.metadata.sizes()) == 2


def test_the_python_interface(bundle: Any, patch_model: Model) -> None:
    bundle(photo=patch_model)
    with Image.open(io.BytesIO(saved("JPEG"))) as image:
        plain, kept, place = (
            vqcodec.decode(vqcodec.encode(image, **options))
            for options in ({}, {"keep_metadata": True}, {"keep_metadata": True, "keep_location": True})
        )
    assert plain.info == {}
    assert set(kept.info) == {"exif", "xmp", "icc_profile"}
    assert kept.getexif()[0x010F] == MAKE_READ
    assert dict(kept.getexif().get_ifd(0x8825)) == {}
    assert place.getexif().get_ifd(0x8825)[1] == "N"
    assert kept.info["icc_profile"] == FULL.icc


# --- EXIF


@pytest.mark.parametrize("order", "<>")
def test_kept_exif_values_are_copied_byte_for_byte(order: str) -> None:
    data = photo_exif(order)
    short, long = order + "H", order + "I"
    kept = {
        0x010F: (2, MAKE),
        0x0112: (3, struct.pack(short, 1)),
        0x8769: {
            0x829A: (5, struct.pack(order + "2I", 1, 125)),
            0x9204: (10, struct.pack(order + "2i", -1, 3)),
            0xA002: (4, struct.pack(long, 70)),
            0xA003: (4, struct.pack(long, 90)),
            0xA005: {0x0001: (2, b"R98\0")},
        },
    }
    new, lost = exif.rewrite(data, 70, 90, location=False, limit=LIMIT)
    assert fields_of(new) == kept
    assert lost == {"location", "private"}
    assert exif.rewrite(new, 70, 90, location=True, limit=LIMIT) == (new, frozenset())
    new, lost = exif.rewrite(exif.PREFIX + data, 70, 90, location=True, limit=LIMIT)
    assert fields_of(new) == kept | {0x8825: {0x0001: (2, b"N\0"), 0x0002: (5, LATITUDE[order])}}
    assert lost == {"private"}
    assert b"thumbnail" not in new


def fields_of(data: bytes, at: int = 8) -> Fields:
    """The fields of EXIF data, by a minimal parser."""
    order = "<" if data[:2] == b"II" else ">"
    (count,) = struct.unpack_from(order + "H", data, at)
    found: Fields = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number, place = struct.unpack_from(order + "HHII", data, entry)
        size = number * {3: 2, 4: 4, 5: 8, 10: 8}.get(kind, 1)
        start = entry + 8 if size <= 4 else place
        assert start % 2 == 0, "TIFF requires even offsets"
        below = tag in (0x8769, 0x8825, 0xA005)
        found[tag] = fields_of(data, place) if below else (kind, data[start : start + size])
    assert struct.unpack_from(order + "I", data, at + 2 + 12 * count) == (0,), "no thumbnail"
    return found


@pytest.mark.parametrize("data", [b"", b"junk", b"II*\0\x08\0\0", b"Exif\0\0"])
def test_data_that_is_not_exif_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not EXIF"):
        exif.rewrite(data, 1, 1, location=False, limit=LIMIT)


def test_damaged_entries_are_left_out_and_the_others_kept() -> None:
    data = bytearray(tiff({0x010F: (2, MAKE), 0x0110: (2, b"Model of camera\0")}))
    data[10 + 12 + 9] = 0xFF  # the offset of the values of the second entry
    new, lost = exif.rewrite(bytes(data), 1, 1, location=False, limit=LIMIT)
    assert fields_of(new) == {0x010F: (2, MAKE)}
    assert lost == {"damaged"}


@pytest.mark.parametrize("order", "<>")
def test_exif_is_stored_unchanged_in_a_tiff(order: str) -> None:
    sound = {key: cleaned(Metadata(photo_exif(key)), 5, 7, location=True)[0] for key in "<>"}
    picture = Picture(synthetic(7, 5), "RGB", metadata=sound[order])
    data = image_file(picture, "TIFF")
    machine = "<" if data.startswith(b"II") else ">"
    assert struct.unpack_from(machine + "I", data, 4)[0] % 2 == 0
    again = read_picture(io.BytesIO(data), Keep(True, True))
    assert (again.pixels == picture.pixels).all()
    assert again.notices == ()
    assert fields_of(again.metadata.exif) == fields_of(sound[machine].exif)


def test_hostile_exif_costs_little() -> None:
    """Thousands of entries that share one value or one directory."""
    table = b"II*\0\x08\0\0\0" + struct.pack("<H", 20_000)
    shared = table + b"".join(struct.pack("<HHII", tag, 7, LIMIT, 8) for tag in range(20_000)) + bytes(LIMIT)
    looped = table + struct.pack("<HHII", 0x8769, 4, 1, 8) * 20_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too long"):
            exif.rewrite(shared, 1, 1, location=True, limit=LIMIT)
        assert exif.rewrite(looped, 1, 1, location=True, limit=LIMIT)[0] == b""
        assert tracemalloc.get_traced_memory()[1] < 4 * LIMIT
    finally:
        tracemalloc.stop()


# --- XMP


def test_dropped_parts_of_xmp_give_notices() -> None:
    note = 'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="ABC"'
    camera = '<c:HdrPlusMakernote xmlns:c="http://ns.google.com/photos/1.0/camera/">AAAA</c:HdrPlusMakernote>'
    found, notices = cleaned(Metadata(xmp=packet(note, camera)), 1, 1, location=True)
    assert b"ABC" not in found.xmp
    assert b"AAAA" not in found.xmp
    assert len(notices) == 2
    assert notices[0] == "the extended part of the XMP was dropped"
    assert "maker notes" in notices[1]


@pytest.mark.parametrize(
    ("attributes", "elements"),
    [
        (f'exif:GPSLatitude="{PLACE}"', ""),
        (f'v:GPSLatitude="{PLACE}"', ""),  # another prefix
        (f'dji:GpsLongtitude="{PLACE}"', ""),  # as drones spell it
        ("", f"<exif:GPSLatitude>{PLACE}</exif:GPSLatitude>"),
        ("", f'<GPSLatitude xmlns="http://ns.adobe.com/exif/1.0/">{PLACE}</GPSLatitude>'),
        ("", f"<exif:GPSLatitude><rdf:Bag><rdf:li>{PLACE}</rdf:li></rdf:Bag></exif:GPSLatitude>"),
        *((f'photoshop:{name}="{PLACE}"', "") for name in ("City", "State", "Country")),
        *((f'Iptc4xmpCore:{name}="{PLACE}"', "") for name in ("Location", "CountryCode")),
        ("", f"<Iptc4xmpCore:Location>{PLACE}</Iptc4xmpCore:Location>"),
        (
            "",
            '<Iptc4xmpExt:LocationCreated><rdf:Bag><rdf:li rdf:parseType="Resource">'
            f"<Iptc4xmpExt:Any>{PLACE}</Iptc4xmpExt:Any></rdf:li></rdf:Bag></Iptc4xmpExt:LocationCreated>",
        ),
        ("", f'<dc:nested><rdf:Description Iptc4xmpExt:WorldRegion="{PLACE}"/></dc:nested>'),
        ("", f"<dc:coverage>{PLACE}</dc:coverage>"),
    ],
)
def test_a_location_in_xmp_is_removed(attributes: str, elements: str) -> None:
    data = packet(attributes, elements)
    new, lost = xmp.rewrite(data, location=False, limit=LIMIT)
    assert PLACE.encode() not in new
    assert lost == {"location"}
    assert b'dc:format="A &amp; B"' in new
    assert ">A &quot;Tïtle&quot; &lt;</rdf:li></rdf:Alt></dc:title>".encode() in new, "the rest is there"
    assert len(new) < len(data) - 1500, "the padding is not"
    new, lost = xmp.rewrite(data, location=True, limit=LIMIT)
    assert PLACE.encode() in new
    assert lost == frozenset()
    assert xmp.rewrite(new, location=True, limit=LIMIT) == (new, frozenset())


def test_xmp_does_not_contradict_the_picture() -> None:
    old = packet(
        'tiff:Orientation="6" exif:PixelXDimension="7"', "<photoshop:ICCProfile>P3</photoshop:ICCProfile><!--c-->"
    )
    new, lost = xmp.rewrite(old, location=False, limit=LIMIT)
    assert lost == frozenset()
    for word in (b"Orientation", b"PixelXDimension", b"ICCProfile", b"<!--"):
        assert word in old
        assert word not in new


BODY = packet().partition(b"?>")[2].partition(b"<?xpacket")[0].strip()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE x>" + BODY, "DOCTYPE"),
        (b'<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]>' + BODY.replace(b"le<", b"le&c;<"), "DOCTYPE"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + BODY, "DOCTYPE"),
        (BODY.replace(b"A &amp; B", b"&a;"), "damaged"),
        (BODY[:-20], "damaged"),
        (BODY.decode().encode("utf-16"), "damaged"),
        (BODY + b"\xff", "damaged"),
        (b"", "damaged"),
        (b"<html/>", "not XMP"),
        (b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + b"<a>" * 100_000, "nested too deep"),
        (b" " * (LIMIT + 1), "too long"),
        (packet(elements=f"<dc:a>{'&gt;' * 200_000}{'>' * 200_000}</dc:a>"), "too long"),
    ],
)
def test_xmp_that_is_not_safe_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        xmp.rewrite(data, location=True, limit=LIMIT)


def test_metadata_behind_the_samples_of_a_png_is_found() -> None:
    plain = saved("PNG", Metadata())
    for name, data in ((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), (b"eXIf", photo_exif())):
        chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        plain = plain[:-12] + chunk + plain[-12:]  # before IEND
    found = read_picture(io.BytesIO(plain), Keep(True)).metadata
    assert b"dc:title" in found.xmp
    assert MAKE in found.exif, "byte for byte"


# --- colour profiles


@pytest.mark.parametrize(("space", "shape"), [(b"RGB ", (6, 5, 3)), (b"RGB ", (6, 5, 4)), (b"GRAY", (6, 5))])
def test_a_profile_keeps_the_samples_as_they_are(space: bytes, shape: tuple[int, ...]) -> None:
    samples = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    icc = profile(space, 1.8)
    data = saved("PNG", Metadata(icc=icc), samples)
    kept, plain = (read_picture(io.BytesIO(data), keep) for keep in (Keep(True), Keep()))
    expected = samples[:, :, :3] if len(shape) == 3 else samples[:, :, None]
    assert (kept.pixels == expected).all()
    assert (kept.metadata.icc, kept.notices) == (icc, ())
    assert (plain.pixels != expected).any()
    assert plain.metadata == Metadata()
    back = to_image(kept)
    assert (np.asarray(back) == samples).all()
    assert back.info["icc_profile"] == icc
    for name in ("WEBP", "PNG", "BMP"):  # WebP stores grey pictures as colour
        fit = fitted(dataclasses.replace(kept, alpha=None), name)
        holds = name == "PNG" or (name == "WEBP" and space == b"RGB ")
        assert (fit.metadata.icc == icc) == holds
        assert (fit.pixels == (kept if holds else plain).pixels).all()
        assert image_file(fit, name)


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "L"])
def test_a_profile_that_does_not_fit_is_not_kept(mode: str) -> None:
    icc = profile() if mode != "LAB" else ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = Image.new(mode, (4, 4), 100 if mode == "L" else (100,) * len(mode))
    image.info["icc_profile"] = icc
    kept, plain = from_image(image, Keep(True)), from_image(image)
    assert kept.metadata.icc == b""
    assert (kept.pixels == plain.pixels).all()
    assert kept.notices == plain.notices != ()


def test_a_profile_that_does_not_fit_its_picture_gives_a_notice() -> None:
    for mode, icc in (("L", profile()), ("RGB", profile(b"GRAY")), ("RGB", b"junk")):
        picture = Picture(np.zeros((4, 4, 3), np.uint8), mode, metadata=Metadata(icc=icc))
        assert fitted(picture, "PNG").metadata == Metadata()
        assert fitted(picture, "PNG").notices == ("the colour profile cannot be used and was dropped",)
        assert to_image(picture).info == {}


def test_a_profile_that_is_too_long_is_applied() -> None:
    image = Image.fromarray(synthetic(4, 4))
    image.info["icc_profile"] = profile() + bytes(LIMIT)
    kept, plain = from_image(image, Keep(True)), from_image(image)
    assert kept.metadata.icc == b""
    assert (kept.pixels == plain.pixels).all()


@pytest.mark.parametrize("name", HOLDERS)
def test_a_damaged_picture_is_still_refused(name: str) -> None:
    data = saved(name)
    with pytest.raises(BadPicture):
        read_picture(io.BytesIO(data[: len(data) - 900]), Keep(True))


# --- in the file


def test_chunks_of_the_file() -> None:
    file = dataclasses.replace(TINY, metadata=Metadata(b"e" * LIMIT, b"x", b"i"))
    data = pack(file)
    assert unpack(data) == file
    assert read_header(data).chunk_types == (129, 130, 131)
    assert read_header(data).metadata_bytes.keys() == {"exif", "xmp", "icc"}
    with pytest.raises(ValueError, match="more than"):
        pack(dataclasses.replace(TINY, metadata=Metadata(b"e" * (LIMIT + 1))))


STREAM = zlib.compress(b"abc")


@pytest.mark.parametrize("kind", [129, 130, 131])
@pytest.mark.parametrize(
    "payload",
    [b"", b"abc", STREAM[:-1], STREAM + b"\0", zlib.compress(b""), zlib.compress(bytes(LIMIT + 1)), bytes(LIMIT)],
)
def test_a_payload_that_is_not_one_stream_of_allowed_size_is_damage(kind: int, payload: bytes) -> None:
    with pytest.raises(DamagedFile, match="is not one zlib stream"):
        unpack(build(chunks=((kind, payload),)))


def test_two_of_a_kind_are_damage_and_bombs_cost_no_memory() -> None:
    for kind, name in ((129, "EXIF"), (130, "XMP"), (131, "colour profile")):
        with pytest.raises(DamagedFile, match=f"more than one {name}"):
            unpack(build(chunks=((kind, STREAM), (200, b""), (kind, STREAM))))
    bomb = build(chunks=((129, zlib.compress(bytes(1 << 27), 9)),))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFile):
            unpack(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 * LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "hidden",
    [
        '<rdf:Description xmlns:tiff="other" tiff:Orientation="6"/>',
        '<rdf:Description xmlns:tiff="other"><tiff:Orientation>6</tiff:Orientation></rdf:Description>',
        "<rdf:Description xmlns:d='d' d:x='tiff:Orientation=\"6\"'/>",
        "<rdf:Description xmlns:d='d'><d:x>tiff:Orientation=\"6\"</d:x></rdf:Description>",
    ],
)
def test_xmp_text_does_not_rotate_a_picture(hidden: str) -> None:
    """Pillow searches for the text tiff:Orientation, not for the property of that name."""
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    found, _ = xmp.rewrite(f'<rdf:RDF xmlns:rdf="{rdf}">{hidden}</rdf:RDF>'.encode(), location=True, limit=9999)
    data = image_file(Picture(np.zeros((4, 5, 3), np.uint8), "RGB", metadata=Metadata(b"", found, b"")), "JPEG")
    assert read_picture(io.BytesIO(data)).pixels.shape == (4, 5, 3)


# --- hostile metadata


@st.composite
def altered(draw: st.DrawFn, data: bytes) -> bytes:
    """Random bytes, or the data with a few bytes changed, removed or inserted."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=60))
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        changed[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(changed)


HOSTILE = st.builds(Metadata, altered(FULL.exif), altered(XMP), altered(FULL.icc))


@settings(max_examples=150)
@given(HOSTILE, st.booleans(), st.sampled_from([*HOLDERS, "BMP"]))
def test_hostile_metadata_in_a_file_raises_nothing_unexpected(metadata: Metadata, grey: bool, name: str) -> None:
    file = unpack(pack(VqFile(bytes(8), 5, 4, "RGB", 0, 64, 1, 1, (b"",), metadata=metadata)))
    picture = Picture(np.zeros((4, 5, 3), np.uint8), "L" if grey else "RGB", metadata=file.metadata)
    assert to_image(picture).size == (5, 4)
    fit = fitted(picture, name)
    again = fitted(fit, name)
    assert (again.metadata, again.notices) == (fit.metadata, fit.notices)
    try:
        data = image_file(fit, name)
    except VqError:
        return
    assert read_picture(io.BytesIO(data), Keep(True, True)).pixels.shape == (4, 5, 3)


@settings(max_examples=150)
@given(HOSTILE, st.booleans())
def test_hostile_metadata_in_a_picture_raises_nothing_unexpected(metadata: Metadata, location: bool) -> None:
    image = Image.fromarray(np.zeros((4, 5, 3), np.uint8))
    image.info |= {"exif": metadata.exif, "xmp": metadata.xmp, "icc_profile": metadata.icc}
    try:
        picture = from_image(image, Keep(True, location))
    except VqError:
        return
    found = picture.metadata
    again, notices = cleaned(found, picture.width, picture.height, location=location)
    assert (again, notices) == (found, []), "cleaning is idempotent"
    assert location or not found.exif or 0x8825 not in fields_of(found.exif)
