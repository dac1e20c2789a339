"""Pictures from numbers: gradients, dithering, and a landscape of fractal noise with the texture of a photograph."""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmarks.drawn.canvas import Colour, Plane, mixed, rounded

SKY, HAZE = (70, 120, 200), (215, 220, 225)
RISE = 4.0  # how strongly the light models the ground


def linear(width: int, height: int) -> Plane:
    """A slow gradient across the picture, exact: [H, W, 3], not rounded. Each channel spans less than 100 levels."""
    y, x = np.mgrid[:height, :width]
    return mixed((20, 40, 90), (110, 120, 140), 0.9 * x / (width - 1) + 0.1 * y / max(1, height - 1))


def radial(width: int, height: int) -> Plane:
    """A gradient from the middle to the corners, exact: [H, W, 3], not rounded."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - (width - 1) / 2, y - (height - 1) / 2)
    return mixed((250, 220, 180), (120, 60, 90), distance / distance.max())


def gradient_linear(rng: np.random.Generator) -> Image.Image:
    """The linear gradient, 640 x 400, rounded."""
    return rounded(linear(640, 400))


def gradient_radial(rng: np.random.Generator) -> Image.Image:
    """The radial gradient, 640 x 400, rounded."""
    return rounded(radial(640, 400))


def gradient_noise(rng: np.random.Generator) -> Image.Image:
    """The linear gradient, 640 x 400, with noise of one level before rounding, equal in all channels."""
    return rounded(linear(640, 400) + rng.uniform(-0.5, 0.5, (400, 640, 1)))


def fractal(width: int, height: int, rng: np.random.Generator, roughness: float = 1.9) -> Plane:
    """Noise [H, W] with a spectrum of 1 / frequency ** roughness, mean 0 and deviation 1."""
    side = 1 << (max(width, height) - 1).bit_length()
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) / frequency**roughness
    noise = np.fft.irfft2(spectrum, (side, side))[:height, :width]
    scaled: Plane = (noise - noise.mean()) / noise.std()
    return scaled


def landscape(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Hills under a sky with clouds, lit from the left, with haze, grain and no sharp edge but the horizon."""
    ground = fractal(width, height, rng, 1.6)
    light = (0.6 + RISE * np.gradient(ground, axis=1)).clip(0.2, 1)
    share = ((ground + 1.5) / 3).clip(0, 1)
    surface = mixed((50, 70, 25), (170, 150, 110), share) * light[:, :, None] * 1.3
    clouds = (fractal(width, height, rng) / 2).clip(0, 1)
    depth = np.linspace(0, 1, height)[:, None] * np.ones(width)
    sky = mixed(SKY, HAZE, (depth + clouds).clip(0, 1))
    horizon = height * (0.4 + 0.04 * fractal(width, 1, rng)[0])
    below = np.arange(height)[:, None] > horizon
    surface += (np.array(HAZE) - surface) * 0.5 * (1 - depth[:, :, None])
    return rounded(np.where(below[:, :, None], surface, sky) + rng.normal(0, 1.5, (height, width, 3)))


def ordered(rng: np.random.Generator) -> Image.Image:
    """The landscape, 640 x 400, in the eight corners of the colour cube by an 8 x 8 matrix (Bayer 1973)."""
    pixels = np.asarray(landscape(640, 400, rng))
    matrix = np.zeros((1, 1), np.int64)
    for _ in range(3):
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    threshold = np.tile(4 * matrix + 2, (50, 80))[:, :, None]
    return Image.fromarray(((pixels > threshold) * 255).astype(np.uint8))


def diffused(rng: np.random.Generator) -> Image.Image:
    """The landscape, 640 x 400, in black and white by error diffusion (Floyd & Steinberg 1976)."""
    return landscape(640, 400, rng).convert("1").convert("RGB")


def diffused_palette(rng: np.random.Generator) -> Image.Image:
    """The landscape, 640 x 400, in sixteen colours by error diffusion, as in a GIF."""
    levels: list[Colour] = [(r, g, b) for r in (30, 140, 240) for g in (40, 120, 200) for b in (30, 200)][:16]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour in levels for value in colour])
    dithered = landscape(640, 400, rng).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return dithered.convert("RGB")
