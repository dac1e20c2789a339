"""Rows of results <-> JSON; rows -> the table as Markdown or for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table

from benchmarks.likelihood.evaluation import Figure
from benchmarks.likelihood.models import MODELS, PUBLISHED
from vqcodec.errors import UsageError
from vqcodec.output import write_atomic

# The kind of each measure: an upper bound, an exact value, the size of a file, or a part of another measure.
KINDS = {
    "ELBO": "upper bound",
    "64 samples": "upper bound",
    "uniform prior": "upper bound",
    "PixelCNN prior": "upper bound",
    "of these, pixels given the codes": "part",
    "exact": "exact",
    "a file each": "file",
    "all in one file": "file",
}
MARKS = "<!-- table -->", "<!-- end of table -->"  # enclose the table in a Markdown page
BETA = "-beta"  # in the key of a VAE trained with a KL weight other than 1
HEAD = ("model", "measure", "bits/dim", "kind", "parameters", "training", "published")


@dataclass(frozen=True)
class Row:
    """The results of a model or codec on a data set."""

    data: str  # the name of the data set
    part: str  # the whole set or a part of it, see `Dataset.part`
    trained_on: int  # number of pictures
    tested_on: int  # number of pictures
    model: str  # key of MODELS, or a codec
    title: str
    bits: dict[str, Figure]  # measure -> bits per dimension
    parameters: int = 0
    asked: list[float] = field(default_factory=list)  # requested minutes and steps; one of them is 0
    minutes: float = 0.0  # of training
    steps: int = 0
    size: str = ""
    on: str = ""  # the device it was trained on
    software: str = ""


def load(path: Path) -> list[Row]:
    """Read the rows of a JSON file; empty if it does not exist. Raises `UsageError` if it is not valid."""
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return [Row(**row | {"bits": {way: Figure(*pair) for way, pair in row["bits"].items()}}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a results file of this benchmark ({error})") from None


def save(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON, in the order of the table."""
    text = json.dumps({"rows": [asdict(row) for row in in_order(rows)]}, indent=1, ensure_ascii=False)
    write_atomic(path, (text + "\n").encode(), force=True)


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """All rows. New rows replace old ones of the same model and data set."""
    return in_order({(row.data, row.model): row for row in [*old, *new]}.values())


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Sort by data set, then in the order of `MODELS`; codecs are last."""
    place = {name: index for index, name in enumerate(MODELS)}
    return sorted(rows, key=lambda row: (row.data, place.get(row.model.partition(BETA)[0], len(place)), row.title))


def markdown(rows: list[Row]) -> str:
    """The tables as Markdown, one for each data set."""
    parts = []
    for name in dict.fromkeys(row.data for row in rows):
        some = [row for row in rows if row.data == name]
        lines = ["| " + " | ".join(cells) + " |" for cells in [HEAD, ("---",) * len(HEAD), *cells_of(some)]]
        parts.append(f"{caption(some)}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def in_page(page: str, rows: list[Row]) -> str:
    """Replace the text between the two marks of a page by the tables. Raises `UsageError` if the marks are missing."""
    before, found, rest = page.partition(MARKS[0])
    _, ended, after = rest.partition(MARKS[1])
    if not (found and ended):
        raise UsageError(f"the page has no marks for the table; add {MARKS[0]} and {MARKS[1]}")
    return f"{before}{MARKS[0]}\n\n{markdown(rows)}\n{MARKS[1]}{after}"


def terminal(rows: list[Row]) -> list[Table]:
    """The tables for the terminal (rich), one for each data set."""
    tables = []
    for name in dict.fromkeys(row.data for row in rows):
        some = [row for row in rows if row.data == name]
        table = Table(*HEAD, title=caption(some))
        for cells in cells_of(some):
            table.add_row(*cells)
        tables.append(table)
    return tables


def caption(rows: list[Row]) -> str:
    """The caption of a table: the data set and the numbers of pictures."""
    first = rows[0]
    tested = ", ".join(dict.fromkeys(f"{row.tested_on:,}" for row in rows))
    return f"{first.data}, {first.part}: {first.trained_on:,} training pictures, {tested} test pictures"


def cells_of(rows: list[Row]) -> list[tuple[str, ...]]:
    """The lines of a table: one for each measure. Only the first line of a model contains its title."""
    lines = []
    for row in rows:
        trained = f"{round(row.minutes, 1):g} min on {row.on}, {row.steps:,} steps" if row.steps else "–"
        for way, (mean, error) in row.bits.items():
            known = PUBLISHED.get((row.data, row.model, way))
            figure = f"{mean:.3f} ± {error:.3f}" if error else f"{mean:.3f}"
            own = (f"{row.parameters:,}" if row.parameters else "–", trained)
            first = way == next(iter(row.bits))
            published = f"{known:.2f}" if known else ""
            lines.append((
                row.title if first else "", way, figure, KINDS.get(way, "upper bound"),
                *(own if first else ("", "")), published,
            ))  # fmt: skip
    return lines
