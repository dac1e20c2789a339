"""Codecs that lose nothing, for `bench --lossless`: the table of those that Pillow, or a plugin for it, writes.

In: a `Picture`, with alpha or without. Out: the bytes of a file that gives back every sample, and the picture in it.
They have no qualities: their only one is 0. To add another codec, add an entry to `LOSSLESS_PEERS`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vqcodec.bench.pillow_peer import PillowPeer
from vqcodec.errors import VqError

if TYPE_CHECKING:
    from PIL import Image

    from vqcodec.picture.picture import Picture

__all__ = ["LOSSLESS_PEERS", "REFERENCE", "LosslessPeer", "lossless_peer"]

REFERENCE = "png"  # the codec that the sizes of the others are compared with
_COLOURS = 256  # a PNG with at most so many stores an index for each pixel


@dataclass(frozen=True, kw_only=True)
class LosslessPeer(PillowPeer):
    """A codec of the table `LOSSLESS_PEERS`, which keeps alpha, too."""

    qualities: tuple[float, ...] = (0,)
    span: tuple[float, float] = (0, 0)
    whole: bool = True
    keeps_alpha: bool = True

    def decompress(self, data: bytes) -> Picture:
        """Decode a file to RGB and, if it has any, alpha. Raises `VqError`."""
        import numpy as np
        from PIL import Image

        from vqcodec.picture.picture import Picture

        try:
            self.prepare()
            with Image.open(io.BytesIO(data), formats=(self.format,)) as image:
                if not image.has_transparency_data:
                    return Picture(np.array(image.convert("RGB")), "RGB")
                samples = np.array(image.convert("RGBA"))
                return Picture(samples[:, :, :3].copy(), "RGB", samples[:, :, 3].copy())
        except MemoryError:
            raise
        except Exception as error:  # Pillow's readers raise many types
            raise VqError(f"{self.name} cannot read its own file ({error or type(error).__name__})") from error


class PngPeer(LosslessPeer):
    """PNG as Pillow optimises it; with a palette as well where there are at most 256 colours, if that is smaller."""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a file. Raises what Pillow's writer raises."""
        plain = super().encode(image, quality)
        indexed = _indexed(image)
        return plain if indexed is None else min(plain, super().encode(indexed, quality), key=len)


def _indexed(image: Image.Image) -> Image.Image | None:
    """An RGB image with at most 256 colours as indices into a palette, exactly; None for every other image."""
    import numpy as np
    from PIL import Image

    if image.mode != "RGB":
        return None
    samples = np.asarray(image).astype(np.uint32)
    packed = samples[:, :, 0] << 16 | samples[:, :, 1] << 8 | samples[:, :, 2]
    colours, indices = np.unique(packed, return_inverse=True)
    if len(colours) > _COLOURS:
        return None
    found = Image.fromarray(indices.reshape(packed.shape).astype(np.uint8)).convert("P")
    found.putpalette(np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8).tobytes())
    return found


def _jxl(name: str, effort: int) -> LosslessPeer:
    """JPEG XL without loss at one effort of the encoder."""
    options: dict[str, Any] = {"lossless": True, "effort": effort}
    return LosslessPeer(
        name=name,
        family="jxl",
        format="JXL",
        settings=f"lossless, effort {effort}",
        options=lambda _: options,
        plugin="jxl",
        threads_option="num_threads",
    )


LOSSLESS_PEERS: tuple[LosslessPeer, ...] = (
    PngPeer(
        name=REFERENCE,
        family="png",
        format="PNG",
        settings="optimised; a palette where 256 colours suffice",
        options=lambda _: {"optimize": True},
        library="zlib",
    ),
    LosslessPeer(
        name="webp-lossless",
        family="webp",
        format="WEBP",
        settings="lossless, quality 100, method 6, exact",
        options=lambda _: {"lossless": True, "quality": 100, "method": 6, "exact": True},
        library="webp",
    ),
    _jxl("jxl-lossless", 7),
    _jxl("jxl-lossless-9", 9),
)


def lossless_peer(name: str) -> LosslessPeer | None:
    """The entry of `LOSSLESS_PEERS` with this name, or None."""
    return next((entry for entry in LOSSLESS_PEERS if entry.name == name), None)
