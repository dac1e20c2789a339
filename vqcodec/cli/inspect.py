"""The command `inspect`: draws a model's codebooks and codes, and where a picture's errors and bits are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vqcodec.cli.options import Effort, Force, Json, MaxPixels, ModelName, Quality, Threads
from vqcodec.cli.terminal import Bar, printable
from vqcodec.errors import UsageError
from vqcodec.files.work import open_codec
from vqcodec.output import check_destination, make_folder, write_atomic

__all__ = ["inspect"]


def inspect(
    image: Annotated[
        str | None, typer.Argument(metavar="PICTURE", help="Also draw how the model codes this picture.")
    ] = None,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Output folder, created if needed.")
    ] = "vqcodec-inspect",
    quality: Quality = None,
    effort: Effort = None,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw a model's codebooks and a picture's bits.

    FOLDER gets codebooks.png (a map of each codebook) and codes.png (blocks that the codes decode to). With a
    PICTURE it also gets reconstruction.png, error.png (the reconstruction error) and bits.png (the bits spent on each
    position).
    """
    from vqcodec.bench.code_maps import NAMES, PICTURE_NAMES, show_model, show_picture
    from vqcodec.picture.read import from_image, read_picture
    from vqcodec.picture.write import image_file

    if image is None and effort is not None:
        raise UsageError("--effort needs a PICTURE")
    folder = Path(out)
    if folder.is_dir():
        for name in (*NAMES, *(PICTURE_NAMES if image is not None else ())):
            check_destination(folder / name, force=force)
    codec = open_codec(model, max_pixels)
    chosen = codec.quality(quality)
    picture = None if image is None else read_picture(image, max_pixels=codec.limits.pixels)
    make_folder(folder)
    records: list[dict[str, Any]] = []
    with Bar() as bar:
        shown = [show_model(codec, chosen)]
        if picture is not None:
            from vqcodec.codec.codec import DEFAULT_EFFORT

            level = DEFAULT_EFFORT if effort is None else effort
            shown.append(show_picture(codec, picture, chosen, level, bar.part(0, 1)))
        for part in shown:
            for name, drawn in part.images.items():
                write_atomic(folder / name, image_file(from_image(drawn), "PNG"), force=force)
                records.append({"output": str(folder / name), "quality": chosen, "text": part.lines[name]})
    if as_json:
        print(json.dumps(records, indent=2))
    else:
        for record in records:
            print(printable(f"{record['output']}: {record['text']}"))
