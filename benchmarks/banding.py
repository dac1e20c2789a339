"""Banding in smooth gradients: how far a decoded gradient is from the exact one, beside what 8 bits alone cost.

    python -m benchmarks.banding [--model photo] [--size 640x400] [--json FILE] [--figure FILE.svg]

Two gradients, linear and radial, are computed in floats. Rounded to 8 bits they are the picture that is compressed. The
figures of a decoded picture, and of the rounded picture itself (quality null), against the exact gradient:

- `band_rms`: root of the mean squared error between two scales, in levels: the error after a Gaussian blur of 4 pixels
  (standard deviation), less that after a blur of 32 pixels. The first blur removes what alternates from pixel to pixel,
  the second a slow change of colour; the eye sees neither in a gradient. Bands, steps and plateaus are left. Rounding
  alone leaves little. This is the figure that tests hold.
- `shift_rms`: the same after the blur of 32 pixels: slow changes of colour.
- `rms`: the same of the error itself.
- `levels`: the number of different values of the green channel.
- `run`: the longest run of equal values along a row of the green channel, in pixels, mean over the rows.
- `spectrum`: amplitude of the error along rows, in levels, by period in pixels: mean over rows and channels, octaves.
  A codec of 8 x 8 blocks shows it at 8 pixels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.drawn.canvas import Pixels, Plane, rounded
from benchmarks.drawn.texture import linear, radial
from vqcodec.codec.codec import Codec
from vqcodec.model.store import open_model
from vqcodec.picture.picture import Picture

GRADIENTS: Mapping[str, Callable[[int, int], Plane]] = {"linear": linear, "radial": radial}
FINE, COARSE = 4.0, 32.0  # standard deviations of the two blurs, pixels
PERIODS = (2, 4, 8, 16, 32, 64, 128)  # pixels, the middles of the octaves
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")


@dataclass(frozen=True)
class Banding:
    """The figures of one picture; see the head of this file."""

    band_rms: float
    shift_rms: float
    rms: float
    levels: int
    run: float
    spectrum: tuple[float, ...]  # for each of `PERIODS`


def banding(exact: Plane, pixels: Pixels) -> Banding:
    """Measure a picture [H, W, 3] against the exact gradient [H, W, 3]."""
    error = pixels - exact
    fine, coarse = (gaussian_filter(error, (blur, blur, 0), mode="nearest") for blur in (FINE, COARSE))
    green = pixels[:, :, 1]
    return Banding(
        band_rms=rms(fine - coarse),
        shift_rms=rms(coarse),
        rms=rms(error),
        levels=len(np.unique(green)),
        run=float(np.mean([longest_run(row) for row in green])),
        spectrum=spectrum(error),
    )


def rms(values: Plane) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.square(values).mean()))


def longest_run(row: Pixels) -> int:
    """The length of the longest run of equal values."""
    ends = np.flatnonzero(np.diff(row)) + 1
    return int(np.diff([0, *ends, len(row)]).max())


def spectrum(error: Plane) -> tuple[float, ...]:
    """Root of the energy of the error in an octave around each of `PERIODS`, along rows."""
    width = error.shape[1]
    window = np.hanning(width)[:, None]
    energy = np.square(np.abs(np.fft.rfft(error * window, axis=1))).mean((0, 2)) * 2 / (width * np.square(window).sum())
    frequency = np.fft.rfftfreq(width)
    octaves = [(frequency > 2**-0.5 / period) & (frequency <= 2**0.5 / period) for period in PERIODS]
    return tuple(float(np.sqrt(energy[octave].sum())) for octave in octaves)


def measure(
    codec: Codec, name: str, size: tuple[int, int], qualities: list[int], effort: int = 0
) -> dict[int, Banding]:
    """{quality: figures} of a gradient of this (width, height); quality 0 is the rounded gradient itself."""
    exact = GRADIENTS[name](*size)
    pixels = np.asarray(rounded(exact))
    found = {0: banding(exact, pixels)}
    for quality in qualities:
        data = codec.compress(Picture(pixels, "RGB"), quality, effort=effort)
        found[quality] = banding(exact, codec.decompress(data).pixels)
    return found


def figure(measured: Mapping[str, Mapping[int, Banding]], target: Path) -> None:
    """A panel for each gradient: the spectrum of the error at every quality, and of rounding."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "vqcodec"})
    canvas, axes = plt.subplots(1, len(measured), figsize=(10, 4), constrained_layout=True, sharey=True)
    for axis, (name, curves) in zip(axes, measured.items(), strict=True):
        for quality, found in curves.items():
            style = {"color": "black", "ls": ":"} if quality == 0 else {"color": COLOURS[(quality - 1) % len(COLOURS)]}
            label = "8 bits, not compressed" if quality == 0 else f"quality {quality}: {found.band_rms:.2f}"
            axis.plot(PERIODS, found.spectrum, marker="o", ms=4, label=label, **style)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(PERIODS, [str(period) for period in PERIODS])
        axis.set_xlabel("period, pixels")
        axis.set_title(f"{name} gradient: error in levels by period; legend: RMS of bands", loc="left", fontsize=10)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    target.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(target, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--size", default="640x400", metavar="WxH")
    parser.add_argument("-q", "--quality", type=int, action="append", help="repeatable; default: all")
    parser.add_argument("--effort", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    codec = Codec(open_model(given.model))
    width, height = (int(side) for side in given.size.split("x"))
    qualities = given.quality or list(range(1, codec.model.config.vqvae.qualities + 1))
    measured = {name: measure(codec, name, (width, height), qualities, given.effort) for name in GRADIENTS}
    rows: list[dict[str, Any]] = []
    for name, curves in measured.items():
        for quality, found in curves.items():
            rows.append({"gradient": name, "quality": quality or None, **asdict(found)})
            figures = f"bands {found.band_rms:.3f}, shift {found.shift_rms:.3f}, RMS {found.rms:.3f}"
            figures += f", {found.levels} levels, run {found.run:.1f}"
            print(f"{name}, {f'quality {quality}' if quality else 'rounded'}: {figures}")
    document = {"model": codec.model.digest.hex(), "effort": given.effort, "size": [width, height], "measured": rows}
    if given.json is not None:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.figure is not None:
        figure(measured, given.figure)


if __name__ == "__main__":
    main()
