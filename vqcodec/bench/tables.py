"""Results -> the tables of `bench` as lines of text. This module prints nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vqcodec.bench.anatomy import mean_anatomy
from vqcodec.bench.comparison_tables import comparison_tables, pictures_table, wins_table
from vqcodec.bench.lossless_tables import lossless_tables
from vqcodec.bench.results import Anatomy, Results
from vqcodec.bench.table import Table, figure, heading, shown_measures, two_digits

__all__ = ["tables"]


def tables(results: Results) -> Iterator[Table]:
    """The tables for the terminal: means, comparisons, published curves, and the anatomy of the files."""
    if results.sizes:
        yield from lossless_tables(results)
        return
    if results.match is not None:
        yield pictures_table(results, results.match)
    yield _means(results)
    if results.match is not None and results.anchor is not None:
        yield wins_table(results, results.match, results.anchor)
    yield from comparison_tables(results)
    if results.published:
        yield _published(results)
    if results.anatomy:
        means = _mean_anatomies(results.anatomy)
        yield _anatomy(means)
        yield from (_codebooks(anatomy) for anatomy in means)


def _means(results: Results) -> Table:
    measures = shown_measures(results.means)
    headings = ["codec", "q", "pictures", "bytes", "bpp", "bits/dim", "ratio", "gain", *map(heading, measures)]
    headings += ["enc Mpx/s", "dec Mpx/s", "enc CPU s", "dec CPU s", "MiB"]
    lines = []
    for row in results.means:
        names = [row.codec, f"{row.quality:.4g}", row.image.removeprefix("mean of ")]
        sizes = [f"{row.bytes:,.0f}", f"{row.bpp:.3f}", f"{row.bits_per_dim:.4f}", f"{row.ratio:.1f}"]
        fidelity = [figure(row.gain, 2), *(figure(getattr(row, each.name), each.digits) for each in measures)]
        speed = [two_digits(row.encode_mpixel_s), two_digits(row.decode_mpixel_s)]
        cost = [two_digits(row.encode_cpu_seconds), two_digits(row.decode_cpu_seconds), figure(row.peak_mib, 0)]
        lines.append([*names, *sizes, *fidelity, *speed, *cost])
    title = "Means" if results.match is None else f"Means at {results.match}"
    return Table(f"{title}; gain: relative to log2 K bits for every index; PSNR in dB", headings, lines, 1)


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
        coded = [f"{anatomy.stored_bytes:,.0f}", f"{ideal:,.1f}", over, f"{anatomy.payload_bytes:,.0f}"]
        without = [f"{anatomy.zero_order_bits / 8:,.0f}", f"{anatomy.prior_gain:.3f}", f"{anatomy.naive_bits / 8:,.0f}"]
        total = f"{anatomy.total_bytes:,.0f}"
        lines.append([anatomy.codec, f"{anatomy.quality:.4g}", total, *parts, *coded, *without])
    headings = ["codec", "q", "bytes", "header", "checksums", "alpha", "post-filter", "stored", "ideal", "coder"]
    headings += ["payload", "zero-order", "prior gain", "naive"]
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
