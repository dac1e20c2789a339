"""Doing a job: a picture -> a .vq file, or back. In: a `Job`. Out: the file, and a `Record` about it."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcodec.errors import BadFile, BadPicture, OutputError, UsageError, VqError
from vqcodec.files.plan import Job, size_of
from vqcodec.picture.metadata import Keep

if TYPE_CHECKING:
    from vqcodec.codec.codec import Codec
    from vqcodec.codec.rate_control import Target
    from vqcodec.limits import Limits
    from vqcodec.model.store import Model
    from vqcodec.picture.image import Picture

__all__ = ["Compressor", "Decompressor", "Record", "Wish", "limits_for", "read", "verdict"]


@dataclass(frozen=True)
class Record:
    """What was done for one job.

    `bytes`, and the figures taken from it, are those of the .vq file, header included. `seconds` is
    coding alone, without reading or writing files; at the first file of a model it includes loading that.
    """

    input: str
    output: str
    bytes: int
    width: int
    height: int
    bpp: float
    bits_per_dim: float
    ratio: float
    quality: int
    model: str
    digest: str  # hexadecimal
    seconds: float
    notices: tuple[str, ...]
    damage: tuple[str, ...] = ()  # what was lost and made up, where a damaged file was salvaged


def read(source: Path | None) -> bytes:
    """All bytes of a .vq file, or of standard input, which may have no end. Raises `BadFile`.

    Of a file longer than any header no more is read than its header declares, and one byte that would be too much.
    """
    from vqcodec.format.container import read_header
    from vqcodec.limits import ANY_SIZE, MOST_HEADER

    try:
        with nullcontext(sys.stdin.buffer) if source is None else source.open("rb") as stream:
            pieces = [stream.read(MOST_HEADER)]
            if len(pieces[0]) == MOST_HEADER:
                # How large a picture may be is decided when it is decoded.
                left = read_header(pieces[0], ANY_SIZE, partial=True).total_bytes + 1 - MOST_HEADER
                while left > 0 and (piece := stream.read(min(left, MOST_HEADER))):
                    pieces.append(piece)
                    left -= len(piece)
            return b"".join(pieces)
    except OSError as error:
        name = "standard input" if source is None else source
        raise BadFile(f"{name} cannot be read: {error.strerror}") from None


def verdict(source: Path | None, reader: Decompressor | None, progress: Callable[[float], None]) -> str | None:
    """What is wrong with a .vq file, or None. All its checksums are tried; with a `reader` it is decoded, too."""
    from vqcodec.format.container import unpack
    from vqcodec.limits import ANY_SIZE

    try:
        data = read(source)
        if reader is None:
            unpack(data, ANY_SIZE)
        else:
            reader.codec_for(data).decompress(data, progress)
    except VqError as error:
        return str(error)
    return None


def deliver(job: Job, data: bytes, force: bool) -> None:
    """Write `data` where `job` wants it: a file that appears whole or not at all, or standard output."""
    from vqcodec.output import make_folder, write_atomic

    if job.target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if job.make_folder:
        make_folder(job.target.parent)
    try:
        write_atomic(job.target, data, force=force or (job.ours is not None and size_of(job.target) == job.ours))
    except OutputError:
        # A process that was killed may have come as far as that, only without saying so.
        if not (job.same_is_done and _holds(job.target, data)):
            raise


def _holds(path: Path, data: bytes) -> bool:
    try:
        return size_of(path) == len(data) and path.read_bytes() == data
    except OSError:
        return False


@dataclass(frozen=True)
class Wish:
    """What `compress` was asked for: a quality, or one target; and what to keep beside the samples."""

    quality: int | None = None
    effort: int | None = None
    bpp: float | None = None  # targets, for the whole file
    size: int | None = None  # bytes
    psnr: float | None = None  # dB
    keep: Keep = field(default_factory=Keep)

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.quality, self.bpp, self.size, self.psnr)) > 1:
            raise UsageError("give one of -q, --target-bpp, --target-size and --target-psnr")
        for value in (self.bpp, self.size, self.psnr):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"a target must be more than 0, not {value:g}")

    def target(self, picture: Picture) -> Target | None:
        """The target in the search's terms. Raises `UsageError`."""
        from vqcodec.codec.rate_control import Target

        if self.psnr is not None:
            return Target("psnr", self.psnr)
        if self.bpp is not None:
            return Target("bytes", self.bpp * picture.height * picture.width / 8)
        return None if self.size is None else Target("bytes", self.size)


class Compressor:
    """Pictures -> .vq files, with one model and one wish."""

    bad_input = BadPicture

    def __init__(self, model: str | None, wish: Wish, force: bool, max_pixels: int | None = None) -> None:
        self.model, self.wish, self.force = model, wish, force
        self.max_pixels, self.limits = max_pixels, limits_for(max_pixels)
        self.codec: Codec | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets it unopened."""
        return Compressor, (self.model, self.wish, self.force, self.max_pixels)

    def open(self) -> None:
        """Load the model. Raises `ModelError`, or `UsageError` for a quality that it does not have."""
        from vqcodec.codec.codec import Codec
        from vqcodec.model.store import DEFAULT_MODEL, open_model

        model = open_model(DEFAULT_MODEL if self.model is None else self.model)
        self.model = _anywhere(self.model, model)
        self.codec = Codec(model, self.limits)
        self.codec.quality(self.wish.quality)

    def settings(self) -> dict[str, Any]:
        """What the bytes of a result depend on, beside the picture."""
        assert self.codec is not None, "open() comes first"
        wish = replace(self.wish, effort=self.effort)
        if (wish.bpp, wish.size, wish.psnr) == (None, None, None):
            wish = replace(wish, quality=self.codec.quality(wish.quality))
        return {"command": "compress", "model": self.codec.model.digest.hex(), **asdict(wish)}

    @property
    def effort(self) -> int:
        from vqcodec.codec.codec import DEFAULT_EFFORT

        return DEFAULT_EFFORT if self.wish.effort is None else self.wish.effort

    def work(self, job: Job, progress: Callable[[float], None]) -> Record:
        """Do one job. `progress` is told the fraction done, 0 to 1. Raises `VqError`."""
        from vqcodec.codec.rate_control import compress_to
        from vqcodec.picture.image import read_picture

        assert self.codec is not None, "open() comes first"
        source = sys.stdin.buffer if job.source is None else job.source
        picture = read_picture(source, self.wish.keep, self.limits.pixels)
        target = self.wish.target(picture)
        start = time.perf_counter()
        if target is None:
            data = self.codec.compress(picture, self.wish.quality, progress, self.effort)
        else:
            data = compress_to(self.codec, picture, target, progress, self.effort)
        seconds = time.perf_counter() - start
        deliver(job, data, self.force)
        return _record(job, data, self.codec.model.name, seconds, picture)


class Decompressor:
    """.vq files -> pictures in the format of the target's suffix (PNG on standard output).

    Each file names its model by digest; a model is loaded once, at the first file that needs it. With `region` (left,
    top, width, height) that part of the picture alone, with `saving` what can be had of damaged files.
    """

    bad_input = BadFile

    def __init__(
        self,
        model: str | None,
        force: bool,
        region: tuple[int, int, int, int] | None = None,
        saving: bool = False,
        max_pixels: int | None = None,
    ) -> None:
        if saving and region is not None:
            raise UsageError("give one of --salvage and --crop")
        self.model, self.force, self.region, self.saving = model, force, region, saving
        self.max_pixels, self.limits = max_pixels, limits_for(max_pixels)
        self.given: Codec | None = None
        self.loaded: dict[bytes, Codec] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets it unopened."""
        return Decompressor, (self.model, self.force, self.region, self.saving, self.max_pixels)

    def open(self) -> None:
        """Load the model, if one was named. Raises `ModelError`."""
        from vqcodec.codec.codec import Codec
        from vqcodec.model.store import open_model

        if self.model is not None:
            model = open_model(self.model)
            self.model = _anywhere(self.model, model)
            self.given = Codec(model, self.limits)

    def settings(self) -> dict[str, Any]:
        """What the bytes of a result depend on, beside the .vq file and the name of the output."""
        model = None if self.given is None else self.given.model.digest.hex()
        return {"command": "decompress", "model": model, "region": self.region, "saving": self.saving}

    def work(self, job: Job, progress: Callable[[float], None]) -> Record:
        """Do one job. `progress` is told the fraction done, 0 to 1. Raises `VqError`."""
        from vqcodec.codec.partial import Region, decode_region, salvage
        from vqcodec.picture.image import encode_image, fitted, format_for

        picture_format = "PNG" if job.target is None else format_for(job.target)
        data = read(job.source)
        codec = self.codec_for(data)
        start = time.perf_counter()
        damage: tuple[str, ...] = ()
        if self.region is not None:
            picture = decode_region(codec, data, Region(*self.region), progress)
        elif self.saving:
            saved = salvage(codec, data, progress)
            picture, damage = saved.picture, saved.damage
        else:
            picture = codec.decompress(data, progress)
        seconds = time.perf_counter() - start
        picture = fitted(picture, picture_format)
        deliver(job, encode_image(picture, picture_format), self.force)
        return _record(job, data, codec.model.name, seconds, picture, damage)

    def codec_for(self, data: bytes) -> Codec:
        """The codec with the model that a file names, or the given one. Raises `BadFile` or `UnknownModel`."""
        from vqcodec.codec.codec import Codec, model_for

        if self.given is not None:
            return self.given  # it refuses a file of another model itself
        model = model_for(data, partial=self.saving)
        if model.digest not in self.loaded:
            self.loaded[model.digest] = Codec(model, self.limits)
        return self.loaded[model.digest]


def _anywhere(name: str | None, model: Model) -> str | None:
    """A model's name, or its folder from wherever it is asked for."""
    return os.path.abspath(name) if name is not None and Path(name) == model.path else name


def limits_for(max_pixels: int | None) -> Limits:
    """The limits of a run of the command line, where the user may know better."""
    from PIL import Image

    from vqcodec.limits import DEFAULT_LIMITS, Limits

    if max_pixels is None:
        return DEFAULT_LIMITS
    if Image.MAX_IMAGE_PIXELS is not None:  # Pillow has a limit of its own
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
    return Limits(pixels=max_pixels)


def _record(
    job: Job, data: bytes, model: str, seconds: float, picture: Picture, damage: tuple[str, ...] = ()
) -> Record:
    from vqcodec.codec.describe import describe

    info = describe(data, partial=bool(damage))
    return Record(
        input=job.input,
        output=job.output,
        bytes=len(data),
        width=info.width,
        height=info.height,
        bpp=info.bpp,
        bits_per_dim=info.bits_per_dim,
        ratio=info.ratio,
        quality=info.quality,
        model=model,
        digest=info.model_digest,
        seconds=seconds,
        notices=picture.notices,
        damage=damage,
    )
