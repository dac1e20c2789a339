"""A colour space given by numbers -> an ICC profile; high dynamic range -> sRGB samples.

In: the chromaticities of white and of the three primaries, and a transfer function (sample -> light). Out: a profile
with the same meaning, which every program understands, or samples in sRGB where no such profile exists (PQ and HLG).
Sources: ITU-T H.273 (2024), tables 2 and 3, for the numbers; ICC.1:2022 for the profile; Rec. ITU-R BT.2100-2 for PQ
and HLG; Rec. ITU-R BT.2408 for the white of 203 cd/m2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BT709", "PRIMARIES", "SRGB_CURVE", "TRANSFERS", "ColourSpace", "Curve", "possible", "power"]

Samples = NDArray[np.uint8]
Floats = NDArray[np.float64]

_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
BT709 = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x and y of white, red, green, blue; also those of sRGB
_BT601 = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
PRIMARIES = {  # by the code of H.273; 2 is "unspecified"
    1: BT709,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: _BT601,
    7: _BT601,
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
_D50 = np.array([0.9642, 1.0, 0.8249])  # white of ICC profiles
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_WHITE = 203  # cd/m2 of white in PQ and HLG
_HLG_PEAK = 1000  # cd/m2 of the display for which HLG is shown
_KNEE = 0.5  # light, relative to white, above which high dynamic range is compressed
_ENTRIES = 4096  # of a table in a profile
_BAND = 64  # rows that are worked on at once, to save memory


@dataclass(frozen=True)
class Curve:
    """A transfer function: sample values, 0 to 1 -> light; 1 is white."""

    light: Callable[[Floats], Floats]
    parameters: tuple[float, ...] = ()  # of a parametric curve in a profile, type 0 or 3; (): it needs a table


def power(exponent: float) -> Curve:
    """light = sample ** exponent."""
    return Curve(lambda v: np.power(np.clip(v, 0, 1), exponent), (exponent,))


def _two_parts(exponent: float, offset: float, slope: float, limit: float) -> Curve:
    """A straight line up to `limit`, then a power."""
    return Curve(
        lambda v: np.where(v < limit, v / slope, ((np.maximum(v, 0) + offset) / (1 + offset)) ** exponent),
        (exponent, 1 / (1 + offset), offset / (1 + offset), 1 / slope, limit),
    )


def _logarithmic(decades: float) -> Curve:
    return Curve(lambda v: np.where(v > 0, 10.0 ** (decades * (v - 1)), 0))


def _pq(v: Floats) -> Floats:
    """SMPTE ST 2084, relative to white."""
    root = np.clip(v, 0, 1) ** (32 / 2523)
    light: Floats = 10000 / _WHITE * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (8192 / 1305)
    return light


def _hlg(v: Floats) -> Floats:
    """Light of the scene, 0 to 1."""
    v, a, b, c = np.clip(v, 0, 1), 0.17883277, 0.28466892, 0.55991073
    return np.where(v <= 0.5, v * v / 3, (np.exp((v - c) / a) + b) / 12)


SRGB_CURVE = _two_parts(2.4, 0.055, 12.92, 0.04045)
_BT709_CURVE = _two_parts(1 / 0.45, 0.099, 4.5, 0.081)  # the inverse of the camera's function, as in littlecms and Skia
_PQ, _HLG = Curve(_pq), Curve(_hlg)
TRANSFERS: dict[int, Curve] = {  # by the code of H.273
    **dict.fromkeys((1, 6, 11, 12, 14, 15), _BT709_CURVE),
    4: power(2.2),
    5: power(2.8),
    7: _two_parts(1 / 0.45, 0.1115, 4.0, 0.0912),
    8: power(1.0),
    9: _logarithmic(2),
    10: _logarithmic(2.5),
    13: SRGB_CURVE,
    16: _PQ,
    17: Curve(lambda v: np.minimum(np.clip(v, 0, 1) ** 2.6 * 52.37 / 48, 1)),
    18: _HLG,
}


@dataclass(frozen=True)
class ColourSpace:
    """The meaning of samples."""

    primaries: tuple[float, ...]  # x and y of white, red, green and blue
    curve: Curve
    full_range: bool = True  # False: 16 to 235 of 255 are 0 to 1

    @property
    def high_dynamic_range(self) -> bool:
        """Whether there is light above white, so that no profile exists: `to_srgb` is for these."""
        return self.curve in (_PQ, _HLG)

    def light(self, values: Floats) -> Floats:
        """Sample values 0 to 1 -> light."""
        return self.curve.light(values if self.full_range else np.clip((values * 255 - 16) / 219, 0, 1))

    def profile(self, mode: str) -> bytes:
        """An ICC profile (version 4) for samples of mode L or RGB. The primaries must be `possible`."""
        if self.curve.parameters and self.full_range:
            numbers = [round(value * 65536) for value in self.curve.parameters]
            curve = b"para" + struct.pack(f">4xHxx{len(numbers)}i", 3 if len(numbers) > 1 else 0, *numbers)
        else:
            table = np.round(self.light(np.linspace(0, 1, _ENTRIES)) * 65535).astype(">u2")
            curve = b"curv" + struct.pack(">4xI", _ENTRIES) + table.tobytes()
        tags = {b"desc": _text("described by the picture file"), b"cprt": _text("no copyright"), b"wtpt": _xyz(_D50)}
        if mode == "L":
            return _icc(b"GRAY", tags | {b"kTRC": curve})
        for name, column in zip((b"r", b"g", b"b"), _to_d50(self.primaries).T, strict=True):
            tags |= {name + b"XYZ": _xyz(column), name + b"TRC": curve}
        return _icc(b"RGB ", tags)

    def to_srgb(self, samples: Samples) -> Samples:
        """High dynamic range -> sRGB samples [H, W, 3]. Light above white is compressed, keeping the hue.

        The brightest sample of the picture becomes white.
        """
        bands = [slice(top, top + _BAND) for top in range(0, len(samples), _BAND)]
        peak = max(1.0, *(float(self._linear_srgb(samples[band]).max()) for band in bands))
        result = np.empty_like(samples)
        for band in bands:
            light = _compressed(self._linear_srgb(samples[band]), peak)
            values = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
            result[band] = np.floor(np.clip(values, 0, 1) * 255 + 0.5)
        return result

    def _linear_srgb(self, samples: Samples) -> Floats:
        """Light [H, W, 3] in the primaries of sRGB; 1 is white, and there may be more."""
        light = self.light(np.arange(256) / 255)[samples]
        if self.curve == _HLG:  # Rec. BT.2100: the display's light depends on the luminance; its gamma is 1.2
            luminance = light @ _to_xyz(self.primaries)[1]
            light *= (_HLG_PEAK / _WHITE) * np.maximum(luminance, 1e-6)[..., None] ** 0.2
        matrix = np.linalg.solve(_to_d50(BT709), _to_d50(self.primaries))
        light = np.maximum(light @ matrix.T, 0)
        return light


def _compressed(light: Floats, peak: float) -> Floats:
    """Light [..., 3] of 0 to `peak` -> 0 to 1: unchanged up to the knee, then bent (Reinhard et al. 2002, eq. 4)."""
    if peak <= 1:
        return light
    most = light.max(axis=-1, keepdims=True)
    over, highest = np.maximum(most - _KNEE, 0) / (1 - _KNEE), (peak - _KNEE) / (1 - _KNEE)
    shown = np.where(most > _KNEE, _KNEE + (1 - _KNEE) * over * (1 + over / highest**2) / (1 + over), most)
    bent: Floats = np.clip(light * (shown / np.maximum(most, 1e-9)), 0, 1)
    return bent


def _to_xyz(primaries: tuple[float, ...]) -> Floats:
    """Matrix [3, 3] from linear RGB to XYZ; white has Y = 1."""
    white, *corners = (np.array([x, y, 1 - x - y]) for x, y in np.reshape(primaries, (4, 2)))
    columns = np.array(corners).T
    matrix: Floats = columns * np.linalg.solve(columns, white / white[1])
    return matrix


def _to_d50(primaries: tuple[float, ...]) -> Floats:
    """Matrix [3, 3] from linear RGB to XYZ, adapted from the white of the primaries to D50 (Bradford)."""
    matrix = _to_xyz(primaries)
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ matrix.sum(axis=1))
    adapted: Floats = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ matrix
    return adapted


def possible(primaries: tuple[float, ...]) -> bool:
    """Whether eight numbers are chromaticities of white and of a triangle around it."""
    white, *corners = np.reshape(primaries, (4, 2))
    if min(primaries) < 0 or max(primaries) > 1 or white[1] < 0.01:
        return False
    columns = np.array([[x, y, 1 - x - y] for x, y in corners]).T
    if abs(np.linalg.det(columns)) < 1e-3:
        return False
    return bool((np.linalg.solve(columns, [*white, 1 - white.sum()]) > 0).all())


def _xyz(values: Floats) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def _text(text: str) -> bytes:
    """A multi-localised text of one language."""
    return b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", 2 * len(text), 28) + text.encode("utf-16-be")


def _icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A display profile. Layout: header (128 bytes), number of tags, (name, position, length) of each, data."""
    table, body, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    start = 132 + 12 * len(tags)
    for name, data in tags.items():
        if data not in places:  # the three curves are the same one
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x04400000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + table + body
