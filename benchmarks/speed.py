"""Time and memory of each stage, in one process and warm, and of the whole command.

    python benchmarks/speed.py PICTURE... [--model photo] [--rounds 3] [--json FILE]

Stages are timed one by one on every picture (median of the rounds); `compress` and `decompress` are the whole calls,
`process` is `vqcodec decompress` as a user starts it, Python and imports included. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from vqcodec.codec import Codec, split
from vqcodec.coding.rangecoder import read_units, write_units
from vqcodec.image import Picture, read_picture
from vqcodec.store import open_model

T = TypeVar("T")


@dataclass(frozen=True)
class Speed:
    """Seconds of each stage for one picture."""

    picture: str
    megapixels: float
    encoder: float  # pixels to codes
    writing: float  # codes to payloads, the proof included
    reading: float  # payloads to codes
    decoder: float  # codes to pixels
    compress: float
    decompress: float


def timed(rounds: int, call: Callable[[], T]) -> tuple[float, T]:
    """Median seconds of a call, and its last result."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def measure(codec: Codec, name: str, picture: Picture, rounds: int) -> Speed:
    """Time every stage of one picture at the default quality."""
    config = codec.model.config
    quality = config.default_quality
    prior = codec.model.prior(quality - 1)
    encoder, codes = timed(rounds, lambda: codec.encode(picture.pixels, quality))
    grids = [grid for row in split(codes, config.unit) for grid in row]
    shapes = [(grid.shape[1], grid.shape[2]) for grid in grids]
    writing, payloads = timed(rounds, lambda: write_units(prior, grids))
    reading, _ = timed(rounds, lambda: read_units(prior, payloads, shapes))
    decoder, _ = timed(rounds, lambda: codec.decode(codes, quality))
    compress, data = timed(rounds, lambda: codec.compress(picture))
    decompress, _ = timed(rounds, lambda: codec.decompress(data))
    megapixels = picture.height * picture.width / 1e6
    return Speed(name, megapixels, encoder, writing, reading, decoder, compress, decompress)


def process_seconds(codec: Codec, picture: Picture, rounds: int) -> float:
    """Seconds of a whole `vqcodec decompress` process."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "picture.vq"
        source.write_bytes(codec.compress(picture))
        command = [sys.executable, "-c", "from vqcodec.cli import main; main()", "decompress", str(source), "--force"]
        if codec.model.path.parent.name != "models":
            command += ["--model", str(codec.model.path)]
        return timed(rounds, lambda: subprocess.run(command, check=True, capture_output=True))[0]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    codec = Codec(open_model(options.model))
    pictures = {path.name: read_picture(path) for path in options.pictures}
    first = next(iter(pictures.values()))
    codec.decompress(codec.compress(first))  # loads the networks, warms the caches
    print(f"load and first picture  {time.perf_counter() - start:.2f} s")
    rows = [measure(codec, name, picture, options.rounds) for name, picture in pictures.items()]
    stages = [name for name in asdict(rows[0]) if name not in ("picture", "megapixels")]
    for row in rows:
        figures = "  ".join(f"{stage} {getattr(row, stage):.2f}" for stage in stages)
        print(f"{row.picture} ({row.megapixels:.2f} Mpixel), s:  {figures}")
    means = {stage: statistics.mean(getattr(row, stage) for row in rows) for stage in stages}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    whole = process_seconds(codec, first, options.rounds)
    print("mean, s:  " + "  ".join(f"{stage} {seconds:.2f}" for stage, seconds in means.items()))
    print(f"whole `vqcodec decompress` process {whole:.2f} s; peak memory of this process {peak:.0f} MiB")
    if options.json:
        figures = {"rows": [asdict(row) for row in rows], "mean": means, "process": whole, "peak_mib": peak}
        options.json.write_text(json.dumps({"model": options.model, **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
