"""Doing one job: picture <-> .vq file. In: a `Job`. Out: the file, and a `Record` about it."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcodec.codec.encode_options import EncodeOptions, compress
from vqcodec.errors import BadFile, BadPicture, UsageError, VqError
from vqcodec.files.folders import SUFFIX, picture_suffixes
from vqcodec.files.plan import Job, size_of
from vqcodec.files.read_write import read, write_output

if TYPE_CHECKING:
    from vqcodec.codec.codec import Codec
    from vqcodec.limits import Limits
    from vqcodec.model.store import Model
    from vqcodec.picture.picture import Picture

__all__ = ["Compressor", "Decompressor", "Record", "check_file", "limits_for", "open_codec"]


@dataclass(frozen=True)
class Record:
    """The result of one job, as --json prints it.

    `bytes`, `bpp`, `bits_per_dim` and `ratio` are those of the whole .vq file, header included; `output_bytes` is the
    size of what was written: of the .vq file, or of the picture. If the .vq file was `left_out` because it is larger
    than the input, that is 0. `seconds` is the time of coding, without reading and writing files. For the first file of
    a model it includes loading the model. `psnr` and `ssimulacra2` compare the decoded picture with the source as the
    encoder saw it, after conversions.
    """

    input: str
    output: str
    output_bytes: int
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
    damage: tuple[str, ...] = ()  # what was lost and replaced when a damaged file was salvaged
    psnr: float | None = None  # dB, infinite if the picture comes back exactly; None: not measured (`decompress`)
    ssimulacra2: float | None = None  # None: not measured, because it was not the target
    stored: float = 0.0  # share of the picture that the .vq file holds without loss, 0 to 1
    left_out: bool = False  # nothing was written, because the .vq file is larger than the input (--skip-larger)

    def to_json(self) -> dict[str, Any]:
        """The fields as --json and the manifest give them. An infinite PSNR is None: JSON has no infinity."""
        finite = self.psnr is not None and math.isfinite(self.psnr)
        return asdict(self) | {"psnr": self.psnr if finite else None}


class Compressor:
    """Pictures -> .vq files, with one model and one set of options.

    `skip_larger`: write no file that is larger than its input.
    """

    bad_input = BadPicture

    def __init__(
        self,
        model: str | None,
        options: EncodeOptions,
        force: bool,
        max_pixels: int | None = None,
        skip_larger: bool = False,
    ) -> None:
        self.model, self.options, self.force, self.skip_larger = model, options, force, skip_larger
        self.max_pixels, self.limits = max_pixels, limits_for(max_pixels)
        self.codec: Codec | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the settings: the receiving process loads the model itself."""
        return Compressor, (self.model, self.options, self.force, self.max_pixels, self.skip_larger)

    def open(self) -> None:
        """Load the model. Raises `ModelError`, or `UsageError` if it does not have the quality."""
        self.codec = open_codec(self.model, self.max_pixels)
        self.model = _absolute_folder(self.model, self.codec.model)
        self.codec.quality(self.options.quality)

    def settings(self) -> dict[str, Any]:
        """All settings that the bytes of a result depend on, in a form that JSON can store."""
        from vqcodec.codec.codec import DEFAULT_EFFORT

        assert self.codec is not None, "open() comes first"
        effort = DEFAULT_EFFORT if self.options.effort is None else self.options.effort
        options = replace(self.options, effort=effort)
        if not (options.has_target or options.lossless):
            options = replace(options, quality=self.codec.quality(options.quality))
        found = asdict(options)
        # Manifests of earlier versions do not name these options; they have the defaults.
        if not options.keep.hidden_colours:
            del found["keep"]["hidden_colours"]
        if options.ssimulacra2 is None:
            del found["ssimulacra2"]
        if not options.lossless:
            del found["lossless"]
        if self.skip_larger:
            found["skip_larger"] = True
        return {"command": "compress", "model": self.codec.model.digest.hex(), **found}

    def work(self, job: Job, progress: Callable[[float], None]) -> Record:
        """Run one job. `progress` is called with the fraction done, 0 to 1. Raises `VqError`."""
        from vqcodec.picture.alone import read_alone

        assert self.codec is not None, "open() comes first"
        source = sys.stdin.buffer if job.source is None else job.source
        picture = read_alone(source, self.options.keep, self.limits.pixels)
        start = time.perf_counter()
        encoded = compress(self.codec, picture, self.options, progress, measure=True)
        seconds = time.perf_counter() - start
        before = size_of(job.source) or 0  # 0: not a file, such as a pipe
        larger = 0 < before < len(encoded.data)
        left_out = larger and self.skip_larger
        if not left_out:
            write_output(job, encoded.data, self.force)
        notices = [*picture.notices, *encoded.notices, *_notices_of_result(job, picture)]
        if larger:
            notices.append(_larger(job, len(encoded.data), before, left_out))
        record = _record(job, encoded.data, self.codec.model.name, seconds, replace(picture, notices=tuple(notices)))
        record = replace(record, psnr=encoded.psnr, ssimulacra2=encoded.ssimulacra2)
        return replace(record, left_out=True, output_bytes=0) if left_out else record


def _notices_of_result(job: Job, picture: Picture) -> list[str]:
    """Notices about what a .vq file does not have from its picture, and about a name that misleads."""
    notices = []
    if picture.unasked:
        names = " and ".join(picture.unasked)
        was, it = ("was", "it") if len(picture.unasked) == 1 else ("were", "them")
        notices.append(f"{names} {was} left out; --keep-metadata keeps {it}")
    suffix = SUFFIX if job.target is None else job.target.suffix.lower()
    if suffix != SUFFIX and suffix in picture_suffixes():
        notices.append(f"the result {job.output} is a .vq file, whatever its suffix says")
    return notices


def _larger(job: Job, size: int, before: int, left_out: bool) -> str:
    """The notice about a .vq file of `size` bytes that is larger than its input of `before` bytes."""
    figures = f"({size:,} and {before:,} bytes)"
    if left_out and size_of(job.target) is None:
        return f"the .vq file would be larger than the input {figures} and was not written"
    if left_out:
        return f"the .vq file would be larger than the input {figures}; {job.output} is an earlier one and was kept"
    advice = "" if job.source is None or job.target is None else "; --skip-larger leaves such files out"
    return f"the .vq file is larger than the input {figures}{advice}"


class Decompressor:
    """.vq files -> pictures in the format of the target's suffix (PNG on standard output).

    Each file names its model by digest. A model is loaded once, at the first file that needs it. `region` (left, top,
    width, height in pixels) decodes only that part of the picture. `salvage_damaged` decodes the intact parts of
    damaged files. Raises `UsageError` if both are given.
    """

    bad_input = BadFile

    def __init__(
        self,
        model: str | None,
        force: bool,
        region: tuple[int, int, int, int] | None = None,
        salvage_damaged: bool = False,
        max_pixels: int | None = None,
    ) -> None:
        if salvage_damaged and region is not None:
            raise UsageError("--salvage and --crop cannot be combined")
        self.model, self.force, self.region, self.salvage_damaged = model, force, region, salvage_damaged
        self.max_pixels, self.limits = max_pixels, limits_for(max_pixels)
        self.given: Codec | None = None
        self.loaded: dict[bytes, Codec] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the settings: the receiving process loads the model itself."""
        return Decompressor, (self.model, self.force, self.region, self.salvage_damaged, self.max_pixels)

    def open(self) -> None:
        """Load the model, if one was named. Raises `ModelError`."""
        if self.model is not None:
            self.given = open_codec(self.model, self.max_pixels)
            self.model = _absolute_folder(self.model, self.given.model)

    def settings(self) -> dict[str, Any]:
        """All settings that the bytes of a result depend on, except the suffix of the output."""
        model = None if self.given is None else self.given.model.digest.hex()
        return {"command": "decompress", "model": model, "region": self.region, "salvage_damaged": self.salvage_damaged}

    def work(self, job: Job, progress: Callable[[float], None]) -> Record:
        """Run one job. `progress` is called with the fraction done, 0 to 1. Raises `VqError`."""
        from vqcodec.codec.partial import Region, decompress_region, salvage
        from vqcodec.picture.write import fitted, format_for, image_file

        picture_format = "PNG" if job.target is None else format_for(job.target)
        data = read(job.source)
        codec = self.codec_for(data)
        start = time.perf_counter()
        damage: tuple[str, ...] = ()
        if self.region is not None:
            picture = decompress_region(codec, data, Region(*self.region), progress)
        elif self.salvage_damaged:
            saved = salvage(codec, data, progress)
            picture, damage = saved.picture, saved.damage
        else:
            picture = codec.decompress(data, progress)
        seconds = time.perf_counter() - start
        picture = fitted(picture, picture_format)
        written = image_file(picture, picture_format)
        write_output(job, written, self.force)
        record = _record(job, data, codec.model.name, seconds, picture, damage)
        return replace(record, output_bytes=len(written))

    def codec_for(self, data: bytes) -> Codec:
        """The given codec, or that of the model that a file names. Raises `BadFile` or `ModelError`."""
        from vqcodec.codec.codec import Codec, model_for

        if self.given is not None:
            return self.given  # it rejects files of other models itself
        model = model_for(data, partial=self.salvage_damaged)
        if model.digest not in self.loaded:
            self.loaded[model.digest] = Codec(model, self.limits)
        return self.loaded[model.digest]


def check_file(source: Path | None, reader: Decompressor | None, progress: Callable[[float], None]) -> str | None:
    """The error of a .vq file, or None. All checksums are verified; with a `reader` the file is decoded too."""
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


def _absolute_folder(name: str | None, model: Model) -> str | None:
    """A model's folder as an absolute path; a name stays as it is."""
    return os.path.abspath(name) if name is not None and Path(name) == model.path else name


def open_codec(model: str | None, max_pixels: int | None = None) -> Codec:
    """The codec of a model, given by its name or folder; None is the default model. Raises `ModelError`."""
    from vqcodec.codec.codec import Codec
    from vqcodec.model.store import DEFAULT_MODEL, open_model

    return Codec(open_model(DEFAULT_MODEL if model is None else model), limits_for(max_pixels))


def limits_for(max_pixels: int | None) -> Limits:
    """The limits of a run: the defaults, or `max_pixels` from the user. Adapts Pillow's own limit as well."""
    from PIL import Image

    from vqcodec.limits import DEFAULT_LIMITS, Limits

    if max_pixels is None:
        return DEFAULT_LIMITS
    if Image.MAX_IMAGE_PIXELS is not None:  # Pillow's own limit
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
        output_bytes=len(data),
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
        stored=info.stored,
    )
