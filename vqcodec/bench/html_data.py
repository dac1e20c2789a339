"""Results -> JSON blocks in the HTML page, for its script: the data of the chart and of the viewer.

Every block is a separate element, so that the script parses a picture's large block only when that picture is selected.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vqcodec.bench.results import Published, Results, Row, View

__all__ = ["MEASURES", "Measure", "blocks", "images"]


@dataclass(frozen=True)
class Measure:
    """A figure that a curve can show. similarity: its maximum is 1; in dB it is -10 log10(1 - figure)."""

    key: str
    label: str
    unit: str
    digits: int
    similarity: bool = False


MEASURES = (
    Measure("psnr", "PSNR", "dB", 2),
    Measure("ms_ssim", "MS-SSIM", "", 4, similarity=True),
    Measure("psnr_y", "PSNR-Y", "dB", 2),
)


def blocks(results: Results) -> dict[str, str]:
    """HTML elements by id: the curves, the names of the pictures, and each picture; only those that have data."""
    values: dict[str, Any] = {}
    curves = _curves(results)
    if curves["measures"]:
        values["curves-data"] = curves
    if results.pictures:
        values["pictures-data"] = list(results.pictures)
        for index, view in enumerate(results.pictures.values()):
            values[f"picture-{index}"] = _view(view, results.anchor)
    return {name: _block(name, value) for name, value in values.items()}


def images(rows: Iterable[Row]) -> list[str]:
    """The names of the pictures, each once, in the order of the run."""
    return list(dict.fromkeys(row.image for row in rows))


def _block(name: str, value: Any) -> str:
    """JSON in a script element that is not executed. "<" is escaped, so the content cannot close the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


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
    measures = [vars(measure) for measure in MEASURES if any(point[measure.key] is not None for point in points)]
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
    figures = {m.key: float(getattr(point, m.key, math.nan)) for m in MEASURES}
    known = {key: value if math.isfinite(value) else None for key, value in figures.items()}
    quality = f"quality {point.quality:.4g}" if isinstance(point, Row) else ""
    return {"quality": quality, "bpp": point.bpp, **known}


def _view(view: View, anchor: str | None) -> dict[str, Any]:
    """A picture for the viewer. Initially it shows the first vqcodec model on the left and the anchor on the right."""
    size = f"{view.width} × {view.height} pixels"
    original = {"label": "original", "title": "original", "src": _uri(view.media, view.original), "facts": [size]}
    sides = [original]
    for codec, shown in view.shown.items():
        title = f"{codec}, quality {shown.row.quality:.4g}"
        source = _uri(shown.media, shown.picture)
        sides.append({"label": codec, "title": title, "src": source, "facts": _facts(shown.row)})
    codecs = list(view.shown)
    own = [index for index, shown in enumerate(view.shown.values(), 1) if shown.row.digest]
    left = own[0] if own else min(1, len(codecs))
    others = [index for index in range(1, len(sides)) if index != left]
    right = codecs.index(anchor) + 1 if anchor in codecs else (others or [0])[0]
    return {
        "name": view.image,
        "width": view.width,
        "height": view.height,
        "sides": sides,
        "start": [left, right if right != left else 0],
    }


def _facts(row: Row) -> list[str]:
    facts = [f"{row.bytes:,.0f} bytes", f"{row.bpp:.3f} bpp"]
    for measure in MEASURES:
        value = getattr(row, measure.key)
        if not math.isnan(value) and measure.key != "psnr_y":
            shown = "∞" if math.isinf(value) else f"{value:.{measure.digits}f}"
            facts.append(f"{measure.label} {shown}" + f" {measure.unit}" * bool(measure.unit))
    return facts


def _uri(media: str, data: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"
