"""`Picture`, the input and output of the codec: 8-bit samples [H, W, 3], optional alpha, notices and metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vqcodec.picture.metadata import Metadata

__all__ = ["Picture", "grey_of"]

Samples = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class Picture:
    """A picture in the form that the codec uses. Raises `ValueError` for wrong shapes or types."""

    pixels: Samples  # [H, W, 3], sRGB unless there is a colour profile; a grey picture has three equal channels
    mode: Literal["RGB", "L"]  # the mode to decode to
    alpha: Samples | None = None  # [H, W], 255 is opaque; colours under alpha 0 are coded like others
    notices: tuple[str, ...] = ()  # what changed while reading, one line each
    metadata: Metadata = field(default_factory=Metadata)
    unasked: tuple[str, ...] = ()  # metadata of the file that was not asked for: "EXIF", "XMP"

    def __post_init__(self) -> None:
        shape, alpha = self.pixels.shape, self.alpha
        if self.pixels.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(f"pixels must be uint8 [H, W, 3], not {self.pixels.dtype} {list(shape)}")
        if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != shape[:2]):
            raise ValueError(f"alpha must be uint8 {list(shape[:2])}, not {alpha.dtype} {list(alpha.shape)}")

    @property
    def height(self) -> int:
        """Height in pixels."""
        return len(self.pixels)

    @property
    def width(self) -> int:
        """Width in pixels."""
        return len(self.pixels[0])

    @property
    def channels(self) -> int:
        """Number of colour channels of the original: 3, or 1 for grey. Alpha is not counted."""
        return 3 if self.mode == "RGB" else 1


def grey_of(pixels: Samples) -> Samples:
    """The rounded mean of three channels: [H, W, 3] -> [H, W]."""
    grey: Samples = ((pixels.sum(axis=2, dtype=np.uint16) + 1) // 3).astype(np.uint8)
    return grey
