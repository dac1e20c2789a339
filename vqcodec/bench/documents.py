"""Results -> JSON and CSV documents, with every row, mean and comparison. This module writes no files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from typing import Any

from vqcodec.bench.results import Results, Row

__all__ = ["to_csv", "to_json"]


def to_json(results: Results) -> str:
    """All rows, means, comparisons and anatomies as JSON, without the viewer's pictures.

    A figure is null if it is infinite or not defined, or if the row has an error instead.
    """
    document = {
        "rows": [_plain(row) for row in results.rows],
        "means": [_plain(row) for row in results.means],
        "bd": results.bd,
        "sizes": results.sizes,
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
