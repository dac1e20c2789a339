"""One picture, one codec, one quality -> a row of figures, taken from a file that was written and read back.

The picture is encoded, the bytes are written to a file, the file is read back and decoded, and the two pictures are
compared. Times and memory are those of this process; times exclude reading and writing files.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqcodec.bench.match import Match, samples
from vqcodec.bench.results import Row
from vqcodec.errors import OutputError, VqError

if TYPE_CHECKING:
    from vqcodec.bench.peers import Peer
    from vqcodec.picture.picture import Picture

__all__ = ["measure"]


class Watch:
    """Wall and CPU seconds (of all threads of the process) since the object was created."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        """(wall, CPU)."""
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def measure(
    peer: Peer,
    picture: Picture,
    quality: float,
    target: Path,
    match: Match | None = None,
    *,
    lossless: bool = False,
) -> tuple[Row, Picture]:
    """Encode `picture` to the file `target`, decode that file and compare. Returns a row and the decoded picture.

    In the row, `image`, `codec` and `digest` are left empty. match: what the file must meet, instead of `quality`. An
    existing `target` is replaced. lossless: no sample may change, and of the measures there is only the infinite PSNR.
    Raises `VqError`, also if picture size, mode or alpha (lossless: any sample) change in coding.
    """
    from vqcodec.output import write_atomic

    _reset_peak()
    watch = Watch()
    if match is None:
        data, note = peer.compress(picture, quality), None
    elif match.by_rate:
        data, quality, note = peer.compress_to(picture, match.value * picture.height * picture.width / 8)
    else:
        data, quality, note = peer.compress_for(picture, match)
    encode = watch.seconds()
    write_atomic(target, data, force=True)
    try:
        stored = target.read_bytes()
    except OSError as error:
        raise OutputError(f"{target} cannot be read back: {error.strerror}") from None
    watch = Watch()
    result = peer.decompress(stored)
    decode = watch.seconds()
    peak = _peak_mib()
    if peer.model is None:  # most codecs decode grey to RGB; compare and show it as grey
        result = replace(result, mode=picture.mode)
    if lossless and result.alpha is None and picture.alpha is not None and (picture.alpha == 255).all():
        result = replace(result, alpha=picture.alpha)  # some formats leave out alpha that is opaque everywhere
    _compare_exact_parts(picture, result)
    if lossless:
        _compare_samples(picture, result)
    row = _figures(peer, picture, None if lossless else result, len(stored))
    mpixels = picture.height * picture.width / 1e6
    row = replace(
        row,
        quality=quality,
        encode_seconds=encode[0],
        decode_seconds=decode[0],
        encode_cpu_seconds=encode[1],
        decode_cpu_seconds=decode[1],
        encode_mpixel_s=mpixels / max(encode[0], 1e-9),
        decode_mpixel_s=mpixels / max(decode[0], 1e-9),
        peak_mib=peak,
        note=note,
    )
    return row, result


def _figures(peer: Peer, picture: Picture, result: Picture | None, size: int) -> Row:
    """The figures that follow from the two pictures and the file size in bytes. `result` None: they are equal."""
    from vqcodec.format.rates import bits_per_dim, bits_per_pixel, compression_ratio, naive_ratio
    from vqcodec.picture.measures import measured

    before = samples(picture)
    height, width, channels = before.shape
    ratio = compression_ratio(size, height, width, channels)
    naive = math.nan
    if peer.model is not None:
        vqvae = peer.model.config.vqvae
        naive = naive_ratio(height, width, channels, vqvae.stride, vqvae.naive_bits)
    fidelity: dict[str, Any] = {"psnr": math.inf} if result is None else measured(before, samples(result))
    return Row(
        image="",
        codec="",
        quality=0,
        width=width,
        height=height,
        channels=channels,
        bytes=size,
        bpp=bits_per_pixel(size, height, width),
        bits_per_dim=bits_per_dim(size, height, width, channels),
        ratio=ratio,
        naive_ratio=naive,
        gain=ratio / naive,
        **fidelity,
    )


def _compare_exact_parts(picture: Picture, result: Picture) -> None:
    """Raise `VqError` if size, mode or alpha changed, which the format stores exactly."""
    import numpy as np

    if (result.pixels.shape, result.mode) != (picture.pixels.shape, picture.mode):
        raise VqError("size or mode changed in coding; this is a bug in the codec")
    if picture.alpha is None or result.alpha is None:
        kept = picture.alpha is result.alpha
    else:
        kept = np.array_equal(picture.alpha, result.alpha)
    if not kept:
        raise VqError("the alpha channel changed in coding; this is a bug in the codec")


def _compare_samples(picture: Picture, result: Picture) -> None:
    """Raise `VqError` if any sample changed in coding without loss."""
    changed = int((picture.pixels != result.pixels).sum())
    if changed:
        raise VqError(f"{changed:,} samples changed in coding that should lose nothing; this is a bug in the codec")


_PROC = Path("/proc/self")


def _reset_peak() -> None:
    """Reset the peak memory counter, on Linux. On other systems it stays the peak of the whole process."""
    with suppress(OSError):
        (_PROC / "clear_refs").write_text("5")


def _peak_mib() -> float:
    """Peak resident memory since `_reset_peak`, in MiB; nan where it is not available (Windows)."""
    with suppress(OSError):
        for line in (_PROC / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:
        return math.nan
    import sys

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
