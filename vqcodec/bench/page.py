"""The frame and the elements of the HTML pages: headings, tables, JSON for the script -> one self-contained page.

The page's markup, style and script are page.html, page.css and page.js in this folder. The page's content security
policy allows only this style, this script and pictures in data URIs, so that no script could run even if a name were
inserted without escaping. The page loads nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = [
    "Column", "Frame", "Section", "anchor", "count", "json_block", "page", "pairs", "part", "section", "table", "text",
]  # fmt: skip

Record = TypeVar("Record")
_NOT_IN_HTML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True)
class Column(Generic[Record]):
    """A column of a table. form, unit: format specification (or function) and suffix of its numbers; None: text."""

    heading: str
    value: Callable[[Record], float | str | None]
    form: str | Callable[[float], str] | None = None
    unit: str = ""
    long: bool = False  # its text may wrap


@dataclass(frozen=True)
class Frame:
    """What surrounds the sections of a page. title, without_script and footer are text, summary is HTML."""

    command: str  # that wrote the page
    title: str
    summary: str
    without_script: str
    footer: str


class Section(NamedTuple):
    """A part of a page with a heading, to which the list at the top links."""

    name: str  # its id
    heading: str
    html: str


def page(frame: Frame, sections: Sequence[Section], data: Iterable[str]) -> str:
    """The page as text, to be written as UTF-8. data: elements of `json_block`."""
    style, script = part("page.css"), part("page.js")
    policy = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _source(style),
        "script-src": _source(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    links = (f'<a href="#{found.name}">{found.heading}</a> ' for found in sections)
    return Template(part("page.html")).substitute(
        policy="; ".join(f"{directive} {allowed}" for directive, allowed in policy.items()),
        command=text(frame.command),
        title=text(frame.title),
        summary=frame.summary,
        contents="".join(links),
        without_script=text(frame.without_script),
        main="".join(found.html for found in sections),
        footer=text(frame.footer),
        style=style,
        script=script,
        data="".join(data),
    )


def part(name: str) -> str:
    """Read a part of the page from the package."""
    return files("vqcodec.bench").joinpath(name).read_text(encoding="utf-8")


def _source(content: str) -> str:
    """The hash source of a style or script for the content security policy."""
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def json_block(name: str, value: Any) -> str:
    """JSON in a script element that is not executed. "<" is escaped, so the content cannot close the element."""
    content = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{content}</script>\n'


# ---- elements


def text(value: str) -> str:
    """Escape any string, such as a file name, for HTML. Characters not allowed in HTML or UTF-8 become U+FFFD."""
    return escape(_NOT_IN_HTML.sub("\ufffd", value))


def count(number: int, noun: str) -> str:
    """The number and the noun, in the plural unless the number is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def anchor(heading: str) -> str:
    """The id of the section with this heading."""
    return heading.lower().replace(" ", "-")


def section(heading: str, note: str, body: str) -> Section:
    """A section; `note` and `body` are HTML."""
    name = anchor(heading)
    title = f'<h2 id="{name}-title">{heading}</h2>' + f'<p class="note">{note}</p>' * bool(note)
    return Section(name, heading, f'<section id="{name}" aria-labelledby="{name}-title">{title}{body}</section>\n')


def pairs(entries: Mapping[str, str]) -> str:
    """A list of names and texts."""
    if not entries:
        return ""
    return "<dl>" + "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in entries.items()) + "</dl>"


def table(caption: str, columns: Sequence[Column[Record]], records: Sequence[Record], tall: bool = False) -> str:
    """A table in a scrolling box. Columns without any figure are left out."""
    cells = [[column.value(record) for column in columns] for record in records]
    kept = [index for index, _ in enumerate(columns) if any(not _is_empty(line[index]) for line in cells)]
    head = "".join(f'<th scope="col"{_kind(columns[i])}>{text(columns[i].heading)}</th>' for i in kept)
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
        content = text(str(value or ""))
        return f"<{tag}{kind}>" + (f"<span>{content}</span>" if first else content) + end
    if value is None or math.isnan(value):
        return f'<{tag}{kind} data-value="">–{end}'
    if math.isinf(value):
        return f'<{tag}{kind} data-value="Infinity">∞{end}'
    sign = "\N{MINUS SIGN}" if value < 0 else ""
    shown = column.form(value) if callable(column.form) else f"{value:{column.form}}"
    shown = shown.removeprefix("-")
    return f'<{tag}{kind} data-value="{value!r}">{sign}{shown}{column.unit}{end}'
