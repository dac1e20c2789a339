"""Pictures of text: pages in two colours and in many, a terminal window, and a page with a picture on it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmarks.drawn.canvas import BLACK, INKS, WHITE, Colour, blank, font, paragraph, sentence
from benchmarks.drawn.texture import landscape

TERMINAL_INKS: tuple[Colour, ...] = (
    (204, 204, 204), (138, 226, 52), (114, 159, 207), (252, 233, 79), (239, 41, 41), (173, 127, 168),
)  # fmt: skip


def light(rng: np.random.Generator) -> Image.Image:
    """Black on white in twelve sizes, 800 x 600."""
    image, pen = blank(800, 600)
    top = 12
    for size in (8, 9, 10, 11, 12, 13, 14, 16, 20, 24, 32, 48):
        top = paragraph(pen, (16, top, 784, top + max(size, 30)), size, BLACK, rng) + 6
    return image


def dark(rng: np.random.Generator) -> Image.Image:
    """Light grey on nearly black, two columns, 640 x 400."""
    image, pen = blank(640, 400, (24, 26, 27))
    pen.text((20, 14), sentence(rng, 4), fill=WHITE, font=font(28))
    for left in (20, 330):
        paragraph(pen, (left, 60, left + 290, 390), 13, (200, 204, 208), rng)
    return image


def coloured(rng: np.random.Generator) -> Image.Image:
    """Text in saturated colours on boxes of other colours, 640 x 400."""
    image, pen = blank(640, 400, (250, 248, 240))
    for row in range(5):
        for column in range(4):
            ground, ink = (INKS[int(i)] for i in rng.choice(len(INKS), 2, replace=False))
            left, top = 8 + 158 * column, 8 + 78 * row
            pen.rectangle((left, top, left + 149, top + 69), fill=ground if (row + column) % 3 else WHITE)
            paragraph(pen, (left + 6, top + 4, left + 145, top + 66), int(rng.integers(9, 19)), ink, rng)
    return image


def terminal(rng: np.random.Generator) -> Image.Image:
    """A terminal window, 800 x 480: characters of one width in six colours, a title bar and a cursor."""
    image, pen = blank(800, 480, (30, 30, 30))
    pen.rectangle((0, 0, 799, 23), fill=(60, 60, 62))
    pen.text((360, 4), "user@host: ~", fill=(220, 220, 220), font=font(13))
    for index, colour in enumerate(((255, 95, 86), (255, 189, 46), (39, 201, 63))):
        pen.ellipse((8 + 20 * index, 6, 19 + 20 * index, 17), fill=colour)
    face = font(13)
    for row in range(27):
        words = sentence(rng, int(rng.integers(2, 16))).lower().split()
        column = 0
        for word in ["user@host:~$", *words[:3]] if rng.random() < 0.2 else words:
            ink = TERMINAL_INKS[int(rng.integers(len(TERMINAL_INKS)))] if rng.random() < 0.3 else TERMINAL_INKS[0]
            for letter in word:
                pen.text((8 + 8 * column, 32 + 16 * row), letter, fill=ink, font=face)
                column += 1
            column += 1
    pen.rectangle((8, 464, 15, 477), fill=(204, 204, 204))
    return image


def illustrated(rng: np.random.Generator) -> Image.Image:
    """A page of 768 x 768 whose right half is a picture with the texture of a photograph, and below it a caption."""
    image, pen = blank(768, 768)
    pen.text((24, 20), sentence(rng, 5), fill=(20, 30, 90), font=font(30))
    paragraph(pen, (24, 72, 372, 756), 14, (17, 17, 17), rng)
    image.paste(landscape(368, 560, rng), (384, 72))
    paragraph(pen, (384, 644, 752, 680), 11, (90, 90, 90), rng)
    return image
