"""The result of an encoder: the bytes of a .vq file, the quality that it reached, and notices.

In: a picture and its finished file. Out: `Encoded`. The decoded picture is computed from the codes, which the encoder
still has, and from the post-filter weights in the file. So one pass of the decoder network is enough, without reading
the payloads again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vqcodec.codec.content import Content
from vqcodec.codec.judge import poor
from vqcodec.format import container
from vqcodec.limits import ANY_SIZE
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture

if TYPE_CHECKING:
    from vqcodec.codec.codec import Codec

__all__ = ["Encoded", "measured_file"]


@dataclass(frozen=True)
class Encoded:
    """A .vq file and what its encoder measured."""

    data: bytes
    psnr: float | None = None  # dB, infinite if the picture comes back exactly; None: not measured
    notices: tuple[str, ...] = ()
    ssimulacra2: float | None = None  # None: not measured, because it was not the target


def measured_file(codec: Codec, picture: Picture, content: Content, data: bytes) -> tuple[float, tuple[str, ...]]:
    """PSNR in dB of the picture that the file `data` decodes to, against its source, and notices.

    The PSNR is `inf` if both are equal. `content` is that of the file. Alpha does not count: it is stored without loss.
    There is a notice if the picture comes out much worse than photographs do at the file's quality, from models that
    state `expected_quality`.
    """
    file = container.unpack(data, ANY_SIZE)
    shape, quality = (picture.height, picture.width), file.quality
    weights = codec.weights(file.postfilter)
    decoded = codec.decode(content, quality + 1, shape, picture.mode, weights=weights)
    reached, expected = psnr(picture.pixels, decoded), codec.model.config.expected_quality
    notice = poor(picture.pixels, decoded, expected[quality]) if expected and math.isfinite(reached) else None
    return reached, () if notice is None else (notice,)
