"""The command `models`: the installed models, and copies of them to keep."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vqcodec.cli.options import Force, Json
from vqcodec.cli.terminal import printable
from vqcodec.errors import UsageError

__all__ = ["models"]


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
