"""Results -> one self-contained HTML page: curves, tables and a picture viewer.

The figures are inserted as HTML tables and, for the script, as JSON (`html_data`); `page` is the frame. The output is
deterministic: the same results give the same page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from vqcodec.bench.html_data import blocks, figure, images
from vqcodec.bench.page import Column, Frame, Section, anchor, count, page, pairs, part, section, table, text
from vqcodec.bench.results import Anatomy, Comparison, Results, Row
from vqcodec.bench.table import two_digits
from vqcodec.bench.viewer import viewer
from vqcodec.picture.measures import MEASURES, Measure

__all__ = ["to_html"]


def _measure(measure: Measure) -> Column[Row]:
    heading = measure.title + f", {measure.unit}" * bool(measure.unit)
    return Column(heading, lambda row: figure(row, measure), f".{measure.digits}f")


FIGURES: tuple[Column[Row], ...] = (
    Column("bytes", lambda row: row.bytes, ",.0f"),
    Column("bpp", lambda row: row.bpp, ".3f"),
    Column("bits/dim", lambda row: row.bits_per_dim, ".4f"),
    Column("ratio", lambda row: row.ratio, ".1f"),
    Column("gain over naive", lambda row: row.gain, ".2f"),
    *map(_measure, MEASURES),
    Column("encode Mpx/s", lambda row: row.encode_mpixel_s, two_digits),
    Column("decode Mpx/s", lambda row: row.decode_mpixel_s, two_digits),
    Column("encode CPU s", lambda row: row.encode_cpu_seconds, two_digits),
    Column("decode CPU s", lambda row: row.decode_cpu_seconds, two_digits),
    Column("peak MiB", lambda row: row.peak_mib, ",.0f"),
)
NOTE: Column[Row] = Column("note", lambda row: row.note, long=True)
COUNT: Column[Row] = Column("pictures", lambda row: row.image)
PICTURE: Column[Row] = Column("picture", lambda row: row.image)
CODEC: Column[Row] = Column("codec", lambda row: row.codec)
QUALITY: Column[Row] = Column("quality", lambda row: row.quality, ".4g")


def _bd(measure: Measure) -> tuple[Column[Comparison], ...]:
    """The columns of the comparisons by one measure."""
    unit = " dB" if measure.name == "ms_ssim" else f" {measure.unit}" * bool(measure.unit)
    return (
        Column("codec", lambda bd: bd.codec + (" (published)" if bd.published else "")),
        Column("bits, equal quality", lambda bd: bd.bd_rate, "+.1f", " %"),
        Column("over", lambda bd: _quality_span(measure, bd, unit)),
        Column("overlap", lambda bd: 100 * bd.share, ".0f", " %"),
        Column("bits, mean of single pictures", lambda bd: bd.picture_rate, "+.1f", " %"),
        Column("fewer bits on", lambda bd: f"{bd.fewer} of {bd.compared}" if bd.compared else None),
        Column("quality, equal bits", lambda bd: bd.bd_quality, f"+.{2 if unit else measure.digits}f", unit),
        Column("over", lambda bd: _span(bd.low_bpp, bd.high_bpp, ".3f", " bpp")),
        Column("overlap", lambda bd: 100 * bd.rate_share, ".0f", " %"),
        Column("pictures", lambda bd: bd.pictures or None, "d"),
        Column("reason for a missing figure", lambda bd: bd.reason, long=True),
    )


ANATOMY: tuple[Column[Anatomy], ...] = (
    Column("picture", lambda file: file.image),
    Column("codec", lambda file: file.codec),
    Column("quality", lambda file: file.quality, "g"),
    Column("bytes", lambda file: file.total_bytes, ",.0f"),
    Column("header", lambda file: file.header_bytes, ",.0f"),
    Column("checksums", lambda file: file.checksum_bytes, ",.0f"),
    Column("alpha", lambda file: file.alpha_bytes or None, ",.0f"),
    Column("post-filter", lambda file: file.postfilter_bytes or None, ",.0f"),
    Column("payload", lambda file: file.payload_bytes, ",.0f"),
    Column("stored pixels", lambda file: file.stored_bytes or None, ",.0f"),
    Column("ideal bits", lambda file: file.ideal_bits, ",.0f"),
    Column("coder overhead, bits", lambda file: file.overhead_bits, ",.0f"),
    Column("bits without prior", lambda file: file.zero_order_bits, ",.0f"),
    Column("naive bits", lambda file: file.naive_bits, ",.0f"),
    Column("gain of the prior", lambda file: file.prior_gain, ".2f"),
    Column("units", lambda file: file.units, ",d"),
    Column("effective codes of K, by codebook", lambda file: _books(file)),
)


def to_html(results: Results) -> str:
    """The page as text, to be written as UTF-8. It embeds the image files of `results.pictures` unchanged."""
    data = blocks(results)
    sections = [Section("curves", "Rate and distortion", part("curves.html"))] if "curves-data" in data else []
    sections += _tables(results)
    sections += [viewer(_matched(results))] if results.pictures else []
    sections += _details(results)
    frame = Frame(
        command="vqcodec bench",
        title=_title(results),
        summary=_summary(results),
        without_script="The curves and the viewer need JavaScript; the tables below contain the same figures.",
        footer="All figures are measured on files on disk, headers included, unless marked as published.",
    )
    return page(frame, sections, data.values())


def _title(results: Results) -> str:
    codecs = len({row.codec for row in results.rows})
    return f"{count(codecs, 'image codec')} on {count(len(images(results.rows)), 'picture')}"


def _summary(results: Results) -> str:
    failed = sum(row.error is not None for row in results.rows)
    sentences = [f"{count(len(results.rows) - failed, 'file')} written, read back and compared with the originals."]
    if results.match is not None:
        sentences.append(f"Every file was encoded for {results.match}.")
    if results.bd:
        sentences.append(f"Curves are compared with <strong>{text(results.bd[0].anchor)}</strong>.")
    if failed:
        sentences.append(f'<a href="#{anchor("Failures")}">{count(failed, "attempt")} failed.</a>')
    return " ".join(sentences)


def _matched(results: Results) -> str:
    """What the pictures in the viewer have in common."""
    if results.match is not None and not results.match.by_rate:
        return f"Compare any two codecs on one picture, each at {results.match} or as near as it can."
    rates = sorted({round(view.bpp, 3) for view in results.pictures.values()})
    span = f"{rates[0]:.3f} bits per pixel"
    if len(rates) > 1:
        span = f"{rates[0]:.3f} to {rates[-1]:.3f} bits per pixel, depending on the picture"
    return f"Compare any two codecs on one picture, each at the nearest size it can reach: {span}."


def _span(low: float, high: float, form: str, unit: str) -> str | None:
    return f"{low:{form}} to {high:{form}}{unit}" if math.isfinite(low) and math.isfinite(high) else None


def _books(file: Anatomy) -> str:
    return " · ".join(f"{book.perplexity:.1f} of {book.size}" for book in file.codebooks)


def _quality_span(measure: Measure, bd: Comparison, unit: str) -> str | None:
    """The range of quality that both curves cover, in the measure's unit; from low to high figures."""
    low, high = (bd.low, bd.high) if measure.rising else (-bd.high, -bd.low)
    return _span(low, high, f".{2 if unit else measure.digits}f", unit)


# ---- tables


def _tables(results: Results) -> Iterator[Section]:
    """The tables in front of the viewer."""
    if results.means:
        name = "Means over pictures"
        yield section(name, "", table(name, (CODEC, QUALITY, *FIGURES, COUNT, NOTE), results.means, tall=True))
    if results.bd:
        note = (
            f"Relative to <strong>{text(results.bd[0].anchor)}</strong>. Bits (BD-rate): below 0 % means a "
            "smaller file. Quality: above 0 means a better picture, by every measure. Each figure is a mean over the "
            "range that both curves cover; overlap is that range as a share of the codec's own range."
        )
        yield section("Bits at equal quality", note, "".join(_comparisons(results)))


def _comparisons(results: Results) -> Iterator[str]:
    """A heading and a table for each measure."""
    for measure in MEASURES:
        found = [bd for bd in results.bd if bd.measure == measure.name]
        if found:
            title = f"By {measure.title}" + " in dB: −10 log₁₀(1 − MS-SSIM)" * (measure.name == "ms_ssim")
            yield f'<h3 class="measure">{title}</h3>' + table(f"Bits at equal {measure.title}", _bd(measure), found)


def _details(results: Results) -> Iterator[Section]:
    """The tables after the viewer."""
    failures = [row for row in results.rows if row.error is not None]
    measured = [row for row in results.rows if row.error is None]
    if results.anatomy:
        name = "Where the bits go"
        note = (
            "Parts of each .vq file. Ideal bits: code length by the prior's probabilities. Payload: bytes in the file."
        )
        yield section(name, note, table(name, ANATOMY, results.anatomy, tall=True))
    if measured:
        name = "Every measurement"
        rows = table(name, (PICTURE, CODEC, QUALITY, *FIGURES, NOTE), measured, tall=True)
        body = f"<details><summary>Show {count(len(measured), 'row')}</summary>{rows}</details>"
        yield section(name, "", body)
    if failures:
        name = "Failures"
        columns = (PICTURE, CODEC, QUALITY, Column[Row]("reason", lambda row: row.error, long=True))
        yield section(name, "Not included in any mean.", table(name, columns, failures))
    if results.environment or results.codecs:
        name = "How it was run"
        body = pairs(results.environment) + "<h3>Settings of the codecs</h3>" * bool(results.codecs)
        yield section(name, "", f'<div class="card">{body}{pairs(results.codecs)}</div>')
