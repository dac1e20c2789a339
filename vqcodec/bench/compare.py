"""Two pictures -> every measure of one beside the other.

In: two sources, each a picture file or a .vq file. Out: a `Compared`: what each file is, the measures of the second
picture (B) beside the first (A, the reference), and the samples that were compared.

What is compared is what is seen: upright pictures in sRGB. A grey picture beside one in colours is taken as RGB. If
a picture has transparency, both are laid over black and then over white, and of each measure the worse value counts.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqcodec.errors import BadPicture
from vqcodec.format.magic import MAGIC
from vqcodec.format.rates import bits_per_pixel
from vqcodec.picture.kinds import START, kind_of
from vqcodec.picture.measures import MEASURES, Measure, measured
from vqcodec.picture.picture import Picture, grey_of

if TYPE_CHECKING:
    from vqcodec.files.work import Decompressor

__all__ = ["Compared", "Input", "Layer", "Samples", "compare", "facts", "load", "shown"]

Samples = NDArray[np.uint8]
VQ = "VQ"  # `Input.format` of a .vq file


@dataclass(frozen=True)
class Input:
    """What one of the two files is."""

    name: str  # as messages name it
    format: str | None  # "VQ", or Pillow's name of a format; None: a format without a known beginning
    bytes: int  # of the file
    picture: Picture  # upright, in sRGB
    quality: int | None = None  # of a .vq file
    model: str | None = None  # name of the model of a .vq file

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return bits_per_pixel(self.bytes, self.picture.height, self.picture.width)


@dataclass(frozen=True)
class Ground:
    """What pictures with transparency are laid over."""

    name: str
    level: int  # of all channels


GROUNDS = (Ground("black", 0), Ground("white", 255))


@dataclass(frozen=True)
class Layer:
    """The samples that were compared, [H, W, 3], or [H, W, 1] if both pictures are grey."""

    ground: str | None  # the name of the ground; None: neither picture has transparency
    before: Samples
    after: Samples


@dataclass(frozen=True)
class Compared:
    """Two pictures and the measures of `b` beside the reference `a`."""

    a: Input
    b: Input
    measures: dict[str, float]  # by Measure.name; nan where a measure is not defined
    layers: tuple[Layer, ...]  # one, or one for each ground

    @property
    def identical(self) -> bool:
        """Whether the two look the same in every sample. Colours under full transparency are not seen."""
        return all(np.array_equal(layer.before, layer.after) for layer in self.layers)


class _Named(io.BytesIO):
    """Bytes with the name that messages use."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def load(name: str, source: Path | bytes, decompressor: Decompressor, progress: Callable[[float], None]) -> Input:
    """Read a picture, or decode a .vq file with the model that it names.

    A file is recognised by its first bytes. `progress` gets the fraction done, 0 to 1. Raises `VqError`.
    """
    from vqcodec.picture.alone import read_alone

    start = source[:START] if isinstance(source, bytes) else _start(source)
    kind = kind_of(start)
    named_vq = isinstance(source, Path) and source.suffix.lower() == ".vq"
    if start.startswith(MAGIC) or (named_vq and kind is None):
        return _decoded(name, source, decompressor, progress)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size if start else 0
    picture = read_alone(
        _Named(source, name) if isinstance(source, bytes) else source, max_pixels=decompressor.limits.pixels
    )
    return Input(name, None if kind is None else kind.format, size, picture)


def _start(path: Path) -> bytes:
    """The first bytes of a file; none if it cannot be read, which is reported when it is read as a picture."""
    try:
        with path.open("rb") as stream:
            return stream.read(START)
    except OSError:
        return b""


def _decoded(name: str, source: Path | bytes, decompressor: Decompressor, progress: Callable[[float], None]) -> Input:
    """The picture of a .vq file, in sRGB if it has a colour profile."""
    from vqcodec.codec.describe import describe
    from vqcodec.files.read_write import read
    from vqcodec.picture.read import from_image
    from vqcodec.picture.write import to_image

    data = source if isinstance(source, bytes) else read(source)
    codec = decompressor.codec_for(data)
    picture = codec.decompress(data, progress)
    info = describe(data)
    if picture.metadata.icc:
        upright = from_image(to_image(picture))
        picture = replace(upright, notices=(*picture.notices, *upright.notices))
    return Input(name, VQ, len(data), picture, info.quality, codec.model.name)


def compare(a: Input, b: Input, progress: Callable[[float], None] | None = None) -> Compared:
    """Every measure of `b` beside the reference `a`. Raises `BadPicture` if their sizes differ.

    `progress` gets the fraction done, 0 to 1.
    """
    before, after = a.picture, b.picture
    if before.pixels.shape != after.pixels.shape:
        sizes = [f"{side.name} has {side.picture.width} x {side.picture.height} pixels" for side in (a, b)]
        raise BadPicture(f"{' and '.join(sizes)}; only pictures of the same size can be compared")
    grey = before.mode == after.mode == "L"
    grounds = GROUNDS if _translucent(before) or _translucent(after) else (None,)
    layers = tuple(
        Layer(
            None if ground is None else ground.name, _laid_over(before, ground, grey), _laid_over(after, ground, grey)
        )
        for ground in grounds
    )
    found = []
    for index, layer in enumerate(layers, 1):
        found.append(measured(layer.before, layer.after))
        if progress is not None:
            progress(index / len(layers))
    return Compared(a, b, _worst(found), layers)


def _translucent(picture: Picture) -> bool:
    return picture.alpha is not None and bool((picture.alpha < 255).any())


def _laid_over(picture: Picture, ground: Ground | None, grey: bool) -> Samples:
    """The samples that are seen over a ground, [H, W, 3], or [H, W, 1] if `grey`; alpha weighs sRGB values."""
    samples = picture.pixels
    if picture.mode == "L":  # a decoder leaves the three channels slightly unequal
        samples = grey_of(samples)[:, :, None]
    if ground is not None and picture.alpha is not None:
        alpha = picture.alpha[:, :, None].astype(np.uint16)
        samples = ((samples * alpha + ground.level * (255 - alpha) + 127) // 255).astype(np.uint8)
    return samples if grey else np.broadcast_to(samples, (*samples.shape[:2], 3))


def _worst(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each measure the worst value; `nan` if one is not known."""
    worst = {}
    for measure in MEASURES:
        values = [each[measure.name] for each in found]
        bad = min(values) if measure.rising else max(values)
        worst[measure.name] = math.nan if any(map(math.isnan, values)) else bad
    return worst


def facts(side: Input) -> list[str]:
    """What a file is, for people: size in pixels and bytes, rate, model."""
    picture = side.picture
    colours = ("grey" if picture.mode == "L" else "RGB") + " + alpha" * (picture.alpha is not None)
    found = [f"{picture.width} x {picture.height} pixels", colours, f"{side.bytes:,} bytes", f"{side.bpp:.3f} bpp"]
    if side.quality is not None:
        found.append(f"model {side.model}, quality {side.quality}")
    return found


def shown(measure: Measure, value: float) -> str:
    """The value of a measure with its unit, for people: "inf" where it is infinite, "-" where it is not known."""
    if math.isnan(value):
        return "-"
    return f"{value:.{measure.digits}f}" + f" {measure.unit}" * bool(measure.unit)
