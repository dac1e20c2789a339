"""vqcodec: neural image compression that can be trusted with pictures.

    data = vqcodec.encode(image, quality=3)    # a PIL image -> the bytes of a .vq file
    image = vqcodec.decode(data)               # and back
    vqcodec.info(data)                         # what the header says

All errors that are raised on purpose are a `vqcodec.VqError`. Importing this module is cheap: torch is loaded when the
first picture is coded.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from vqcodec.errors import BadFile, BadPicture, ModelError, VqError

if TYPE_CHECKING:
    from PIL.Image import Image

    from vqcodec.codec import Codec, Info

__version__ = "0.1.0"
__all__ = ["BadFile", "BadPicture", "ModelError", "VqError", "__version__", "decode", "encode", "info"]


def encode(
    image: Image,
    quality: int | None = None,
    model: str | Path = "photo",
    *,
    keep_metadata: bool = False,
    keep_location: bool = False,
) -> bytes:
    """The bytes of a .vq file of a PIL image.

    `quality` counts from 1 (smallest file); None is the model's default. `model` is a bundled model's name or a
    model's folder. `keep_metadata` keeps EXIF, XMP and the colour profile, without the location unless there is also
    `keep_location`. Raises `VqError`.
    """
    from vqcodec.image import from_image
    from vqcodec.metadata import Keep

    return _codec(model).compress(from_image(image, Keep(keep_metadata, keep_location)), quality)


def decode(data: bytes, model: str | Path | None = None) -> Image:
    """The picture of a .vq file, as a PIL image of mode L, LA, RGB or RGBA, with its metadata in `info`.

    The model is found by the digest in the file; one that is not in the package must be named. Raises `VqError`.
    """
    from vqcodec.codec import model_for
    from vqcodec.image import to_image

    return to_image(_codec(model or model_for(data).path).decompress(data))


def info(data: bytes) -> Info:
    """What the header of a .vq file says: size, quality, model, bytes of each unit. Raises `VqError`."""
    from vqcodec.codec import describe

    return describe(data)


@lru_cache(maxsize=2)  # a loaded model is tens of megabytes; few programs use more than two
def _codec(model: str | Path) -> Codec:
    from vqcodec.codec import Codec
    from vqcodec.store import open_model

    return Codec(open_model(model))
