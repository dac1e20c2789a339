"""Encoder options: a quality or one target, an effort, and the metadata to keep.

In: the options of a command or of a function. Out: `EncodeOptions`; and, from `compress`, a .vq file as `Encoded`. The
command line and the Python functions both use this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vqcodec.codec.target import Kind, Target
from vqcodec.errors import UsageError
from vqcodec.picture.metadata import Keep
from vqcodec.progress import Progress, share_of

if TYPE_CHECKING:  # these load numpy, which takes time
    from vqcodec.codec.codec import Codec
    from vqcodec.codec.encoded import Encoded
    from vqcodec.picture.picture import Picture

__all__ = ["EncodeOptions", "compress"]


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `compress`: a quality or one target, the effort, and the metadata to keep.

    Raises `UsageError` if more than one of quality and targets is given, or a target is no possible figure.
    """

    quality: int | None = None  # from 1; None: the model's default
    effort: int | None = None  # None: `DEFAULT_EFFORT`
    bpp: float | None = None  # target: bits per pixel of the whole file
    size: int | None = None  # target: bytes of the whole file
    psnr: float | None = None  # target: dB
    ssimulacra2: float | None = None  # target: at most 100
    keep: Keep = field(default_factory=Keep)
    lossless: bool = False  # store every pixel without loss, in the place of a quality

    def __post_init__(self) -> None:
        targets: tuple[tuple[Kind, float | None], ...] = (
            ("bytes", self.bpp),
            ("bytes", self.size),
            ("psnr", self.psnr),
            ("ssimulacra2", self.ssimulacra2),
        )
        if self.lossless and not self.keep.hidden_colours:  # they are part of the picture
            object.__setattr__(self, "keep", replace(self.keep, hidden_colours=True))
        given = [Target(kind, value) for kind, value in targets if value is not None]  # checks the values
        if len(given) + (self.quality is not None) + self.lossless > 1:
            raise UsageError(
                "give one of -q, --lossless, --target-bpp, --target-size, --target-psnr and --target-ssimulacra2"
            )

    @property
    def has_target(self) -> bool:
        """Whether a target takes the place of the quality."""
        return any(value is not None for value in (self.bpp, self.size, self.psnr, self.ssimulacra2))

    def target(self, picture: Picture) -> Target | None:
        """The target for `rate_control`; None if no target is given."""
        if self.psnr is not None:
            return Target("psnr", self.psnr)
        if self.ssimulacra2 is not None:
            return Target("ssimulacra2", self.ssimulacra2)
        if self.bpp is not None:
            return Target("bytes", self.bpp * picture.height * picture.width / 8)
        return None if self.size is None else Target("bytes", self.size)


def compress(
    codec: Codec, picture: Picture, options: EncodeOptions, progress: Progress | None = None, *, measure: bool = False
) -> Encoded:
    """Compress a picture to a .vq file. `measure`: also compute its PSNR, by one pass of the decoder network.

    Raises `UsageError` if the model cannot meet the options.
    """
    from vqcodec.codec.codec import DECODER, DEFAULT_EFFORT, PACKING
    from vqcodec.codec.encoded import Encoded, measured_file
    from vqcodec.codec.rate_control import compress_to

    effort = DEFAULT_EFFORT if options.effort is None else options.effort
    target = options.target(picture)
    if target is not None:
        return compress_to(codec, picture, target, progress, effort, measure=measure)
    coded = share_of(progress, 0, PACKING / (PACKING + DECODER) if measure else 1)
    data, content = codec.compress_keeping_content(picture, options.quality, coded, effort, lossless=options.lossless)
    psnr, notices = measured_file(codec, picture, content, data) if measure else (None, ())
    encoded = Encoded(data, psnr, notices)
    if progress:
        progress(1.0)
    return encoded
