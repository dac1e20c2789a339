"""Seams at the borders of units: is the error rougher there than at the borders of other blocks, and within blocks?

    python -m benchmarks.seams [PICTURE...] [--model photo] [--json FILE] [--figure FILE.svg]

Without pictures, two drawn ones: a landscape of 1024 x 768, and the page with text and a picture of the set that
`benchmarks.drawn` draws. The roughness of the error is the mean absolute second difference, in levels, along rows and
columns. Each second difference, of three samples in a row, belongs to one of four classes:

- `unit`: the three lie on both sides of the border of a unit of coding (512 pixels for `photo`).
- `store`: likewise of a block that a unit can store without loss (an eighth of a unit: 64 pixels), not of a unit.
- `block`: likewise of a block of the encoder's stride (8 pixels), of neither of the above.
- `within`: the three lie in one block.

`near` is `block` at most an eighth of a unit from the border of a unit, so that it is compared with the same content.
A seam is `unit` above `near`, or `store` above `block`. These quotients are what tests hold.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.drawn.canvas import Plane
from benchmarks.drawn.pictures import picture as drawn
from benchmarks.drawn.texture import landscape
from vqcodec.codec.codec import Codec
from vqcodec.model.config import ModelConfig
from vqcodec.model.store import open_model
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import from_image, read_picture

CLASSES = ("unit", "store", "block", "within")
REACH = 32  # pixels on both sides of the border of a unit in the figure
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")


def steps(config: ModelConfig) -> tuple[int, int, int]:
    """The sides in pixels of a unit, of a block that can be stored, and of the stride."""
    stride = config.vqvae.stride
    return config.unit * stride, -(-config.unit // 8) * stride, stride


def roughness(error: Plane, sides: tuple[int, int, int]) -> dict[str, float]:
    """{class: mean absolute second difference} of an error [H, W, 3]; nan for a class without samples."""
    values: dict[str, list[NDArray[np.float64]]] = {name: [] for name in (*CLASSES, "near")}
    for turned in (error, error.swapaxes(0, 1)):
        bent = np.abs(np.diff(turned, 2, axis=1)).mean((0, 2))  # of the samples 1 to W - 2
        kinds = classes(turned.shape[1], sides)[1:-1]
        parts = {name: bent[kinds == index] for index, name in enumerate(CLASSES)}
        parts["near"] = bent[(kinds == CLASSES.index("block")) & by_a_unit(turned.shape[1], sides)[1:-1]]
        for name, part in parts.items():
            values[name].append(np.repeat(part, turned.shape[0]))
    pooled = {name: np.concatenate(found) for name, found in values.items()}
    return {name: float(found.mean()) if len(found) else float("nan") for name, found in pooled.items()}


def by_a_unit(length: int, sides: tuple[int, int, int]) -> NDArray[np.bool_]:
    """For each sample of a line, whether a border between two units is at most the second of `sides` away."""
    unit, reach, _ = sides
    borders = np.arange(unit, length, unit)
    found: NDArray[np.bool_] = (np.abs(np.arange(length)[:, None] - borders) <= reach).any(1)
    return found


def classes(length: int, sides: tuple[int, int, int]) -> NDArray[np.int64]:
    """For each sample of a line, the class (an index of `CLASSES`) of the second difference around it."""
    centre = np.arange(length)
    found = np.full(length, len(CLASSES) - 1)
    for index, side in reversed(list(enumerate(sides))):
        found[(centre % side == 0) | ((centre + 1) % side == 0)] = index
    return found


def profile(error: Plane, unit: int) -> NDArray[np.float64]:
    """Mean absolute second difference by distance from the nearest border of a unit, -REACH to REACH - 1 pixels."""
    total, count = np.zeros(2 * REACH), 0
    for turned in (error, error.swapaxes(0, 1)):
        bent = np.abs(np.diff(turned, 2, axis=1)).mean((0, 2))
        for border in range(unit, turned.shape[1] - REACH - 1, unit):
            total += bent[border - REACH - 1 : border + REACH - 1]
            count += 1
    return total / max(1, count)


def error_of(codec: Codec, picture: Picture, quality: int, effort: int = 0) -> Plane:
    """Decoded minus original [H, W, 3], in levels."""
    decoded = codec.decompress(codec.compress(picture, quality, effort=effort))
    return decoded.pixels.astype(np.float64) - picture.pixels


def example(name: str) -> Picture:
    """A drawn picture: "landscape", or a name of the drawn set."""
    if name == "landscape":
        return from_image(landscape(1024, 768, np.random.default_rng(24)))
    return from_image(drawn(name))


def figure(profiles: dict[int, NDArray[np.float64]], target: Path) -> None:
    """The mean profile across the borders of units, for each quality."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "vqcodec"})
    canvas, axis = plt.subplots(figsize=(9, 4), constrained_layout=True)
    for quality, values in profiles.items():
        colour = COLOURS[(quality - 1) % len(COLOURS)]
        axis.plot(np.arange(-REACH, REACH), values, color=colour, lw=1.3, label=f"quality {quality}")
    axis.axvline(-0.5, color="black", lw=0.8, ls=":")
    axis.set_xticks(range(-REACH, REACH + 1, 8))
    axis.set_xlabel("pixels from the border of a unit")
    axis.set_title("mean absolute second difference of the error, levels", loc="left", fontsize=10)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, ncols=2)
    target.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(target, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="*", metavar="PICTURE")
    parser.add_argument("--model", default="photo")
    parser.add_argument("-q", "--quality", type=int, action="append", help="repeatable; default: all")
    parser.add_argument("--effort", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    codec = Codec(open_model(given.model))
    sides = steps(codec.model.config)
    sources = {path.name: read_picture(path) for path in given.pictures}
    sources = sources or {name: example(name) for name in ("landscape", "text-illustrated")}
    qualities: Sequence[int] = given.quality or range(1, codec.model.config.vqvae.qualities + 1)
    rows, profiles = [], {}
    for quality in qualities:
        errors = {name: error_of(codec, picture, quality, given.effort) for name, picture in sources.items()}
        for name, error in errors.items():
            found = roughness(error, sides)
            rows.append({"picture": name, "quality": quality, **found})
            figures = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
            seams = (
                f"unit / near {found['unit'] / found['near']:.3f}, store / block {found['store'] / found['block']:.3f}"
            )
            print(f"{name}, quality {quality}: {figures}; {seams}", flush=True)
        profiles[quality] = np.mean([profile(error, sides[0]) for error in errors.values()], axis=0)
    document = {"model": codec.model.digest.hex(), "effort": given.effort, "sides": sides, "measured": rows}
    if given.json is not None:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.figure is not None:
        figure(profiles, given.figure)


if __name__ == "__main__":
    main()
