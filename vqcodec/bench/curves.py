"""Rows -> comparisons of codecs: BD-rate and BD-quality of curves by every measure, or wins at equal size or quality.

Bjontegaard's figures (ITU-T VCEG-M33, 2001) compare two rate-distortion curves over the range that both cover. Every
comparison states what share of the curve that range is. Curves without a common range get no figure, only a reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from vqcodec.bench.bd_rate import bd_quality, bd_rate, overlap
from vqcodec.bench.means import mean
from vqcodec.bench.results import Comparison, Published, Row
from vqcodec.picture.measures import MEASURES, Measure

__all__ = ["Wins", "common", "compare", "wins"]

Points = list[tuple[float, float]]  # (bpp, value on the axis of the measure), in ascending order of bpp
_PUBLISHED = ("psnr", "ms_ssim")  # the measures of published curves


class Wins(NamedTuple):
    """Pictures that two codecs encoded for the same target."""

    better: int  # pictures for which the codec is better than the anchor
    pictures: int  # that both have
    difference: float  # mean, codec - anchor; nan without pictures


def compare(rows: Sequence[Row], published: Sequence[Published], anchor: str) -> list[Comparison]:
    """Compare every other codec, measured or published, with `anchor`, by each measure that both have.

    The points of a curve are means over the pictures that every measured codec coded at every quality.
    """
    kept = common(rows)
    means = mean(kept)
    pictures: dict[str, list[Row]] = {}
    for row in kept:
        pictures.setdefault(row.image, []).append(row)
    labels = list(dict.fromkeys(row.codec for row in rows))
    unmeasured = [name for name in dict.fromkeys(point.codec for point in published) if name not in labels]
    found = []
    for label in (name for name in [*labels, *unmeasured] if name != anchor):
        for measure in MEASURES:
            base = _curve(anchor, measure, means, published)
            curve = _curve(label, measure, means, published)
            if (base and curve) or (measure.name == "psnr" and label in labels):
                whole = _compared(label, anchor, measure, curve, base, len(pictures), label in unmeasured)
                single = _picture_rates(label, anchor, measure, pictures.values())
                if single:
                    average, fewer = sum(single) / len(single), sum(rate < 0 for rate in single)
                    whole = replace(whole, picture_rate=average, compared=len(single), fewer=fewer)
                found.append(whole)
    return found


def common(rows: Iterable[Row]) -> list[Row]:
    """The rows of those pictures that have figures for every codec and quality."""
    rows = list(rows)
    bad = {row.image for row in rows if row.error is not None}
    return [row for row in rows if row.image not in bad]


def wins(rows: Iterable[Row], codec: str, anchor: str, figure: Callable[[Row], float]) -> Wins:
    """Compare the rows of two codecs picture by picture. figure: a number that is higher for the better row.

    Rows with an error or without the figure do not count.
    """
    values = {(row.codec, row.image): figure(row) for row in rows if row.error is None}
    values = {key: value for key, value in values.items() if not math.isnan(value)}
    pairs = [
        (value, values[anchor, image])
        for (label, image), value in values.items()
        if label == codec and (anchor, image) in values
    ]
    differences = [0.0 if a == b else a - b for a, b in pairs]  # equal pictures have an infinite PSNR
    count = len(differences)
    return Wins(sum(d > 0 for d in differences), count, sum(differences) / count if count else math.nan)


def _curve(label: str, measure: Measure, means: Iterable[Row], published: Iterable[Published]) -> Points:
    """The points of a codec that have this measure, with the values of its axis."""
    points = [(row.bpp, getattr(row, measure.name)) for row in means if row.codec == label]
    if not points and measure.name in _PUBLISHED:
        points = [(point.bpp, getattr(point, measure.name)) for point in published if point.codec == label]
    points = [(bpp, measure.on_axis(value)) for bpp, value in points]
    return sorted((bpp, value) for bpp, value in points if math.isfinite(value))


def _compared(
    label: str, anchor: str, measure: Measure, curve: Points, base: Points, pictures: int, published: bool
) -> Comparison:
    """The comparison of two curves: figures where they overlap, else nan with the reason."""
    reason = _reason(curve, base)
    none = math.nan
    nothing = Comparison(
        label, anchor, measure.name, none, none, none, none, none, none, none, none, pictures, published, reason
    )
    if reason is not None:
        return nothing
    (rates, values), (base_rates, base_values) = zip(*curve, strict=True), zip(*base, strict=True)
    rate = bd_rate(base_rates, base_values, rates, values)
    quality = bd_quality(base_rates, base_values, rates, values)
    found = nothing
    if not math.isnan(rate):
        low, high = overlap(base_values, values)
        share = (high - low) / (max(values) - min(values))
        found = replace(found, bd_rate=rate, low=low, high=high, share=share)
    if not math.isnan(quality):
        low, high = overlap(base_rates, rates)
        share = (high - low) / (max(rates) - min(rates))
        found = replace(found, bd_quality=quality, low_bpp=low, high_bpp=high, rate_share=share)
    missing = [name for name, figure in (("quality", rate), ("rate", quality)) if math.isnan(figure)]
    return replace(found, reason=f"the curves have no {' and no '.join(missing)} in common") if missing else found


def _picture_rates(label: str, anchor: str, measure: Measure, pictures: Iterable[list[Row]]) -> list[float]:
    """The BD-rate of each picture whose two curves overlap. Empty for published curves."""
    rates = []
    for rows in pictures:
        curve, base = (_curve(name, measure, rows, ()) for name in (label, anchor))
        if _reason(curve, base) is None:
            rates.append(bd_rate(*zip(*base, strict=True), *zip(*curve, strict=True)))
    return [rate for rate in rates if math.isfinite(rate)]


def _reason(curve: Points, base: Points) -> str | None:
    """Why two curves cannot be compared, or None."""
    for points, whose in ((curve, "its curve"), (base, "the anchor's curve")):
        if len(points) < 2:
            return f"{whose} has {len(points) or 'no'} point" + ("" if len(points) == 1 else "s")
        if len({value for _, value in points}) < len(points) or len({bpp for bpp, _ in points}) < len(points):
            return f"{whose} has a repeated value"
    return None
