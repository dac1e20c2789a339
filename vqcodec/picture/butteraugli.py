"""Butteraugli: two pictures -> how far apart they look, by libjxl's program `butteraugli_main`; lower is better.

In: two pictures of the same shape, 8-bit sRGB. Out: the largest distance and the 3-norm of all distances, or `nan`
where the program is not installed or fails: this measure is an extra, and its absence never an error.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vqcodec.picture.metrics import eight_bit_pair

__all__ = ["PROGRAM", "Distance", "butteraugli", "missing"]

PROGRAM = "butteraugli_main"
_NORM = re.compile(r"^3(?:\.0*)?-norm:\s*(\S+)\s*$", re.MULTILINE)
_SMALLEST = 8  # pixels: for smaller pictures the program says 0, however different they are
_SECONDS_PER_MEGAPIXEL = 60
_SECONDS_AT_LEAST = 60


class Distance(NamedTuple):
    """Butteraugli distances, from 0 (equal) up; about 1 is just visible to an attentive eye."""

    maximum: float
    norm3: float


_UNKNOWN = Distance(math.nan, math.nan)


def missing() -> str | None:
    """One line that says what is missing for this measure and how to get it; None if nothing is."""
    if shutil.which(PROGRAM):
        return None
    return f"Butteraugli is left out: no program {PROGRAM} on the PATH (Debian, Ubuntu: apt install libjxl-devtools)"


def butteraugli(a: ArrayLike, b: ArrayLike) -> Distance:
    """The Butteraugli distances of picture b from the original a; `nan` if the program is missing or fails.

    Google, https://github.com/google/butteraugli, as in libjxl, with white at the program's default of 80 cd/m².

    `a`, `b`: uint8 [H, W, 3], [H, W, 1] or [H, W], sRGB. The result is `nan` also if a side is shorter than 8 pixels.
    Raises `ValueError` for different or other shapes, and for other types.
    """
    first, second = map(_colour, eight_bit_pair(a, b))
    program = shutil.which(PROGRAM)
    if program is None or min(first.shape[:2]) < _SMALLEST:
        return _UNKNOWN
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="vqcodec-") as folder:
        paths = [Path(folder) / name for name in ("a.png", "b.png")]
        for path, samples in zip(paths, (first, second), strict=True):
            Image.fromarray(samples).save(path, compress_level=1)
        return _parsed(_output([program, *map(str, paths)], first.shape[0] * first.shape[1]))


def _colour(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W, C] to [H, W, 3]; grey is repeated. Raises `ValueError` for a picture without samples."""
    if samples.size == 0:
        raise ValueError(f"a picture is uint8 [H, W, C] with at least one sample, not {list(samples.shape)}")
    return np.ascontiguousarray(np.broadcast_to(samples, (*samples.shape[:2], 3)))


def _output(command: list[str], pixels: int) -> str:
    """What the program prints; empty if it fails or takes too long."""
    seconds = _SECONDS_AT_LEAST + _SECONDS_PER_MEGAPIXEL * pixels / 1e6
    try:
        nothing = subprocess.DEVNULL
        return subprocess.check_output(command, stdin=nothing, stderr=nothing, timeout=seconds).decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return ""


def _parsed(output: str) -> Distance:
    """The first line is the largest distance; a line `3-norm: X` has the norm."""
    found = _NORM.search(output)
    try:
        distance = Distance(float(output.partition("\n")[0]), float(found[1] if found else "nan"))
    except ValueError:
        return _UNKNOWN
    return distance if all(math.isfinite(value) and value >= 0 for value in distance) else _UNKNOWN
