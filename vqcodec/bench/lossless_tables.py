"""Results of `bench --lossless` -> its tables: every picture, and the means with sizes relative to the reference."""

from __future__ import annotations

import math
from collections.abc import Iterator

from vqcodec.bench.results import Results
from vqcodec.bench.table import Table, figure, two_digits

__all__ = ["lossless_tables"]


def lossless_tables(results: Results) -> Iterator[Table]:
    """The two tables; `results.sizes` is not empty."""
    yield _pictures(results)
    yield _means(results)


def _pictures(results: Results) -> Table:
    """A line for each picture, with the bits per dimension of each codec."""
    found = {(row.image, row.codec): row for row in results.rows}
    lines = []
    for image in dict.fromkeys(row.image for row in results.rows):
        rows = [found.get((image, codec)) for codec in results.codecs]
        lines.append([image, *("-" if row is None or row.error else f"{row.bits_per_dim:.4f}" for row in rows)])
    return Table("Picture by picture, without loss: bits/dim", ["picture", *results.codecs], lines, 1)


def _means(results: Results) -> Table:
    sizes = {each.codec: each for each in results.sizes}
    reference = results.sizes[0].reference
    headings = ["codec", "pictures", "bytes", "bpp", "bits/dim", "ratio", f"of {reference}", "picture by picture"]
    headings += ["smaller", "enc s", "dec s", "enc Mpx/s", "dec Mpx/s", "MiB"]
    lines = []
    for row in results.means:
        size = sizes[row.codec]
        names = [row.codec, row.image.removeprefix("mean of ")]
        cells = [f"{row.bytes:,.0f}", f"{row.bpp:.3f}", f"{row.bits_per_dim:.4f}", f"{row.ratio:.2f}"]
        cells += [_percent(size.share), _percent(size.picture_share), f"{size.fewer} of {size.pictures}"]
        speed = [row.encode_seconds, row.decode_seconds, row.encode_mpixel_s, row.decode_mpixel_s]
        lines.append([*names, *cells, *map(two_digits, speed), figure(row.peak_mib, 0)])
    title = (
        f"Means without loss, every sample checked; of {reference}: the sum of the bytes; picture by picture: the "
        "geometric mean"
    )
    return Table(title, headings, lines, 1)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"
