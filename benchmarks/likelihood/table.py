"""Rows of results <-> JSON, and the table, in Markdown and in the terminal."""

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

# What each way to count is: a bound is what no file can be said to take, a file is.
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
MARKS = "<!-- table -->", "<!-- end of table -->"  # in a page
BETA = "-beta"  # in the key of a VAE that was trained with another weight of the KL term
HEAD = ("model", "counted as", "bits/dim", "is", "parameters", "trained", "published")


@dataclass(frozen=True)
class Row:
    """A model or codec, on a data set."""

    data: str  # the name of the set
    part: str  # how much of it this is
    trained_on: int  # pictures
    tested_on: int
    model: str  # key of MODELS, or a codec
    title: str
    bits: dict[str, Figure]  # way to count -> bits per dimension
    parameters: int = 0
    asked: list[float] = field(default_factory=list)  # minutes, or steps
    minutes: float = 0.0  # of training
    steps: int = 0
    size: str = ""
    on: str = ""  # what it was trained on
    software: str = ""


def load(path: Path) -> list[Row]:
    """Rows of a JSON file; none if there is no such file. Raises `UsageError`."""
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return [Row(**row | {"bits": {way: Figure(*pair) for way, pair in row["bits"].items()}}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a file of this benchmark's results ({error})") from None


def save(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON, in the order of the table."""
    text = json.dumps({"rows": [asdict(row) for row in in_order(rows)]}, indent=1, ensure_ascii=False)
    write_atomic(path, (text + "\n").encode(), force=True)


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """All rows; where both have one of the same model and data, the new one."""
    return in_order({(row.data, row.model): row for row in [*old, *new]}.values())


def in_order(rows: Iterable[Row]) -> list[Row]:
    """By data set, then as the models are listed, codecs last."""
    place = {name: index for index, name in enumerate(MODELS)}
    return sorted(rows, key=lambda row: (row.data, place.get(row.model.partition(BETA)[0], len(place)), row.title))


def markdown(rows: list[Row]) -> str:
    """A table for each data set."""
    parts = []
    for name in dict.fromkeys(row.data for row in rows):
        some = [row for row in rows if row.data == name]
        lines = ["| " + " | ".join(cells) + " |" for cells in [HEAD, ("---",) * len(HEAD), *cells_of(some)]]
        parts.append(f"{caption(some)}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def in_page(page: str, rows: list[Row]) -> str:
    """The page with these tables in the place of those between the two marks. Raises `UsageError` without marks."""
    before, found, rest = page.partition(MARKS[0])
    _, ended, after = rest.partition(MARKS[1])
    if not (found and ended):
        raise UsageError(f"the page has no place for a table; put {MARKS[0]} and {MARKS[1]} into it")
    return f"{before}{MARKS[0]}\n\n{markdown(rows)}\n{MARKS[1]}{after}"


def terminal(rows: list[Row]) -> list[Table]:
    """The same, for rich."""
    tables = []
    for name in dict.fromkeys(row.data for row in rows):
        some = [row for row in rows if row.data == name]
        table = Table(*HEAD, title=caption(some))
        for cells in cells_of(some):
            table.add_row(*cells)
        tables.append(table)
    return tables


def caption(rows: list[Row]) -> str:
    """What the rows of a data set have in common."""
    first = rows[0]
    tested = ", ".join(dict.fromkeys(f"{row.tested_on:,}" for row in rows))
    return f"{first.data}, {first.part}: {first.trained_on:,} pictures for training, tested on {tested}"


def cells_of(rows: list[Row]) -> list[tuple[str, ...]]:
    """The cells of the rows: a line for each way to count, the model named in the first."""
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
