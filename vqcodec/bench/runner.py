"""Pictures x qualities -> rows of figures, all taken from real .vq files on a real disk.

Each picture is compressed, the bytes are written to a file, the file is read back and decompressed, and the
two pictures are compared. What fails becomes a row with its error: one broken picture does not end a run.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vqcodec.errors import OutputError, VqError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vqcodec.codec import Codec
    from vqcodec.image import Picture

__all__ = ["Row", "mean", "measure", "run", "run_and_keep"]


@dataclass(frozen=True)
class Row:
    """The figures of one picture at one quality, or their mean over pictures (see `mean`).

    channels: 3, or 1 for a grey picture; alpha is not counted as a channel, yet its bytes are in `bytes`.
    bpp: 8 * bytes / (H * W); bits_per_dim: 8 * bytes / (H * W * channels); ratio: H * W * channels / bytes.
    naive_ratio: the ratio if every index were stored in log2 K bits, with no prior and no header; gain: ratio
    over naive_ratio. psnr in dB (infinite where the pictures are equal) and ms_ssim (nan where a side is too
    short for it) are on the channels above; alpha must come back exactly. Seconds: wall time of coding in
    this process, without files; mpixel_s: 10^6 pixels per second.
    """

    image: str
    model: str
    quality: int
    width: int = 0
    height: int = 0
    channels: int = 0
    bytes: float = 0
    bpp: float = 0.0
    bits_per_dim: float = 0.0
    ratio: float = 0.0
    naive_ratio: float = 0.0
    gain: float = 0.0
    psnr: float = 0.0
    ms_ssim: float = 0.0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    encode_mpixel_s: float = 0.0
    decode_mpixel_s: float = 0.0
    error: str | None = None


def run(
    codec: Codec,
    paths: Sequence[Path],
    qualities: Sequence[int],
    progress: Callable[[float], None] | None = None,
) -> list[Row]:
    """A row for each picture and quality, pictures in order. `progress` is told the fraction done, 0 to 1.

    The first picture that works is coded once more before: no row pays for what happens only once.
    """
    from vqcodec.image import read_picture

    rows: list[Row] = []
    warm = False
    with tempfile.TemporaryDirectory(prefix="vqcodec-bench-") as folder:
        target = Path(folder) / "picture.vq"
        for path in paths:
            for quality in qualities:
                try:
                    picture = read_picture(path)
                    if not warm:
                        measure(codec, picture, quality, target)
                        warm = True
                    row = replace(measure(codec, picture, quality, target)[0], image=path.name)
                except VqError as error:
                    row = Row(path.name, codec.model.name, quality, error=str(error))
                rows.append(row)
                if progress:
                    progress(len(rows) / (len(paths) * len(qualities)))
    return rows


def run_and_keep(
    codec: Codec, picture: Picture, qualities: Sequence[int], stem: Path, progress: Callable[[float], None]
) -> list[Row]:
    """A row for each quality; keeps each file as STEM-qN.vq and what comes out of it as STEM-qN.png.

    Existing files are replaced. Raises `VqError`.
    """
    from vqcodec.image import encode_image
    from vqcodec.output import write_atomic

    rows: list[Row] = []
    for quality in (qualities[0], *qualities):  # the first one twice: the first pass also pays for warming up
        target = stem.with_name(f"{stem.name}-q{quality}.vq")
        row, result = measure(codec, picture, quality, target)
        write_atomic(target.with_suffix(".png"), encode_image(result, "PNG"), force=True)
        rows.append(row)
        progress(len(rows) / (1 + len(qualities)))
    return rows[1:]


def measure(codec: Codec, picture: Picture, quality: int, target: Path) -> tuple[Row, Picture]:
    """Compress `picture` into the file `target`, decompress that file, compare. Returns row and result.

    An existing `target` is replaced. Raises `VqError`, also where size, mode or alpha do not come back.
    """
    from vqcodec.metrics import bits_per_dim, bits_per_pixel, compression_ratio, ms_ssim, naive_ratio, psnr
    from vqcodec.output import write_atomic

    start = time.perf_counter()
    data = codec.compress(picture, quality)
    encode_seconds = time.perf_counter() - start
    write_atomic(target, data, force=True)
    try:
        stored = target.read_bytes()
    except OSError as error:
        raise OutputError(f"{target} cannot be read back: {error.strerror}") from None
    start = time.perf_counter()
    result = codec.decompress(stored)
    decode_seconds = time.perf_counter() - start
    _compare_exact_parts(picture, result)

    before, after = _samples(picture), _samples(result)
    height, width, channels = before.shape
    vqvae = codec.model.config.vqvae
    ratio = compression_ratio(len(stored), height, width, channels)
    naive = naive_ratio(height, width, channels, vqvae.stride, vqvae.naive_bits)
    row = Row(
        image=target.name,
        model=codec.model.name,
        quality=quality,
        width=width,
        height=height,
        channels=channels,
        bytes=len(stored),
        bpp=bits_per_pixel(len(stored), height, width),
        bits_per_dim=bits_per_dim(len(stored), height, width, channels),
        ratio=ratio,
        naive_ratio=naive,
        gain=ratio / naive,
        psnr=psnr(before, after),
        ms_ssim=ms_ssim(before, after),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
        encode_mpixel_s=height * width / encode_seconds / 1e6,
        decode_mpixel_s=height * width / decode_seconds / 1e6,
    )
    return row, result


def mean(rows: Iterable[Row]) -> list[Row]:
    """A row for each model and quality, over the rows without an error, in order of appearance.

    Arithmetic means, but for quotients: `ratio` is the sum of raw bytes over the sum of bytes, `naive_ratio`
    and `gain` likewise, and Mpixel/s is the sum of pixels over the sum of seconds. Width, height and channels
    are 0 where they differ; MS-SSIM is over the pictures where it is defined. `image` says how many pictures
    were counted.
    """
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if row.error is None:
            groups.setdefault((row.model, row.quality), []).append(row)
    return [_mean(group) for group in groups.values()]


def _mean(rows: Sequence[Row]) -> Row:
    def average(figure: str) -> float:
        return float(sum(getattr(row, figure) for row in rows)) / len(rows)

    def common(figure: str) -> int:
        values = {int(getattr(row, figure)) for row in rows}
        return values.pop() if len(values) == 1 else 0

    defined = [row.ms_ssim for row in rows if not math.isnan(row.ms_ssim)]
    raw = sum(row.height * row.width * row.channels for row in rows)
    naive = sum(row.height * row.width * row.channels / row.naive_ratio for row in rows)
    total = sum(row.bytes for row in rows)
    mpixels = sum(row.height * row.width for row in rows) / 1e6
    return Row(
        image=f"mean of {len(rows)}",
        model=rows[0].model,
        quality=rows[0].quality,
        width=common("width"),
        height=common("height"),
        channels=common("channels"),
        bytes=average("bytes"),
        bpp=average("bpp"),
        bits_per_dim=average("bits_per_dim"),
        ratio=raw / total,
        naive_ratio=raw / naive,
        gain=naive / total,
        psnr=average("psnr"),
        ms_ssim=sum(defined) / len(defined) if defined else math.nan,
        encode_seconds=average("encode_seconds"),
        decode_seconds=average("decode_seconds"),
        encode_mpixel_s=mpixels / sum(row.encode_seconds for row in rows),
        decode_mpixel_s=mpixels / sum(row.decode_seconds for row in rows),
    )


def _samples(picture: Picture) -> NDArray[np.uint8]:
    """The colour samples as they are given back, without alpha: [H, W, 3], of a grey picture [H, W, 1]."""
    import numpy as np

    from vqcodec.image import to_image

    samples = np.asarray(to_image(replace(picture, alpha=None)))
    return samples.reshape(picture.height, picture.width, picture.channels)


def _compare_exact_parts(picture: Picture, result: Picture) -> None:
    """Raise `VqError` if something that the format keeps exactly was not kept."""
    import numpy as np

    if (result.pixels.shape, result.mode) != (picture.pixels.shape, picture.mode):
        raise VqError("size or mode changed in coding; this is a bug in vqcodec")
    if picture.alpha is None or result.alpha is None:
        kept = picture.alpha is result.alpha
    else:
        kept = np.array_equal(picture.alpha, result.alpha)
    if not kept:
        raise VqError("the alpha channel changed in coding; this is a bug in vqcodec")
