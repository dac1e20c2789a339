"""Generates pictures of text pages, as a data set of non-photographic content.

    python benchmarks/pages.py FOLDER [--count 300] [--seed 1]

Each page is a PNG of 384 x 384 pixels: random words in matplotlib's fonts on tinted paper, with headings, rules and
coloured boxes. docs/training.md fine-tunes the model `photo` on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 384
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Italic", "DejaVuSansMono")
STARTS = ("b", "br", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "pr", "r", "s", "st", "t", "tr", "v", "w")
VOWELS = ("a", "e", "i", "o", "u")
ENDS = ("", "n", "r", "s", "l", "t", "st")


def word(rng: np.random.Generator) -> str:
    """A random word of one to three syllables, or sometimes a number."""
    if rng.random() < 0.06:
        return str(rng.integers(10_000))
    syllables = (rng.choice(STARTS) + rng.choice(VOWELS) + rng.choice(ENDS) for _ in range(rng.integers(1, 4)))
    text = "".join(syllables)
    return text.capitalize() if rng.random() < 0.1 else text


def page(rng: np.random.Generator) -> Image.Image:
    """A page of 384 x 384 pixels: lines of text on tinted paper, with some headings, rules and coloured boxes."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paper = tuple(int(v) for v in 255 - rng.integers(0, 4, 3) * rng.integers(0, 8))
    ink = tuple(int(v) for v in rng.integers(0, 60, 3))
    picture = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(picture)
    size = int(rng.integers(9, 20))
    name = rng.choice(FONTS)
    y = int(rng.integers(-size, size))
    while y < SIDE:
        kind = rng.random()
        height = size
        if kind < 0.08:
            height, colour = round(1.7 * size), tuple(int(v) for v in rng.integers(0, 200, 3))
        elif kind < 0.12:
            draw.line((10, y + size // 2, SIDE - 10, y + size // 2), fill=ink)
            y += size
            continue
        elif kind < 0.15:
            box = tuple(int(v) for v in rng.integers(60, 256, 3))
            draw.rectangle((10, y, SIDE - 10, y + 2 * size), fill=box, outline=ink)
            colour = ink
        else:
            colour = ink
        font = ImageFont.truetype(fonts / f"{name}.ttf", height)
        line = " ".join(word(rng) for _ in range(30))
        draw.text((int(rng.integers(6, 16)), y), line, fill=colour, font=font)
        y += round(height * rng.uniform(1.2, 1.5))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for index in range(arguments.count):
        page(np.random.default_rng([arguments.seed, index])).save(arguments.folder / f"page{index:04}.png")


if __name__ == "__main__":
    main()
