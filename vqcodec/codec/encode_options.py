"""What an encoder is asked for: a quality or one target, an effort, and the metadata to keep.

In: the options of a command or of a function. Out: `EncodeOptions`, and by `compress` the bytes of a .vq file. The
command line and the Python functions both compress here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vqcodec.errors import UsageError
from vqcodec.picture.metadata import Keep
from vqcodec.progress import Progress

if TYPE_CHECKING:  # both load numpy
    from vqcodec.codec.codec import Codec
    from vqcodec.codec.rate_control import Target
    from vqcodec.picture.picture import Picture

__all__ = ["EncodeOptions", "compress"]


@dataclass(frozen=True)
class EncodeOptions:
    """What `compress` was asked for: a quality, or one target; and what to keep beside the samples."""

    quality: int | None = None
    effort: int | None = None
    bpp: float | None = None  # targets, for the whole file
    size: int | None = None  # bytes
    psnr: float | None = None  # dB
    keep: Keep = field(default_factory=Keep)

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.quality, self.bpp, self.size, self.psnr)) > 1:
            raise UsageError("give one of -q, --target-bpp, --target-size and --target-psnr")
        for value in (self.bpp, self.size, self.psnr):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"a target must be more than 0, not {value:g}")

    def target(self, picture: Picture) -> Target | None:
        """The target in the search's terms. Raises `UsageError`."""
        from vqcodec.codec.rate_control import Target

        if self.psnr is not None:
            return Target("psnr", self.psnr)
        if self.bpp is not None:
            return Target("bytes", self.bpp * picture.height * picture.width / 8)
        return None if self.size is None else Target("bytes", self.size)


def compress(codec: Codec, picture: Picture, options: EncodeOptions, progress: Progress | None = None) -> bytes:
    """The bytes of a .vq file of a picture. Raises `UsageError` where the model cannot do what was asked for."""
    from vqcodec.codec.codec import DEFAULT_EFFORT
    from vqcodec.codec.rate_control import compress_to

    effort = DEFAULT_EFFORT if options.effort is None else options.effort
    target = options.target(picture)
    if target is None:
        return codec.compress(picture, options.quality, progress, effort)
    return compress_to(codec, picture, target, progress, effort)
