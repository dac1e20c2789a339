"""Pillow image of any mode -> 8-bit samples.

In: an image. Out: grey or RGB samples, a separate alpha channel, and notices about every conversion.
A colour profile is either kept together with unchanged samples, or applied, which converts the samples to sRGB.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from vqcodec.picture.depth import deep_samples, eight_bits

__all__ = ["profile_fits", "raw_mode", "split_image", "to_srgb"]

Samples = NDArray[np.uint8]

_SIXTEEN_BITS = (";16B", ";16L", ";16N")  # suffixes of raw modes; "BGR;16" is not one: it has 5, 6 and 5 bits
_DARK = 16  # of 256 levels; picture data of 12 bits in 16 reach no further
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}  # Pillow mode by the profile's colour space


def raw_mode(image: Image.Image) -> str:
    """Pillow's name for the sample layout in the file, such as "RGB;16B".

    It is available only before the image is loaded; afterwards the result is "".
    """
    for tile in getattr(image, "tile", None) or ():
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if arguments and isinstance(arguments[0], str):
            return arguments[0]
    return ""


def split_image(image: Image.Image, raw: str) -> tuple[Image.Image, Samples | None, list[str]]:
    """Split a loaded image into colour (mode L, RGB, CMYK or LAB), alpha [H, W] or None, and notices.

    `raw` is the result of `raw_mode` before the image was loaded.
    """
    mode, key = image.mode, image.info.get("transparency")
    deep = deep_samples(image, raw)
    if deep is not None:
        grey, notices = eight_bits(deep)
        return Image.fromarray(grey), _alpha_from_colour_key(image, key, raw), notices
    notices = _reduced(image) if raw.endswith(_SIXTEEN_BITS) else []
    if mode in ("La", "RGBa"):
        image = image.convert(mode.upper())
    elif mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("LA", "RGBA"):
        samples = np.array(image)
        grey_file = image.mode == "LA" or raw.startswith("LA;")  # Pillow opens 16-bit grey with alpha as RGBA
        colour = samples[:, :, 0] if grey_file else samples[:, :, :3]
        return Image.fromarray(np.ascontiguousarray(colour)), samples[:, :, -1].copy(), notices
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
        notices += [] if mode == "RGBX" else [f"the colours were converted from {mode} to RGB"]
        image = image.convert("RGB")
    return image, _alpha_from_colour_key(image, key, raw), notices


def _reduced(image: Image.Image) -> list[str]:
    """Notices about an image of which Pillow has read the upper 8 of 16 bits."""
    notices = ["16 bits per channel were reduced to 8"]
    if image.mode in ("RGB", "RGBA", "RGBX") and 0 < int(np.asarray(image)[:, :, :3].max()) < _DARK:
        notices.append(
            "all samples are below 1/16 of the 16-bit range, so that few levels are left: scale them to 16 bits first"
        )
    return notices


def _alpha_from_colour_key(image: Image.Image, key: Any, raw: str) -> Samples | None:
    """Alpha [H, W] of a grey or RGB image in which one colour is declared transparent (tRNS in a PNG), else None."""
    if image.mode == "RGB" and isinstance(key, tuple) and len(key) == 3:
        key = tuple(v >> 8 for v in key) if raw.endswith(_SIXTEEN_BITS) else key
    elif image.mode in ("L", "I", "F", "I;16", "I;16B", "I;16L") and isinstance(key, int):
        # Pillow scales 1- to 4-bit samples to 8 bits, but not the colour key (for 1 bit: older versions only).
        top = {"1": 1, "L;2": 3, "L;4": 15}.get(raw, 255)
        key = (key * 255 // top if key <= top else key,)
    else:
        return None
    return np.where((np.atleast_3d(np.asarray(image)) == np.array(key)).all(axis=2), 0, 255).astype(np.uint8)


def to_srgb(colour: Image.Image, profile: object, source: str = "colour profile") -> tuple[Image.Image, list[str]]:
    """Convert colour of mode L, RGB, CMYK or LAB to L or RGB in sRGB, with notices.

    The ICC profile is used if it is usable. Otherwise Pillow's plain mode conversion is used. `source` is where the
    profile is from, for the notices.
    """
    notices = []
    try:
        converted = _apply_profile(colour, profile) if isinstance(profile, bytes) and profile else colour
        if converted is not colour:
            return converted, [f"the colours were converted to sRGB by the picture's {source}"]
    except Exception:  # littlecms and its binding raise many types; the picture is usable without a profile
        notices.append(f"the {source} cannot be used and was ignored")
    if colour.mode not in ("L", "RGB"):
        notices.append(f"the colours were converted from {colour.mode} to RGB without a colour profile")
        colour = colour.convert("RGB")
    return colour, notices


def profile_fits(profile: bytes, mode: str) -> bool:
    """Whether samples of mode L or RGB can stay in the colour space of this profile."""
    try:
        return mode in ("L", "RGB") and _srgb_transform(profile)[1] == mode
    except Exception:  # as in `to_srgb`
        return False


def _srgb_transform(profile: bytes) -> tuple[ImageCms.ImageCmsTransform, str]:
    """The transform from a profile's colour space to sRGB, and the Pillow mode that the transform takes.

    Raises whatever littlecms raises, and `KeyError` for other colour spaces.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = _MODES[source.profile.xcolor_space.strip()]
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    if mode == "L":  # littlecms would take a table that is far too coarse where the curve is steep
        flags |= ImageCms.Flags.NOOPTIMIZE
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent, flags), mode


def _apply_profile(colour: Image.Image, profile: bytes) -> Image.Image:
    """Convert to sRGB. Returns `colour` itself if the profile is sRGB up to rounding, as most profiles are.

    Raises `ValueError` for a profile of another mode, and whatever littlecms raises.
    """
    transform, mode = _srgb_transform(profile)
    if mode != colour.mode and (colour.mode, mode) != ("L", "RGB"):
        raise ValueError(f"a profile for {mode} in a picture of mode {colour.mode}")
    if mode in ("L", "RGB"):
        # Profile names are unreliable ("sRGB linear"), so test on 16 x 16 x 16 colours, arranged as [64, 64, 3].
        cube = (np.indices((16, 16, 16)).reshape(3, 64, 64).transpose(1, 2, 0) * 17).astype(np.uint8)
        probe = Image.fromarray(np.ascontiguousarray(cube)).convert(mode)
        difference = np.asarray(transform.apply(probe)).astype(int) - np.asarray(probe.convert("RGB"))
        if np.abs(difference).max() <= 2:
            return colour
    if mode == "L":
        ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        return colour.point(np.asarray(transform.apply(ramp).convert("L"))[0].tolist())
    converted = transform.apply(colour if colour.mode == mode else colour.convert(mode))
    return converted.convert("L") if colour.mode == "L" else converted
