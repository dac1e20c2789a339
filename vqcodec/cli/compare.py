"""The command `compare`: two pictures or .vq files -> every measure of one beside the other.

In: two files, one of which may be standard input. Out: a line for each figure, or JSON, and if requested an HTML page.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqcodec.cli.options import Force, Json, MaxPixels, ModelName, Threads
from vqcodec.cli.terminal import Bar, named, printable
from vqcodec.errors import BadPicture, UsageError, VqError
from vqcodec.files.plan import STREAM, is_stream
from vqcodec.files.work import Decompressor
from vqcodec.output import check_destination, write_atomic

if TYPE_CHECKING:
    from vqcodec.bench.compare import Compared, Input

__all__ = ["compare"]

_MOST_OF_STREAM = 1 << 30  # bytes read from a pipe, which may be endless


def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="The reference: a picture, a .vq file, or - for standard input.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="What is judged: another picture, .vq file, or -.")],
    html_file: Annotated[
        str | None,
        typer.Option(
            "--html", metavar="FILE", help="Also write a page with both pictures; - prints it instead of the figures."
        ),
    ] = None,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compare two pictures by every measure.

    A is the reference, B is judged. Butteraugli and SSIMULACRA2 depend on which is which, the other measures do not.
    Both pictures are read as `compress` reads them: upright, in sRGB. A .vq file is decoded with the model that it
    names. If one has transparency, both are laid over black and over white, and of each measure the worse value counts.
    The sizes in pixels must be equal.
    """
    from vqcodec.bench.compare import compare as judge
    from vqcodec.bench.compare import load
    from vqcodec.picture.butteraugli import missing

    if is_stream(a, 0) and is_stream(b, 0):
        raise UsageError("only one of the two pictures can come from standard input")
    to_stdout = html_file is not None and is_stream(html_file, 1)
    if to_stdout and as_json:
        raise UsageError("--json and --html - both print to standard output; give --html a file")
    if html_file is not None and not to_stdout:
        check_destination(Path(html_file), force=force)
    decompressor = Decompressor(model, force=False, max_pixels=max_pixels)
    decompressor.open()
    inputs = []
    with Bar() as bar:
        for index, name in enumerate((a, b)):
            label = "standard input" if is_stream(name, 0) else name
            try:
                inputs.append(load(label, _source(name), decompressor, bar.part(index, 3)))
            except VqError as error:
                raise type(error)(named(label, str(error))) from None
            with bar.paused():
                for notice in inputs[-1].picture.notices:
                    _note(named(label, notice))
        compared = judge(inputs[0], inputs[1], bar.part(2, 3))
    if (advice := missing()) is not None:
        _note(advice)
    if html_file is not None:
        from vqcodec.bench.compare_html import to_html

        page = to_html(compared)
        if to_stdout:
            print(page, end="")
            return
        write_atomic(Path(html_file), page.encode(), force=force)
    print(json.dumps(_record(compared, (a, b)), indent=2) if as_json else "\n".join(_lines(compared)))


def _source(name: str) -> Path | bytes:
    """A file, or the bytes of standard input or another pipe. Raises `BadPicture`."""
    path = Path(name)
    try:
        if is_stream(name, 0):
            data = sys.stdin.buffer.read(_MOST_OF_STREAM + 1)
        elif path.is_fifo():
            with path.open("rb") as stream:
                data = stream.read(_MOST_OF_STREAM + 1)
        else:
            return path
    except OSError as error:
        raise BadPicture(f"cannot be read: {error.strerror}") from None
    if len(data) > _MOST_OF_STREAM:
        raise BadPicture(f"longer than the limit of {_MOST_OF_STREAM} bytes for a stream; give a file instead")
    return data


def _note(text: str) -> None:
    print(f"vqcodec: note: {printable(text)}", file=sys.stderr)


def _lines(compared: Compared) -> list[str]:
    """A line for each file and each measure."""
    from vqcodec.bench.compare import facts, shown
    from vqcodec.picture.measures import MEASURES

    lines = {"A": f"{compared.a.name}: {', '.join(facts(compared.a))}"}
    lines["B"] = f"{compared.b.name}: {', '.join(facts(compared.b))}"
    lines["B to A"] = f"{100 * compared.b.bytes / compared.a.bytes:.2f} % of the bytes"
    lines |= {measure.title: shown(measure, compared.measures[measure.name]) for measure in MEASURES}
    wide = max(map(len, lines))
    found = [printable(f"{name:{wide}}  {text}") for name, text in lines.items()]
    if len(compared.layers) > 1:
        found.append("transparency: both pictures were laid over black and over white; of each measure the worse value")
    if compared.identical:
        found.append("the pictures are identical")
    return found


def _record(compared: Compared, names: Sequence[str]) -> dict[str, Any]:
    """What --json prints. Figures that are infinite or not known are null."""
    return {
        "a": _input_record(compared.a, names[0]),
        "b": _input_record(compared.b, names[1]),
        "measures": {name: value if math.isfinite(value) else None for name, value in compared.measures.items()},
        "identical": compared.identical,
        "grounds": [layer.ground for layer in compared.layers if layer.ground is not None],
    }


def _input_record(side: Input, name: str) -> dict[str, Any]:
    picture = side.picture
    return {
        "file": STREAM if is_stream(name, 0) else name,
        "format": side.format,
        "width": picture.width,
        "height": picture.height,
        "mode": picture.mode,
        "alpha": picture.alpha is not None,
        "bytes": side.bytes,
        "bpp": side.bpp,
        "model": side.model,
        "quality": side.quality,
        "notices": list(picture.notices),
    }
