"""The measures by which pictures are compared, best agreement with people first: two pictures -> every measure by name.

In: a picture before and after coding, 8-bit samples. Out: numbers by the names of `MEASURES`; `nan` where a measure is
not defined for the size, or its program is not installed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from vqcodec.picture import butteraugli, metrics, ssimulacra2

__all__ = ["MEASURES", "Measure", "measured"]


@dataclass(frozen=True)
class Measure:
    """How a measure is called and shown. `rising`: higher is better."""

    name: str  # in Python, JSON and CSV
    title: str  # for people
    unit: str  # "" if it has none
    digits: int  # after the decimal point
    rising: bool

    def on_axis(self, value: float) -> float:
        """The value on the axis of a rate-distortion curve, where higher is better.

        MS-SSIM in dB, -10 log10(1 - MS-SSIM), because its values crowd below 1. Butteraugli negated. Others unchanged.
        """
        if self.name == "ms_ssim":
            return math.inf if value >= 1 else -10 * math.log10(1 - value)
        return value if self.rising else -value


MEASURES = (
    Measure("ssimulacra2", "SSIMULACRA2", "", 2, True),
    Measure("butteraugli_3norm", "Butteraugli 3-norm", "", 3, False),
    Measure("butteraugli_max", "Butteraugli maximum", "", 3, False),
    Measure("ms_ssim", "MS-SSIM", "", 4, True),
    Measure("psnr_y", "PSNR of luma", "dB", 2, True),
    Measure("psnr", "PSNR", "dB", 2, True),
)


def measured(before: NDArray[Any], after: NDArray[Any]) -> dict[str, float]:
    """Every measure of `after` beside the original `before`, by name and in the order of `MEASURES`.

    `before`, `after`: uint8 [H, W, C], C = 3 or 1. `nan` where a measure is not defined. Raises `ValueError` for
    different or other shapes.
    """
    distance = butteraugli.butteraugli(before, after)
    values = {
        "ssimulacra2": ssimulacra2.ssimulacra2(before, after),
        "butteraugli_3norm": distance.norm3,
        "butteraugli_max": distance.maximum,
        "ms_ssim": metrics.ms_ssim(before, after),
        "psnr_y": metrics.psnr(metrics.luma(before), metrics.luma(after)),
        "psnr": metrics.psnr(before, after),
    }
    return {measure.name: values[measure.name] for measure in MEASURES}
