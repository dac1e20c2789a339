"""Which settings of the AVIF encoder are the strongest: speed, subsampling and `tune`, by BD-rate against speed 6.

    python benchmarks/avif_settings.py PICTURE... [--crop 512]

Prints one line for each setting: percent of bits at equal SSIMULACRA2 and at equal PSNR (negative is smaller), the mean
over the pictures, then picture by picture, and CPU seconds a megapixel of encoding. It chose the AVIF rows of the table
in docs/bench.md.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from vqcodec.bench.bd_rate import bd_rate
from vqcodec.bench.peers import PillowPeer, peer
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture
from vqcodec.picture.ssimulacra2 import ssimulacra2

QUALITIES = (20, 40, 60, 80)
Curve = np.ndarray  # [4 qualities, (bits per pixel, SSIMULACRA2, PSNR, CPU seconds a megapixel)]


def setting(speed: int, subsampling: str, tune: str | None) -> PillowPeer:
    """AVIF at these settings; `tune` None: what the library uses by itself."""
    avif = peer("avif")
    assert isinstance(avif, PillowPeer)
    options = {"speed": speed, "subsampling": subsampling}
    return replace(avif, options=lambda quality: {"quality": int(quality), **options}, tune=tune, untuned="default")


def middle(picture: Picture, side: int) -> Picture:
    """The square in the middle, at most `side` wide."""
    top, left = max(0, picture.height - side) // 2, max(0, picture.width - side) // 2
    return Picture(np.ascontiguousarray(picture.pixels[top : top + side, left : left + side]), picture.mode)


def curve(codec: PillowPeer, picture: Picture) -> Curve:
    """One row for each quality."""
    rows = []
    pixels = picture.height * picture.width
    for quality in QUALITIES:
        start = time.process_time()
        data = codec.compress(picture, quality)
        seconds = time.process_time() - start
        after = codec.decompress(data).pixels
        scores = ssimulacra2(picture.pixels, after), psnr(picture.pixels, after)
        rows.append((8 * len(data) / pixels, *scores, seconds / pixels * 1e6))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--crop", type=int, default=512)
    arguments = parser.parse_args()
    pictures = [middle(read_picture(path), arguments.crop) for path in arguments.pictures]
    anchors: list[Curve] = []
    for tune, subsampling, speed in product((None, "iq", "ssim", "ssimulacra2"), ("4:2:0", "4:4:4"), (6, 4)):
        codec = setting(speed, subsampling, tune)
        label = f"speed {speed}, {subsampling}, {'default' if tune is None else f'tune={tune}'}"
        reason = codec.missing() or ("as by default" if codec.repeats() else None)
        if reason is not None:
            print(f"{label}: {reason}", flush=True)
            continue
        curves = [curve(codec, picture) for picture in pictures]
        anchors = anchors or curves
        print(f"{label}: {line(anchors, curves)}", flush=True)


def line(anchors: list[Curve], curves: list[Curve]) -> str:
    """The BD-rates and seconds of one setting, as text."""
    parts = []
    for column, name in ((1, "SSIMULACRA2"), (2, "PSNR")):
        pairs = zip(anchors, curves, strict=True)
        rates = [bd_rate(a[:, 0], a[:, column], c[:, 0], c[:, column]) for a, c in pairs]
        parts.append(f"{name} {np.mean(rates):+.1f} % ({' '.join(f'{rate:+.1f}' for rate in rates)})")
    return ", ".join([*parts, f"{np.mean([c[:, 3] for c in curves]):.1f} CPU s/Mpixel"])


if __name__ == "__main__":
    main()
