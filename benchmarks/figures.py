"""Figures of the README: rate-distortion curves, crops side by side at equal file size, and pictures in a row.

    python benchmarks/figures.py curves benchmarks/results/kodak.json -o benchmarks/figures/kodak.svg
    python benchmarks/figures.py crops PICTURE --bpp 0.15 --at 300,200 -o benchmarks/figures/crops.png
    python benchmarks/figures.py row A.png B.png C.png --side 430 -o benchmarks/figures/likelihood-samples.png

The curves show the means of a results file of `vqcodec bench DATA --peers --json FILE`. Nothing is measured here. The
crops are decoded from files of about the target size, which the script encodes itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw, ImageFont

from vqcodec.bench.peers import ModelPeer, Peer, peer
from vqcodec.model.store import open_model
from vqcodec.picture.measures import MEASURES
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture
from vqcodec.picture.ssimulacra2 import ssimulacra2
from vqcodec.picture.write import to_image

# Colours that are distinguishable with colour blindness (Okabe & Ito 2008).
STYLES = {
    "photo": ("vqcodec photo", "#0072B2", "o", 2.4),
    "avif": ("AVIF, speed 6", "#D55E00", "s", 1.4),
    "avif-ssimulacra2": ("AVIF, tune=ssimulacra2", "#882255", "D", 1.4),
    "jxl": ("JPEG XL, effort 7", "#CC79A7", "P", 1.4),
    "heic": ("HEIC", "#E69F00", "X", 1.4),
    "webp": ("WebP", "#009E73", "^", 1.4),
    "jpeg": ("JPEG", "#666666", "v", 1.4),
}
PANELS = ("ssimulacra2", "ms_ssim", "psnr")
CAPTION = 22  # pixels below a crop
GAP = 6
COLUMNS = 4  # of crops


def curves(source: Path, target: Path) -> None:
    """A panel for each of three measures over bpp, with a logarithmic bpp axis as in the literature."""
    means = json.loads(source.read_text())["means"]
    mpl.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "vqcodec"})
    figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.6), constrained_layout=True)
    for axis, measure in zip(axes, (each for each in MEASURES if each.name in PANELS), strict=True):
        for name, (label, colour, marker, width) in STYLES.items():
            points = sorted((row["bpp"], measure.on_axis(row[measure.name])) for row in means if row["codec"] == name)
            if points:
                axis.plot(*zip(*points, strict=True), marker=marker, color=colour, lw=width, ms=4.5, label=label)
        units = {"ms_ssim": " (dB: −10 log₁₀(1 − MS-SSIM))", "psnr": " (dB)"}
        axis.set_xscale("log")
        axis.set_xlim(0.05, 1.5)
        ticks = [0.06, 0.1, 0.2, 0.4, 0.8, 1.5]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_xlabel("bits per pixel, mean of the pictures, bytes on disk")
        axis.set_title(measure.title + units.get(measure.name, ""), loc="left", fontsize=10)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(-20, 90)  # below 0 nobody looks
    axes[0].legend(frameon=False, loc="lower right")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})


def crops(source: Path, target: Path, bpp: float, corner: tuple[int, int], side: int) -> None:
    """A crop of `side` x `side` pixels of the original and of every codec's picture at the same file size."""
    picture = read_picture(source)
    size = bpp * picture.height * picture.width / 8
    tiles = [("original", to_image(picture))]
    for name, (label, *_) in STYLES.items():
        codec: Peer | None = ModelPeer(open_model(name), None) if name == "photo" else peer(name)
        assert codec is not None, f"{name} is not a codec of the benchmark"
        found = codec.compress_to(picture, size)
        decoded = codec.decompress(found.data)
        tiles.append((caption(label, found.data, picture, decoded), to_image(decoded)))
    rows = -(-len(tiles) // COLUMNS)
    width, height = side + GAP, side + CAPTION
    sheet = Image.new("RGB", (COLUMNS * width - GAP, rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for index, (text, image) in enumerate(tiles):
        left, top = index % COLUMNS * width, index // COLUMNS * height
        box = (corner[0], corner[1], corner[0] + side, corner[1] + side)
        sheet.paste(image.convert("RGB").crop(box), (left, top))
        draw.text((left + 2, top + side + 4), text, fill="black", font=font)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, optimize=True)


def caption(label: str, data: bytes, before: Picture, after: Picture) -> str:
    """A caption: the codec, the rate of its file, SSIMULACRA2 and PSNR of the whole picture."""
    bpp = 8 * len(data) / (before.height * before.width)
    score, quality = ssimulacra2(before.pixels, after.pixels), psnr(before.pixels, after.pixels)
    return f"{label}: {bpp:.3f} bpp, {score:.1f}, {quality:.2f} dB"


def row(sources: list[Path], height: int, target: Path) -> None:
    """Pictures side by side, scaled to the same height."""
    pictures = [Image.open(source).convert("RGB") for source in sources]
    pictures = [
        each.resize((round(each.width * height / each.height), height), Image.Resampling.LANCZOS) for each in pictures
    ]
    gap = 10
    sheet = Image.new("RGB", (sum(each.width + gap for each in pictures) - gap, height), "white")
    left = 0
    for each in pictures:
        sheet.paste(each, (left, 0))
        left += each.width + gap
    sheet.save(target, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["curves", "crops", "row"])
    parser.add_argument("sources", type=Path, nargs="+", metavar="SOURCE")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--bpp", type=float, default=0.2)
    parser.add_argument("--at", default="0,0", metavar="X,Y", help="upper left corner of the crop")
    parser.add_argument("--side", type=int, default=256, help="side of a crop, or height of a row, in pixels")
    arguments = parser.parse_args()
    source, *more = arguments.sources
    if arguments.what == "row":
        row([source, *more], arguments.side, arguments.out)
    elif more:
        parser.error("curves and crops take exactly one SOURCE")
    elif arguments.what == "curves":
        curves(source, arguments.out)
    else:
        x, y = (int(value) for value in arguments.at.split(","))
        crops(source, arguments.out, arguments.bpp, (x, y), arguments.side)


if __name__ == "__main__":
    main()
