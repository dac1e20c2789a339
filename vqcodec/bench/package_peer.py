"""JPEG encoders from Python packages of their own: jpegli and mozjpeg. In: a picture and a quality. Out: a JPEG.

Pillow decodes the files, as most programs do that show a JPEG.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from vqcodec.bench.listed_peer import ListedPeer, probe_picture
from vqcodec.bench.pillow_peer import package_versions

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PackagePeer", "jpegli", "mozjpeg", "without_mozjpeg"]


@dataclass(frozen=True, kw_only=True)
class PackagePeer(ListedPeer):
    """A JPEG encoder that a Python package brings."""

    packages: tuple[str, ...]  # that are needed, by their names in the package index
    encoder: Callable[[Image.Image, int], bytes]  # picture, quality -> the bytes of a file
    unfit: Callable[[], str | None] = lambda: None  # why the installed package does not do, if so

    def missing(self) -> str | None:
        """Why this codec cannot be used on this machine, or None."""
        try:
            self.encoder(probe_picture(), int(self.qualities[0]))
        except ImportError:
            return f"{self.packages[0]} is not installed; run: pip install 'vqcodec[bench]'"
        except Exception as error:  # a library that does not load or work raises various exceptions
            return f"{self.packages[0]} does not work here ({error or type(error).__name__})"
        return self.unfit()

    def versions(self) -> dict[str, str]:
        """Versions of the packages, and of Pillow, which decodes."""
        return {"Pillow": version("pillow")} | package_versions(*self.packages)

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a JPEG. Raises what the package raises."""
        return self.encoder(image, int(quality))


def jpegli(image: Image.Image, quality: int) -> bytes:
    """A JPEG by jpegli, at the settings that the package pyjpegli has: sequential, 4:2:0, and RGB for grey, too."""
    import pyjpegli

    data: bytes = pyjpegli.encode(image.convert("RGB").tobytes(), image.width, image.height, quality=quality)
    return data


def mozjpeg(image: Image.Image, quality: int) -> bytes:
    """A JPEG by mozjpeg, at the settings of its own program `cjpeg`, through libvips."""
    trellis: dict[str, Any] = {"trellis_quant": True, "overshoot_deringing": True, "optimize_scans": True}
    return _vips(image, quality, optimize_coding=True, interlace=True, quant_table=3, **trellis)


def without_mozjpeg() -> str | None:
    """Why libvips does not encode with mozjpeg, or None: a libvips that was built without it ignores the settings."""
    image = probe_picture()
    if _vips(image, 50, trellis_quant=True) != _vips(image, 50, trellis_quant=False):
        return None
    return "the installed libvips was built without mozjpeg; run: pip install 'vqcodec[bench]'"


def _vips(image: Image.Image, quality: int, **options: Any) -> bytes:
    """A JPEG by libvips, 4:2:0 at every quality, without metadata."""
    import pyvips

    bands = len(image.getbands())
    source = pyvips.Image.new_from_memory(image.tobytes(), image.width, image.height, bands, "uchar")
    source = source.copy(interpretation="srgb" if bands == 3 else "b-w")
    data: bytes = source.jpegsave_buffer(Q=quality, keep="none", subsample_mode="on", **options)
    return data
