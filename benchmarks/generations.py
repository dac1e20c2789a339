"""Ten generations of compress -> decompress: what each does to quality and file size.

    python -m benchmarks.generations PICTURE... [-q 2 -q 5 -q 8] [--json FILE] [--figure FILE.svg]

Each generation compresses what the generation before left. For every picture, quality and generation: bytes of the
file, PSNR (dB) against the original, and PSNR against the generation before, which is infinite (null in JSON) once
nothing changes any more. The figure shows means over the pictures.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vqcodec.codec.codec import Codec
from vqcodec.files.folders import pictures_in
from vqcodec.model.store import open_model
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture

COUNT = 10
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#666666")


@dataclass(frozen=True)
class Generation:
    """The figures of one generation; the first is 1."""

    number: int
    bytes: int
    psnr: float  # against the original, dB
    psnr_before: float  # against the generation before, dB


def generations(codec: Codec, picture: Picture, quality: int, effort: int = 0, count: int = COUNT) -> list[Generation]:
    """Compress and decompress `count` times. quality: from 1."""
    found = []
    last = picture
    for number in range(1, count + 1):
        data = codec.compress(last, quality, effort=effort)
        result = codec.decompress(data)
        before = psnr(last.pixels, result.pixels)
        found.append(Generation(number, len(data), psnr(picture.pixels, result.pixels), before))
        last = result
    return found


def figure(measured: Sequence[dict[str, Any]], target: Path) -> None:
    """Two panels over the generation: the loss of PSNR since the first, and the file size relative to the first."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "vqcodec"})
    canvas, axes = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for colour, quality in zip(COLOURS, sorted({each["quality"] for each in measured}), strict=False):
        runs = [each["generations"] for each in measured if each["quality"] == quality]
        numbers = [each["number"] for each in runs[0]]
        drift = [mean([run[i]["psnr"] - run[0]["psnr"] for run in runs]) for i in range(len(numbers))]
        sizes = [mean([100 * run[i]["bytes"] / run[0]["bytes"] for run in runs]) for i in range(len(numbers))]
        axes[0].plot(numbers, drift, marker="o", ms=4, color=colour, label=f"quality {quality}")
        axes[1].plot(numbers, sizes, marker="o", ms=4, color=colour)
    axes[0].set_title("PSNR against the original, change since generation 1 (dB)", loc="left", fontsize=10)
    axes[1].set_title("file size, % of generation 1", loc="left", fontsize=10)
    for axis in axes:
        axis.set_xlabel("generation")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(target, metadata={"Date": None})


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def plain(found: Sequence[Generation]) -> list[dict[str, Any]]:
    """The figures for JSON, which has no infinity."""
    rows = [asdict(each) for each in found]
    return [
        {key: None if isinstance(v, float) and math.isinf(v) else v for key, v in row.items()} for row in rows
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE", help="pictures, or folders of pictures")
    parser.add_argument("--model", default="photo")
    parser.add_argument("-q", "--quality", type=int, action="append", help="repeatable; default: all")
    parser.add_argument("--effort", type=int, default=0)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    codec = Codec(open_model(given.model))
    paths = [path for name in given.pictures for path in (pictures_in(name) if name.is_dir() else [name])]
    qualities = given.quality or range(1, codec.model.config.vqvae.qualities + 1)
    measured = []
    for path in paths:
        for quality in qualities:
            found = generations(codec, read_picture(path), quality, given.effort, given.count)
            measured.append({"picture": path.name, "quality": quality, "generations": plain(found)})
            first, last = found[0], found[-1]
            sizes = f"{first.bytes:,} -> {last.bytes:,} bytes"
            print(f"{path.name}, quality {quality}: {first.psnr:.2f} -> {last.psnr:.2f} dB, {sizes}", flush=True)
    document = {"model": codec.model.digest.hex(), "effort": given.effort, "measured": measured}
    if given.json is not None:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.figure is not None:
        figure(measured, given.figure)


if __name__ == "__main__":
    main()
