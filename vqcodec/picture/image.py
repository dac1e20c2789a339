"""Pillow <-> Picture. In: any picture file or PIL image. Out: 8-bit samples [H, W, 3], alpha, and metadata on request.

Whatever is not carried over as it was (16 bits, CMYK, a colour profile, further frames) is said in the
`notices`; whatever cannot be read is a `BadPicture` that names the file. No warning of Pillow gets out.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from vqcodec.errors import BadPicture, OutputError, UsageError
from vqcodec.limits import DEFAULT_LIMITS
from vqcodec.picture.colours import profile_fits, raw_mode, split_image, to_srgb
from vqcodec.picture.metadata import KEEP_NOTHING, LIMIT, NAMES, Keep, Metadata, cleaned, image_info, save, taken, unfit

__all__ = [
    "Picture",
    "encode_image",
    "fitted",
    "format_for",
    "from_image",
    "grey_of",
    "read_picture",
    "sound_metadata",
    "to_image",
]  # fmt: skip

Samples = NDArray[np.uint8]

_FILTERS = RLock()
_MAX_STREAM = 1 << 30  # bytes taken from a pipe, which may have no end
_KEEPS_ALPHA = frozenset(["AVIF", "DDS", "IM", "JPEG2000", "PNG", "QOI", "SGI", "TGA", "TIFF", "WEBP"])
# Pillow has writers of these names, but they shrink the picture, drop colours, damage them or always fail. VQ is ours.
_CANNOT_HOLD = frozenset(
    ["BLP", "BUFR", "GIF", "GRIB", "HDF5", "ICNS", "ICO", "MPO", "MSP", "PALM", "SPIDER", "VQ", "WMF", "XBM"]
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

    pixels: Samples  # [H, W, 3], sRGB without a colour profile; a grey picture has three equal channels
    mode: Literal["RGB", "L"]  # what it is given back as
    alpha: Samples | None = None  # [H, W], 255 is opaque; colours under alpha 0 are kept as they are
    notices: tuple[str, ...] = ()  # what was changed while reading, one line each
    metadata: Metadata = field(default_factory=Metadata)

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


def read_picture(
    source: str | Path | BinaryIO, keep: Keep = KEEP_NOTHING, max_pixels: int = DEFAULT_LIMITS.pixels
) -> Picture:
    """Read the first frame of a picture file, or of a binary stream from its beginning, turned upright.

    Raises `BadPicture`, with the file's name and the reason, for whatever is not a whole picture in a format
    of Pillow with at most `max_pixels` pixels. Above `PIL.Image.MAX_IMAGE_PIXELS` Pillow itself refuses some.
    """
    with _explained(_name_of(source)), _opened(source) as stream:
        if not stream.read(1):
            raise OSError("the file is empty")
        stream.seek(0)
        with Image.open(stream) as image:
            if image.format == "EPS":
                # Pillow would start Ghostscript, that is, run the file as a program.
                raise OSError("EPS is a drawing; please convert it to PNG first")
            if image.format == "VQ":  # which `import vqcodec` makes a format of Pillow's
                raise OSError("this is a .vq file; decompress it first")
            if image.width * image.height > max_pixels:
                size = f"{image.width}x{image.height}"
                raise Image.DecompressionBombError(f"{size}, over the limit of {max_pixels} pixels")
            return _convert(image, keep)


def from_image(image: Image.Image, keep: Keep = KEEP_NOTHING) -> Picture:
    """Convert a PIL image of any mode, its current frame, turned upright. Raises `BadPicture`."""
    with _explained("the image"):
        return _convert(image, keep)


def to_image(picture: Picture) -> Image.Image:
    """Give a picture back as a PIL image of mode L, RGB, LA or RGBA, with its metadata in `info` where that is sound.

    A grey picture is the rounded mean of its three channels, since decoders leave them slightly unequal.
    """
    image = _samples_only(picture)
    image.info.update(image_info(_sound(picture).metadata))
    return image


def grey_of(pixels: Samples) -> Samples:
    """The rounded mean of three channels: [H, W, 3] -> [H, W]."""
    grey: Samples = ((pixels.sum(axis=2, dtype=np.uint16) + 1) // 3).astype(np.uint8)
    return grey


def _samples_only(picture: Picture) -> Image.Image:
    samples = picture.pixels
    if picture.mode == "L":
        samples = grey_of(samples)
    if picture.alpha is not None:
        samples = np.dstack([samples, picture.alpha])
    return Image.fromarray(samples)


def fitted(picture: Picture, format: str) -> Picture:  # noqa: A002 (Pillow's own name for it)
    """The picture with the metadata that is sound and that a Pillow format can hold; notices say what was lost.

    Where it cannot hold the colour profile the colours become sRGB.
    """
    picture = _sound(picture)
    reasons = unfit(picture.metadata, format)
    notices = [f"the {NAMES[kind]} was left out: {reason}" for kind, reason in reasons.items() if kind != "icc"]
    if "icc" in reasons:
        colour, noted = to_srgb(_samples_only(replace(picture, alpha=None)), picture.metadata.icc)
        notices += [f"the colour profile was left out ({reasons['icc']}): {notice}" for notice in noted]
        picture = replace(picture, pixels=np.array(colour.convert("RGB")))
    metadata = replace(picture.metadata, **dict.fromkeys(reasons, b""))
    return replace(picture, metadata=metadata, notices=(*picture.notices, *notices))


def sound_metadata(metadata: Metadata, width: int, height: int, mode: str) -> tuple[Metadata, list[str]]:
    """Metadata of a picture of mode RGB or L without what is damaged, as from a hostile file, and notices."""
    metadata, notices = cleaned(metadata, width, height, location=True)
    if metadata.icc and not profile_fits(metadata.icc, mode):
        metadata = replace(metadata, icc=b"")
        notices.append("the colour profile cannot be used and was dropped")
    return metadata, notices


def _sound(picture: Picture) -> Picture:
    metadata, notices = sound_metadata(picture.metadata, picture.width, picture.height, picture.mode)
    return replace(picture, metadata=metadata, notices=(*picture.notices, *notices))


def encode_image(picture: Picture, format: str) -> bytes:  # noqa: A002
    """Encode a picture as a file of a Pillow format, such as "PNG", losing as little as the format allows.

    Raises `UsageError` if the format cannot hold the picture (see `fitted`), `OutputError` if writing fails.
    """
    _check_writable(format)
    if picture.alpha is not None and format not in _KEEPS_ALPHA:
        raise UsageError(f"{format} cannot hold the transparency of this picture; choose PNG, for example")
    if kinds := ", ".join(NAMES[kind] for kind in unfit(picture.metadata, format)):
        raise UsageError(f"{format} cannot hold this picture's metadata ({kinds}); choose PNG, for example")
    image = _samples_only(picture)
    if (format, image.mode) in _NEEDS_COLOUR:
        image = image.convert("RGB" if image.mode == "L" else "RGBA")
    try:
        with _no_warnings():
            return save(image, picture.metadata, format, _SAVE_OPTIONS.get(format, {}))
    except Exception as error:  # writers, too, raise nearly anything
        raise OutputError(f"cannot write the picture as {format}: {_one_line(_reason(error))}") from error


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
        with _no_warnings():
            yield
    except Exception as error:  # Pillow's readers raise nearly anything when fed with damaged bytes
        raise BadPicture(_one_line(f"{name}: {_reason(error)}")) from error


@contextmanager
def _no_warnings() -> Iterator[None]:
    """One thread at a time: the filters are those of the process, and two threads would put back each other's."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"too large ({error}); if you trust it, raise the limit with --max-pixels"
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


def _convert(image: Image.Image, keep: Keep) -> Picture:
    if 0 in image.size:
        raise OSError("the image has no pixels")
    notices = []
    # Some readers look for frames by seeking, which would throw away changes made to a loaded image.
    if (getattr(image, "tile", ()) or "is_animated" in vars(image)) and getattr(image, "is_animated", False):
        which = "current" if image.tell() else "first"
        notices.append(f"several frames or pages: only the {which} one is kept")
    raw = raw_mode(image)
    metadata, noted = taken(image) if keep.metadata else (Metadata(), [])
    notices += noted
    image.load()
    colour, alpha, noted = split_image(image, raw)
    notices += noted
    if not (metadata.icc and len(metadata.icc) <= LIMIT and profile_fits(metadata.icc, colour.mode)):
        metadata = replace(metadata, icc=b"")
        colour, noted = to_srgb(colour, image.info.get("icc_profile"))
        notices += noted
    orientation = _orientation(image)
    if orientation == 0:
        notices.append("the EXIF data is damaged and was ignored")
    pixels = _upright(np.array(colour if colour.mode == "RGB" else colour.convert("RGB")), orientation)
    alpha = None if alpha is None else _upright(alpha, orientation)
    height, width, _ = pixels.shape
    metadata, noted = cleaned(metadata, width, height, location=keep.location)
    notices = list(dict.fromkeys([*notices, *noted]))
    return Picture(pixels, "L" if colour.mode == "L" else "RGB", alpha, tuple(notices), metadata)


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
