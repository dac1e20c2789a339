"""Codecs to compare, behind one interface: common formats through Pillow, and every vqcodec model.

In: a `Picture` and a quality on the codec's own scale, or a target size in bytes. Out: the bytes of a file; and from
bytes back to a `Picture`. To add another codec that Pillow can write, add an entry to `PEERS`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vqcodec.errors import VqError

if TYPE_CHECKING:
    from vqcodec.model.store import Model
    from vqcodec.picture.picture import Picture

__all__ = ["PEERS", "Encoded", "ModelPeer", "Peer", "PillowPeer", "peer"]

TOLERANCE = 0.02  # relative to the target size
TRIALS = 16  # of the bisection, at most


class Encoded(NamedTuple):
    """A file near the target size, and the quality used. `note`: a remark if the size is outside the tolerance."""

    data: bytes
    quality: float
    note: str | None


class Peer(Protocol):
    """A codec that can be measured. `model` is None for codecs other than vqcodec."""

    @property
    def model(self) -> Model | None: ...

    def compress(self, picture: Picture, quality: float) -> bytes:
        """The bytes of a file. Raises `VqError`."""

    def compress_to(self, picture: Picture, size: float) -> Encoded:
        """A file of at most `size` bytes, as near to it as possible. Raises `VqError` if the size cannot be met."""

    def decompress(self, data: bytes) -> Picture:
        """Decode a file. Raises `VqError`."""


@dataclass(frozen=True)
class PillowPeer:
    """A codec that Pillow, or a plugin for it, writes and reads. Higher qualities are better."""

    name: str
    format: str  # Pillow's name of the format
    qualities: tuple[float, ...]  # of the points of a curve, in ascending order
    span: tuple[float, float]  # the lowest and the highest valid quality
    settings: str  # for display
    options: Callable[[float], Mapping[str, Any]]  # quality -> options of Image.save
    whole: bool = False  # qualities must be whole numbers
    library: str | None = None  # the underlying library, by Pillow's name
    package: str | None = None  # name of the plugin in the package index
    module: str | None = None  # module of the plugin to import
    register: str | None = None  # function of that module that registers the format
    threads_option: str | None = None  # option of Image.save for the number of threads
    threads: int = 1

    @property
    def model(self) -> Model | None:
        """None: not a vqcodec model."""
        return None

    def missing(self) -> str | None:
        """Why this codec cannot be used on this machine, or None."""
        from PIL import Image

        if self.module is not None:
            try:
                self._load()
            except ImportError:
                return f"{self.package} is not installed; run: pip install 'vqcodec[bench]'"
        try:
            Image.new("RGB", (16, 16)).save(io.BytesIO(), self.format, **self.options(self.qualities[0]))
        except Exception:  # KeyError for an unknown format; a missing library raises various exceptions
            return f"this Pillow cannot write {self.format}"
        return None

    def versions(self) -> dict[str, str]:
        """Versions of Pillow, the library and the plugin. A change of any of them may change the figures."""
        from PIL import features

        found = {"Pillow": version("pillow")}
        if self.library is not None:
            found[self.library] = str(features.version(self.library))
        if self.package is not None:
            try:
                found[self.package] = version(self.package)
            except PackageNotFoundError:
                found[self.package] = "unknown"
        return found

    def compress(self, picture: Picture, quality: float) -> bytes:
        """The bytes of a file. Raises `VqError`, also for a picture with transparency.

        vqcodec stores alpha exactly. Not every format does, so the sizes would not be comparable.
        """
        from vqcodec.picture.write import to_image

        if picture.alpha is not None:
            raise VqError(f"{self.name} is only measured on pictures without transparency")
        self._load()
        options = dict(self.options(quality))
        if self.threads_option is not None:
            options[self.threads_option] = self.threads
        stream = io.BytesIO()
        try:
            to_image(picture).save(stream, self.format, **options)
        except Exception as error:  # Pillow's writers raise many types
            raise VqError(f"{self.name} cannot write this picture ({error or type(error).__name__})") from error
        return stream.getvalue()

    def compress_to(self, picture: Picture, size: float) -> Encoded:
        """A file of at most `size` bytes, found by bisection over the quality; at least 98 % of `size` if possible.

        If no quality gives a size within this range, the result is the nearest one, with a note if it is more than 2 %
        off. Raises `VqError` if `size` is more than 2 % outside the range of sizes that the codec can produce.
        """
        low, high = self.span
        tried: dict[float, bytes] = {}

        def trial(quality: float) -> int:
            tried.setdefault(quality, b"")
            tried[quality] = tried[quality] or self.compress(picture, quality)
            return len(tried[quality])

        for _ in range(TRIALS):
            middle = (low + high) / 2
            quality = math.floor(middle) if self.whole else middle
            if quality in tried:
                break
            found = trial(quality)
            if (1 - TOLERANCE) * size <= found <= size:
                return Encoded(tried[quality], quality, None)
            low, high = (quality, high) if found < size else (low, quality)
        for end in self.span:  # bisection approaches an end of the range but does not try it
            if end in (low, high):
                trial(end)
        quality = min(tried, key=lambda q: abs(math.log(len(tried[q]) / size)))
        miss = len(tried[quality]) / size - 1
        sizes = [len(data) for data in tried.values()]
        if abs(miss) > TOLERANCE and not min(sizes) < size < max(sizes):
            kind, end = ("smallest", min(sizes)) if min(sizes) > size else ("largest", max(sizes))
            raise VqError(f"{size:,.0f} bytes cannot be met: the {kind} file {self.name} makes is {end:,} bytes")
        return Encoded(tried[quality], quality, _note(miss))

    def decompress(self, data: bytes) -> Picture:
        """Decode a file to RGB. Raises `VqError`."""
        import numpy as np
        from PIL import Image

        from vqcodec.picture.picture import Picture

        self._load()
        try:
            with Image.open(io.BytesIO(data)) as image:
                return Picture(np.array(image.convert("RGB")), "RGB")
        except Exception as error:  # Pillow's readers raise many types
            raise VqError(f"{self.name} cannot read its own file ({error or type(error).__name__})") from error

    def _load(self) -> None:
        """Import the plugin and register its format with Pillow."""
        if self.module is not None:
            module = import_module(self.module)
            if self.register is not None:
                getattr(module, self.register)()


def _note(miss: float) -> str | None:
    """A note about a file whose size is off by this share of the target size; None within the tolerance."""
    if abs(miss) <= TOLERANCE:
        return None
    return f"{abs(miss):.1%} {'over' if miss > 0 else 'under'}: no quality gives a nearer size"


class ModelPeer:
    """A vqcodec model at one effort (None: the default)."""

    def __init__(self, model: Model, effort: int | None = None) -> None:
        from vqcodec.codec.codec import Codec

        self.model = model
        self.effort = effort
        self._codec = Codec(model)

    def compress(self, picture: Picture, quality: float) -> bytes:
        """The bytes of a .vq file. Raises `VqError`."""
        if self.effort is None:
            return self._codec.compress(picture, int(quality))
        return self._codec.compress(picture, int(quality), effort=self.effort)

    def compress_to(self, picture: Picture, size: float) -> Encoded:
        """A .vq file of at most `size` bytes, as near to it as possible. Raises `VqError` if the size cannot be met."""
        from vqcodec.codec.codec import DEFAULT_EFFORT
        from vqcodec.codec.describe import describe
        from vqcodec.codec.rate_control import Target, compress_to

        effort = DEFAULT_EFFORT if self.effort is None else self.effort
        found = compress_to(self._codec, picture, Target("bytes", size), None, effort)
        if found.notices:  # the largest file is smaller: codecs are compared at equal sizes
            raise VqError(f"{size:,.0f} bytes cannot be met: {found.notices[0]}")
        return Encoded(found.data, describe(found.data).quality, _note(len(found.data) / size - 1))

    def decompress(self, data: bytes) -> Picture:
        """Decode a .vq file. Raises `VqError`."""
        return self._codec.decompress(data)


# The quantisation tables of the standard (ITU-T T.81, annex K.1), which libjpeg scales; 8 x 8, row by row.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, *[99] * 38,
)  # fmt: skip


def _jpeg(quality: float) -> dict[str, Any]:
    """Options of Image.save for JPEG.

    A whole quality is passed to libjpeg. In between, libjpeg's tables are scaled more finely, so that a target size can
    be matched closely.
    """
    options: dict[str, Any] = {"optimize": True, "progressive": True}
    if quality == int(quality):
        return options | {"quality": int(quality)}
    scale = round(5000 / quality if quality < 50 else 200 - 2 * quality, 6)
    tables = [[min(255, max(1, int((q * scale + 50) / 100))) for q in table] for table in (_LUMA, _CHROMA)]
    return options | {"qtables": tables}


PEERS = (
    PillowPeer(
        name="jpeg",
        format="JPEG",
        qualities=(5, 10, 20, 40, 60, 80, 90),
        span=(1, 95),
        settings="optimised, progressive, 4:2:0",
        options=_jpeg,
        library="libjpeg_turbo",
    ),
    PillowPeer(
        name="jpeg2000",
        format="JPEG2000",
        qualities=(26, 28, 30, 32, 34, 37, 40),
        span=(15, 50),
        settings="9/7 wavelet; quality is the PSNR that the encoder aims at",
        options=lambda quality: {"irreversible": True, "quality_mode": "dB", "quality_layers": [quality]},
        library="jpg_2000",
    ),
    PillowPeer(
        name="webp",
        format="WEBP",
        qualities=(1, 5, 20, 40, 60, 80, 90),
        span=(0, 100),
        settings="method 6",
        options=lambda quality: {"quality": quality, "method": 6},
        library="webp",
    ),
    PillowPeer(
        name="avif",
        format="AVIF",
        qualities=(10, 20, 35, 50, 65, 80, 90),
        span=(0, 99),
        settings="speed 6, 4:2:0",
        options=lambda quality: {"quality": int(quality), "speed": 6, "subsampling": "4:2:0"},
        whole=True,
        library="avif",
        threads_option="max_threads",
    ),
    PillowPeer(
        name="jxl",
        format="JXL",
        qualities=(5, 20, 35, 50, 65, 80, 90),
        span=(0, 99),
        settings="effort 7",
        options=lambda quality: {"quality": quality, "effort": 7},
        package="pillow-jxl-plugin",
        module="pillow_jxl",
        threads_option="num_threads",
    ),
    PillowPeer(
        name="heic",
        format="HEIF",
        qualities=(15, 25, 35, 45, 55, 65),
        span=(0, 99),
        settings="x265, 4:2:0",
        options=lambda quality: {"quality": int(quality), "chroma": 420},
        whole=True,
        package="pillow-heif",
        module="pillow_heif",
        register="register_heif_opener",
    ),
)


def peer(name: str) -> PillowPeer | None:
    """The entry of `PEERS` with this name, or None."""
    return next((entry for entry in PEERS if entry.name == name), None)
