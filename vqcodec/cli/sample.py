"""The command line of sampling: new pictures from a model, or a picture whose lower part is made up."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from vqcodec.cli.options import Force, Json, MaxPixels, ModelName, Quality, parse_shape
from vqcodec.cli.terminal import Bar, named, printable
from vqcodec.errors import UsageError
from vqcodec.files.plan import STREAM, names_folder
from vqcodec.files.work import open_codec
from vqcodec.output import check_destination, make_folder, write_atomic

__all__ = ["sample"]

KEEP = 0.5  # of a picture's height


def sample(
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="A picture, or FOLDER/.")] = "samples.png",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many samples.")] = 16,
    label: Annotated[int | None, typer.Option("--label", help="The class, from 0, of a model that has some.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Below 1: safer; above: wilder.")] = 1.0,
    top_p: Annotated[float, typer.Option("--top-p", help="Only the likeliest codes, up to this probability.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same samples.")] = 1,
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="In pixels; default: a unit of coding, at most 256x256.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="PICTURE", help="Keep its upper part, and make up the rest.")
    ] = None,
    keep: Annotated[
        float | None, typer.Option("--keep", metavar="SHARE", help=f"Of the PICTURE's height; default {KEEP:g}.")
    ] = None,
    quality: Quality = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw new pictures from what a model has learned.

    Codes are drawn from its prior, one wave after the other, and decoded. OUT shows all samples in rows, or the one
    that was asked for; a FOLDER/ gets a file for each. Samples show what the prior has learned: that of a codec for
    photographs knows edges and texture, but no things.
    """
    from vqcodec.codec.sampling import Drawing, complete, default_side, sheet
    from vqcodec.codec.sampling import sample as draw
    from vqcodec.picture.read import read_picture
    from vqcodec.picture.write import format_for, image_file

    if out == STREAM:
        raise UsageError("sample writes files, not standard output")
    if source is None and keep is not None:
        raise UsageError("--keep is for a picture that is completed (--from PICTURE)")
    if source is not None and size is not None:
        raise UsageError("--size is for new pictures; with --from, the size is that of PICTURE")
    how = Drawing(count, quality, temperature, top_p, seed, label)
    shape = None if size is None else parse_shape(size)[::-1]
    single = names_folder(out)
    digits = len(str(count))
    targets = [Path(out) / f"sample-{n:0{digits}}.png" for n in range(1, count + 1)] if single else [Path(out)]
    kind = format_for(targets[0])
    if not single or Path(out).is_dir():
        for target in targets:
            check_destination(target, force=force)
    codec = open_codec(model, max_pixels)
    codec.quality(quality)
    picture = None if source is None else read_picture(source, max_pixels=codec.limits.pixels)
    start = time.perf_counter()
    with Bar() as bar:
        if picture is None:
            found = draw(codec, shape or (default_side(codec),) * 2, how, bar.part(0, 1))
        else:
            found = complete(codec, picture, KEEP if keep is None else keep, how, bar.part(0, 1))
    seconds = time.perf_counter() - start
    if single:
        make_folder(Path(out))
    for target, drawn in zip(targets, found if single else [sheet(found)], strict=True):
        write_atomic(target, image_file(drawn, kind), force=force)
    record = {
        "outputs": [str(target) for target in targets], "count": count, "width": found[0].width,
        "height": found[0].height, "model": codec.model.name, "digest": codec.model.digest.hex(),
        "quality": codec.quality(quality), "label": label, "temperature": temperature, "top_p": top_p, "seed": seed,
        "seconds": seconds,
    }  # fmt: skip
    if picture is not None and source is not None:
        lost = () if picture.alpha is None else ("the transparency is left out",)
        for notice in (*picture.notices, *lost):
            print(f"vqcodec: note: {printable(named(source, notice))}", file=sys.stderr)
    if as_json:
        print(json.dumps(record, indent=2))
    else:
        what = "1 sample" if count == 1 else f"{count} samples"
        of = f"{found[0].width} x {found[0].height} pixels"
        print(printable(f"{out}: {what} of {of}  q{record['quality']}  seed {seed}"))
