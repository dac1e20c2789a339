"""A target of the encoder: a bound of the file size, of the SSIMULACRA2 or of the PSNR.

In: a kind and a value. Out: how far a figure of a file is from it. It loads neither numpy nor torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vqcodec.errors import UsageError

__all__ = ["Kind", "Target"]

Kind = Literal["bytes", "psnr", "ssimulacra2"]

TOLERANCES = {"psnr": 0.05, "ssimulacra2": 0.5}  # how far above a lower bound a figure meets the target


@dataclass(frozen=True)
class Target:
    """An upper bound of the file size, or a lower bound of the quality; the result should lie close to the bound.

    `misses_by` defines "close". A small picture has few possible sizes and qualities, perhaps none of them so close;
    then the nearest one that keeps the bound is accepted. Raises `UsageError` for a size or a PSNR that is not
    a positive number, and for a score that is not a number of at most 100.
    """

    kind: Kind
    value: float  # bytes of the whole file, dB, or a score of at most 100

    def __post_init__(self) -> None:
        if self.kind == "ssimulacra2":
            if not (math.isfinite(self.value) and self.value <= 100):
                # The names are those of the author: https://github.com/cloudinary/ssimulacra2
                raise UsageError(
                    f"SSIMULACRA2 is a number of at most 100, not {self.value:g}; "
                    "usual values are 30 (low quality), 50 (medium), 70 (high) and 90 (visually lossless)"
                )
        elif not (math.isfinite(self.value) and self.value > 0):
            raise UsageError(f"a target must be more than 0, not {self.value:g}")

    def misses_by(self, figure: float) -> float:
        """0 if the figure (bytes, dB or score) meets the target, else its distance: positive if it is too large.

        A size meets the target from 2 % (or 16 bytes, if that is more) below it up to the target itself; a PSNR from
        the target up to 0.05 dB above it, and an SSIMULACRA2 up to 0.5 above it. The distance is that of `_scaled`.
        """
        if self.kind == "bytes":
            low, high, centre = min(0.98 * self.value, self.value - 16), self.value, 0.99 * self.value
        else:
            low, high = self.value, self.value + TOLERANCES[self.kind]
            centre = (low + high) / 2
        return 0.0 if low <= figure <= high else self._scaled(figure) - self._scaled(centre)

    def _scaled(self, figure: float) -> float:
        """The figure on a scale on which neighbouring qualities of a model have about equal distances.

        log bytes, dB, or -log(101 - score), which is finite for all scores.
        """
        if self.kind == "psnr":
            return figure
        return math.log(figure) if self.kind == "bytes" else -math.log(101 - figure)

    def holds(self, miss: float) -> bool:
        """Whether a figure with that distance, from `misses_by`, keeps the bound."""
        return miss <= 0 if self.kind == "bytes" else miss >= 0

    def text(self, figure: float) -> str:
        """The figure with its unit."""
        if self.kind == "bytes":
            return f"{figure:,.0f} bytes"
        return f"{figure:.2f} dB" if self.kind == "psnr" else f"SSIMULACRA2 {figure:.2f}"
