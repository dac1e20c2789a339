"""Results of two runs of `vqcodec bench` on the same pictures -> one table: a new model beside codecs measured before.

    python benchmarks/merge_results.py NEW.json OLD.json -o BOTH.json [--anchor avif]

Takes all rows of NEW, and of OLD the rows of the codecs that NEW does not have. Means and BD-rates are computed anew.
The environment is that of NEW; versions of the libraries that both name must be equal, so that the rows fit together.
Seconds come from two runs, and are comparable only within each.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

from vqcodec.bench.curves import compare
from vqcodec.bench.documents import to_json
from vqcodec.bench.means import mean
from vqcodec.bench.results import Anatomy, Codebook, Results, Row

# What may differ: the machine and how its cores were shared, and libraries that only train.
IGNORED = {"vqcodec", "Python", "system", "processor", "cores", "processes", "threads in each", "torch", "native code"}


def rows_of(document: dict[str, Any]) -> list[Row]:
    """The rows of a results file; null is an infinite or undefined figure."""
    known = {field.name for field in fields(Row)}
    texts = {"image", "codec", "digest", "error", "note"}
    found = []
    for row in document["rows"]:
        plain = {key: value for key, value in row.items() if key in known}
        if row["error"] is None:
            undefined = {key: math.inf if key == "psnr" else math.nan for key in plain}
            plain = {
                key: undefined[key] if value is None and key not in texts else value for key, value in plain.items()
            }
        else:
            plain = {key: value for key, value in plain.items() if value is not None}
        found.append(Row(**plain))
    return found


def merge(new: dict[str, Any], old: dict[str, Any], anchor: str) -> Results:
    """The results of both. Raises `SystemExit` if they do not fit together."""
    versions = (set(new["environment"]) & set(old["environment"])) - IGNORED
    if differ := [key for key in sorted(versions) if new["environment"][key] != old["environment"][key]]:
        raise SystemExit(f"the two runs have different versions of {', '.join(differ)}; measure again")
    rows = rows_of(new)
    mine, pictures = {row.codec for row in rows}, {row.image for row in rows}
    others = [row for row in rows_of(old) if row.codec not in mine]
    if {row.image for row in others} != pictures:
        raise SystemExit("the two runs have different pictures")
    both = [*rows, *others]
    anatomy = [
        Anatomy(**each | {"codebooks": tuple(Codebook(**book) for book in each["codebooks"])})
        for document in (
            new,
            {"anatomy": [each | {"stored_bytes": each.get("stored_bytes", 0)} for each in old["anatomy"]]},
        )
        for each in document["anatomy"]
        if document is new or each["codec"] not in mine
    ]
    return Results(
        rows=tuple(both),
        means=tuple(mean(both)),
        bd=tuple(compare(both, (), anchor)),
        anatomy=tuple(anatomy),
        environment=old["environment"] | new["environment"],
        codecs=new["codecs"] | {key: value for key, value in old["codecs"].items() if key not in mine},
        anchor=anchor,
    )


def main() -> None:
    """Write the merged results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("new", type=Path)
    parser.add_argument("old", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--anchor", default="avif")
    options = parser.parse_args()
    new, old = (json.loads(path.read_text()) for path in (options.new, options.old))
    options.out.write_text(to_json(merge(new, old, options.anchor)))


if __name__ == "__main__":
    main()
