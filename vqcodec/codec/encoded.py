"""The result of an encoder: the bytes of a .vq file, the quality that it reached, and notices.

In: a picture and its finished file. Out: `Encoded`. The decoded picture is computed from the codes, which the encoder
still has, and from the post-filter weights in the file. So one pass of the decoder network is enough, without reading
the payloads again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqcodec.codec.content import Content
from vqcodec.codec.judge import poor
from vqcodec.format import container
from vqcodec.limits import ANY_SIZE
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture

if TYPE_CHECKING:
    from vqcodec.codec.codec import Codec

__all__ = ["Encoded", "measured_file", "psnr_of_file"]

Samples = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Encoded:
    """A .vq file and what its encoder measured."""

    data: bytes
    psnr: float | None = None  # dB, infinite if the picture comes back exactly; None: not measured
    notices: tuple[str, ...] = ()
    ssimulacra2: float | None = None  # None: not measured, because it was not the target


def psnr_of_file(codec: Codec, picture: Picture, content: Content, data: bytes) -> float:
    """PSNR in dB of the picture that the file `data` decodes to, against its source; `inf` if they are equal.

    `content` is that of the file. Alpha does not count: it is stored without loss.
    """
    return psnr(picture.pixels, _decoded(codec, picture, content, data)[0])


def measured_file(codec: Codec, picture: Picture, content: Content, data: bytes) -> tuple[float, tuple[str, ...]]:
    """As `psnr_of_file`, and a notice if the picture comes out much worse than photographs do at the file's quality.

    Only models that state `expected_quality` have that notice.
    """
    decoded, quality = _decoded(codec, picture, content, data)
    reached, expected = psnr(picture.pixels, decoded), codec.model.config.expected_quality
    notice = poor(picture.pixels, decoded, expected[quality]) if expected and math.isfinite(reached) else None
    return reached, () if notice is None else (notice,)


def _decoded(codec: Codec, picture: Picture, content: Content, data: bytes) -> tuple[Samples, int]:
    """The pixels [H, W, 3] that a file decodes to, and its quality (0-based)."""
    file = container.unpack(data, ANY_SIZE)
    shape = (picture.height, picture.width)
    weights = codec.weights(file.postfilter)
    return codec.decode(content, file.quality + 1, shape, picture.mode, weights=weights), file.quality
