"""Results -> one self-contained HTML page: curves, tables and a picture viewer. The page loads nothing else.

The page's markup, style and script are page.html, page.css and page.js in this folder. The figures are inserted as HTML
tables and, for the script, as JSON (`html_data`). The page's content security policy allows only this style, this
script and pictures in data URIs, so that no script could run even if a name were inserted without escaping. The output
is deterministic: the same results give the same page.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Generic, TypeVar

from vqcodec.bench.html_data import MEASURES, Measure, blocks, images
from vqcodec.bench.results import Anatomy, Comparison, Results, Row, View
from vqcodec.bench.tables import two_digits

__all__ = ["to_html"]

Record = TypeVar("Record")


@dataclass(frozen=True)
class Column(Generic[Record]):
    """A column of a table. form, unit: format specification (or function) and suffix of its numbers; None: text."""

    heading: str
    value: Callable[[Record], float | str | None]
    form: str | Callable[[float], str] | None = None
    unit: str = ""
    long: bool = False  # its text may wrap


LABELS = {measure.key: measure.label for measure in MEASURES}
_NOT_IN_HTML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def _figure(measure: Measure) -> Callable[[Row], float]:
    def value(row: Row) -> float:
        return float(getattr(row, measure.key))

    return value


FIGURES: tuple[Column[Row], ...] = (
    Column("bytes", lambda row: row.bytes, ",.0f"),
    Column("bpp", lambda row: row.bpp, ".3f"),
    Column("bits/dim", lambda row: row.bits_per_dim, ".4f"),
    Column("ratio", lambda row: row.ratio, ".1f"),
    Column("gain over naive", lambda row: row.gain, ".2f"),
    *(Column(m.label, _figure(m), f".{m.digits}f") for m in MEASURES),
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

BD: tuple[Column[Comparison], ...] = (
    Column("codec", lambda bd: bd.codec + (" (published)" if bd.published else "")),
    Column("measure", lambda bd: LABELS.get(bd.measure, bd.measure)),
    Column("bits, equal quality", lambda bd: bd.bd_rate, "+.1f", " %"),
    Column("over", lambda bd: _span(bd.low, bd.high, ".2f", " dB")),
    Column("overlap", lambda bd: 100 * bd.share, ".0f", " %"),
    Column("bits, mean of single pictures", lambda bd: bd.picture_rate, "+.1f", " %"),
    Column("fewer bits on", lambda bd: f"{bd.fewer} of {bd.compared}" if bd.compared else None),
    Column("quality, equal bits", lambda bd: bd.bd_quality, "+.2f", " dB"),
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
    style, script = _part("page.css"), _part("page.js")
    policy = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _source(style),
        "script-src": _source(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    tables, details = dict(_tables(results)), dict(_details(results))
    data = blocks(results)
    links = {"Rate and distortion": "curves"} if "curves-data" in data else {}
    links |= {heading: _id(heading) for heading in tables}
    links |= {"Pictures side by side": "viewer"} if results.pictures else {}
    links |= {heading: _id(heading) for heading in details}
    return Template(_part("page.html")).substitute(
        policy="; ".join(f"{directive} {allowed}" for directive, allowed in policy.items()),
        title=_title(results),
        summary=_summary(results),
        contents="".join(f'<a href="#{anchor}">{heading}</a> ' for heading, anchor in links.items()),
        tables="".join(tables.values()),
        details="".join(details.values()),
        matched=_matched(results.pictures.values()),
        style=style,
        script=script,
        data="".join(data.values()),
    )


def _part(name: str) -> str:
    """Read a part of the page from the package."""
    return files("vqcodec.bench").joinpath(name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """The hash source of a style or script for the content security policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


# ---- text


def _text(value: str) -> str:
    """Escape any string, such as a file name, for HTML. Characters not allowed in HTML or UTF-8 become U+FFFD."""
    return escape(_NOT_IN_HTML.sub("\ufffd", value))


def _count(number: int, noun: str) -> str:
    """The number and the noun, in the plural unless the number is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _title(results: Results) -> str:
    codecs = len({row.codec for row in results.rows})
    return f"{_count(codecs, 'image codec')} on {_count(len(images(results.rows)), 'picture')}"


def _summary(results: Results) -> str:
    failed = sum(row.error is not None for row in results.rows)
    sentences = [f"{_count(len(results.rows) - failed, 'file')} written, read back and compared with the originals."]
    if results.match is not None:
        sentences.append(f"Every file was encoded at {results.match:g} bits per pixel.")
    if results.bd:
        sentences.append(f"Curves are compared with <strong>{_text(results.bd[0].anchor)}</strong>.")
    if failed:
        sentences.append(f'<a href="#{_id("Failures")}">{_count(failed, "attempt")} failed.</a>')
    return " ".join(sentences)


def _matched(views: Iterable[View]) -> str:
    rates = sorted({round(view.bpp, 3) for view in views})
    if not rates:
        return ""
    span = f"{rates[0]:.3f} bits per pixel"
    if len(rates) > 1:
        span = f"{rates[0]:.3f} to {rates[-1]:.3f} bits per pixel, depending on the picture"
    return f"Compare any two codecs on one picture, each at the nearest size it can reach: {span}."


def _span(low: float, high: float, form: str, unit: str) -> str | None:
    return f"{low:{form}} to {high:{form}}{unit}" if math.isfinite(low) and math.isfinite(high) else None


def _books(file: Anatomy) -> str:
    return " · ".join(f"{book.perplexity:.1f} of {book.size}" for book in file.codebooks)


# ---- tables


def _tables(results: Results) -> Iterator[tuple[str, str]]:
    """(heading, section) of the tables in front of the viewer."""
    if results.means:
        name = "Means over pictures"
        yield name, _section(name, "", _table(name, (CODEC, QUALITY, *FIGURES, COUNT, NOTE), results.means, tall=True))
    if results.bd:
        name = "Bits at equal quality"
        note = (
            f"Relative to <strong>{_text(results.bd[0].anchor)}</strong>. Bits (BD-rate): below 0 % means a "
            "smaller file. Quality (BD-PSNR, MS-SSIM in dB): above 0 dB means a better picture. Each figure is a mean "
            "over the range that both curves cover; overlap is that range as a share of the codec's own range."
        )
        yield name, _section(name, note, _table(name, BD, results.bd, tall=True))


def _details(results: Results) -> Iterator[tuple[str, str]]:
    """(heading, section) of the tables after the viewer."""
    failures = [row for row in results.rows if row.error is not None]
    measured = [row for row in results.rows if row.error is None]
    if results.anatomy:
        name = "Where the bits go"
        note = (
            "Parts of each .vq file. Ideal bits: code length by the prior's probabilities. Payload: bytes in the file."
        )
        yield name, _section(name, note, _table(name, ANATOMY, results.anatomy, tall=True))
    if measured:
        name = "Every measurement"
        table = _table(name, (PICTURE, CODEC, QUALITY, *FIGURES, NOTE), measured, tall=True)
        body = f"<details><summary>Show {_count(len(measured), 'row')}</summary>{table}</details>"
        yield name, _section(name, "", body)
    if failures:
        name = "Failures"
        columns = (PICTURE, CODEC, QUALITY, Column[Row]("reason", lambda row: row.error, long=True))
        yield name, _section(name, "Not included in any mean.", _table(name, columns, failures))
    if results.environment or results.codecs:
        name = "How it was run"
        body = _pairs(results.environment) + "<h3>Settings of the codecs</h3>" * bool(results.codecs)
        yield name, _section(name, "", f'<div class="card">{body}{_pairs(results.codecs)}</div>')


def _id(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _section(heading: str, note: str, body: str) -> str:
    name = _id(heading)
    title = f'<h2 id="{name}-title">{heading}</h2>' + f'<p class="note">{note}</p>' * bool(note)
    return f'<section id="{name}" aria-labelledby="{name}-title">{title}{body}</section>\n'


def _table(caption: str, columns: Sequence[Column[Record]], records: Sequence[Record], tall: bool = False) -> str:
    """A table in a scrolling box. Columns without any figure are left out."""
    cells = [[column.value(record) for column in columns] for record in records]
    kept = [index for index, _ in enumerate(columns) if any(not _is_empty(line[index]) for line in cells)]
    head = "".join(f'<th scope="col"{_kind(columns[i])}>{_text(columns[i].heading)}</th>' for i in kept)
    lines = ([_cell(columns[i], line[i], first=i == kept[0]) for i in kept] for line in cells)
    body = "".join(f"<tr>{''.join(line)}</tr>\n" for line in lines)
    return (
        f'<div class="scroll{" tall" * tall}" role="region" aria-label="{caption}, table" tabindex="0">'
        f'<table class="sortable"><caption>{caption}</caption><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _is_empty(value: float | str | None) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value == ""


def _kind(column: Column[Record]) -> str:
    names = ["text"] * (column.form is None) + ["long"] * column.long
    return f' class="{" ".join(names)}"' if names else ""


def _cell(column: Column[Record], value: float | str | None, first: bool) -> str:
    """A table cell. `data-value` holds the full number for sorting; it is empty without a number, which sorts last."""
    tag, kind = ('th scope="row"' if first else "td"), _kind(column)
    end = "</th>" if first else "</td>"
    if isinstance(value, str) or column.form is None:
        text = _text(str(value or ""))
        return f"<{tag}{kind}>" + (f"<span>{text}</span>" if first else text) + end
    if value is None or math.isnan(value):
        return f'<{tag}{kind} data-value="">–{end}'
    if math.isinf(value):
        return f'<{tag}{kind} data-value="Infinity">∞{end}'
    sign = "\N{MINUS SIGN}" if value < 0 else ""
    shown = column.form(value) if callable(column.form) else f"{value:{column.form}}"
    shown = shown.removeprefix("-")
    return f'<{tag}{kind} data-value="{value!r}">{sign}{shown}{column.unit}{end}'


def _pairs(pairs: Mapping[str, str]) -> str:
    if not pairs:
        return ""
    return "<dl>" + "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in pairs.items()) + "</dl>"
