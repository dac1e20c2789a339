"""Drawings: lines on paper, a map, pixel art, and flat shading with soft shadows as in animation."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.drawn.canvas import BLACK, INKS, WHITE, Colour, Pixels, font, rounded, sentence, smooth
from benchmarks.drawn.texture import fractal, radial

PAPER, SEA, LAND, FOREST = (252, 250, 244), (170, 211, 223), (242, 239, 233), (173, 209, 158)


def line_art(rng: np.random.Generator) -> Image.Image:
    """Curves, circles and hatching in black ink on white, 800 x 600."""
    waves = rng.uniform(0.5, 4, (14, 3))

    def draw(pen: ImageDraw.ImageDraw, scale: int) -> None:
        x = np.arange(0, 801, 4)
        for row, (a, b, c) in enumerate(waves.tolist()):
            y = 60 + 38 * row + 25 * np.sin(a * x / 90 + b) * np.sin(c * x / 200)
            points = [(scale * px, scale * py) for px, py in zip(x.tolist(), y.tolist(), strict=True)]
            pen.line(points, fill=BLACK, width=scale * (1 + row % 3), joint="curve")
        for radius in range(10, 130, 6):
            box = [v * scale for v in (220 - radius, 300 - radius, 220 + radius, 300 + radius)]
            pen.ellipse(box, outline=BLACK, width=scale)
        for step in range(40):
            ends = [v * scale for v in (480 + 6 * step, 180, 420 + 6 * step, 420)]
            pen.line(ends, fill=BLACK, width=scale)

    return smooth(800, 600, draw, WHITE)


def street_map(rng: np.random.Generator) -> Image.Image:
    """A map, 1024 x 768: sea, land, forest, contour lines, streets with borders, and names."""
    height = fractal(1024, 768, rng, 2.4)
    pixels = np.full((768, 1024, 3), LAND, np.uint8)
    pixels[height < -0.6] = SEA
    pixels[height > 0.7] = FOREST
    steps = np.floor(height * 4)
    contour = (np.diff(steps, axis=0, append=steps[-1:]) != 0) | (np.diff(steps, axis=1, append=steps[:, -1:]) != 0)
    pixels[contour & (height > -0.6)] = (205, 190, 160)
    image = Image.fromarray(pixels)
    streets = [np.cumsum(rng.normal(0, 9, (2, 30)), 1) for _ in range(14)]
    starts = rng.uniform(0, 700, 14).tolist()

    def draw(pen: ImageDraw.ImageDraw, scale: int, border: bool) -> None:
        for index, (start, (dx, dy)) in enumerate(zip(starts, streets, strict=True)):
            along = np.linspace(-20, 1044 if index % 2 else 800, 30)
            x, y = (along, start + dy) if index % 2 else (start * 1.3 + dx, along)
            points = [(scale * px, scale * py) for px, py in zip(x.tolist(), y.tolist(), strict=True)]
            width = 4 + 3 * (index % 3) + 2 * border
            pen.line(points, fill=255, width=width * scale, joint="curve")

    for border, colour in ((True, (150, 120, 90)), (False, (255, 240, 180))):
        mask = Image.new("L", (2048, 1536))
        draw(ImageDraw.Draw(mask), 2, border)
        image.paste(colour, (0, 0), mask.reduce(2))
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = (int(v) for v in rng.integers(10, (940, 740)))
        size = int(rng.choice([10, 11, 12, 16]))
        pen.text((x, y), sentence(rng, 2)[:-1], fill=(70, 60, 60), font=font(size), stroke_width=2, stroke_fill=WHITE)
    return image


def pixel_art(rng: np.random.Generator) -> Image.Image:
    """A scene of tiles, 160 x 100, in sixteen colours, each pixel 4 x 4."""
    return _enlarged(_scene(160, 100, rng), 4)


def pixel_sprites(rng: np.random.Generator) -> Image.Image:
    """Ninety-six random symmetric figures of 16 x 16 pixels on plain ground, each pixel 2 x 2: 512 x 384."""
    pixels = np.full((192, 256, 3), (34, 32, 52), np.uint8)
    for row in range(12):
        for column in range(16):
            if (row + column) % 2:
                continue
            half = rng.integers(0, 3, (14, 7))
            figure = np.concatenate([half, half[:, ::-1]], 1)
            inks = np.array([(34, 32, 52), INKS[int(rng.integers(len(INKS)))], INKS[int(rng.integers(len(INKS)))]])
            pixels[16 * row + 1 : 16 * row + 15, 16 * column + 1 : 16 * column + 15] = inks[figure]
    return _enlarged(pixels, 2)


def _scene(width: int, height: int, rng: np.random.Generator) -> Pixels:
    """Sky in bands, hills with chequered shades between colours, tiles of ground."""
    y, x = np.mgrid[:height, :width]
    pixels = np.empty((height, width, 3), np.uint8)
    sky: tuple[Colour, ...] = ((35, 50, 110), (60, 90, 160), (110, 150, 210), (180, 210, 235))
    level = y * 4 / (height * 0.7) + 0.25 * ((x + y) % 2)
    pixels[:] = np.array(sky)[level.astype(int).clip(0, 3)]
    for index, colour in enumerate(((50, 80, 90), (60, 110, 70))):
        ridge = height * (0.45 + 0.12 * index) + 8 * fractal(width, 1, rng)[0]
        hill = y > ridge
        pixels[hill] = colour
        shade = hill & (y < ridge + 6) & ((x + y) % 2 == 0)
        pixels[shade] = np.minimum(np.array(colour) + 40, 255)
    tiles = rng.integers(0, 2, (3, width // 8, 8, 8))
    inks = np.array([(120, 70, 40), (150, 95, 55)])
    for row in range(3):
        for column in range(width // 8):
            top = height - 24 + 8 * row
            pixels[top : top + 8, 8 * column : 8 * column + 8] = inks[tiles[row, column // 3]]
    pixels[height - 26 : height - 24] = (80, 170, 60)
    return pixels


def _enlarged(pixels: Pixels, scale: int) -> Image.Image:
    return Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1))


def face(rng: np.random.Generator) -> Image.Image:
    """A face as in animation, 640 x 480: flat colours, black outlines, shadows with a hard and with a soft edge."""

    def draw(pen: ImageDraw.ImageDraw, scale: int) -> None:
        def box(*values: float) -> list[float]:
            return [v * scale for v in values]

        pen.ellipse(box(150, 20, 490, 420), fill=(70, 60, 120), outline=BLACK, width=3 * scale)
        pen.ellipse(box(200, 90, 440, 430), fill=(255, 224, 196), outline=BLACK, width=3 * scale)
        pen.chord(box(200, 90, 440, 430), 20, 100, fill=(235, 190, 165))
        for left in (232, 342):
            pen.ellipse(box(left, 220, left + 66, 300), fill=WHITE, outline=BLACK, width=3 * scale)
            pen.ellipse(box(left + 14, 228, left + 54, 296), fill=(40, 130, 160))
            pen.ellipse(box(left + 24, 244, left + 46, 284), fill=(10, 30, 60))
            pen.ellipse(box(left + 20, 236, left + 34, 252), fill=WHITE)
        pen.arc(box(285, 330, 355, 375), 20, 160, fill=(150, 50, 50), width=3 * scale)
        for x in range(190, 460, 30):
            pen.polygon(box(x - 26, 90, x + 26, 90, x - 4, 210 - abs(320 - x) * 0.2), fill=(90, 78, 150))
            pen.line(box(x, 92, x - 4, 200 - abs(320 - x) * 0.2), fill=(50, 42, 90), width=2 * scale)

    return _on_soft_ground(smooth(640, 480, draw, (255, 0, 255)))


def scene(rng: np.random.Generator) -> Image.Image:
    """Hills, a sun and houses in flat colours with soft shadows, 800 x 600."""
    y, x = np.mgrid[:600, :800]
    picture = radial(800, 600)
    for index, colour in enumerate(((150, 190, 160), (110, 165, 120), (70, 130, 90))):
        ridge = 300 + 80 * index + 40 * np.sin(x[0] / (90 + 40 * index) + rng.uniform(0, 6))
        inside = (y - ridge + 0.5).clip(0, 1)[:, :, None]
        depth = ((y - ridge) / 60).clip(0, 1)[:, :, None]
        picture = picture * (1 - inside) + inside * np.array(colour) * (0.8 + 0.2 * depth)
    image = rounded(picture)
    houses = [(int(left), int(rng.integers(380, 520))) for left in rng.integers(40, 700, 6)]
    shadow = Image.new("L", (800, 600))
    for left, top in houses:
        ImageDraw.Draw(shadow).ellipse((left - 10, top + 36, left + 90, top + 64), fill=110)
    image.paste(BLACK, (0, 0), shadow.filter(ImageFilter.GaussianBlur(6)))
    pen = ImageDraw.Draw(image)
    for left, top in houses:
        pen.rectangle((left, top, left + 64, top + 48), fill=(236, 220, 190), outline=BLACK, width=2)
        pen.rectangle((left + 40, top, left + 64, top + 48), fill=(200, 180, 155))
        pen.polygon([(left - 8, top), (left + 32, top - 34), (left + 72, top)], fill=(180, 70, 60), outline=BLACK)
        pen.rectangle((left + 10, top + 14, left + 26, top + 30), fill=(120, 180, 220), outline=BLACK, width=2)
    return image


def _on_soft_ground(figure: Image.Image) -> Image.Image:
    """A figure drawn on magenta, on a gradient with a soft shadow behind it."""
    pixels = np.asarray(figure).astype(np.float64)
    ground = radial(figure.width, figure.height)
    cover = 1 - ((pixels[:, :, 0] - pixels[:, :, 1]).clip(0, 255) / 255 > 0.5)
    mask = Image.fromarray((200 * cover).astype(np.uint8)).filter(ImageFilter.GaussianBlur(14))
    shade = np.roll(np.asarray(mask), (10, 14), (0, 1))[:, :, None] / 255 * 0.4
    return rounded(np.where(cover[:, :, None] > 0, pixels, ground * (1 - shade)))
