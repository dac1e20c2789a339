"""Rows -> means over pictures: one row for each codec and quality."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from vqcodec.bench.results import Row
from vqcodec.picture.measures import MEASURES

__all__ = ["mean"]


def mean(rows: Iterable[Row], matched: bool = False) -> list[Row]:
    """A row for each codec and quality (matched: each codec), over the rows without an error, in order of appearance.

    All means are arithmetic, except those of quotients: `ratio` is the sum of raw bytes over the sum of bytes,
    `naive_ratio` and `gain` likewise, and Mpixel/s is the sum of pixels over the sum of seconds. `peak_mib` is the
    maximum. Width, height and channels are 0 where they differ. The mean of a measure is over the pictures
    where it is defined. `image` states the number of pictures.
    """
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        if row.error is None:
            groups.setdefault((row.codec, 0 if matched else row.quality), []).append(row)
    return [_mean(group) for group in groups.values()]


def _mean(rows: Sequence[Row]) -> Row:
    def average(figure: str) -> float:
        return float(sum(getattr(row, figure) for row in rows)) / len(rows)

    def where_defined(figure: str) -> float:
        values = [getattr(row, figure) for row in rows if not math.isnan(getattr(row, figure))]
        return float(sum(values)) / len(values) if values else math.nan

    def common(figure: str) -> int:
        values = {int(getattr(row, figure)) for row in rows}
        return values.pop() if len(values) == 1 else 0

    raw = sum(row.height * row.width * row.channels for row in rows)
    naive = sum(row.height * row.width * row.channels / row.naive_ratio for row in rows)
    total = sum(row.bytes for row in rows)
    mpixels = sum(row.height * row.width for row in rows) / 1e6
    fidelity: dict[str, Any] = {measure.name: where_defined(measure.name) for measure in MEASURES}
    return Row(
        image=f"mean of {len(rows)}",
        codec=rows[0].codec,
        quality=rows[0].quality if len({row.quality for row in rows}) == 1 else average("quality"),
        digest=rows[0].digest,
        width=common("width"),
        height=common("height"),
        channels=common("channels"),
        bytes=average("bytes"),
        bpp=average("bpp"),
        bits_per_dim=average("bits_per_dim"),
        ratio=raw / total,
        naive_ratio=raw / naive,
        gain=naive / total,
        **fidelity,
        encode_seconds=average("encode_seconds"),
        decode_seconds=average("decode_seconds"),
        encode_cpu_seconds=average("encode_cpu_seconds"),
        decode_cpu_seconds=average("decode_cpu_seconds"),
        encode_mpixel_s=mpixels / sum(row.encode_seconds for row in rows),
        decode_mpixel_s=mpixels / sum(row.decode_seconds for row in rows),
        peak_mib=max(row.peak_mib for row in rows),
    )
