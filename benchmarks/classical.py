"""JPEG, WebP and AVIF on a folder of pictures, through Pillow: the curves that vqcodec is compared with.

    python benchmarks/classical.py DATASET [--json FILE] [--against BENCH.json]

Bytes are those of the encoded files; PSNR and MS-SSIM are means over the pictures, of RGB. With `--against`, the JSON
that `vqcodec bench DATASET --model photo -q all --json` wrote, the BD-rate of that model against each codec is printed.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from vqcodec.metrics import bd_rate, bits_per_pixel, ms_ssim, psnr

CODECS: Mapping[str, tuple[tuple[int, ...], Mapping[str, Any]]] = {
    "JPEG": ((10, 20, 40, 60, 80), {"optimize": True, "progressive": True}),
    "WEBP": ((5, 20, 40, 60, 80), {"method": 6}),
    "AVIF": ((20, 35, 50, 65, 80), {"speed": 6, "subsampling": "4:2:0"}),
}


def point(images: list[Image.Image], codec: str, quality: int) -> dict[str, float | str]:
    """One point of a curve: means over the images."""
    rows = []
    for image in images:
        stream = io.BytesIO()
        image.save(stream, codec, quality=quality, **CODECS[codec][1])
        original = np.asarray(image)
        decoded = np.asarray(Image.open(stream).convert("RGB"))
        size = len(stream.getvalue())
        rows.append((bits_per_pixel(size, *original.shape[:2]), psnr(original, decoded), ms_ssim(original, decoded)))
    bpp, decibels, similarity = (statistics.mean(column) for column in zip(*rows, strict=True))
    return {"codec": codec, "quality": quality, "bpp": bpp, "psnr": decibels, "ms_ssim": similarity}


def compare(points: list[dict[str, float | str]], means: list[dict[str, float]]) -> None:
    """Print the BD-rate of the model whose mean rows are given against every codec."""
    for codec in CODECS:
        curve = [row for row in points if row["codec"] == codec]
        for measure in ("psnr", "ms_ssim") if curve else ():
            theirs = [[float(row[name]) for row in curve] for name in ("bpp", measure)]
            ours = [[row[name] for row in means] for name in ("bpp", measure)]
            print(f"BD-rate against {codec:5} {measure:8} {bd_rate(*theirs, *ours):+.1f} %")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    images = [Image.open(path).convert("RGB") for path in sorted(options.dataset.glob("*.png"))]
    points = []
    for codec, (qualities, _) in CODECS.items():
        if codec == "AVIF" and not features.check("avif"):
            print("AVIF: this Pillow cannot write it")
            continue
        for quality in qualities:
            points.append(point(images, codec, quality))
            print("{codec:5} q{quality:<3} {bpp:.3f} bpp  {psnr:.2f} dB  MS-SSIM {ms_ssim:.4f}".format(**points[-1]))
    if options.against:
        compare(points, json.loads(options.against.read_text())["means"])
    if options.json:
        options.json.write_text(json.dumps(points, indent=2) + "\n")


if __name__ == "__main__":
    main()
