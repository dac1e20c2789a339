"""Visualisation: codebooks as maps, codes as image blocks, and a picture's reconstruction, error and bit maps.

In: a `Codec`, a quality and, for the last three, a `Picture`. Out: Pillow images by file name, each with a caption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from vqcodec.codec.code_prices import bits_taken, prices
from vqcodec.codec.codec import DEFAULT_EFFORT, Codec
from vqcodec.codec.content import Content
from vqcodec.coding.integer_prior import Codes
from vqcodec.nn.networks import Networks
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.progress import Progress, share_of
from vqcodec.threads import Workers
from vqcodec.windows import split

__all__ = ["NAMES", "PICTURE_NAMES", "Shown", "bits_of", "show_model", "show_picture"]

NAMES = ("codebooks.png", "codes.png")  # images of a model
PICTURE_NAMES = ("reconstruction.png", "error.png", "bits.png")  # images of a picture
Floats = npt.NDArray[np.float32]
Samples = npt.NDArray[np.uint8]

PANEL = 220  # pixels, side of a codebook map
MARGIN, TITLE = 14, 16
SHEET = 64  # codes of each codebook on the code sheet: the most used ones
CELL = 32  # pixels, side of a block on the code sheet
ERROR_TOP = 64  # grey levels; errors from here on get the brightest colour
# Black, violet, red, yellow, white. Brightness increases, so the map also reads correctly in greyscale.
_HEAT = np.array([[0, 0, 0], [70, 10, 110], [200, 40, 60], [250, 190, 40], [255, 255, 255]], np.float32)


@dataclass(frozen=True)
class Shown:
    """Images by file name, and a one-line caption for each."""

    images: dict[str, Image.Image]
    lines: dict[str, str]


def show_model(codec: Codec, quality: int) -> Shown:
    """The codebooks of a model at a quality (from 1) as maps, and the image block of each code."""
    used = [int(codec.network.quantizer.live(g)[quality - 1]) for g in range(len(codec.network.config.codebooks))]
    images = [codebook_maps(codec.network, quality - 1), code_sheet(codec.network, quality - 1)]
    lines = [
        f"{sum(used)} codes in use, placed by the first two principal components of their vectors; area: frequency",
        f"the {SHEET} most used codes of each codebook, each alone in a grey picture; contrast set for each row",
    ]
    return Shown(dict(zip(NAMES, images, strict=True)), dict(zip(NAMES, lines, strict=True)))


def show_picture(
    codec: Codec, picture: Picture, quality: int, effort: int = DEFAULT_EFFORT, progress: Progress | None = None
) -> Shown:
    """The reconstruction of a picture at a quality (from 1), its error map and its bit map."""
    height, width = picture.pixels.shape[:2]
    codes = codec.to_codes(picture.pixels, quality, share_of(progress, 0, 0.6), effort)
    weights = codec.fit(picture.pixels, Content.of(codes), quality)
    decoded = codec.render(codes, quality, (height, width), picture.mode, share_of(progress, 0.6, 0.8), weights)
    error = np.abs(decoded.astype(np.float32) - picture.pixels).mean(2)
    bits = bits_of(codec, codes, quality)
    stride = codec.model.config.vqvae.stride
    large = bits.repeat(stride, 0).repeat(stride, 1)[:height, :width]
    top = max(float(bits.max()), 1e-6)
    images = [
        Image.fromarray(decoded),
        Image.fromarray(_heat(error / ERROR_TOP)),
        Image.fromarray(_heat(large / top)),
    ]
    lines = [
        f"PSNR {psnr(picture.pixels, decoded):.2f} dB",
        f"absolute error, mean of the channels: black 0, white {ERROR_TOP} of 255 or more; maximum {error.max():.0f}",
        f"bits per position: black 0, white {top:.1f}; mean {bits.mean():.2f}, total {bits.sum() / 8:,.0f} bytes",
    ]
    if progress:
        progress(1)
    return Shown(dict(zip(PICTURE_NAMES, images, strict=True)), dict(zip(PICTURE_NAMES, lines, strict=True)))


def bits_of(codec: Codec, codes: Codes, quality: int) -> Floats:
    """Bits that the prior assigns to the codes [G, h, w] at a quality (from 1), per position: [h, w]."""
    prior = codec.prior(quality - 1)
    bits = np.empty(codes.shape[1:], np.float32)
    unit = codec.model.config.unit
    for units, targets in zip(split(codes, unit), split(bits[None], unit), strict=True):
        for part, target in zip(units, targets, strict=True):
            target[0] = bits_taken(prices(prior, part), part).sum(0)
    return bits


def codebook_maps(network: Networks, quality: int) -> Image.Image:
    """A map of each codebook at a quality (0-based): codes placed by the principal components of their vectors.

    The map shows the square root of each distance from the centre, because a few codes lie far out. If a codebook has
    one dimension, the vertical axis is -log2 of a code's frequency instead; frequent codes are at the top.
    """
    quantizer = network.quantizer
    count = len(network.config.codebooks)
    columns = math.ceil(math.sqrt(count))
    step = PANEL + TITLE
    sheet = Image.new("RGB", (columns * PANEL, -(-count // columns) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for g in range(count):
        left, top = g % columns * PANEL, g // columns * step
        live = int(quantizer.live(g)[quality])
        vectors = quantizer.vectors(g)[quality, :live].astype(np.float64)
        bits = quantizer.bits(g)[quality, :live].astype(np.float64)
        share = 2.0**-bits
        entropy = float((share * bits).sum())
        draw.text((left + 4, top + 2), f"{g + 1}: {live} codes, {vectors.shape[1]}-d, {entropy:.2f} bits", fill="black")
        draw.rectangle((left, top + TITLE, left + PANEL - 1, top + step - 1), outline="silver")
        places = _fitted(_principal(vectors, share) if vectors.shape[1] > 1 else np.stack([vectors[:, 0], bits], 1))
        for index in np.argsort(-share, kind="stable"):  # frequent codes first, so that smaller discs are drawn on top
            x = left + MARGIN + places[index, 0] * (PANEL - 2 * MARGIN)
            y = top + TITLE + MARGIN + places[index, 1] * (PANEL - 2 * MARGIN)
            radius = max(1.0, MARGIN * math.sqrt(share[index]))
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill="steelblue", outline="white")
    return sheet


def code_sheet(network: Networks, quality: int) -> Image.Image:
    """A row for each codebook at a quality (0-based): its most used codes, each decoded alone in a grey picture.

    A block shows the difference between this picture and one that has the codes of plain grey everywhere.
    """
    quantizer, stride, reach = network.quantizer, network.config.stride, network.config.decoder_reach
    side = 2 * reach + 3  # positions: the centre, its neighbours, and the decoder's reach around them
    workers = Workers(1)
    grey = np.full((side * stride, side * stride, 3), 127, np.uint8)
    plain = network.to_codes(grey, quality, 1.0, workers)
    around = network.to_pictures(plain, quality, workers)  # decoded codes of grey: only nearly grey
    across = slice(side * stride // 2 - stride, side * stride // 2 + stride)  # the centre and half of its neighbours
    rows = []
    for g in range(len(network.config.codebooks)):
        live = int(quantizer.live(g)[quality])
        order = quantizer.bits(g)[quality, :live].argsort(kind="stable")[:SHEET]
        blocks = []
        for index in order:
            codes = plain.copy()
            codes[g, side // 2, side // 2] = index
            blocks.append((network.to_pictures(codes, quality, workers) - around)[across, across])
        found = np.stack(blocks)
        found = found / (2 * float(np.abs(found).max()) + 1e-9) + 0.5
        rows.append((found * 255).round().astype(np.uint8))
    indent = 28
    sheet = Image.new("RGB", (indent + SHEET * (CELL + 1), len(rows) * (CELL + 1)), "white")
    draw = ImageDraw.Draw(sheet)
    for g, row in enumerate(rows):
        draw.text((4, g * (CELL + 1) + CELL // 2 - 6), str(g + 1), fill="black")
        for index, block in enumerate(row):
            cell = Image.fromarray(np.ascontiguousarray(block)).resize((CELL, CELL), Image.Resampling.NEAREST)
            sheet.paste(cell, (indent + index * (CELL + 1), g * (CELL + 1)))
    return sheet


def _principal(vectors: npt.NDArray[np.float64], share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Vectors [K, dim] -> first two principal components [K, 2], weighted by frequency; radii as square roots."""
    share = share / share.sum()
    centred = vectors - share @ vectors
    _, axes = np.linalg.eigh(centred.T @ (centred * share[:, None]))  # eigenvalues in ascending order
    places = centred @ axes[:, :-3:-1]
    found: npt.NDArray[np.float64] = places / np.sqrt(np.hypot(places[:, :1], places[:, 1:]) + 1e-12)
    return found


def _fitted(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points [K, 2] scaled to fill the unit square on each axis; a single point goes to the centre."""
    low, high = places.min(0), places.max(0)
    span = high - low
    return np.where(span > 0, (places - low) / np.where(span > 0, span, 1), 0.5)


def _heat(values: Floats) -> Samples:
    """Values [H, W] as colours [H, W, 3]; values above 1 get the brightest colour."""
    scaled = values.clip(0, 1) * (len(_HEAT) - 1)
    colours = [np.interp(scaled, np.arange(len(_HEAT)), _HEAT[:, channel]) for channel in range(3)]
    return np.stack(colours, 2).round().astype(np.uint8)
