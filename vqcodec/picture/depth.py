"""Samples of more than 8 bits, floats and signed samples -> 8 bits.

In: samples, and what their file says about them. Out: uint8 samples, and notices that name the range of values that
became 0 to 255. Few files say which values are black and white. The range is therefore

- of floats: 0 to 1, or 0 to 255, if the values lie in there and use enough of it; else from the least to the largest;
- of integers: 0 to 255, 1023 (10 bits), 4095 (12 bits) or the largest that the type holds (65535 in 32 bits),
  whichever is the first to contain all values; with values below 0 or above all of these, from least to largest;
- of signed bytes: -128 to 127, which are shifted, or 0 to 127.

Values that mean "no data" (GDAL), NaN, infinite ones and, except in unsigned 16 bits, lone values far outside of all
others do not count for the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Deep", "deep_samples", "eight_bits"]

Samples = NDArray[np.uint8]

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT, _GDAL_NODATA = 258, 262, 339, 42113  # tags of a TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2
_FLOAT_TOPS = ((1.0, 1 / 32), (255.0, 1 / 4))  # a conventional maximum, and the share of it that must be used
_INTEGER_TOPS = {1: (), 2: (255, 1023, 4095), 4: (255, 1023, 4095)}  # by the bytes of a sample
_SENTINEL = 9999  # -9999, -32768, 3.4e38 ... mean "no data" in files that do not say so
_LONE = 1000  # one sample of so many, at each end, may be an outlier
_BAND = 1 << 18  # samples that are converted at once, to save memory
_FEW = 8  # levels: fewer get a notice


@dataclass(frozen=True)
class Deep:
    """Samples, and what the file says about them."""

    samples: NDArray[Any]  # of any shape; integers of 8 (signed), 16 or 32 bits, or floats
    bits: int = 0  # significant bits of unsigned integers where the file says so; 0: unknown, or all
    no_data: float | None = None  # the value of samples without data
    white_is_zero: bool = False


def deep_samples(image: Image.Image, raw: str) -> Deep | None:
    """The samples of a loaded grey image that need `eight_bits`; None if they have 8 bits, or are coloured.

    `raw` is Pillow's name of the sample layout in the file, "" if it is not known.
    """
    tags = getattr(image, "tag_v2", {})
    bits, kind = _first(tags.get(_BITS)), _first(tags.get(_SAMPLE_FORMAT))
    if image.mode == "L" and kind == _SIGNED and bits == 8:
        return Deep(np.asarray(image).view(np.int8), no_data=_no_data(tags))
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return None
    samples = np.asarray(image)
    if image.mode == "I" and (raw.startswith("I;16") or bits == 16 or image.format in ("PNG", "PPM")):
        samples = samples.astype(np.int16 if kind == _SIGNED or raw.endswith("S") else np.uint16)
    elif image.mode == "I" and tags and kind != _SIGNED:
        samples = samples.astype(np.uint32)  # Pillow has read them as signed
    twelve = 12 if raw == "I;12" or (image.mode == "I;16" and bits == 12) else 0
    return Deep(samples, twelve, _no_data(tags), tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def eight_bits(deep: Deep) -> tuple[Samples, list[str]]:
    """Reduce samples of any shape to 8 bits; halves are rounded up. The first notice names the range of values."""
    samples = deep.samples
    valid = np.isfinite(samples)
    absent = np.zeros_like(valid) if deep.no_data is None else _equal(samples, deep.no_data)
    start, top = _range(samples[valid & ~absent], deep.bits)
    result = np.empty(samples.shape, dtype=np.uint8)
    source, target = samples.reshape(-1), result.reshape(-1)
    for first in range(0, source.size, _BAND):
        values = np.nan_to_num(source[first : first + _BAND].astype(np.float64), nan=start, posinf=top, neginf=start)
        with np.errstate(over="ignore"):
            scaled = np.floor((values - start) * 255 / ((top - start) or 1.0) + 0.5)  # dividing last is exact
        target[first : first + _BAND] = np.clip(scaled, 0, 255)
    if deep.white_is_zero:
        np.subtract(255, result, out=result)
    result[absent] = 0
    notice = f"{_kind(samples.dtype, deep.bits)} from {start:g} to {top:g} were reduced to 8 bits"
    clipped = int(np.count_nonzero(valid & ~absent & ((samples < start) | (samples > top))))
    notice += f"; {clipped} outside of this range {'were' if clipped > 1 else 'was'} clipped" if clipped else ""
    notice += "" if valid.all() else "; NaN and infinite ones were replaced"
    notice += f"; those without data ({deep.no_data:g}) became black" if absent.any() else ""
    return result, [notice, *_few_levels(result[valid & ~absent], samples[valid & ~absent])]


def _kind(dtype: np.dtype[Any], bits: int) -> str:
    if dtype.kind == "f":
        return "floating-point samples"
    return f"{'signed ' if dtype.itemsize == 1 else ''}{bits or 8 * dtype.itemsize}-bit samples"


def _range(values: NDArray[Any], bits: int) -> tuple[float, float]:
    """The range of values that becomes 0 to 255."""
    if bits:
        return 0.0, float(2**bits - 1)
    if values.size == 0:
        return 0.0, 0.0
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "u" and size == 2:
        low, high = float(values.min()), float(values.max())
    else:
        low, high = _span(values)
    if kind == "f":
        tops = [top for top, share in _FLOAT_TOPS if low == high or high > top * share]
    else:
        full = 65535 if size == 4 else np.iinfo(values.dtype).max
        tops = [*((255,) if low == high and size == 4 else () if low == high else _INTEGER_TOPS[size]), full]
    for top in tops:
        if low >= 0 and high <= top:
            return 0.0, float(top)
    return (-128.0, 127.0) if size == 1 else (low, high)


def _span(values: NDArray[Any]) -> tuple[float, float]:
    """The least and the largest value, without those that mean "no data" and without lone ones far outside."""
    least, most = float(values.min()), float(values.max())
    if values.dtype.itemsize == 1 or least == most:
        return least, most
    for sentinel in (least, most):
        if abs(sentinel) >= _SENTINEL:
            rest = values[values != sentinel]
            low, high = float(rest.min()), float(rest.max())
            gap = low - sentinel if sentinel == least else sentinel - high
            if 0 < high - low < gap:
                values = rest
    least, most = float(values.min()), float(values.max())
    if values.size >= 8:
        lone = max(1, values.size // _LONE)
        ordered = np.partition(values, (lone, values.size - 1 - lone))
        low, high = float(ordered[lone]), float(ordered[-1 - lone])
        if low < high:
            least = low if low - least > high - low else least
            most = high if most - high > high - low else most
    return least, most


def _few_levels(result: Samples, samples: NDArray[Any]) -> list[str]:
    """A notice if different values became equal, or nearly so, and almost nothing of the picture is left."""
    used = np.flatnonzero(np.bincount(result, minlength=256))
    levels = len(used)
    if levels >= _FEW or (np.unique(samples).size == levels and (levels < 2 or used[-1] - used[0] > 2 * _FEW)):
        return []
    return [f"only {levels} of 256 levels are used: scale the values first if that is not what they mean"]


def _equal(samples: NDArray[Any], value: float) -> NDArray[np.bool_]:
    """Where samples are a value that was written as decimal text, which floats of 32 bits round."""
    if samples.dtype.kind != "f" or not np.isfinite(value):
        return np.asarray(samples == value)
    with np.errstate(over="ignore"):
        close: NDArray[np.bool_] = np.isclose(samples, value, rtol=1e-6, atol=0)
        return close


def _no_data(tags: Any) -> float | None:
    """The value of GDAL's tag for samples without data."""
    text = tags.get(_GDAL_NODATA)
    try:
        return float(str(text).strip(" \0")) if text is not None else None
    except ValueError:
        return None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value
