"""The colour chunks of a PNG -> the colour space of its samples.

In: an image of Pillow. Out: a colour profile, or a space of high dynamic range, and notices. Where there are several
chunks, the first of this list counts (PNG specification, third edition, section 4.3): cICP, iCCP, sRGB, gAMA and cHRM.
A chunk that cannot be used gives way to the next one.

gAMA is 1 / exponent. About 1/2.2 is what programs write for pictures in sRGB, and is read as the curve of sRGB: the
pure power would change dark colours that nobody meant to change. libpng has the same threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from vqcodec.picture.colour_space import BT709, PRIMARIES, SRGB_CURVE, TRANSFERS, ColourSpace, possible, power
from vqcodec.picture.png_chunks import walk

__all__ = ["Declared", "cicp_chunk", "declared"]

_GAMMAS = (0.01, 100.0)  # sensible values of gAMA
_SAME_GAMMA = 0.05  # relative difference to 1/2.2 (libpng: PNG_GAMMA_THRESHOLD)
_SAME_POINT = 0.002  # difference of chromaticities: files round them to 2 to 5 digits
_SRGB = bytes([1, 13, 0, 1])  # primaries, transfer function, matrix, full range in cICP
_UNSPECIFIED = 2  # a code of primaries and of transfer functions
_FILE_PROFILE = "colour profile"


@dataclass(frozen=True)
class Declared:
    """What the chunks of an image say about its colours."""

    profile: bytes = b""  # ICC profile; b"": the samples are sRGB
    source: str = _FILE_PROFILE  # where it is from, for notices
    wide: ColourSpace | None = None  # a space of high dynamic range, which has no profile
    notices: tuple[str, ...] = ()

    @property
    def built(self) -> bool:
        """Whether the profile was made from other chunks."""
        return self.source != _FILE_PROFILE


def declared(image: Image.Image, cicp: bytes | None, mode: str) -> Declared:
    """The colours of a loaded image of mode "L" or "RGB"; `cicp` is the result of `cicp_chunk`."""
    notices: list[str] = []
    if cicp == _SRGB:
        return Declared()
    found = _code_points(cicp, notices) if cicp is not None else None
    source = "cICP chunk"
    icc = image.info.get("icc_profile")
    if found is None and isinstance(icc, bytes) and icc:
        return Declared(icc, notices=tuple(notices))
    if found is None and "srgb" not in image.info:
        found, source = _gamma_and_primaries(image, notices, mode)
    if found is None:
        return Declared(notices=tuple(notices))
    if found.high_dynamic_range:
        return Declared(b"", source, found, tuple(notices))
    return Declared(found.profile(mode), source, notices=tuple(notices))


def cicp_chunk(image: Image.Image) -> bytes | None:
    """The data of the cICP chunk of a PNG that is not loaded yet; None if there is none. Pillow does not read it."""
    stream = getattr(image, "fp", None)
    if image.format != "PNG" or stream is None or not stream.seekable():
        return None
    place = stream.tell()
    try:
        for kind, _, length in walk(stream):
            if kind == b"cICP":
                data: bytes = stream.read(min(length, 4))
                return data
            if kind == b"IDAT":
                break
        return None
    finally:
        stream.seek(place)


def _code_points(data: bytes, notices: list[str]) -> ColourSpace | None:
    """The space that a cICP chunk names; None if it is not known, with a notice unless it is unspecified."""
    primaries, transfer, matrix, full_range = data if len(data) == 4 else (0, 0, 255, 0)
    if matrix == 0 and primaries in PRIMARIES and transfer in TRANSFERS and full_range <= 1:
        return ColourSpace(PRIMARIES[primaries], TRANSFERS[transfer], full_range == 1)
    if _UNSPECIFIED not in (primaries, transfer):
        notices.append("the cICP chunk names an unknown colour space and was ignored")
    return None


def _gamma_and_primaries(image: Image.Image, notices: list[str], mode: str) -> tuple[ColourSpace | None, str]:
    """The space of gAMA and cHRM and the names of those that matter; None where the samples are sRGB."""
    gamma, points = image.info.get("gamma"), image.info.get("chromaticity")
    curve, primaries, sources = SRGB_CURVE, BT709, []
    if isinstance(gamma, float):  # text chunks may have the same name
        if not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
            notices.append("the gAMA chunk cannot be used and was ignored")
        elif abs(gamma * 2.2 - 1) > _SAME_GAMMA:
            curve = power(1 / gamma)
            sources.append("gAMA")
    if isinstance(points, tuple) and len(points) == 8 and mode == "RGB":
        if not possible(points):
            notices.append("the cHRM chunk cannot be used and was ignored")
        elif max(abs(a - b) for a, b in zip(points, BT709, strict=True)) > _SAME_POINT:
            primaries = points
            sources.append("cHRM")
    if not sources:
        return None, ""
    return ColourSpace(primaries, curve), f"{' and '.join(sources)} chunk{'s' if len(sources) > 1 else ''}"
