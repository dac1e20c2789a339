"""Time and memory by picture size: of each coding stage, without warm-up, and of whole commands.

    python benchmarks/speed.py PICTURE [--sizes 64x64,768x512,6000x4000] [--model photo] [--json FILE]

The picture is extended by mirroring or cropped to every size. The times of the stages are medians over several rounds,
after a warm-up. `load` is the time of the first use of a model. `compress` and `decompress` are whole commands,
including the start of Python and the imports: wall seconds, CPU seconds and peak memory. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from vqcodec.codec.codec import DEFAULT_EFFORT, Codec, split
from vqcodec.coding.rangecoder import read_units, write_units
from vqcodec.model.store import open_model
from vqcodec.output import write_atomic
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture

T = TypeVar("T")
SIZES = "64x64,256x256,768x512,1536x1024,3072x2048,6000x4000"
ONCE = 2_000_000  # above this number of pixels, stages are timed in a single round
# VmHWM (Linux) is the peak of the process itself. That of getrusage would include its parent's memory at the fork.
MAIN = """
import sys
from vqcodec.cli.main import main
report = sys.argv.pop()
try:
    main()
finally:
    with open("/proc/self/status") as status, open(report, "w") as out:
        out.write(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def timed(rounds: int, call: Callable[[], T]) -> tuple[float, T]:
    """Median seconds of a call, and its last result."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def stages(codec: Codec, picture: Picture, rounds: int, folder: Path) -> dict[str, float]:
    """Seconds of each stage at the default quality and effort, in the order of execution."""
    config = codec.model.config
    quality = config.default_quality
    prior = codec.prior(quality - 1)
    found: dict[str, float] = {}
    found["encoder"], _ = timed(rounds, lambda: codec.to_codes(picture.pixels, quality, effort=0))
    searched, codes = timed(rounds, lambda: codec.to_codes(picture.pixels, quality, effort=DEFAULT_EFFORT))
    found["search"] = max(0.0, searched - found["encoder"])
    found["post-filter"], weights = timed(rounds, lambda: codec.fit(picture.pixels, codes, quality))
    grids = [grid for row in split(codes, config.unit) for grid in row]
    shapes = [(grid.shape[1], grid.shape[2]) for grid in grids]
    found["writing"], payloads = timed(rounds, lambda: write_units(prior, grids, prove=False))
    found["reading"], _ = timed(rounds, lambda: read_units(prior, payloads, shapes))  # also in compress: verification
    found["decoder"], _ = timed(rounds, lambda: codec.to_pixels(codes, quality, weights=weights))
    data = b"".join(payloads)
    found["file"], _ = timed(rounds, lambda: write_atomic(folder / "payload", data, force=True))
    return found


def command(*arguments: str) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak memory in MiB of a whole command."""
    with tempfile.NamedTemporaryFile("r") as report:
        start = time.perf_counter()
        line = [sys.executable, "-c", MAIN, *arguments, report.name]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"vqcodec {' '.join(arguments)} failed")
        peak = int(report.read()) / 1024
    return {"seconds": wall, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mib": peak}


def of_size(picture: Picture, width: int, height: int) -> Picture:
    """The picture, extended by mirroring or cropped to the size."""
    missing = [max(0, wanted - have) for wanted, have in zip((height, width), picture.pixels.shape[:2], strict=True)]
    pixels = np.pad(picture.pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    return Picture(np.ascontiguousarray(pixels[:height, :width]), "RGB")


def measure(codec: Codec, picture: Picture, model: str) -> dict[str, object]:
    """All figures of one picture."""
    pixels = picture.height * picture.width
    row: dict[str, object] = {"width": picture.width, "height": picture.height, "megapixels": pixels / 1e6}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row["stages"] = stages(codec, picture, 1 if pixels > ONCE else 3, folder)
        source, target, back = (str(folder / file) for file in ("picture.png", "picture.vq", "back.png"))
        Image.fromarray(picture.pixels).save(source)
        row["compress"] = command("compress", source, "-o", target, "--model", model)
        row["decompress"] = command("decompress", target, "-o", back, "--model", model)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--sizes", default=SIZES, help=f"default: {SIZES}")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    picture = read_picture(options.picture)
    start = time.perf_counter()
    codec = Codec(open_model(options.model))
    codec.decompress(codec.compress(of_size(picture, 64, 64)))
    load = time.perf_counter() - start
    print(f"load: {load:.2f} s")
    rows = []
    for size in options.sizes.split(","):
        width, height = (int(side) for side in size.split("x"))
        row = measure(codec, of_size(picture, width, height), options.model)
        rows.append(row)
        parts = "  ".join(f"{name} {seconds:.3f}" for name, seconds in row["stages"].items())
        print(f"{size} ({row['megapixels']:.3f} Mpixel), s:  {parts}")
        for name in ("compress", "decompress"):
            wall, cpu, peak = row[name].values()
            print(f"  vqcodec {name}: {wall:.2f} s, CPU {cpu:.2f} s, {peak:.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps({"model": options.model, "load": load, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
