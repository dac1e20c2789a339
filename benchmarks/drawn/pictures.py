"""The names of the set's pictures -> the pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from benchmarks.drawn import art, charts, interface, text, texture

Drawing = Callable[[np.random.Generator], Image.Image]

PICTURES: Mapping[str, Drawing] = {
    "text-light": text.light,
    "text-dark": text.dark,
    "text-coloured": text.coloured,
    "text-illustrated": text.illustrated,
    "terminal": text.terminal,
    "interface-window": interface.window,
    "interface-settings": interface.settings,
    "chart-lines": charts.lines,
    "chart-bars": charts.bars,
    "chart-pie": charts.pie,
    "chart-scatter": charts.scatter,
    "gradient-linear": texture.gradient_linear,
    "gradient-radial": texture.gradient_radial,
    "gradient-noise": texture.gradient_noise,
    "line-art": art.line_art,
    "map": art.street_map,
    "pixel-art": art.pixel_art,
    "pixel-sprites": art.pixel_sprites,
    "flat-face": art.face,
    "flat-scene": art.scene,
    "dither-ordered": texture.ordered,
    "dither-diffused": texture.diffused,
    "dither-palette": texture.diffused_palette,
}


def picture(name: str) -> Image.Image:
    """The RGB picture of this name, a key of `PICTURES`; each has random numbers of its own."""
    return PICTURES[name](np.random.default_rng(list(name.encode())))
