"""Measure what photographs have at each quality of a model, for the notice about pictures that come out worse.

In: a model's folder, and photographs. Out: for each quality the score (`worst_score` of vqcodec/codec/judge.py, an
SSIMULACRA2) that 99 of 100 photographs exceed, less a margin of 2; with --write it is stored as `expected_quality` in
the model's config.json. Neither the digest nor any file depends on it.

    python benchmarks/expected_quality.py --model mine --write ../data/photographs

The data are as for `vqcodec train`: folders of pictures, or .tar shards. Give a few hundred photographs that the model
was not trained on, in crops of 256 x 256 or whole. Effort 0 is measured, which is the worst. At least 100 are needed;
of each source (the part of a name before the first underscore) one picture is taken, so that none counts twice.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vqcodec.codec.codec import Codec
from vqcodec.codec.content import Content
from vqcodec.codec.judge import worst_score
from vqcodec.model.config import ModelConfig, from_json, with_expected_quality
from vqcodec.model.store import CONFIG, open_model
from vqcodec.output import write_atomic
from vqcodec.picture.read import read_picture

SHARE = 1.0  # per cent of photographs that may be worse
MARGIN = 2.0  # because 1 per cent of a few hundred is only a few
FEWEST = 100
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def files(data: list[Path]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every picture in files, folders and .tar shards."""
    for path in data:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in inside:
            if file.suffix == ".tar":
                with tarfile.open(file) as shard:
                    for member in shard:
                        stream = shard.extractfile(member)
                        if stream is not None and member.name.lower().endswith(PICTURES):
                            yield Path(member.name).name, stream.read()
            elif file.suffix.lower() in PICTURES:
                yield file.name, file.read_bytes()


def one_of_each_source(data: list[Path], most: int, seed: int) -> list[bytes]:
    """At most `most` pictures, one of each source, drawn by `seed`."""
    draw = random.Random(seed)
    found: dict[str, tuple[float, bytes]] = {}
    for name, content in files(data):
        source, number = name.split("_")[0], draw.random()
        if source not in found or number < found[source][0]:
            found[source] = number, content
    return [content for _, content in sorted(found.values())][:most]


def scores(codec: Codec, pixels: NDArray[np.uint8], qualities: int) -> list[float]:
    """`worst_score` of pixels [H, W, 3] at every quality, coded in full: nothing is stored without loss."""
    found = []
    for quality in range(1, qualities + 1):
        codes = codec.to_codes(pixels, quality, effort=0)
        weights = codec.fit(pixels, Content.of(codes), quality)
        decoded = codec.render(codes, quality, (pixels.shape[0], pixels.shape[1]), "RGB", weights=weights)
        found.append(worst_score(pixels, decoded))
    return found


def expected(table: NDArray[np.float64]) -> list[float]:
    """The scores [pictures, qualities] -> for each quality the score to state. A better quality never states less."""
    lowest = np.percentile(table, SHARE, axis=0) - MARGIN
    return [round(float(score), 1) for score in np.maximum.accumulate(lowest)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help="photographs: folders, files, .tar shards")
    parser.add_argument("--model", default="photo", help="name or folder of the model")
    parser.add_argument("--most", type=int, default=400, metavar="N", help="number of photographs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="store the result in the model's config.json")
    args = parser.parse_args()
    model = open_model(args.model)
    codec, qualities = Codec(model), model.config.vqvae.qualities
    pictures = one_of_each_source(args.data, args.most, args.seed)
    if len(pictures) < FEWEST:
        sys.exit(f"{len(pictures)} photographs of different sources; at least {FEWEST} are needed")
    table = []
    for count, content in enumerate(pictures, 1):
        table.append(scores(codec, read_picture(io.BytesIO(content)).pixels, qualities))
        print(f"\r{count} of {len(pictures)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    found = expected(np.array(table))
    print("quality  stated  least  median")
    for quality, column in enumerate(np.array(table).T):
        print(f"{quality + 1:7}  {found[quality]:6.1f}  {column.min():5.1f}  {np.median(column):6.1f}")
    if args.write:
        path = model.path / CONFIG
        config = replace(from_json(ModelConfig, path.read_text(encoding="utf-8")), expected_quality=tuple(found))
        write_atomic(path, with_expected_quality(config).encode(), force=True)
        assert open_model(model.path).digest == model.digest
        print(f"written to {path}")


if __name__ == "__main__":
    main()
