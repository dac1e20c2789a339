"""Films and gain maps in the same file as a picture: a notice, and no XMP that promises them."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from vqcodec.picture.appended import end_of_jpeg
from vqcodec.picture.metadata import Keep
from vqcodec.picture.read import from_image, read_picture

FILM = struct.pack(">I", 24) + b"ftypmp42" + bytes(96)
FILM_NOTICE = "the film of a motion photo was left out"
MAP_NOTICE = "a gain map (for HDR screens) was left out"
XMP_NOTICE = "XMP entries about a film, a gain map or a depth map in the same file were dropped"
SPACES = """xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/" xmlns:OpCamera="http://ns.oplus.com/photos/1.0/camera/"
 xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" """
DIRECTORY = """<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4"/>
</rdf:li></rdf:Seq></Container:Directory>"""


def xmp(attributes: str, elements: str = "") -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f"<rdf:Description {SPACES} {attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def jpeg(packet: bytes = b"", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(stream, "JPEG", **({"xmp": packet} if packet else {}), **options)
    return stream.getvalue()


def notices(data: bytes, keep: Keep | None = None) -> tuple[str, ...]:
    return read_picture(io.BytesIO(data), keep or Keep()).notices


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
def test_the_end_of_a_jpeg_is_found(options: dict[str, object]) -> None:
    thumbnail = b"Exif\0\0" + jpeg()[:20000]  # a JPEG within a segment
    data = jpeg(exif=thumbnail, **options)
    assert end_of_jpeg(data) == len(data)
    assert end_of_jpeg(data + FILM) == len(data)
    assert end_of_jpeg(data[:-2]) == len(data) - 2


@pytest.mark.parametrize("between", [b"", bytes(30), b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data"])
def test_a_film_behind_a_jpeg_is_noticed(between: bytes) -> None:
    assert notices(jpeg() + between + FILM) == (FILM_NOTICE,)


@pytest.mark.parametrize("rest", [b"", bytes(100), b"the word ftyp in a comment", b"\0\0\0\1ftyp"])
def test_other_bytes_behind_a_jpeg_are_no_film(rest: bytes) -> None:
    assert notices(jpeg() + rest) == ()


def test_a_gain_map_is_noticed() -> None:
    assert notices(jpeg(xmp('hdrgm:Version="1.0"'))) == (MAP_NOTICE,)
    apple = xmp("", '<a:x xmlns:a="http://ns.apple.com/HDRGainMap/1.0/">65536</a:x>')
    assert notices(jpeg() + jpeg(apple)) == (MAP_NOTICE,)
    assert notices(jpeg() + jpeg()) == ()


def test_an_image_of_pillow_is_looked_at_too() -> None:
    with Image.open(io.BytesIO(jpeg() + FILM)) as image:
        assert from_image(image).notices == (FILM_NOTICE,)
        assert from_image(image).pixels.shape == (256, 256, 3), "again, now that it is loaded"


def test_kept_xmp_promises_nothing_that_is_left_out() -> None:
    promises = (
        'GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="108" OpCamera:MotionPhotoOwner="x" hdrgm:Version="1.0"'
    )
    packet = xmp(promises + ' dc:format="image/jpeg" GPano:ProjectionType="equirectangular"', DIRECTORY)
    picture = read_picture(io.BytesIO(jpeg(packet) + FILM), Keep(metadata=True))
    assert picture.notices == (FILM_NOTICE, MAP_NOTICE, XMP_NOTICE)
    for word in (b"GCamera", b"MotionPhoto", b"MicroVideo", b"hdrgm", b"Container", b"Item"):
        assert word not in picture.metadata.xmp
    assert b'dc:format="image/jpeg"' in picture.metadata.xmp
    assert b'GPano:ProjectionType="equirectangular"' in picture.metadata.xmp
