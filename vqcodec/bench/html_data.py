"""Results -> JSON blocks in the HTML page, for its script: the data of the chart and of the viewer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from vqcodec.bench.page import json_block
from vqcodec.bench.results import Published, Results, Row, View
from vqcodec.bench.viewer import Side, Sides, viewer_blocks
from vqcodec.picture.measures import MEASURES, Measure

__all__ = ["blocks", "figure", "images"]

_CAPTION = ("ssimulacra2", "butteraugli_3norm", "ms_ssim", "psnr")  # the measures below a picture


def blocks(results: Results) -> dict[str, str]:
    """HTML elements by id: the curves, the names of the pictures, and each picture; only those that have data."""
    curves = _curves(results)
    found = {"curves-data": json_block("curves-data", curves)} if curves["measures"] else {}
    return found | viewer_blocks([_sides(view, results.anchor) for view in results.pictures.values()])


def figure(point: Row | Published, measure: Measure) -> float:
    """The value of a measure; nan if it is not known. Published points have few of them."""
    return float(getattr(point, measure.name, math.nan))


def images(rows: Iterable[Row]) -> list[str]:
    """The names of the pictures, each once, in the order of the run."""
    return list(dict.fromkeys(row.image for row in rows))


def _curves(results: Results) -> dict[str, Any]:
    """The data of the chart: a scope for the means, and one for each picture if there are several."""
    labels = list(dict.fromkeys(row.codec for row in results.means))
    own = {row.codec for row in results.means if row.digest}
    published: dict[str, list[Published]] = {}
    for point in results.published:
        name = f"{point.codec} (published)" if point.codec in labels else point.codec
        published.setdefault(name, []).append(point)
    codecs = [{"name": label, "own": label in own, "published": False} for label in labels]
    codecs += [{"name": name, "own": False, "published": True} for name in published]

    points = [_point(row) for row in results.means] + [_point(point) for point in results.published]
    measures = [_axis(measure) for measure in MEASURES if any(point[measure.name] is not None for point in points)]
    scopes = [_scope("All pictures, means", results.means, own)]
    scopes[0]["curves"] += [
        {"name": name, "own": False, "published": True, "source": curve[0].source, "points": _line(curve)}
        for name, curve in published.items()
    ]
    by_image: dict[str, list[Row]] = {image: [] for image in images(results.rows)}
    for row in results.rows:
        if row.error is None:
            by_image[row.image].append(row)
    if len(by_image) > 1:
        scopes += [_scope(image, rows, own) for image, rows in by_image.items() if rows]
    return {"codecs": codecs, "measures": measures, "scopes": scopes}


def _axis(measure: Measure) -> dict[str, Any]:
    """A measure for the script. similarity: its maximum is 1; in dB it is -10 log10(1 - figure)."""
    return {
        "key": measure.name,
        "label": measure.title,
        "unit": measure.unit,
        "digits": measure.digits,
        "rising": measure.rising,
        "similarity": measure.name == "ms_ssim",
    }


def _scope(name: str, rows: Iterable[Row], own: set[str]) -> dict[str, Any]:
    curves: dict[str, list[Row]] = {}
    for row in rows:
        curves.setdefault(row.codec, []).append(row)
    drawn = [
        {"name": codec, "own": codec in own, "published": False, "points": _line(curve)}
        for codec, curve in curves.items()
    ]
    return {"name": name, "curves": drawn}


def _line(points: Iterable[Row | Published]) -> list[dict[str, Any]]:
    return [_point(point) for point in sorted(points, key=lambda point: point.bpp)]


def _point(point: Row | Published) -> dict[str, Any]:
    """A point of a curve. Figures that are unknown or not finite are null."""
    figures = {measure.name: figure(point, measure) for measure in MEASURES}
    known = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    quality = f"quality {point.quality:.4g}" if isinstance(point, Row) else ""
    return {"quality": quality, "bpp": point.bpp, **known}


def _sides(view: View, anchor: str | None) -> Sides:
    """A picture for the viewer. Initially it shows the first vqcodec model on the left and the anchor on the right."""
    size = f"{view.width} × {view.height} pixels"
    sides = [Side("original", "original", (size,), view.original, view.media)]
    for codec, shown in view.shown.items():
        title = f"{codec}, quality {shown.row.quality:.4g}"
        sides.append(Side(codec, title, tuple(_facts(shown.row)), shown.picture, shown.media))
    codecs = list(view.shown)
    own = [index for index, shown in enumerate(view.shown.values(), 1) if shown.row.digest]
    left = own[0] if own else min(1, len(codecs))
    others = [index for index in range(1, len(sides)) if index != left]
    right = codecs.index(anchor) + 1 if anchor in codecs else (others or [0])[0]
    return Sides(view.image, view.width, view.height, tuple(sides), (left, right if right != left else 0))


def _facts(row: Row) -> list[str]:
    facts = [f"{row.bytes:,.0f} bytes", f"{row.bpp:.3f} bpp"]
    for measure in MEASURES:
        value = figure(row, measure)
        if measure.name in _CAPTION and not math.isnan(value):
            shown = "∞" if math.isinf(value) else f"{value:.{measure.digits}f}"
            facts.append(f"{measure.title} {shown}" + f" {measure.unit}" * bool(measure.unit))
    return facts
