"""A trained model and test pictures -> bits per dimension for the table, and sheets of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.likelihood.data import Dataset
from benchmarks.likelihood.density import Density, Sheets
from vqcodec.codec.sampling import sheet
from vqcodec.output import write_atomic
from vqcodec.picture.picture import Picture
from vqcodec.picture.write import image_file

CHUNK = 32  # pictures evaluated at once
SHOWN = 8  # test pictures for the sheets
ENLARGED = 3  # scale factor in both directions, because 28 pixels are small on a screen


class Figure(NamedTuple):
    """Bits per dimension: mean over the test pictures, and the standard error of the mean (0 if it is not a mean)."""

    mean: float
    error: float = 0.0


@torch.no_grad()
def evaluate(model: Density, dataset: Dataset, count: int) -> dict[str, Figure]:
    """Each of the model's measures on the first `count` test pictures."""
    model.eval()
    x, label = dataset.test.first(count)
    device = next(model.parameters()).device
    noise = torch.Generator(device).manual_seed(0)
    found: dict[str, list[Tensor]] = {}
    for some, its in zip(x.split(CHUNK), label.split(CHUNK), strict=True):
        for name, bits in model.bits(some.to(device), its.to(device), noise).items():
            found.setdefault(name, []).append(bits.double().cpu())
    return {name: figure(torch.cat(parts)) for name, parts in found.items()}


def figure(bits: Tensor) -> Figure:
    """Mean and standard error of bits [N]."""
    error = float(bits.std()) / len(bits) ** 0.5 if len(bits) > 1 else 0.0
    return Figure(round(float(bits.mean()), 4), round(error, 4))


@torch.no_grad()
def draw(model: Density, dataset: Dataset, folder: Path) -> None:
    """Write the model's sheets to a folder as PNG files."""
    x, label = dataset.test.first(SHOWN)
    device = next(model.parameters()).device
    sheets = model.sheets(x.to(device), label.to(device), torch.Generator(device).manual_seed(1))
    for name, data in encoded(sheets).items():
        write_atomic(folder / f"{name.replace(' ', '-')}.png", data, force=True)


def encoded(sheets: Sheets) -> dict[str, bytes]:
    """Each sheet as a PNG file."""
    files = {}
    for name, rows in sheets.items():
        columns = max(map(len, rows))
        blank = torch.ones_like(rows[0][0])
        flat = [picture for row in rows for picture in [*row, *[blank] * (columns - len(row))]]
        made = sheet([_picture(each) for each in flat], columns)
        files[name] = image_file(made, "PNG")
    return files


def _picture(pixels: Tensor) -> Picture:
    """A picture of pixels [C, H, W] in 0 to 1, enlarged."""
    values = (pixels.detach().float().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
    colours = values.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return Picture(np.ascontiguousarray(colours.repeat(ENLARGED, 0).repeat(ENLARGED, 1)), "RGB")
