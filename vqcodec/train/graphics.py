"""Random numbers -> synthetic graphics for training: text, shapes, patterns, vivid colours.

A codec for photographs also has to handle screenshots, logos and charts. Photographs contain hardly any saturated
colours or sharp black on white, so codebooks trained only on photographs cannot represent such pictures. A few graphics
among the training crops keep codes for them in use. All graphics are drawn here, from a seeded generator.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw", "vivid"]

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
LETTERS = "etaoinshrdlucmfwypvbgkjqxzETAOINSHRDLU0123456789.,;:!?()[]{}<>+-*/=%&#@"


def draw(side: int, rng: np.random.Generator) -> Pixels:
    """Draw a random graphic [side, side, 3], uint8."""
    kind = rng.integers(4)
    if kind == 0:
        return _page(side, rng)
    if kind == 1:
        return _shapes(side, rng)
    return _pattern(side, rng) if kind == 2 else _mosaic(side, rng)


def vivid(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Amplify the colours and contrast of a photograph [H, W, 3]; sometimes also invert it or permute its channels."""
    values = pixels.astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * rng.uniform(1, 5)
    values = 128 + (values - rng.uniform(64, 192)) * rng.uniform(1, 3)
    if rng.random() < 0.3:
        values = 255 - values
    if rng.random() < 0.5:
        values = values[:, :, rng.permutation(3)]
    strong: Pixels = values.clip(0, 255).astype(np.uint8)
    return strong


def _page(side: int, rng: np.random.Generator) -> Pixels:
    """Lines of text, some of them on coloured boxes."""
    image = Image.new("RGB", (side, side), _colour(rng) if rng.random() < 0.4 else _grey(rng))
    pen = ImageDraw.Draw(image)
    top = int(rng.integers(-8, 8))
    while top < side:
        size = int(rng.choice([9, 10, 11, 12, 13, 14, 16, 18, 24, 32]))
        if rng.random() < 0.15:
            pen.rectangle((0, top, int(rng.integers(side)), top + size + 2), fill=_colour(rng))
        words = "".join(LETTERS[i] if i < len(LETTERS) else " " for i in rng.integers(len(LETTERS) + 14, size=64))
        ink = _grey(rng) if rng.random() < 0.7 else _colour(rng)
        pen.text((int(rng.integers(-20, 20)), top), words, fill=ink, font=_font(size))
        top += size + int(rng.integers(2, 10))
    return np.asarray(image)


def _shapes(side: int, rng: np.random.Generator) -> Pixels:
    """Rectangles, ellipses, polygons and lines on a plain background or a gradient."""
    graded = rng.random() < 0.5
    image = Image.fromarray(_gradient(side, rng)) if graded else Image.new("RGB", (side, side), _colour(rng))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 20))):
        x, y = (int(v) for v in rng.integers(-side // 8, side, 2))
        width, height = (int(v) for v in rng.integers(2, 1 + side // 2, 2))
        kind, ink = rng.integers(4), _colour(rng)
        if kind == 0:
            pen.rectangle((x, y, x + width, y + height), fill=ink)
        elif kind == 1:
            pen.ellipse((x, y, x + width, y + height), fill=ink)
        elif kind == 2:
            pen.polygon([(int(a), int(b)) for a, b in rng.integers(0, side, (3, 2))], fill=ink)
        else:
            pen.line((x, y, x + width, y + height), fill=ink, width=int(rng.integers(1, 6)))
    return np.asarray(image)


def _pattern(side: int, rng: np.random.Generator) -> Pixels:
    """Stripes, a chequerboard, waves or noise in two colours."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(2, 40)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kind = rng.integers(4)
    if kind == 0:
        share = (along % period > period / 2).astype(np.float32)
    elif kind == 1:
        share = ((along % period > period / 2) ^ (across % period > period / 2)).astype(np.float32)
    elif kind == 2:
        share = 0.5 + 0.5 * np.sin(2 * np.pi * along / period)
    else:
        share = rng.random((side, side), np.float32)
        share = share if rng.random() < 0.5 else (share > rng.random()).astype(np.float32)
    first, second = np.array(_colour(rng), np.float32), np.array(_colour(rng), np.float32)
    mixed: Pixels = (first + (second - first) * share[:, :, None]).astype(np.uint8)
    return mixed


def _mosaic(side: int, rng: np.random.Generator) -> Pixels:
    """Square tiles of random plain colours."""
    tile = int(rng.integers(4, 64))
    count = -(-side // tile) + 1
    colours = rng.integers(0, 256, (count, count, 3), np.uint8)
    if rng.random() < 0.5:
        colours = (colours // 128 * 255).astype(np.uint8)  # the corners of the colour cube
    top, left = rng.integers(0, tile, 2)
    tiles: Pixels = colours.repeat(tile, 0).repeat(tile, 1)[top : top + side, left : left + side]
    return tiles


def _gradient(side: int, rng: np.random.Generator) -> Pixels:
    """A linear gradient between two colours."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:side, :side].astype(np.float32) / side - 0.5
    share = (0.5 + 0.7 * (x * np.cos(angle) + y * np.sin(angle))).clip(0, 1)[:, :, None]
    first, second = np.array(_colour(rng), np.float32), np.array(_colour(rng), np.float32)
    graded: Pixels = (first + (second - first) * share).astype(np.uint8)
    return graded


def _colour(rng: np.random.Generator) -> Colour:
    """A random colour; in half of the cases a corner of the colour cube."""
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    if rng.random() < 0.5:
        red, green, blue = (255 * (v > 127) for v in (red, green, blue))
    return red, green, blue


def _grey(rng: np.random.Generator) -> Colour:
    """Black or white, or sometimes another grey."""
    level = int(rng.integers(256)) if rng.random() < 0.2 else 255 * int(rng.integers(2))
    return level, level, level


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
