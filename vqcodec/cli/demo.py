"""The command `demo`: a picture that comes with vqcodec, at every quality."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vqcodec.cli.options import Force
from vqcodec.cli.terminal import Bar, printable
from vqcodec.output import make_folder

__all__ = ["demo"]


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
