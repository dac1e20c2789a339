"""The application: its commands, error handling and exit codes.

Results go to standard output; notes, errors and progress go to standard error. Every `VqError` becomes one line and an
exit code: 1 for bad data, 2 for a usage error. The commands themselves import the slow modules (torch, numpy, Pillow),
so that --help is fast.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vqcodec.cli.bench import bench
from vqcodec.cli.commands import Commands
from vqcodec.cli.compare import compare
from vqcodec.cli.completion import COMPLETE, completion, prepare_completion
from vqcodec.cli.files import compress, decompress
from vqcodec.cli.inspect import inspect
from vqcodec.cli.options import Force, Json, MaxPixels, ModelName, Threads
from vqcodec.cli.sample import sample
from vqcodec.cli.terminal import Bar, fill_closed_streams, named, printable, unwind_when_ended
from vqcodec.cli.tokens import detokenize, tokenize
from vqcodec.cli.train import train_app
from vqcodec.errors import UsageError, VqError
from vqcodec.files.outcome import NO_MEMORY
from vqcodec.files.plan import STREAM, sources
from vqcodec.files.read_write import read
from vqcodec.files.work import Decompressor
from vqcodec.output import make_folder

__all__ = ["app", "main"]

app = typer.Typer(
    cls=Commands,
    help="Neural image compression. Try `vqcodec demo`. `vqcodec COMMAND --help` describes a command.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain-text help: importing rich takes time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(train_app, name="train")


def main() -> None:
    """Run the command line. Errors are one line on standard error; see the module docstring for exit codes."""
    # The matrix products of coding are too small for several threads, which on a busy machine mostly wait.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy reads it when it is imported, later
    unwind_when_ended()
    fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names may contain characters that the terminal cannot encode
            stream.reconfigure(errors="backslashreplace")
    if COMPLETE in os.environ:
        prepare_completion()
    try:
        try:
            app(prog_name="vqcodec")
        finally:
            sys.stdout.flush()
    except VqError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except MemoryError:
        _print_error(NO_MEMORY)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # a reader that closed the pipe early is no error
            _print_error(f"{error.filename or 'standard output'}: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout again at exit
        sys.exit(1)


def _version(requested: bool) -> None:
    if requested:
        from vqcodec import __version__
        from vqcodec.coding.native import missing
        from vqcodec.coding.payloads import implementation
        from vqcodec.model.store import bundled, open_model

        print(f"vqcodec {__version__}")
        for name in bundled():
            print(f"{name} {open_model(name).digest.hex()}")
        print(f"range coder: {implementation()}")
        if missing():
            print(f"no native code: {missing()}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the version, the digests of the models and the range coder in use.",
        ),
    ] = False,
) -> None:
    pass


app.command()(compress)
app.command()(decompress)


@app.command()
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


@app.command()
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
                    _print_error(named(label, fault))
                elif not as_json:
                    print(printable(f"{label}: sound"), flush=True)
    if as_json:
        print(json.dumps(records, indent=2))
    if any(record["error"] for record in records):
        raise typer.Exit(1)


@app.command()
def models(
    export: Annotated[str | None, typer.Option(metavar="NAME", help="Copy this model into a folder.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FOLDER", help="Output folder of --export; default NAME.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """List the installed models, or export one.

    The list has the models that ship with vqcodec, and those in the folders that the environment variable
    VQCODEC_MODELS names. An exported model decodes every file that was written with it: store it with files that you
    archive.
    """
    from vqcodec.bench.report import print_models
    from vqcodec.model.store import DEFAULT_MODEL, added, bundled, open_model

    if export is None and out is not None:
        raise UsageError("-o needs --export NAME")
    if export is not None:
        from vqcodec.model.store import export_model

        model = export_model(export, Path(out or Path(export).name), force=force)
        record = {"name": model.name, "digest": model.digest.hex(), "folder": str(model.path), "bytes": model.size}
        line = printable(f"{model.name} {record['digest']} -> {model.path}")
        print(json.dumps(record, indent=2) if as_json else line)
        return
    entries: list[dict[str, Any]] = []
    for name in (*bundled(), *added()):
        model = open_model(name)
        entries.append(
            {
                "name": name,
                "default": name == DEFAULT_MODEL,
                "digest": model.digest.hex(),
                "stride": model.config.vqvae.stride,
                "codebooks": [list(book) for book in model.config.vqvae.codebooks],
                "qualities": model.config.vqvae.qualities,
                "default_quality": model.config.default_quality,
                "bytes": model.size,
            }
        )
    if as_json:
        print(json.dumps(entries, indent=2))
    else:
        print_models(entries, sys.stdout)


@app.command()
def demo(
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Output folder, created if needed.")
    ] = "vqcodec-demo",
    force: Force = False,
) -> None:
    """Compress a bundled picture at every quality.

    The picture ships as a .vq file. It is decompressed and halved in size, then compressed at every quality of the
    default model, and the results are compared. All files are kept in FOLDER.
    """
    from vqcodec.bench.demo import demo_picture, run_and_keep
    from vqcodec.bench.report import print_demo
    from vqcodec.model.store import DEFAULT_MODEL, open_model
    from vqcodec.output import check_destination, write_atomic
    from vqcodec.picture.write import image_file

    folder = Path(out)
    model = open_model(DEFAULT_MODEL)
    qualities = range(1, model.config.vqvae.qualities + 1)
    make_folder(folder)
    for name in ("demo.png", *(f"demo-q{q}{suffix}" for q in qualities for suffix in (".vq", ".png"))):
        check_destination(folder / name, force=force)
    with Bar() as bar:
        picture = demo_picture()
        write_atomic(folder / "demo.png", image_file(picture, "PNG"), force=force)
        rows = run_and_keep(model, picture, qualities, folder / "demo", bar.part(0, 1))
    size = f"{picture.width} x {picture.height} pixels, {(folder / 'demo.png').stat().st_size:,} bytes as PNG"
    print(f"demo.png: {size}. Compressed with the model {model.name}:")
    print_demo(rows, sys.stdout)
    print(f"The files are in {printable(out)}. Your turn: vqcodec compress PICTURE")


for command in (compare, bench, tokenize, detokenize, inspect, sample, completion):
    app.command()(command)


def _print_error(text: str) -> None:
    print(f"vqcodec: error: {printable(text)}", file=sys.stderr)
