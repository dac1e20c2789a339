"""Results -> the tables of `bench` as lines of text, and JSON and CSV documents. This module prints nothing."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from vqcodec.bench.anatomy import mean_anatomy
from vqcodec.bench.curves import wins
from vqcodec.bench.results import Anatomy, Results, Row

__all__ = ["Table", "tables", "to_csv", "to_json", "two_digits"]


class Table(NamedTuple):
    """A table with a title. The first `texts` columns hold text, the others figures."""

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    texts: int


def tables(results: Results) -> Iterator[Table]:
    """The tables for the terminal: means, comparisons, published curves, and the anatomy of the files."""
    if results.match is not None:
        yield _pictures(results)
    yield _means(results)
    if results.match is not None and results.anchor is not None:
        yield _wins(results)
    if any(comparison.reason is None for comparison in results.bd):
        yield _comparisons(results)
    if any(comparison.compared > 1 for comparison in results.bd):
        yield _picture_rates(results)
    if results.published:
        yield _published(results)
    if results.anatomy:
        means = _mean_anatomies(results.anatomy)
        yield _anatomy(means)
        yield from (_codebooks(anatomy) for anatomy in means)


def _means(results: Results) -> Table:
    headings = ["codec", "q", "pictures", "bytes", "bpp", "bits/dim", "ratio", "gain", "PSNR", "PSNR-Y", "MS-SSIM"]
    headings += ["enc Mpx/s", "dec Mpx/s", "enc CPU s", "dec CPU s", "MiB"]
    lines = []
    for row in results.means:
        names = [row.codec, f"{row.quality:.4g}", row.image.removeprefix("mean of ")]
        sizes = [f"{row.bytes:,.0f}", f"{row.bpp:.3f}", f"{row.bits_per_dim:.4f}", f"{row.ratio:.1f}"]
        fidelity = [_figure(row.gain, 2), _figure(row.psnr, 2), _figure(row.psnr_y, 2), _figure(row.ms_ssim, 4)]
        speed = [two_digits(row.encode_mpixel_s), two_digits(row.decode_mpixel_s)]
        cost = [two_digits(row.encode_cpu_seconds), two_digits(row.decode_cpu_seconds), _figure(row.peak_mib, 0)]
        lines.append([*names, *sizes, *fidelity, *speed, *cost])
    title = "Means" if results.match is None else f"Means at {results.match:g} bpp"
    return Table(f"{title}; gain: relative to log2 K bits for every index; PSNR in dB", headings, lines, 1)


def _pictures(results: Results) -> Table:
    lines = []
    for image in dict.fromkeys(row.image for row in results.rows):
        for row in (row for row in results.rows if row.image == image):
            figures = ["failed", "", "", ""]
            if row.error is None:
                figures = [f"{row.quality:.4g}", f"{row.bpp:.3f}", _figure(row.psnr, 2), _figure(row.ms_ssim, 4)]
            lines.append([row.image, row.codec, *figures, row.note or ""])
    title = f"Picture by picture at {results.match:g} bpp"
    return Table(title, ["picture", "codec", "q", "bpp", "PSNR", "MS-SSIM", ""], lines, 2)


def _wins(results: Results) -> Table:
    assert results.anchor is not None
    lines = []
    for codec in results.codecs:
        if codec != results.anchor:
            better, count, gain = wins(results.rows, codec, results.anchor)
            lines.append([codec, f"{better} of {count}", "-" if math.isnan(gain) else f"{gain:+.2f}"])
    title = f"Relative to {results.anchor} at {results.match:g} bpp, by PSNR"
    return Table(title, ["codec", "better on", "mean dB"], lines, 1)


def _comparisons(results: Results) -> Table:
    """A line for each curve. The overlap is the share of the curve that the figures cover."""
    lines = []
    for codec in dict.fromkeys(comparison.codec for comparison in results.bd):
        found = {c.measure: c for c in results.bd if c.codec == codec}
        psnr, ms_ssim = found.get("psnr"), found.get("ms_ssim")
        line = [codec + (" (published)" if any(c.published for c in found.values()) else "")]
        for comparison, digits in ((psnr, 2), (ms_ssim, 2)):
            if comparison is None:
                line += ["-", "-", "-"]
                continue
            line.append(f"{comparison.bd_rate:+.1f} %" if math.isfinite(comparison.bd_rate) else "-")
            line.append(f"{comparison.bd_quality:+.{digits}f} dB" if math.isfinite(comparison.bd_quality) else "-")
            line.append(f"{comparison.share:.0%}" if math.isfinite(comparison.bd_rate) else "none")
        luma = found.get("psnr_y")
        line.append(f"{luma.bd_rate:+.1f} %" if luma is not None and math.isfinite(luma.bd_rate) else "-")
        reason = next((c.reason for c in (psnr, ms_ssim) if c is not None and c.reason is not None), None)
        lines.append([*line, reason or ""])
    headings = ["codec", "BD-rate", "BD-PSNR", "overlap", "BD-rate", "BD-MS-SSIM", "overlap", "BD-rate Y", ""]
    count = max(c.pictures for c in results.bd)
    number = f"{count} picture{'' if count == 1 else 's'}"
    title = f"Relative to {results.anchor}, {number}; by PSNR, by MS-SSIM (dB), by luma PSNR. "
    return Table(title + "Negative BD-rate: fewer bits for the same quality", headings, lines, 1)


def _picture_rates(results: Results) -> Table:
    lines = []
    for codec in dict.fromkeys(comparison.codec for comparison in results.bd if comparison.compared):
        found = {c.measure: c for c in results.bd if c.codec == codec}
        line = [codec]
        for comparison in map(found.get, ("psnr", "ms_ssim", "psnr_y")):
            if comparison is None or not comparison.compared:
                line += ["-", "-"]
            else:
                line += [f"{comparison.picture_rate:+.1f} %", f"{comparison.fewer} of {comparison.compared}"]
        lines.append(line)
    title = f"Relative to {results.anchor}, picture by picture: the mean BD-rate, and how many pictures need fewer bits"
    return Table(title, ["codec", "by PSNR", "fewer on", "by MS-SSIM", "fewer on", "by PSNR Y", "fewer on"], lines, 1)


def _published(results: Results) -> Table:
    lines = []
    for codec in dict.fromkeys(point.codec for point in results.published):
        points = [point for point in results.published if point.codec == codec]
        rates = [point.bpp for point in points]
        psnr = [point.psnr for point in points if math.isfinite(point.psnr)]
        span = f"{min(psnr):.2f} to {max(psnr):.2f}" if psnr else "-"
        bpp = f"{min(rates):.3f} to {max(rates):.3f}"
        lines.append([codec, points[0].source, str(len(points)), bpp, span])
    title = "Published by others, not measured here"
    return Table(title, ["codec", "source", "points", "bpp", "PSNR"], lines, 2)


def _mean_anatomies(anatomies: Sequence[Anatomy]) -> list[Anatomy]:
    groups: dict[tuple[str, float], list[Anatomy]] = {}
    for anatomy in anatomies:
        groups.setdefault((anatomy.codec, anatomy.quality), []).append(anatomy)
    return [mean_anatomy(group) for group in groups.values()]


def _anatomy(means: Sequence[Anatomy]) -> Table:
    lines = []
    for anatomy in means:
        ideal = anatomy.ideal_bits / 8
        over = f"{anatomy.overhead_bits / 8:+.1f} ({anatomy.overhead_bits / max(1.0, anatomy.ideal_bits):+.2%})"
        parts = [f"{anatomy.header_bytes:,.1f}", f"{anatomy.checksum_bytes:,.1f}"]
        parts += [f"{anatomy.alpha_bytes:,.0f}", f"{anatomy.postfilter_bytes:,.1f}"]
        coded = [f"{ideal:,.1f}", over, f"{anatomy.payload_bytes:,.0f}"]
        without = [f"{anatomy.zero_order_bits / 8:,.0f}", f"{anatomy.prior_gain:.3f}", f"{anatomy.naive_bits / 8:,.0f}"]
        total = f"{anatomy.total_bytes:,.0f}"
        lines.append([anatomy.codec, f"{anatomy.quality:.4g}", total, *parts, *coded, *without])
    headings = ["codec", "q", "bytes", "header", "checksums", "alpha", "post-filter", "ideal", "coder", "payload"]
    headings += ["zero-order", "prior gain", "naive"]
    title = "Where the bytes go (means); zero-order: payload without the prior; naive: log2 K bits for every index"
    return Table(title, headings, lines, 1)


def _codebooks(anatomy: Anatomy) -> Table:
    lines = []
    for index, book in enumerate(anatomy.codebooks, 1):
        share = f"{book.bits / anatomy.ideal_bits:.1%}" if anatomy.ideal_bits else "-"
        gain = f"{book.zero_order_bits / book.bits:.3f}" if book.bits else "-"
        rates = [f"{book.bits / anatomy.positions:.3f}", f"{book.zero_order_bits / anatomy.positions:.3f}"]
        lines.append([str(index), str(book.size), f"{book.perplexity:.1f}", *rates, gain, share])
    headings = ["codebook", "K", "perplexity", "bits/position", "zero-order", "gain", "share"]
    return Table(f"Codebooks of {anatomy.codec} at quality {anatomy.quality:.4g}", headings, lines, 0)


def two_digits(value: float) -> str:
    """A figure with two decimals, or with as many as show two digits that are not zero; at most 6."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.2f}"
    return f"{value:.{min(6, max(2, 1 - math.floor(math.log10(abs(value)))))}f}"


def _figure(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def to_json(results: Results) -> str:
    """All rows, means, comparisons and anatomies as JSON, without the viewer's pictures.

    A figure is null if it is infinite or not defined, or if the row has an error instead.
    """
    document = {
        "rows": [_plain(row) for row in results.rows],
        "means": [_plain(row) for row in results.means],
        "bd": results.bd,
        "published": results.published,
        "anatomy": results.anatomy,
        "environment": results.environment,
        "codecs": results.codecs,
        "anchor": results.anchor,
        "match": results.match,
    }
    return json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"


def to_csv(results: Results) -> str:
    """A header line, then a line for each row, the means last. Cells are empty where `to_json` has null."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in dataclasses.fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_finite(_plain(row)) for row in [*results.rows, *results.means])
    return stream.getvalue()


def _plain(row: Row) -> dict[str, Any]:
    """A row as a dict. If it has an error, its figures are None."""
    figures = dataclasses.asdict(row)
    if row.error is None:
        return figures
    known = {"image", "codec", "quality", "digest", "error"}
    return {key: value if key in known else None for key, value in figures.items()}


def _finite(value: Any) -> Any:
    """Records as dicts; numbers that are not finite, which JSON cannot represent, as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
