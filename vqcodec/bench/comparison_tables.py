"""Results -> the tables that compare codecs: BD-rates by every measure, and pictures encoded for the same target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from vqcodec.bench.curves import wins
from vqcodec.bench.match import Match
from vqcodec.bench.results import Comparison, Results, Row
from vqcodec.bench.table import Table, figure, heading, shown_measures
from vqcodec.picture.measures import MEASURES, Measure

__all__ = ["comparison_tables", "pictures_table", "wins_table"]


def comparison_tables(results: Results) -> Iterator[Table]:
    """BD-rate, BD-quality, the ranges that they cover, and the BD-rate picture by picture; a line for each codec."""
    measures = [each for each in MEASURES if any(c.measure == each.name for c in results.bd)]
    if all(comparison.reason is not None for comparison in results.bd):
        return
    count = max(comparison.pictures for comparison in results.bd)
    of = f"relative to {results.anchor}, means over {count} picture{'' if count == 1 else 's'}"
    headings = ["codec", *map(heading, measures)]
    title = f"BD-rate {of}. Negative: fewer bits for the same quality"
    yield Table(title, [*headings, ""], _lines(results, measures, _rate, reasons=True), 1)
    title = f"BD-quality {of}. Positive: better at the same bits (MS-SSIM and PSNR in dB)"
    yield Table(title, headings, _lines(results, measures, _quality), 1)
    title = "Ranges of quality that these BD-rates cover, and the share of the codec's range"
    yield Table(title, headings, _lines(results, measures, _range), 1)
    if any(comparison.compared > 1 for comparison in results.bd):
        title = f"BD-rate relative to {results.anchor}, picture by picture: mean, and how many pictures need fewer bits"
        yield Table(title, headings, _lines(results, measures, _picture_rate), 1)


def _lines(
    results: Results, measures: list[Measure], cell: Callable[[Comparison, Measure], str], *, reasons: bool = False
) -> list[list[str]]:
    """A line for each codec, with a cell for each measure; and, with `reasons`, why cells are empty."""
    lines = []
    for codec in dict.fromkeys(comparison.codec for comparison in results.bd):
        found = {c.measure: c for c in results.bd if c.codec == codec}
        line = [codec + (" (published)" if any(c.published for c in found.values()) else "")]
        line += [cell(found[each.name], each) if each.name in found else "-" for each in measures]
        if reasons:
            line.append(next((c.reason for c in found.values() if c.reason is not None), ""))
        lines.append(line)
    return lines


def _rate(comparison: Comparison, _: Measure) -> str:
    return f"{comparison.bd_rate:+.1f} %" if math.isfinite(comparison.bd_rate) else "-"


def _quality(comparison: Comparison, measure: Measure) -> str:
    digits = 2 if measure.name == "ms_ssim" else measure.digits  # in dB
    return f"{comparison.bd_quality:+.{digits}f}" if math.isfinite(comparison.bd_quality) else "-"


def _range(comparison: Comparison, measure: Measure) -> str:
    """The range in the measure's own unit, from worse to better; MS-SSIM in dB."""
    if not math.isfinite(comparison.bd_rate):
        return "none"
    sign = 1 if measure.rising else -1
    return f"{sign * comparison.low:.1f} to {sign * comparison.high:.1f} ({comparison.share:.0%})"


def _picture_rate(comparison: Comparison, _: Measure) -> str:
    if not comparison.compared:
        return "-"
    return f"{comparison.picture_rate:+.1f} %, {comparison.fewer} of {comparison.compared}"


def wins_table(results: Results, match: Match, anchor: str) -> Table:
    """On how many pictures that were encoded for the same target a codec is better than the anchor."""
    lines = []
    figures = _figures(results, match)
    for codec in results.codecs:
        if codec != anchor:
            line = [codec]
            for digits, unit, figure_of in figures.values():
                found = wins(results.rows, codec, anchor, figure_of)
                line.append(f"{found.better} of {found.pictures}")
                difference = found.difference if match.by_rate else 100 * math.expm1(-found.difference)
                line.append("-" if math.isnan(difference) else f"{difference:+.{digits}f}{unit}")
            lines.append(line)
    headings = ["codec"]
    for name in figures:
        headings += [name, "mean"]
    title = f"Relative to {anchor} at {match}: on how many pictures better, and the mean difference"
    return Table(title, headings, lines, 1)


def _figures(results: Results, match: Match) -> dict[str, tuple[int, str, Callable[[Row], float]]]:
    """What decides at the target: the measures at an equal rate, the size at an equal quality."""
    if not match.by_rate:
        return {"size": (1, " %", lambda row: -math.log(row.bytes))}
    return {
        heading(each): (2, "", lambda row, each=each: each.on_axis(getattr(row, each.name)))  # type: ignore[misc]
        for each in shown_measures(results.means)
    }


def pictures_table(results: Results, match: Match) -> Table:
    """A line for each picture and codec, encoded for the same target."""
    measures = shown_measures(results.rows)
    lines = []
    for image in dict.fromkeys(row.image for row in results.rows):
        for row in (row for row in results.rows if row.image == image):
            figures = ["failed", "", *("" for _ in measures)]
            if row.error is None:
                figures = [f"{row.quality:.4g}", f"{row.bpp:.3f}"]
                figures += [figure(getattr(row, each.name), each.digits) for each in measures]
            lines.append([row.image, row.codec, *figures, row.note or ""])
    title = f"Picture by picture at {match}"
    return Table(title, ["picture", "codec", "q", "bpp", *map(heading, measures), ""], lines, 2)
