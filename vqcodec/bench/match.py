"""Targets that every codec of a run meets: the option `--match`, and the measures that it can ask for.

In: text such as "0.3" or "ssimulacra2=70". Out: a `Match`; and for two pictures the figure of its measure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from vqcodec.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vqcodec.picture.picture import Picture

__all__ = ["Match", "read_match", "samples"]

_TITLES = {"bpp": "bpp", "ssimulacra2": "SSIMULACRA2", "psnr": "PSNR"}
_RANGES = {"bpp": (0, 1000), "ssimulacra2": (-math.inf, 100), "psnr": (0, 100)}  # exclusive


@dataclass(frozen=True)
class Match:
    """A target: the largest rate ("bpp"), or the lowest SSIMULACRA2 or PSNR (dB) of the decoded picture.

    A codec encodes to at most that rate, or to the smallest file that is at least as good.
    """

    measure: Literal["bpp", "ssimulacra2", "psnr"]
    value: float

    @property
    def by_rate(self) -> bool:
        """Whether files have equal sizes, instead of equal quality."""
        return self.measure == "bpp"

    def __str__(self) -> str:
        """For titles: "0.3 bpp", "SSIMULACRA2 70", "PSNR 35 dB"."""
        if self.by_rate:
            return f"{self.value:g} bpp"
        return f"{_TITLES[self.measure]} {self.value:g}" + (" dB" if self.measure == "psnr" else "")

    def figure(self, before: Picture, after: Picture) -> float:
        """The measure, other than bpp, of a decoded picture; nan where it is not defined."""
        from vqcodec.picture.metrics import psnr
        from vqcodec.picture.ssimulacra2 import ssimulacra2

        measure = psnr if self.measure == "psnr" else ssimulacra2
        return measure(samples(before), samples(replace(after, mode=before.mode)))


def read_match(text: str) -> Match:
    """A target from "0.3" (bits per pixel) or "ssimulacra2=70" or "psnr=35". Raises `UsageError`."""
    name, equals, number = text.rpartition("=")
    measure = name.strip().lower() if equals else "bpp"
    if measure not in _TITLES:
        raise UsageError(f"--match {text}: use a rate such as 0.3 (bits per pixel), ssimulacra2=70 or psnr=35")
    try:
        value = float(number)
    except ValueError:
        raise UsageError(f"--match {text}: {number!r} is not a number") from None
    low, high = _RANGES[measure]
    if not low < value < high:
        names = "bits per pixel" if measure == "bpp" else _TITLES[measure]
        floor = "" if math.isinf(low) else f"above {low:g} and "
        raise UsageError(f"--match {text}: {names} must be {floor}below {high:g}")
    return Match(measure, value)  # type: ignore[arg-type]


def samples(picture: Picture) -> NDArray[np.uint8]:
    """The colour samples of a picture without its alpha: [H, W, 3], or [H, W, 1] for a grey picture."""
    import numpy as np

    from vqcodec.picture.write import to_image

    found = np.asarray(to_image(replace(picture, alpha=None)))
    return found.reshape(picture.height, picture.width, picture.channels)
