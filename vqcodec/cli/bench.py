"""The command `bench`: measures codecs on pictures and reports the results.

In: names of codecs and pictures. Out: a table on standard output and, if requested, JSON, CSV and HTML files.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqcodec.cli.terminal import Bar, named, printable
from vqcodec.errors import UsageError
from vqcodec.files.folders import pictures_in
from vqcodec.files.plan import STREAM
from vqcodec.output import check_destination, write_atomic

if TYPE_CHECKING:
    from vqcodec.bench.results import Results

__all__ = ["bench"]

Names = Annotated[
    list[str] | None,
    typer.Option(
        "--codec",
        metavar="NAME[:Q,Q]",
        help="A codec to measure: a model, a model's folder, or a peer (jpeg, mozjpeg, jpegli, "
        "cjpegli, jpeg2000, webp, avif, avif-4, avif-iq, avif-ssim, avif-ssimulacra2, jxl, heic). Its qualities may "
        "follow a colon: jpeg:50,75. Repeatable. Default: all bundled models.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME|FOLDER", help="A model to measure; the same as --codec. Repeatable."),
]
Qualities = Annotated[
    list[str] | None,
    typer.Option(
        "--quality",
        "-q",
        metavar="N|all",
        help="Quality of the models. Repeatable. Default: each model's default quality; all qualities if rate curves "
        "are needed (with peers, --anchor or --html).",
    ),
]


def bench(
    dataset: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATASET", help="Pictures, or folders of pictures. Default: the demo picture."),
    ] = None,
    codec: Names = None,
    model: Models = None,
    quality: Qualities = None,
    peers: Annotated[bool, typer.Option("--peers", help="Also measure all installed peers (see --codec).")] = False,
    lossless: Annotated[
        bool,
        typer.Option(
            "--lossless",
            help="Compare files that lose nothing: PNG, WebP, JPEG XL and vqcodec, with every sample checked. --codec "
            "then takes a model, png, webp-lossless, jxl-lossless or jxl-lossless-9.",
        ),
    ] = False,
    effort: Annotated[
        int | None,
        typer.Option("--effort", metavar="0..3", min=0, max=3, help="Search effort of the models' encoder; default 1."),
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", metavar="NAME", help="Reference codec for the BD-rates. Default: the first peer."),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            "--match",
            metavar="BPP|MEASURE=X",
            help="Compress every picture to the same size (0.3: bits per pixel), or to the same quality "
            "(ssimulacra2=70, or psnr=35) with as few bits as possible, by searching for each codec's quality.",
        ),
    ] = None,
    anatomy: Annotated[
        bool, typer.Option("--anatomy", help="Also report how the bits of the .vq files are spent.")
    ] = False,
    published: Annotated[
        str | None, typer.Option("--published", metavar="CSV", help="Also show published rate curves from this file.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write JSON; - prints JSON instead of the table.")
    ] = None,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write CSV; - prints CSV instead of the table.")
    ] = None,
    html_file: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write an HTML page with curves and pictures.")
    ] = None,
    html_pictures: Annotated[
        int,
        typer.Option("--html-pictures", metavar="N", min=0, help="Pictures on the page, at most; each adds 1 to 4 MB."),
    ] = 8,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=0,
            help="Worker processes. Default: one per core. 0: run in this process.",
        ),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither use nor store earlier measurements.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace existing files.")] = False,
) -> None:
    """Measure codecs on pictures: size, quality and speed.

    All sizes are those of real files on disk, header included. Measurements are cached: an interrupted run continues
    when you repeat the command. Times are comparable only with --jobs 1 on an otherwise idle machine. A picture that
    fails gets a row with its error; the exit code is then 1.
    """
    from vqcodec import __version__
    from vqcodec.bench.lineup import Wanted, line_up, line_up_lossless
    from vqcodec.bench.match import read_match
    from vqcodec.bench.published import read_published
    from vqcodec.bench.report import print_results
    from vqcodec.bench.study import Options, study

    if lossless:
        lossy = {"-q": quality, "--peers": peers, "--effort": effort, "--anchor": anchor, "--match": match}
        _refuse(lossy | {"--anatomy": anatomy, "--published": published, "--html": html_file})
    outputs = _outputs(json_file, csv_file, html_file, force)
    target = None if match is None else read_match(match)
    points = read_published(Path(published)) if published is not None else []
    if lossless:
        contenders, notices = line_up_lossless([*(model or ()), *(codec or ())])
    else:
        wanted = Wanted(codec or (), model or (), peers, quality or (), effort, anchor, curves=html_file is not None)
        contenders, notices = line_up(wanted, matching=match is not None)
        anchor = _anchor(anchor, [contender.label for contender in contenders], {point.codec for point in points})
    for notice in notices:
        print(f"vqcodec: note: {printable(notice)}", file=sys.stderr)
    with _pictures(dataset or []) as paths, Bar() as bar:
        options = Options(anchor, target, anatomy, html_pictures if html_file else 0, jobs, not no_cache)
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


def _refuse(options: Mapping[str, object]) -> None:
    """Raise `UsageError` if one of these options was given: they mean nothing beside --lossless."""
    given = [name for name, value in options.items() if value is not None and value is not False]
    if given:
        raise UsageError(f"--lossless cannot be combined with {', '.join(given)}; leave out one or the other")


def _failures(results: Results) -> list[str]:
    """One line for each picture and error, with the names of the codecs unless all of them failed with it."""
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
    """{file name: writer of the results}. Raises `UsageError`, or `OutputError` if a file cannot be written."""
    from vqcodec.bench.documents import to_csv, to_json

    forms = [(json_file, to_json), (csv_file, to_csv), (html_file, _to_html)]
    requested = [(name, form) for name, form in forms if name is not None]
    if len({name for name, _ in requested}) < len(requested):
        raise UsageError("--json, --csv and --html need different files, and only one may be -")
    for name, _ in requested:
        if name != STREAM:
            check_destination(Path(name), force=force)
    return dict(requested)


def _to_html(results: Results) -> str:
    from vqcodec.bench.html import to_html

    return to_html(results)


def _anchor(name: str | None, labels: Sequence[str], published: Collection[str]) -> str | None:
    """The label of the reference codec: the given name, or the first peer, if any. Raises `UsageError`."""
    from vqcodec.bench.peers import peer

    if name is None:
        return next((label for label in labels if peer(label) is not None), None)
    if name not in labels and name not in published:
        raise UsageError(f"--anchor {name}: not one of {', '.join([*labels, *sorted(published)])}")
    return name


@contextmanager
def _pictures(names: Sequence[str]) -> Iterator[list[Path]]:
    """The pictures of the given files and folders, or the demo picture if `names` is empty. Raises `UsageError`."""
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
