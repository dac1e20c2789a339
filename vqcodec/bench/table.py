"""A table as lines of text, and how figures and measures are written in its cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vqcodec.bench.results import Row
from vqcodec.picture.measures import MEASURES, Measure

__all__ = ["Table", "figure", "heading", "shown_measures", "two_digits"]

_SHORT = {"butteraugli_3norm": "Butteraugli-3", "butteraugli_max": "Butteraugli-max", "psnr_y": "PSNR-Y"}


class Table(NamedTuple):
    """A table with a title. The first `texts` columns hold text, the others figures."""

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    texts: int


def heading(measure: Measure) -> str:
    """The title of a measure's column, short."""
    return _SHORT.get(measure.name, measure.title)


def shown_measures(rows: Iterable[Row]) -> list[Measure]:
    """The measures that at least one row has a figure of."""
    rows = list(rows)
    return [each for each in MEASURES if any(not math.isnan(getattr(row, each.name)) for row in rows)]


def figure(value: float, digits: int) -> str:
    """A figure with a fixed number of decimals; "-" if it is not defined."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def two_digits(value: float) -> str:
    """A figure with two decimals, or with as many as show two digits that are not zero; at most 6."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.2f}"
    return f"{value:.{min(6, max(2, 1 - math.floor(math.log10(abs(value)))))}f}"
