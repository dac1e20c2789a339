"""The commands `info` and `verify`: what a .vq file says about itself, and whether it is sound."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vqcodec.cli.options import Json, MaxPixels, ModelName, Threads
from vqcodec.cli.terminal import Bar, named, print_error, printable
from vqcodec.errors import VqError
from vqcodec.files.plan import STREAM, sources
from vqcodec.files.read_write import read
from vqcodec.files.work import Decompressor

__all__ = ["info", "verify"]


def info(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .vq file, or - for standard input.")],
    as_json: Json = False,
) -> None:
    """Show the header of a .vq file.

    This includes its size, quality and model, and how many bytes each part takes.
    """
    from vqcodec.bench.report import print_info
    from vqcodec.codec.describe import describe

    try:
        found = describe(read(None if file == STREAM else Path(file)))
    except VqError as error:
        raise type(error)(named(file, str(error))) from None
    if as_json:
        figures = {"bpp": found.bpp, "bits_per_dim": found.bits_per_dim, "ratio": found.ratio}
        print(json.dumps({"file": file, **dataclasses.asdict(found), **figures}, indent=2))
    else:
        print_info(found, sys.stdout)


def verify(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help=".vq files, folders of them, or - for standard input.")
    ],
    deep: Annotated[bool, typer.Option("--deep", help="Decode the files too; needs their models.")] = False,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    as_json: Json = False,
) -> None:
    """Check .vq files for damage.

    Checksums cover every byte; the files are not decoded unless --deep is given. The exit code is 1 if any file is
    damaged or cannot be read.
    """
    from vqcodec.files.work import check_file

    reader = Decompressor(model, force=False, max_pixels=max_pixels)
    reader.open()
    records: list[dict[str, Any]] = []
    with Bar() as bar:
        jobs = sources(files)
        for index, source in enumerate(jobs):
            label = "standard input" if source is None else str(source)
            fault = check_file(source, reader if deep else None, bar.part(index, len(jobs)))
            records.append({"file": STREAM if source is None else str(source), "error": fault})
            with bar.paused():
                if fault is not None:
                    print_error(named(label, fault))
                elif not as_json:
                    print(printable(f"{label}: sound"), flush=True)
    if as_json:
        print(json.dumps(records, indent=2))
    if any(record["error"] for record in records):
        raise typer.Exit(1)
