"""The command line of `bench`: which codecs, on which pictures, shown where."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqcodec.cli.terminal import Bar, named, printable
from vqcodec.errors import UsageError
from vqcodec.files.plan import STREAM, pictures_in
from vqcodec.output import check_destination, write_atomic

if TYPE_CHECKING:
    from vqcodec.bench.results import Results

__all__ = ["bench"]

Names = Annotated[
    list[str] | None,
    typer.Option(
        "--codec",
        metavar="NAME[:Q,Q]",
        help="A model, its folder, or a peer: jpeg, jpeg2000, webp, avif, jxl, heic; with its own qualities after a "
        "colon. Repeatable; default: all models.",
    ),
]
Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="NAME|FOLDER", help="As --codec, for a model. Repeatable.")
]
Qualities = Annotated[
    list[str] | None,
    typer.Option(
        "--quality",
        "-q",
        metavar="N|all",
        help="Of the models; repeatable. Default: the model's own, or all of them beside peers, for curves.",
    ),
]


def bench(
    dataset: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATASET", help="Folders of pictures, or pictures. Default: the demo's."),
    ] = None,
    codec: Names = None,
    model: Models = None,
    quality: Qualities = None,
    peers: Annotated[bool, typer.Option("--peers", help="Also all peers that are installed.")] = False,
    effort: Annotated[
        int | None, typer.Option("--effort", metavar="0..3", min=0, max=3, help="Of the models' encoder.")
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", metavar="NAME", help="Compare curves with this codec's. Default: the first peer."),
    ] = None,
    match: Annotated[
        float | None,
        typer.Option(
            "--match",
            metavar="BPP",
            help="Every picture at this size, by search; within 2 % where a codec's qualities are so fine.",
        ),
    ] = None,
    anatomy: Annotated[bool, typer.Option("--anatomy", help="Also where the bits of .vq files go.")] = False,
    published: Annotated[
        str | None, typer.Option("--published", metavar="CSV", help="Curves of others, to be shown beside.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Also write JSON; - prints it instead.")
    ] = None,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Also write CSV; - prints it instead.")
    ] = None,
    html_file: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Also write a page with curves and pictures.")
    ] = None,
    html_pictures: Annotated[
        int, typer.Option("--html-pictures", metavar="N", min=0, help="At most so many of them; each costs 1 to 4 MB.")
    ] = 8,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", metavar="N", min=0, help="Processes; default: one for each core. 0: none of their own."
        ),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Measure everything anew, and keep nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace existing files.")] = False,
) -> None:
    """Measure codecs on pictures.

    All figures are taken from real files on disk, header included. What was measured is kept, so a run that was
    stopped goes on when it is started again. Times are comparable only with --jobs 1, on a machine that does nothing
    else. A picture that fails is a row with its reason; the exit code is then 1.
    """
    from vqcodec import __version__
    from vqcodec.bench.lineup import Wanted, line_up
    from vqcodec.bench.published import read_published
    from vqcodec.bench.report import print_results
    from vqcodec.bench.study import Options, study

    outputs = _outputs(json_file, csv_file, html_file, force)
    if match is not None and not 0 < match < 1000:
        raise UsageError(f"--match {match:g}: bits per pixel must be more than 0")
    points = read_published(Path(published)) if published is not None else []
    wanted = Wanted(codec or (), model or (), peers, quality or (), effort, anchor, curves=html_file is not None)
    contenders, notices = line_up(wanted, matching=match is not None)
    anchor = _anchor(anchor, [contender.label for contender in contenders], {point.codec for point in points})
    for notice in notices:
        print(f"vqcodec: note: {printable(notice)}", file=sys.stderr)
    with _pictures(dataset or []) as paths, Bar() as bar:
        options = Options(anchor, match, anatomy, html_pictures if html_file else 0, jobs, not no_cache)
        results = study(contenders, paths, options, points, bar.part(0, 1))
    results = replace(results, environment={"vqcodec": __version__, **results.environment})
    for name, form in outputs.items():
        if name == STREAM:
            print(form(results), end="")
        else:
            write_atomic(Path(name), form(results).encode(), force=force)
    if STREAM not in outputs:
        print_results(results, sys.stdout)
    failures = _failures(results)
    for failure in failures:
        print(f"vqcodec: error: {failure}", file=sys.stderr)
    if failures:
        raise typer.Exit(1)


def _failures(results: Results) -> list[str]:
    """A line for each picture and reason, with the codecs that it is about if these are not all."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in results.rows:
        if row.error is not None:
            found.setdefault((row.image, row.error), []).append(row.codec)
    lines = []
    for (image, error), codecs in found.items():
        names = list(dict.fromkeys(codecs))
        lines.append(named(image, error if len(names) == len(results.codecs) else f"{error} ({', '.join(names)})"))
    return lines


def _outputs(
    json_file: str | None, csv_file: str | None, html_file: str | None, force: bool
) -> dict[str, Callable[[Results], str]]:
    """What to write under which name. Raises `UsageError`, or `OutputError` where a file cannot be written."""
    from vqcodec.bench.tables import to_csv, to_json

    forms = [(json_file, to_json), (csv_file, to_csv), (html_file, _to_html)]
    wanted = [(name, form) for name, form in forms if name is not None]
    if len({name for name, _ in wanted}) < len(wanted):
        raise UsageError("--json, --csv and --html cannot share a file, nor standard output")
    for name, _ in wanted:
        if name != STREAM:
            check_destination(Path(name), force=force)
    return dict(wanted)


def _to_html(results: Results) -> str:
    from vqcodec.bench.html import to_html

    return to_html(results)


def _anchor(name: str | None, labels: Sequence[str], published: Collection[str]) -> str | None:
    """The label to compare with: what was asked for, or the first peer. Raises `UsageError`."""
    from vqcodec.bench.peers import peer

    if name is None:
        return next((label for label in labels if peer(label) is not None), None)
    if name not in labels and name not in published:
        raise UsageError(f"--anchor {name}: it is none of {', '.join([*labels, *sorted(published)])}")
    return name


@contextmanager
def _pictures(names: Sequence[str]) -> Iterator[list[Path]]:
    """The pictures that the arguments stand for; without any, that of the demo. Raises `UsageError`."""
    if names:
        paths: list[Path] = []
        for name in names:
            if not os.path.exists(name):
                raise UsageError(f"{name}: there is no such file or folder")
            paths += pictures_in(Path(name)) if os.path.isdir(name) else [Path(name)]
        yield paths
        return
    from vqcodec.bench.demo import demo_picture
    from vqcodec.picture.write import image_file

    with tempfile.TemporaryDirectory(prefix="vqcodec-") as folder:
        path = Path(folder) / "demo.png"
        write_atomic(path, image_file(demo_picture(), "PNG"), force=False)
        yield [path]
