"""Pictures of user interfaces: a window with menus, icons and a list, and a page of settings on dark ground."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.drawn.canvas import INKS, WHITE, Colour, blank, font, sentence, smooth

GREY, LINE, TEXT = (240, 240, 242), (200, 200, 204), (32, 33, 36)


def icon(kind: int, colour: Colour, ground: Colour) -> Image.Image:
    """One of four icons of 24 x 24 pixels with smooth edges: a disc, a folder, a magnifier, an arrow."""

    def draw(pen: ImageDraw.ImageDraw, scale: int) -> None:
        if kind == 0:
            pen.ellipse((3 * scale, 3 * scale, 21 * scale, 21 * scale), fill=colour)
        elif kind == 1:
            pen.rounded_rectangle((2 * scale, 7 * scale, 22 * scale, 20 * scale), 2 * scale, fill=colour)
            pen.rectangle((3 * scale, 4 * scale, 10 * scale, 9 * scale), fill=colour)
        elif kind == 2:
            pen.ellipse((3 * scale, 3 * scale, 16 * scale, 16 * scale), outline=colour, width=2 * scale)
            pen.line((14 * scale, 14 * scale, 21 * scale, 21 * scale), fill=colour, width=3 * scale)
        else:
            pen.polygon([(x * scale, y * scale) for x, y in ((4, 12), (14, 4), (14, 20))], fill=colour)
            pen.rectangle((13 * scale, 9 * scale, 21 * scale, 15 * scale), fill=colour)

    return smooth(24, 24, draw, ground)


def window(rng: np.random.Generator) -> Image.Image:
    """A file manager, 1024 x 768: title, menu, tools, a tree, a list, an open menu with a shadow, a status line."""
    image, pen = blank(1024, 768)
    pen.rectangle((0, 0, 1023, 29), fill=(53, 60, 74))
    pen.text((440, 7), "Documents", fill=WHITE, font=font(15))
    pen.rectangle((0, 30, 1023, 97), fill=GREY)
    for index, name in enumerate(("File", "Edit", "View", "Go", "Help")):
        pen.text((14 + 56 * index, 36), name, fill=TEXT, font=font(14))
    for index in range(12):
        image.paste(icon(index % 4, INKS[index % 6], GREY), (12 + 36 * index, 64))
    pen.rounded_rectangle((600, 62, 1008, 90), 6, fill=WHITE, outline=LINE)
    pen.text((612, 69), "Search", fill=(150, 150, 150), font=font(13))
    pen.rectangle((0, 98, 219, 743), fill=(248, 248, 250))
    for row in range(18):
        image.paste(icon(1, INKS[row % 5], (248, 248, 250)), (14 + 14 * (row % 3), 108 + 34 * row))
        pen.text((46 + 14 * (row % 3), 113 + 34 * row), sentence(rng, 2), fill=TEXT, font=font(13))
    for row in range(29):
        top = 124 + 21 * row
        if row == 6:
            pen.rectangle((220, top - 2, 1023, top + 18), fill=INKS[0])
        elif row % 2:
            pen.rectangle((220, top - 2, 1023, top + 18), fill=(246, 247, 249))
        ink = WHITE if row == 6 else TEXT
        cells = (
            sentence(rng, 3),
            f"{rng.integers(1, 999)} kB",
            f"2024-{rng.integers(1, 13):02}-{rng.integers(1, 29):02}",
        )
        for left, cell in zip((240, 600, 760), cells, strict=True):
            pen.text((left, top), cell, fill=ink, font=font(13))
    pen.line((220, 98, 220, 743), fill=LINE)
    _menu(image, rng, (66, 56))
    pen.rectangle((0, 744, 1023, 767), fill=GREY)
    pen.text((12, 748), "29 items, 6.3 MB", fill=TEXT, font=font(12))
    return image


def _menu(image: Image.Image, rng: np.random.Generator, corner: tuple[int, int]) -> None:
    """An open menu of nine entries, 230 pixels wide, with a soft shadow."""
    left, top = corner
    for step in range(6):
        box = (left + step, top + step, left + 236 - step, top + 252 - step)
        area = image.crop(box)
        image.paste(Image.blend(area, Image.new("RGB", area.size, (60, 60, 60)), 0.06), box)
    pen = ImageDraw.Draw(image)
    pen.rectangle((left, top, left + 230, top + 246), fill=WHITE, outline=LINE)
    for row in range(9):
        if row == 3:
            pen.rectangle((left + 1, top + 4 + 27 * row, left + 229, top + 28 + 27 * row), fill=(215, 230, 250))
        pen.text((left + 16, top + 8 + 27 * row), sentence(rng, 2)[:-1], fill=TEXT, font=font(14))
        pen.text((left + 176, top + 8 + 27 * row), f"Ctrl+{chr(65 + row)}", fill=(130, 130, 130), font=font(12))


def settings(rng: np.random.Generator) -> Image.Image:
    """A page of settings on dark ground, 640 x 480: switches, sliders, buttons with rounded corners."""

    def draw(pen: ImageDraw.ImageDraw, scale: int) -> None:
        for row in range(6):
            top = 66 + 56 * row
            pen.rounded_rectangle([v * scale for v in (20, top, 620, top + 46)], 8 * scale, fill=(44, 46, 51))
            if row % 2:
                pen.rounded_rectangle([v * scale for v in (380, top + 20, 600, top + 26)], 3 * scale, fill=(90, 92, 98))
                end = 400 + 30 * row
                pen.rounded_rectangle([v * scale for v in (380, top + 20, end, top + 26)], 3 * scale, fill=INKS[5])
                pen.ellipse([v * scale for v in (end - 8, top + 15, end + 8, top + 31)], fill=WHITE)
            else:
                on = row % 4 == 0
                pen.rounded_rectangle(
                    [v * scale for v in (556, top + 12, 600, top + 34)],
                    11 * scale,
                    fill=INKS[2] if on else (90, 92, 98),
                )
                knob = 578 if on else 558
                pen.ellipse([v * scale for v in (knob, top + 14, knob + 18, top + 32)], fill=WHITE)
        for left, colour in ((400, (70, 72, 78)), (514, INKS[0])):
            pen.rounded_rectangle([v * scale for v in (left, 416, left + 104, 452)], 8 * scale, fill=colour)

    image = smooth(640, 480, draw, (28, 29, 33))
    pen = ImageDraw.Draw(image)
    pen.text((22, 18), "Settings", fill=WHITE, font=font(28))
    for row in range(6):
        pen.text((36, 72 + 56 * row), sentence(rng, 3)[:-1], fill=(235, 235, 235), font=font(15))
        pen.text((36, 92 + 56 * row), sentence(rng, 6), fill=(150, 152, 158), font=font(11))
    pen.text((428, 426), "Cancel", fill=WHITE, font=font(15))
    pen.text((546, 426), "Apply", fill=WHITE, font=font(15))
    return image
