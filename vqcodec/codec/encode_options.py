"""Encoder options: a quality or one target, an effort, and the metadata to keep.

In: the options of a command or of a function. Out: `EncodeOptions`; and, from `compress`, the bytes of a .vq file. The
command line and the Python functions both use this module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vqcodec.errors import UsageError
from vqcodec.picture.metadata import Keep
from vqcodec.progress import Progress

if TYPE_CHECKING:  # these load numpy, which takes time
    from vqcodec.codec.codec import Codec
    from vqcodec.codec.rate_control import Target
    from vqcodec.picture.picture import Picture

__all__ = ["EncodeOptions", "compress"]


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `compress`: a quality or one target, the effort, and the metadata to keep.

    Raises `UsageError` if more than one of quality and targets is given, or a target is not a positive number.
    """

    quality: int | None = None  # from 1; None: the model's default
    effort: int | None = None  # None: `DEFAULT_EFFORT`
    bpp: float | None = None  # target: bits per pixel of the whole file
    size: int | None = None  # target: bytes of the whole file
    psnr: float | None = None  # target: dB
    keep: Keep = field(default_factory=Keep)

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.quality, self.bpp, self.size, self.psnr)) > 1:
            raise UsageError("give one of -q, --target-bpp, --target-size and --target-psnr")
        for value in (self.bpp, self.size, self.psnr):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"a target must be more than 0, not {value:g}")

    def target(self, picture: Picture) -> Target | None:
        """The target for `rate_control`; None if no target is given. Raises `UsageError`."""
        from vqcodec.codec.rate_control import Target

        if self.psnr is not None:
            return Target("psnr", self.psnr)
        if self.bpp is not None:
            return Target("bytes", self.bpp * picture.height * picture.width / 8)
        return None if self.size is None else Target("bytes", self.size)


def compress(codec: Codec, picture: Picture, options: EncodeOptions, progress: Progress | None = None) -> bytes:
    """Compress a picture to the bytes of a .vq file. Raises `UsageError` if the model cannot meet the options."""
    from vqcodec.codec.codec import DEFAULT_EFFORT
    from vqcodec.codec.rate_control import compress_to

    effort = DEFAULT_EFFORT if options.effort is None else options.effort
    target = options.target(picture)
    if target is None:
        return codec.compress(picture, options.quality, progress, effort)
    return compress_to(codec, picture, target, progress, effort)
