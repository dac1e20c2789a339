"""Pictures of charts with smooth edges: lines, bars, a pie and a scatter plot, with axes, labels and legends."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.drawn.canvas import BLACK, INKS, WHITE, font, sentence, smooth

AXIS, GRID, LABEL = (60, 60, 60), (225, 225, 225), (70, 70, 70)


def lines(rng: np.random.Generator) -> Image.Image:
    """Five curves over a grid, 640 x 480."""
    curves = np.cumsum(rng.normal(0, 1, (5, 200)), 1)
    curves = (curves - curves.min()) / (curves.max() - curves.min())

    def draw(pen: ImageDraw.ImageDraw, scale: int) -> None:
        _grid(pen, scale, (60, 50, 620, 430))
        for ink, curve in zip(INKS, curves, strict=False):
            points = [(scale * (60 + 560 * i / 199), scale * (430 - 370 * v)) for i, v in enumerate(curve.tolist())]
            pen.line(points, fill=ink, width=2 * scale, joint="curve")

    image = smooth(640, 480, draw, WHITE)
    _labels(image, rng, (60, 50, 620, 430))
    pen = ImageDraw.Draw(image)
    for index in range(5):
        pen.line((80, 66 + 16 * index, 100, 66 + 16 * index), fill=INKS[index], width=2)
        pen.text((106, 60 + 16 * index), sentence(rng, 1)[:-1], fill=LABEL, font=font(11))
    return image


def bars(rng: np.random.Generator) -> Image.Image:
    """Three bars in each of eight groups, 640 x 400, without smooth edges."""
    heights = rng.integers(20, 300, (8, 3)).tolist()
    image = Image.new("RGB", (640, 400), WHITE)
    pen = ImageDraw.Draw(image)
    _grid(pen, 1, (60, 50, 620, 360))
    for group, row in enumerate(heights):
        for index, height in enumerate(row):
            left = 72 + 69 * group + 18 * index
            pen.rectangle((left, 360 - height, left + 16, 360), fill=INKS[index], outline=AXIS)
            pen.text((left, 347 - height), str(height), fill=LABEL, font=font(9))
    _labels(image, rng, (60, 50, 620, 360))
    return image


def pie(rng: np.random.Generator) -> Image.Image:
    """A pie of seven pieces with labels, 640 x 400."""
    shares = rng.dirichlet(np.full(7, 3.0))
    ends = (360 * np.cumsum(shares)).tolist()

    def draw(pen: ImageDraw.ImageDraw, scale: int) -> None:
        start = 0.0
        for ink, end in zip(INKS, ends, strict=True):
            box = [v * scale for v in (40, 50, 360, 370)]
            pen.pieslice(box, start, end, fill=ink, outline=WHITE, width=2 * scale)
            start = end

    image = smooth(640, 400, draw, WHITE)
    pen = ImageDraw.Draw(image)
    pen.text((40, 14), sentence(rng, 5), fill=BLACK, font=font(20))
    for index, share in enumerate(shares.tolist()):
        pen.rectangle((410, 90 + 36 * index, 428, 108 + 36 * index), fill=INKS[index])
        pen.text((440, 90 + 36 * index), f"{sentence(rng, 2)[:-1]}: {share:.1%}", fill=LABEL, font=font(15))
    return image


def scatter(rng: np.random.Generator) -> Image.Image:
    """Six hundred small discs in three clouds, 640 x 480."""
    centres = rng.uniform(0.25, 0.75, (3, 2))
    points = np.concatenate([rng.normal(centre, 0.09, (200, 2)) for centre in centres]).clip(0, 1)

    def draw(pen: ImageDraw.ImageDraw, scale: int) -> None:
        _grid(pen, scale, (60, 50, 620, 430))
        for index, (x, y) in enumerate(points.tolist()):
            left, top, radius = scale * (60 + 560 * x), scale * (430 - 380 * y), 3.5 * scale
            box = (left - radius, top - radius, left + radius, top + radius)
            pen.ellipse(box, fill=INKS[index // 200], outline=WHITE, width=scale // 2)

    image = smooth(640, 480, draw, WHITE)
    _labels(image, rng, (60, 50, 620, 430))
    return image


def _grid(pen: ImageDraw.ImageDraw, scale: int, box: tuple[int, int, int, int]) -> None:
    """Axes and grid lines, one pixel wide, in a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    for step in range(1, 8):
        y = bottom - step * (bottom - top) // 8
        pen.rectangle((left * scale, y * scale, right * scale, (y + 1) * scale - 1), fill=GRID)
    pen.rectangle((left * scale, top * scale, (left + 1) * scale - 1, bottom * scale), fill=AXIS)
    pen.rectangle((left * scale, bottom * scale, right * scale, (bottom + 1) * scale - 1), fill=AXIS)


def _labels(image: Image.Image, rng: np.random.Generator, box: tuple[int, int, int, int]) -> None:
    """A title and the numbers at the axes."""
    left, top, right, bottom = box
    pen = ImageDraw.Draw(image)
    pen.text((left, 14), sentence(rng, 5), fill=BLACK, font=font(18))
    for step in range(9):
        pen.text((left - 30, bottom - 6 - step * (bottom - top) // 8), str(25 * step), fill=LABEL, font=font(11))
        pen.text((left + step * (right - left) // 9, bottom + 6), str(2016 + step), fill=LABEL, font=font(11))
