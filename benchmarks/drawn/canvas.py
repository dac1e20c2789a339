"""What all drawings share: fonts, words, colours, blank pictures, and drawing with smooth edges.

Fonts are the one that Pillow brings, so that the pictures are the same everywhere with one version of Pillow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]
Plane = NDArray[np.float64]

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
# Colours that are distinguishable with colour blindness (Okabe & Ito 2008).
INKS: tuple[Colour, ...] = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66),
)  # fmt: skip
TEXT = (
    "a about after all also an and any as at away back be been before book both but by came can city come could "
    "day do down each even far few find first for found from garden give go good great had hand have he her here "
    "him house how if in into is it its just know large last less light like little long look made make man many "
    "may me more most much must name never new next night no not now of off often old on once one only open or "
    "other our out over own page part people picture place point quick rain read right river road room round said "
    "same say sea see she should side small so some sound stand still stone such take tell than that the them "
    "then there these they thing think this those thought time to too tree two under until up use very want was "
    "water way we well went were what when where which while white who why will with word work world would write "
    "year you young"
)
WORDS = TEXT.split()
SMOOTH = 4  # samples along each side of a pixel where edges are drawn smooth


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, `size` pixels high, laid out by Pillow alone: other layouts depend on what is installed."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return found.font_variant(layout_engine=ImageFont.Layout.BASIC)


def blank(width: int, height: int, colour: Colour = WHITE) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A picture of one colour, and the pen for it."""
    image = Image.new("RGB", (width, height), colour)
    return image, ImageDraw.Draw(image)


def smooth(width: int, height: int, draw: Callable[[ImageDraw.ImageDraw, int], None], ground: Colour) -> Image.Image:
    """What `draw(pen, scale)` draws with all lengths times `scale`, with smooth edges: the mean of 4 x 4 samples."""
    image, pen = blank(width * SMOOTH, height * SMOOTH, ground)
    draw(pen, SMOOTH)
    return image.reduce(SMOOTH)


def sentence(rng: np.random.Generator, count: int) -> str:
    """So many words, the first with a capital letter, with a full stop and sometimes a number."""
    found = [str(rng.integers(10_000)) if rng.random() < 0.05 else str(rng.choice(WORDS)) for _ in range(count)]
    return " ".join(found).capitalize() + "."


def paragraph(
    pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], size: int, ink: Colour, rng: np.random.Generator
) -> int:
    """Fill a box (left, top, right, bottom) with lines of text, cut at words. Returns where the next line would be."""
    left, top, right, bottom = box
    face, spacing = font(size), size + max(2, size // 3)
    while top + size <= bottom:
        line = ""
        for each in sentence(rng, 40).split():
            if face.getlength(f"{line} {each}") > right - left:
                break
            line = f"{line} {each}".strip()
        pen.text((left, top), line, fill=ink, font=face)
        top += spacing
    return top


def mixed(first: Colour, second: Colour, share: Plane) -> Plane:
    """[H, W, 3]: between two colours by `share` [H, W], 0 to 1, not rounded."""
    a, b = np.array(first, np.float64), np.array(second, np.float64)
    return a + (b - a) * share[:, :, None]


def rounded(values: Plane) -> Image.Image:
    """The 8-bit picture of samples [H, W, 3] in 0 to 255."""
    return Image.fromarray((values + 0.5).clip(0, 255).astype(np.uint8))
