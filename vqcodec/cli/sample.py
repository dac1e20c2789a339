"""The command `sample`: generates new pictures from a model's prior, or the lower part of a given picture."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from vqcodec.cli.options import Force, Json, MaxPixels, ModelName, Quality, Threads, parse_shape
from vqcodec.cli.terminal import Bar, named, printable
from vqcodec.errors import UsageError
from vqcodec.files.plan import is_stream, names_folder
from vqcodec.files.work import open_codec
from vqcodec.output import check_destination, make_folder, write_atomic

__all__ = ["sample"]

KEEP = 0.5  # default share of the picture's height that --from keeps


def sample(
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="OUT", help="Output picture, or FOLDER/ for one file per sample.")
    ] = "samples.png",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of samples.")] = 16,
    label: Annotated[
        int | None, typer.Option("--label", help="Class of the samples, from 0; only for a model with labels.")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Below 1: more typical samples; above 1: more varied samples.")
    ] = 1.0,
    top_p: Annotated[
        float, typer.Option("--top-p", help="Draw only from the likeliest codes that have this total probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed; the same seed gives the same samples.")] = 1,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="WxH", help="Size in pixels. Default: one unit of coding, but at most 256x256."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="PICTURE", help="Keep the upper part of PICTURE and generate the rest."),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option("--keep", metavar="SHARE", help=f"Share of PICTURE's height to keep; default {KEEP:g}."),
    ] = None,
    quality: Quality = None,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Generate new pictures from a model.

    Codes are drawn from the model's prior and decoded. OUT shows all samples in a grid; FOLDER/ gets one file per
    sample. The bundled models are trained on photographs: their samples show edges and textures, but no recognisable
    objects.
    """
    from vqcodec.codec.sampling import Drawing, complete, default_side, sheet
    from vqcodec.codec.sampling import sample as draw
    from vqcodec.picture.read import read_picture
    from vqcodec.picture.write import format_for, image_file

    if is_stream(out, 1):
        raise UsageError("sample writes files, not standard output")
    if source is None and keep is not None:
        raise UsageError("--keep needs --from PICTURE")
    if source is not None and size is not None:
        raise UsageError("--size cannot be used with --from: the samples have the size of PICTURE")
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
        samples = "1 sample" if count == 1 else f"{count} samples"
        size_text = f"{found[0].width} x {found[0].height} pixels"
        print(printable(f"{out}: {samples} of {size_text}  q{record['quality']}  seed {seed}"))
