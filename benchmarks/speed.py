"""Time and memory by picture size, of coding stages and of whole commands, with AVIF in the same run.

    python benchmarks/speed.py PICTURE [--sizes 64x64,768x512,6000x4000] [--model photo] [--json FILE] [--figure FILE]

The picture is extended by mirroring or cropped to every size. Each size is measured in four ways: native code or numpy,
with one thread or one per core. `stages` are the parts of coding at the default quality and effort, without start and
imports: medians over several rounds after a warm-up. Commands are whole processes, including the start of Python:
wall seconds, CPU seconds and peak memory, medians, too. AVIF is Pillow's at speed 6 with as many threads as there are
cores, in a warm process. `--jobs` is measured on several copies of a picture. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from vqcodec.codec.codec import DEFAULT_EFFORT, Codec
from vqcodec.codec.content import Content
from vqcodec.coding.payloads import implementation, read_units, write_units
from vqcodec.model.store import open_model
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture
from vqcodec.threads import cores
from vqcodec.windows import split

T = TypeVar("T")
SIZES = "64x64,256x256,768x512,1536x1024,3072x2048,6000x4000,12000x8333"  # 0.004 to 100 megapixels
ROUNDS = 3
ONCE = 1_000_000  # above this number of pixels, everything is measured in a single round
FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # where they are set, OpenBLAS may not use its fastest kernels
LARGE = 10_000_000  # above this number of pixels, only native code on all cores is measured, and decompress in numpy
COPIES = 8  # pictures for --jobs
AVIF = {"format": "AVIF", "quality": 65, "speed": 6}
WAYS = {"native": {}, "numpy": {"VQCODEC_NATIVE": "0"}}
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
COLOURS = {"compress": "#0072B2", "compress --effort 0": "#56B4E9", "decompress": "#D55E00"}  # Okabe & Ito 2008


def timed(rounds: int, call: Callable[[], T]) -> tuple[float, T]:
    """Median seconds of a call, and its last result."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def stages(codec: Codec, picture: Picture, rounds: int) -> dict[str, float]:
    """Seconds of each stage at the default quality and effort, in the order of execution."""
    config = codec.model.config
    quality = config.default_quality
    prior = codec.prior(quality - 1)
    found: dict[str, float] = {}
    found["encoder"], _ = timed(rounds, lambda: codec.to_codes(picture.pixels, quality, effort=0))
    searched, codes = timed(rounds, lambda: codec.to_codes(picture.pixels, quality, effort=DEFAULT_EFFORT))
    found["search"] = max(0.0, searched - found["encoder"])
    found["post-filter"], weights = timed(rounds, lambda: codec.fit(picture.pixels, Content.of(codes), quality))
    grids = [grid for row in split(codes, config.unit) for grid in row]
    shapes = [(grid.shape[1], grid.shape[2]) for grid in grids]
    found["writing"], payloads = timed(rounds, lambda: write_units(prior, grids, prove=False, workers=codec.workers))
    # Also a part of compress: the proof that the file can be read.
    found["reading"], _ = timed(rounds, lambda: read_units(prior, payloads, shapes, workers=codec.workers))
    found["decoder"], _ = timed(rounds, lambda: codec.to_pixels(codes, quality, weights=weights))
    return found


def stages_alone(path: Path, model: str, threads: int) -> None:
    """Print the seconds of loading a model and of the stages as JSON: the work of one process."""
    picture = read_picture(path)
    start = time.perf_counter()
    codec = Codec(open_model(model), threads=threads)
    codec.decompress(codec.compress(Picture(np.zeros((64, 64, 3), np.uint8), "RGB")))
    load = time.perf_counter() - start
    large = picture.height * picture.width > ONCE
    found = {"load": load, **stages(codec, picture, 1 if large else ROUNDS)}
    print(json.dumps({"implementation": implementation(), "stages": found}))


def measured_stages(path: Path, model: str, pixels: int) -> list[dict[str, Any]]:
    """The stages of a picture in every way: native code and numpy, one thread and one per core."""
    rows = []
    for way, environment in WAYS.items():
        for threads in sorted({1, cores()}):
            if pixels > LARGE and (way, threads) != ("native", cores()):
                continue
            line = [sys.executable, __file__, str(path), "--model", model, "--alone", str(threads)]
            output = subprocess.run(
                line, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True
            ).stdout
            row = {"way": way, "threads": threads, **json.loads(output)}
            rows.append(row)
            parts = "  ".join(f"{name} {seconds:.3f}" for name, seconds in row["stages"].items())
            print(f"  {row['implementation']}, {threads} threads, s:  {parts}", flush=True)
    return rows


def command(environment: Mapping[str, str], *arguments: str) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak memory in MiB of a whole command."""
    with tempfile.NamedTemporaryFile("r") as report:
        start = time.perf_counter()
        line = [sys.executable, "-c", MAIN, *arguments, report.name]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, env=os.environ | environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"vqcodec {' '.join(arguments)} failed")
        peak = int(report.read()) / 1024
    return {"seconds": wall, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mib": peak}


def commands(folder: Path, model: str, pixels: int) -> list[dict[str, Any]]:
    """The whole commands on folder/picture.png, in every way."""
    source, target, back = (str(folder / name) for name in ("picture.png", "picture.vq", "back.png"))
    lines = {
        "compress": ("compress", source, "-o", target, "--model", model, "--force"),
        "compress --effort 0": ("compress", source, "-o", target, "--model", model, "--force", "--effort", "0"),
        "decompress": ("decompress", target, "-o", back, "--model", model, "--force"),
    }
    rows = []
    for way, environment in WAYS.items():
        for threads in sorted({1, cores()}, reverse=True):
            if pixels > LARGE and threads != cores():
                continue
            for name, line in lines.items():
                if pixels > LARGE and way == "numpy" and name != "decompress":
                    continue
                runs = [
                    command(environment, *line, "--threads", str(threads))
                    for _ in range(1 if pixels > ONCE else ROUNDS)
                ]
                median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                rows.append({"command": name, "way": way, "threads": threads, **median})
                print(
                    f"  vqcodec {name}, {way}, {threads} threads: {median['seconds']:.2f} s, CPU "
                    f"{median['cpu_seconds']:.2f} s, {median['peak_mib']:.0f} MiB",
                    flush=True,
                )
    return rows


def avif(picture: Picture) -> dict[str, float]:
    """Seconds of AVIF's encoder and decoder, and its bytes."""
    image, stream = Image.fromarray(picture.pixels), io.BytesIO()
    rounds = 1 if picture.height * picture.width > ONCE else ROUNDS

    def encode() -> None:
        stream.seek(0)
        stream.truncate()
        image.save(stream, **AVIF, max_threads=cores())

    def decode() -> None:
        stream.seek(0)
        Image.open(stream).load()

    encode()
    found = {"encoder": timed(rounds, encode)[0], "decoder": timed(rounds, decode)[0], "bytes": len(stream.getvalue())}
    print(f"  AVIF speed 6: encoder {found['encoder']:.3f} s, decoder {found['decoder']:.3f} s", flush=True)
    return found


def of_size(picture: Picture, width: int, height: int) -> Picture:
    """The picture, extended by mirroring or cropped to the size."""
    missing = [max(0, wanted - have) for wanted, have in zip((height, width), picture.pixels.shape[:2], strict=True)]
    pixels = np.pad(picture.pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    return Picture(np.ascontiguousarray(pixels[:height, :width]), "RGB")


def measure(picture: Picture, model: str) -> dict[str, Any]:
    """All figures of one picture."""
    pixels = picture.height * picture.width
    print(f"{picture.width}x{picture.height} ({pixels / 1e6:.3f} Mpixel)", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.fromarray(picture.pixels).save(folder / "picture.png", compress_level=1)
        return {
            "width": picture.width,
            "height": picture.height,
            "megapixels": pixels / 1e6,
            "avif": avif(picture),
            "commands": commands(folder, model, pixels),
            "stages": measured_stages(folder / "picture.png", model, pixels),
        }


def pictures_per_minute(path: Path, model: str) -> dict[str, float]:
    """Pictures per minute of `compress` on a folder of copies: in one process with threads, and with a job per core."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(COPIES):
            shutil.copy(path, folder / f"{index}{path.suffix}")
        for label, options in (("threads", ()), (f"--jobs {cores()}", ("--jobs", str(cores())))):
            out = str(folder / label.strip("-"))
            run = command({}, "compress", str(folder), "-o", out, "--model", model, *options)
            found[label] = 60 * COPIES / run["seconds"]
            print(f"compress of {COPIES} pictures, {label}: {found[label]:.0f} pictures a minute", flush=True)
    return found


def draw(results: Mapping[str, Any], target: Path) -> None:
    """Plot seconds and memory of the commands by megapixels."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "vqcodec"})
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), constrained_layout=True)
    sizes = [row["megapixels"] for row in results["rows"]]
    for axis, key, title in zip(axes, ("seconds", "peak_mib"), ("seconds", "peak memory in MiB"), strict=True):
        for name, colour in COLOURS.items():
            for way, style in (("native", "-"), ("numpy", ":")):
                points = [
                    (row["megapixels"], each[key])
                    for row in results["rows"]
                    for each in row["commands"]
                    if (each["command"], each["way"], each["threads"]) == (name, way, results["cores"])
                ]
                label = name if way == "native" else f"{name}, numpy"
                axis.plot(*zip(*points, strict=True), style, marker="o", ms=3.5, color=colour, label=label)
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel("megapixels")
        axis.loglog()
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    for part, style in (("encoder", "-"), ("decoder", "--")):
        seconds = [row["avif"][part] for row in results["rows"]]
        axes[0].plot(sizes, seconds, style, color="#666666", label=f"AVIF {part}, warm", lw=1)
    axes[0].legend(frameon=False, fontsize=8)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--sizes", default=SIZES, help=f"default: {SIZES}")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)  # the stages alone, with so many threads
    options = parser.parse_args()
    if set(FORCED) & set(os.environ):  # numpy has read them already: start again without them
        rest = {name: value for name, value in os.environ.items() if name not in FORCED}
        os.execve(sys.executable, [sys.executable, *sys.argv], rest)
    if options.alone:
        stages_alone(options.picture, options.model, options.alone)
        return
    picture = read_picture(options.picture)
    results: dict[str, Any] = {"model": options.model, "cores": cores(), "implementation": implementation()}
    results["pictures_per_minute"] = pictures_per_minute(options.picture, options.model)
    results["rows"] = []
    for size in options.sizes.split(","):
        width, height = (int(side) for side in size.split("x"))
        results["rows"].append(measure(of_size(picture, width, height), options.model))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    if options.figure:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
