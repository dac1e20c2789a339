"""Files with layers: what is kept is the merged picture, and the notice says so."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from vqcodec.picture.read import from_image, read_picture


def psd(layers: int, merged: bool | None = None) -> bytes:
    """An RGB file of 3 x 2 pixels: the merged picture is grey 200, layer n is grey n.

    merged: what the file says about having a merged picture; None: nothing.
    """
    height, width = 2, 3
    resources = b""
    if merged is not None:
        data = struct.pack(">IB", 1, merged) + bytes(9)
        resources = b"8BIM" + struct.pack(">HHI", 1057, 0, len(data)) + data
    records, samples = b"", b""
    for n in range(1, layers + 1):
        channels = b"".join(struct.pack(">hI", channel, 2 + height * width) for channel in range(3))
        records += struct.pack(">4iH", 0, 0, height, width, 3) + channels
        extra = struct.pack(">II", 0, 0) + b"\1L\0\0"  # no mask, no ranges, the name
        records += b"8BIMnorm\xff\0\0\0" + struct.pack(">I", len(extra)) + extra
        samples += 3 * (b"\0\0" + bytes([n]) * height * width)
    info = struct.pack(">h", layers) + records + samples
    info += b"\0" * (len(info) % 2)
    layer_section = struct.pack(">I", len(info)) + info if layers else b""
    parts = [b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, height, width, 8, 3), struct.pack(">I", 0)]
    parts += [struct.pack(">I", len(section)) + section for section in (resources, layer_section)]
    return b"".join([*parts, b"\0\0", bytes([200]) * (3 * height * width)])


@pytest.mark.parametrize(
    ("layers", "merged", "notice"),
    [
        (0, None, None),
        (1, True, None),
        (2, None, "the layers were flattened"),
        (3, True, "the layers were flattened"),
        (2, False, "the file has no merged picture of its layers, so the result may be blank; save it with one"),
    ],
)
def test_the_merged_picture_of_a_psd_is_kept(layers: int, merged: bool | None, notice: str | None) -> None:
    picture = read_picture(io.BytesIO(psd(layers, merged)))
    assert (picture.pixels == 200).all()
    assert picture.notices == (() if notice is None else (notice,))


def test_a_layer_of_an_open_psd() -> None:
    with Image.open(io.BytesIO(psd(3))) as image:
        image.seek(2)
        picture = from_image(image)
    assert (picture.pixels == 2).all()
    assert picture.notices == ("several layers: only the current one is kept",)


def test_the_layers_of_a_tiff() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[37724] = b"Adobe Photoshop Document Data Block\0"
    tags.tagtype[37724] = 7
    stream = io.BytesIO()
    samples = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    Image.fromarray(samples).save(stream, "TIFF", tiffinfo=tags)
    picture = read_picture(stream)
    assert (picture.pixels == samples).all()
    assert picture.notices == ("the layers were flattened",)
