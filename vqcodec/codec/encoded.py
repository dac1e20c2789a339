"""The result of an encoder: the bytes of a .vq file, the quality that it reached, and notices.

In: a picture and its finished file. Out: `Encoded`. The decoded picture is computed from the codes, which the encoder
still has, and from the post-filter weights in the file. So one pass of the decoder network is enough, without reading
the payloads again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vqcodec.coding.integer_prior import Codes
from vqcodec.format import container
from vqcodec.limits import ANY_SIZE
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture

if TYPE_CHECKING:
    from vqcodec.codec.codec import Codec

__all__ = ["Encoded", "psnr_of_file"]


@dataclass(frozen=True)
class Encoded:
    """A .vq file and what its encoder measured."""

    data: bytes
    psnr: float | None = None  # dB, infinite if the picture comes back exactly; None: not measured
    notices: tuple[str, ...] = ()
    ssimulacra2: float | None = None  # None: not measured, because it was not the target


def psnr_of_file(codec: Codec, picture: Picture, codes: Codes, data: bytes) -> float:
    """PSNR in dB of the picture that the file `data` decodes to, against its source; `inf` if they are equal.

    `codes` [G, h, w] are those of the file. Alpha does not count: it is stored without loss.
    """
    file = container.unpack(data, ANY_SIZE)
    shape = (picture.height, picture.width)
    weights = codec.weights(file.postfilter)
    return psnr(picture.pixels, codec.render(codes, file.quality + 1, shape, picture.mode, weights=weights))
