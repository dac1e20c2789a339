"""The bundled demo picture, and a small benchmark of it that keeps the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vqcodec.bench.measure import measure
from vqcodec.bench.peers import ModelPeer
from vqcodec.bench.results import Row

if TYPE_CHECKING:
    from vqcodec.model.store import Model
    from vqcodec.picture.picture import Picture

__all__ = ["demo_picture", "run_and_keep"]


def demo_picture() -> Picture:
    """The bundled picture, decoded from demo.vq and reduced to half its width and height.

    A codec compresses its own output more easily than other pictures. Reducing the picture removes this advantage.
    """
    from importlib import resources

    from vqcodec.codec.codec import Codec, model_for
    from vqcodec.picture.read import from_image
    from vqcodec.picture.write import to_image

    data = (resources.files("vqcodec") / "bench" / "demo.vq").read_bytes()
    return from_image(to_image(Codec(model_for(data)).decompress(data)).reduce(2))


def run_and_keep(
    model: Model, picture: Picture, qualities: Sequence[int], stem: Path, progress: Callable[[float], None]
) -> list[Row]:
    """A row for each quality. Keeps each encoded file as STEM-qN.vq and the decoded picture as STEM-qN.png.

    Existing files are replaced. `progress` gets the fraction done, 0 to 1. Raises `VqError`.
    """
    from vqcodec.output import write_atomic
    from vqcodec.picture.write import image_file

    peer = ModelPeer(model)
    rows: list[Row] = []
    for quality in (qualities[0], *qualities):  # the first quality runs twice: the first pass includes the warm-up
        target = stem.with_name(f"{stem.name}-q{quality}.vq")
        row, result = measure(peer, picture, quality, target)
        write_atomic(target.with_suffix(".png"), image_file(result, "PNG"), force=True)
        rows.append(replace(row, image=target.name, codec=model.name, digest=model.digest.hex()))
        progress(len(rows) / (1 + len(qualities)))
    return rows[1:]
