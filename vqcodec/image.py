"""Pillow <-> Picture. In: any picture file or PIL image. Out: 8-bit sRGB samples [H, W, 3], and alpha.

Whatever is not carried over as it was (16 bits, CMYK, a colour profile, further frames) is said in the
`notices`; whatever cannot be read is a `BadPicture` that names the file. No warning of Pillow gets out.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from vqcodec.errors import BadPicture, OutputError, UsageError

__all__ = ["Picture", "encode_image", "format_for", "from_image", "read_picture", "to_image"]

Samples = NDArray[np.uint8]

_SIXTEEN_BITS = (";16B", ";16L", ";16N")  # ends of Pillow's raw modes; "BGR;16" has 5, 6 and 5 bits
_MAX_STREAM = 1 << 30  # bytes taken from a pipe, which may have no end
_KEEPS_ALPHA = frozenset(["AVIF", "DDS", "IM", "JPEG2000", "PNG", "QOI", "SGI", "TGA", "TIFF", "WEBP"])
# Pillow has writers of these names, but they shrink the picture, drop colours, damage them or always fail.
_CANNOT_HOLD = frozenset(
    ["BLP", "BUFR", "GIF", "GRIB", "HDF5", "ICNS", "ICO", "MPO", "MSP", "PALM", "SPIDER", "WMF", "XBM"]
)
_NEEDS_COLOUR = frozenset({("QOI", "L"), ("QOI", "LA"), ("SGI", "LA")})
# The picture has lost enough already: writing it out must not lose much more, as Pillow's defaults would.
_SAVE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},  # alpha is exact at 100 only
    "JPEG": {"quality": 95, "subsampling": 0},
    "PDF": {"quality": 95},
    "WEBP": {"lossless": True, "exact": True},
}


@dataclass(frozen=True, eq=False)  # a comparison of arrays has no single truth value
class Picture:
    """A picture as the codec sees it. Raises `ValueError` when the parts contradict each other."""

    pixels: Samples  # [H, W, 3], sRGB; a grey picture has three equal channels
    mode: Literal["RGB", "L"]  # what it is given back as
    alpha: Samples | None = None  # [H, W], 255 is opaque; colours under alpha 0 are kept as they are
    notices: tuple[str, ...] = ()  # what was changed while reading, one line each

    def __post_init__(self) -> None:
        shape, alpha = self.pixels.shape, self.alpha
        if self.pixels.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(f"pixels must be uint8 [H, W, 3], not {self.pixels.dtype} {list(shape)}")
        if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != shape[:2]):
            raise ValueError(f"alpha must be uint8 {list(shape[:2])}, not {alpha.dtype} {list(alpha.shape)}")

    @property
    def height(self) -> int:
        """Rows."""
        return len(self.pixels)

    @property
    def width(self) -> int:
        """Columns."""
        return len(self.pixels[0])

    @property
    def channels(self) -> int:
        """Colour channels of the original: 3, or 1 for grey. Alpha is not counted."""
        return 3 if self.mode == "RGB" else 1


def read_picture(source: str | Path | BinaryIO) -> Picture:
    """Read the first frame of a picture file, or of a binary stream from its beginning, turned upright.

    Raises `BadPicture`, with the file's name and the reason, for whatever is not a whole picture in a format
    of Pillow with at most `PIL.Image.MAX_IMAGE_PIXELS` pixels.
    """
    with _explained(_name_of(source)), _opened(source) as stream:
        if not stream.read(1):
            raise OSError("the file is empty")
        stream.seek(0)
        with Image.open(stream) as image:
            if image.format == "EPS":
                # Pillow would start Ghostscript, that is, run the file as a program.
                raise OSError("EPS is a drawing; please convert it to PNG first")
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            return _convert(image)


def from_image(image: Image.Image) -> Picture:
    """Convert a PIL image of any mode, its current frame, turned upright. Raises `BadPicture`."""
    with _explained("the image"):
        return _convert(image)


def to_image(picture: Picture) -> Image.Image:
    """Give a picture back as a PIL image of mode L, RGB, LA or RGBA.

    A grey picture is the rounded mean of its three channels, since decoders leave them slightly unequal.
    """
    samples = picture.pixels
    if picture.mode == "L":
        samples = ((samples.sum(axis=2, dtype=np.uint16) + 1) // 3).astype(np.uint8)
    if picture.alpha is not None:
        samples = np.dstack([samples, picture.alpha])
    return Image.fromarray(samples)


def encode_image(picture: Picture, format: str) -> bytes:  # noqa: A002 (Pillow's own name for it)
    """Encode a picture as a file of a Pillow format, such as "PNG", losing as little as the format allows.

    Raises `UsageError` if the format cannot hold the picture, `OutputError` if writing fails.
    """
    _check_writable(format)
    if picture.alpha is not None and format not in _KEEPS_ALPHA:
        raise UsageError(f"{format} cannot hold the transparency of this picture; choose PNG, for example")
    image = to_image(picture)
    if (format, image.mode) in _NEEDS_COLOUR:
        image = image.convert("RGB" if image.mode == "L" else "RGBA")
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.save(buffer, format, **_SAVE_OPTIONS.get(format, {}))
    except Exception as error:  # writers, too, raise nearly anything
        raise OutputError(f"cannot write the picture as {format}: {_one_line(_reason(error))}") from error
    return buffer.getvalue()


def format_for(path: Path) -> str:
    """The Pillow format a file name's suffix stands for. Raises `UsageError` if it is not one to write."""
    suffix = path.suffix.lower()
    name = _one_line(str(path))
    if suffix == ".vq":
        raise UsageError(f"{name}: .vq is not a picture format; choose one, such as .png")
    format_name = Image.registered_extensions().get(suffix)
    if format_name is None:
        raise UsageError(f"{name}: the suffix does not tell a picture format; choose .png, for example")
    _check_writable(format_name)
    return format_name


def _check_writable(format_name: str) -> None:
    Image.init()
    if format_name not in Image.SAVE or format_name in _CANNOT_HOLD:
        raise UsageError(f"{_one_line(format_name)} cannot hold every picture; choose PNG, for example")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn every failure inside into a `BadPicture` of one line and keep Pillow's warnings in."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # Pillow's readers raise nearly anything when fed with damaged bytes
        raise BadPicture(_one_line(f"{name}: {_reason(error)}")) from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than the limit of {Image.MAX_IMAGE_PIXELS} (PIL.Image.MAX_IMAGE_PIXELS)"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture, or in a format that is not known"
    if isinstance(error, MemoryError):
        return "not enough memory for this picture"
    if isinstance(error, OSError):
        return error.strerror or str(error) or "reading or writing failed"
    return f"damaged or not supported ({str(error) or type(error).__name__})"


def _one_line(text: str) -> str:
    """The text with control characters and broken code points escaped, which could upset a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _name_of(source: str | Path | BinaryIO) -> str:
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and name != "<stdin>" else "standard input"


@contextmanager
def _opened(source: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    """A stream that can seek, at its beginning; a given one is left open."""
    if isinstance(source, (str, os.PathLike)):
        if Path(source).is_dir():
            raise OSError("this is a folder")  # Windows would say that permission is denied
        with Path(source).open("rb") as file, _opened(file) as stream:
            yield stream
    elif source.seekable():
        source.seek(0)
        yield source
    else:
        data = source.read(_MAX_STREAM + 1)
        if len(data) > _MAX_STREAM:
            raise OSError(f"longer than the {_MAX_STREAM} bytes that are taken from a stream")
        yield io.BytesIO(data)


def _convert(image: Image.Image) -> Picture:
    if 0 in image.size:
        raise OSError("the image has no pixels")
    notices = []
    # Some readers look for frames by seeking, which would throw away changes made to a loaded image.
    if (getattr(image, "tile", ()) or "is_animated" in vars(image)) and getattr(image, "is_animated", False):
        which = "current" if image.tell() else "first"
        notices.append(f"several frames or pages: only the {which} one is kept")
    raw = _raw_mode(image)
    image.load()
    colour, alpha, noted = _split(image, raw)
    notices += noted
    colour, noted = _to_srgb(colour, image.info.get("icc_profile"))
    notices += noted
    orientation = _orientation(image)
    if orientation == 0:
        notices.append("the EXIF data is damaged and was ignored")
    pixels = _upright(np.array(colour.convert("RGB")), orientation)
    alpha = None if alpha is None else _upright(alpha, orientation)
    return Picture(pixels, "L" if colour.mode == "L" else "RGB", alpha, tuple(notices))


def _raw_mode(image: Image.Image) -> str:
    """How the samples lie in the file, such as "RGB;16B"; known only until the image is loaded, else ""."""
    for tile in getattr(image, "tile", None) or ():
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if arguments and isinstance(arguments[0], str):
            return arguments[0]
    return ""


def _split(image: Image.Image, raw: str) -> tuple[Image.Image, Samples | None, list[str]]:
    """Colour (mode L, RGB, CMYK or LAB) and alpha [H, W] of a loaded image, with notices."""
    mode, key = image.mode, image.info.get("transparency")
    if mode in ("I", "F") or mode.startswith("I;16"):
        grey, notice = _eight_bits(np.asarray(image), raw, in_memory=image.format is None)
        return Image.fromarray(grey), _keyed_alpha(image, key, raw), [notice]
    notices = ["16 bits per channel were reduced to 8"] if raw.endswith(_SIXTEEN_BITS) else []
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
    return image, _keyed_alpha(image, key, raw), notices


def _keyed_alpha(image: Image.Image, key: Any, raw: str) -> Samples | None:
    """Alpha [H, W] of a grey or RGB image that declares one colour transparent, as a PNG may."""
    if image.mode == "RGB" and isinstance(key, tuple) and len(key) == 3:
        key = tuple(v >> 8 for v in key) if raw.endswith(_SIXTEEN_BITS) else key
    elif image.mode in ("L", "I", "F", "I;16", "I;16B", "I;16L") and isinstance(key, int):
        # Pillow widens 1- to 4-bit samples to 8 bits, but (1 bit: older versions only) not the colour key.
        top = {"1": 1, "L;2": 3, "L;4": 15}.get(raw, 255)
        key = (key * 255 // top if key <= top else key,)
    else:
        return None
    return np.where((np.atleast_3d(np.asarray(image)) == np.array(key)).all(axis=2), 0, 255).astype(np.uint8)


def _eight_bits(samples: NDArray[Any], raw: str, *, in_memory: bool) -> tuple[Samples, str]:
    """Samples [H, W] of 12 to 32 bits or floats, as 8 bits, with a notice of the range that was assumed."""
    values = samples.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    kind = "floating-point samples" if samples.dtype.kind == "f" else f"{8 * samples.itemsize}-bit samples"
    if samples.dtype.kind == "f":
        fits = [top for top in (1.0, 255.0) if low >= 0 and high <= top]
    elif samples.dtype.itemsize == 2:
        fits = [4095.0 if raw == "I;12" else 65535.0]
    else:
        # A file with 32-bit integers is most often a 16-bit picture; an image made in memory may have 8 bits.
        fits = [top for top in (255.0, 65535.0) if low >= 0 and high <= top and (in_memory or top > 255)]
    start, top = (0.0, fits[0]) if fits else (low, high)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low) - start
    scaled = np.floor(values * 255 / ((top - start) or 1.0) + 0.5)  # dividing last keeps integers exact
    damaged = "" if finite.size == values.size else "; NaN and infinite ones were replaced"
    notice = f"{kind} from {start:g} to {top:g} were reduced to 8 bits{damaged}"
    return np.clip(scaled, 0, 255).astype(np.uint8), notice


def _to_srgb(colour: Image.Image, profile: object) -> tuple[Image.Image, list[str]]:
    """Colour of mode L, RGB, CMYK or LAB as L or RGB in sRGB, by its ICC profile if that can be used."""
    notices = []
    try:
        converted = _through_profile(colour, profile) if isinstance(profile, bytes) and profile else colour
        if converted is not colour:
            return converted, ["the colours were converted to sRGB by the picture's colour profile"]
    except Exception:  # littlecms and its binding fail in many ways, and the picture is good without
        notices.append("the colour profile cannot be used and was ignored")
    if colour.mode not in ("L", "RGB"):
        notices.append(f"the colours were converted from {colour.mode} to RGB without a colour profile")
        colour = colour.convert("RGB")
    return colour, notices


def _through_profile(colour: Image.Image, profile: bytes) -> Image.Image:
    """The colours in sRGB, or `colour` itself if the profile is sRGB up to rounding, as nearly all are."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    mode = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}[space]
    if mode != colour.mode and (colour.mode, mode) != ("L", "RGB"):
        raise ValueError(f"a profile for {mode} in a picture of mode {colour.mode}")
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent, flags)
    if mode in ("L", "RGB"):
        # Names of profiles tell little ("sRGB linear"), so 16 x 16 x 16 colours are tried: [64, 64, 3].
        cube = (np.indices((16, 16, 16)).reshape(3, 64, 64).transpose(1, 2, 0) * 17).astype(np.uint8)
        probe = Image.fromarray(np.ascontiguousarray(cube)).convert(mode)
        moved = np.asarray(transform.apply(probe)).astype(int) - np.asarray(probe.convert("RGB"))
        if np.abs(moved).max() <= 2:
            return colour
    converted = transform.apply(colour if colour.mode == mode else colour.convert(mode))
    return converted.convert("L") if colour.mode == "L" else converted


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 of a loaded image; 0 if the EXIF data is damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the EXIF reader raises nearly anything on damaged bytes
        return 0
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(samples: Samples, orientation: int) -> Samples:
    """Samples [H, W, ...] as they are to be seen: transposed for EXIF orientations 5 to 8, then mirrored."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)
