"""Fuzz targets of benchmarks/fuzz.py: parts of vqcodec, each with seed inputs and a mutator.

In: bytes. Out: nothing, or the error that the target raises. A target is created in its own process, and vqcodec is
instrumented on import there. That is why all imports of vqcodec are inside functions.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutations import Draft, join, mutate_model, mutate_parts, mutate_png, mutate_text, mutate_vq, png, split, varint

__all__ = ["TARGETS", "Target", "check_text"]

PIXELS = 1 << 14  # of larger pictures only the header is checked, because decoding them is allowed to take long
LONGEST = 1010  # characters of an error message

Mutate = Callable[[bytes, random.Random, Callable[[bytes], bytes]], bytes]


@dataclass(frozen=True)
class Target:
    """The seed inputs, the function under test, and the mutator."""

    seeds: list[bytes]
    run: Callable[[bytes], object]
    mutate: Mutate


def container_target(_: Path) -> Target:
    from vqcodec.errors import BadFile
    from vqcodec.format.container import alpha_payload, pack, postfilter_payload, read_header, unit_payload, unpack

    def run(data: bytes) -> None:
        try:
            header = read_header(data, partial=True)
        except BadFile:
            unpack(data)
            raise AssertionError("unpack accepted a file with an invalid header") from None
        for index in range(min(4, header.rows * header.cols)):
            allow_error(lambda i=index: unit_payload(data, header, i))
        allow_error(lambda: alpha_payload(data, header))
        allow_error(lambda: postfilter_payload(data, header))
        file = unpack(data)
        assert unpack(pack(file)) == file

    return Target(drafts(bytes(8)), run, mutate_vq)


def alpha_target(_: Path) -> Target:
    import numpy as np

    from vqcodec.picture.alpha import pack_alpha, unpack_alpha

    alpha = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7)

    def run(data: bytes) -> None:
        assert unpack_alpha(data, 5, 7).shape == (5, 7)

    start = pack_alpha(alpha)
    seeds = [start, pack_alpha(np.zeros((5, 7), np.uint8)), start.replace(b"IEND", b"zTXt")]
    return Target(seeds, run, mutate_png)


def codes_target(folder: Path) -> Target:
    from vqcodec.codec.content import read_codes
    from vqcodec.format.container import unpack

    model, seeds = random_model(folder)

    def run(data: bytes) -> None:
        file = unpack(data)
        if file.width * file.height <= PIXELS:
            codes = read_codes(file, model)
            assert codes.min() >= 0
            assert all((codes[g] < size).all() for g, (size, _) in enumerate(model.config.vqvae.codebooks))

    return Target(seeds, run, mutate_vq)


def decoding_target(folder: Path) -> Target:
    from vqcodec.codec.codec import Codec
    from vqcodec.codec.describe import describe
    from vqcodec.codec.partial import Region, decompress_region, salvage
    from vqcodec.format.container import read_header

    model, seeds = random_model(folder)
    codec = Codec(model)

    def run(data: bytes) -> None:
        header = read_header(data, partial=True)
        describe(data, partial=True)
        if header.width * header.height > PIXELS:
            return
        allow_error(lambda: decompress_region(codec, data, Region(header.width // 3, header.height // 3, 9, 7)))
        allow_error(lambda: salvage(codec, data))
        picture = codec.decompress(data)
        assert picture.pixels.shape == (header.height, header.width, 3)

    return Target(seeds, run, mutate_vq)


def model_target(folder: Path) -> Target:
    import numpy as np

    from vqcodec.codec.codec import Codec
    from vqcodec.model.store import open_model
    from vqcodec.picture.picture import Picture

    model, _ = random_model(folder / "good")
    names = ("config.json", "prior.safetensors", "weights.safetensors")
    place = folder / "hostile"
    place.mkdir()

    def run(data: bytes) -> None:
        for name, content in zip(names, split(data), strict=True):
            (place / name).write_bytes(content)
        found = open_model(place)
        allow_error(lambda: found.prior(found.config.vqvae.qualities - 1))
        codec = Codec(found)
        pixels = np.arange(20 * 12 * 3, dtype=np.uint8).reshape(20, 12, 3)
        codec.decompress(codec.compress(Picture(pixels, "RGB"), 1))

    return Target([join(tuple((model.path / name).read_bytes() for name in names))], run, mutate_model)


def metadata_target(_: Path) -> Target:
    import numpy as np
    from PIL import Image, ImageCms

    from vqcodec.picture.metadata import Metadata, cleaned
    from vqcodec.picture.picture import Picture
    from vqcodec.picture.write import fitted, image_file, to_image

    def run(data: bytes) -> None:
        metadata = Metadata(*split(data))
        kept, _ = cleaned(metadata, 3, 2, location=False)
        assert cleaned(kept, 3, 2, location=False)[0] == kept
        picture = Picture(np.zeros((2, 3, 3), np.uint8), "RGB", metadata=metadata)
        to_image(picture)
        for name in ("PNG", "JPEG", "TIFF"):
            image_file(fitted(picture, name), name)

    exif = Image.Exif()
    exif[0x010E], exif[0x0112], exif[0x8769], exif[0x8825] = "a text", 6, {0xA002: 9, 0x927C: b"maker"}, {1: "N"}
    name, space = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://purl.org/dc/elements/1.1/"
    xmp = (
        f'<r:RDF xmlns:r="{name}"><r:Description xmlns:d="{space}" d:title="&amp;">'
        "<d:subject><r:Bag><r:li>x</r:li></r:Bag></d:subject><d:GPSLatitude>1</d:GPSLatitude></r:Description></r:RDF>"
    )
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return Target([join((exif.tobytes()[6:], xmp.encode(), icc))], run, mutate_parts)


def text_target(_: Path) -> Target:
    from vqcodec.cli.options import parse_count, parse_region, parse_size
    from vqcodec.model.config import ModelConfig, from_json

    def run(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        for read in (parse_region, parse_size, parse_count):
            allow_error(lambda call=read: call(text))
        from_json(ModelConfig, text)

    seeds = [b"50000", b"50k", b"1.5 MiB", b" 3GB ", b"1,2,3,4", b" 10 , 20 , 300 , 400 ", b'{"name": [1, 2.5e3]}']
    return Target(seeds, run, mutate_text)


TARGETS = {
    "container": container_target,
    "alpha": alpha_target,
    "codes": codes_target,
    "decoding": decoding_target,
    "model": model_target,
    "metadata": metadata_target,
    "text": text_target,
}


def drafts(digest: bytes) -> list[bytes]:
    """Containers of all kinds, with payloads that are not valid codes."""
    numbers = [varint(n) for n in (300, 200, 1, 16, 2, 2)]
    alpha = png([(b"IHDR", b"\0\0\1\x2c\0\0\0\xc8\x08\0\0\0\0"), (b"IDAT", b""), (b"IEND", b"")])
    units = [b"first", b"second", b"", bytes(130)]
    one = [varint(n) for n in (3, 2, 5, 64, 1, 1)]
    files = [
        Draft(one, [b"abc"], digest=digest, flags=1),
        Draft(numbers, units, [(1, alpha)], digest),
        Draft(numbers, units, [(200, b"later"), (1, alpha)], digest),
        Draft(one, [b"abc"], [(2, b"\x60\xa6\x40")], digest),
        Draft(one, [b"abc"], [(kind, zlib.compress(b"about")) for kind in (129, 130, 131)], digest),
    ]
    return [file.build() for file in files]


def random_model(folder: Path) -> tuple[Any, list[bytes]]:
    """A model with random weights in `folder`, and .vq files of it: one or several units, grey, alpha, post-filter."""
    import numpy as np
    import torch

    from vqcodec.codec.codec import Codec
    from vqcodec.model.config import ModelConfig, PriorConfig, VQVAEConfig
    from vqcodec.picture.picture import Picture
    from vqcodec.train.networks.pixelcnn import GatedPixelCNN
    from vqcodec.train.networks.vqvae import VQVAE
    from vqcodec.train.networks.weights import save_model

    vqvae = VQVAEConfig("patch", 8, 8, 6, 1, 1, ((8, 1), (6, 2), (16, 4)), (0.8, 0.1), postfilter=3)
    config = ModelConfig("stand-in", vqvae, PriorConfig(channels=8, blocks=2, head_channels=6), unit=4)
    torch.manual_seed(1)
    network, prior = VQVAE(vqvae), GatedPixelCNN(vqvae, config.prior)
    assert network.postfilter is not None
    network.postfilter.kernels.normal_(0, 0.1)
    prior.describe_codes(network.quantizer)
    model = save_model(folder, config, network, prior.integers())
    codec = Codec(model)
    y, x = np.mgrid[:70, :50]
    pixels = np.stack([y * 3, x * 5, y * x // 9], 2).astype(np.uint8)
    pictures = [
        Picture(pixels, "RGB"),
        Picture(pixels[:9, :13], "RGB", pixels[:9, :13, 0].copy()),
        Picture(pixels[:40, :33], "L"),
        Picture(pixels[:1, :1], "RGB"),
    ]
    return model, [codec.compress(picture, 1 + i % 2) for i, picture in enumerate(pictures)]


def allow_error(call: Callable[[], object]) -> None:
    """Run a call that may raise a `VqError` with a valid text."""
    from vqcodec.errors import VqError

    try:
        call()
    except VqError as error:
        check_text(error)


def check_text(error: Exception) -> None:
    """Raise `ValueError` unless the error's text is one printable line of at most `LONGEST` characters."""
    text = str(error)
    if not text.isprintable() or not 0 < len(text) <= LONGEST:
        raise ValueError(f"an error of {len(text)} characters that is not one clear line") from error
