"""Drift over generations, banding and seams of the model `photo` stay at their level.

The levels were measured by this file itself: `python tests/benchmarks/test_artefacts.py` prints them anew, in the form
below. Measure them again after a change of the model `photo` and compare them before they are written here.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.banding import GRADIENTS, banding, longest_run, measure
from benchmarks.drawn.canvas import Pixels, rounded
from benchmarks.drawn.pictures import picture as drawn
from benchmarks.drawn.texture import landscape, linear
from benchmarks.generations import generations, plain
from benchmarks.seams import CLASSES, classes, error_of, roughness, steps
from vqcodec.codec.codec import Codec
from vqcodec.model.store import open_model
from vqcodec.picture.picture import Picture

MARGIN = 1.05  # a level may be exceeded by this factor: other processors round differently, and codes are close calls
COUNT = 10
# quality: (loss of PSNR from the first generation to the last in dB, size of the last file relative to the first)
DRIFT = {2: (0.6612, 1.0), 5: (0.5485, 0.9947), 8: (0.5796, 0.9983)}
# (gradient, quality): band_rms in levels
BANDS = {
    ("linear", 2): 0.782, ("linear", 5): 0.476, ("linear", 8): 0.008,
    ("radial", 2): 1.301, ("radial", 5): 0.699, ("radial", 8): 0.373,
}  # fmt: skip
# (picture, quality): (roughness at the borders of units relative to blocks near them, of blocks that can be stored
# relative to other blocks)
SEAMS = {
    ("landscape", 2): (1.085, 0.94), ("landscape", 5): (1.05, 0.957),
    ("flat-scene", 2): (0.967, 1.062), ("flat-scene", 5): (1.006, 1.073),
}  # fmt: skip


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(open_model("photo"))


def hills(width: int, height: int) -> Pixels:
    """A landscape that codes hold."""
    return np.asarray(landscape(width, height, np.random.default_rng(24)))


def pictures() -> dict[str, Picture]:
    """Two pictures across the border of a unit: a landscape, and one of flat colours with soft shading."""
    flat = np.asarray(drawn("flat-scene"))[200:392, 100:740]
    return {"landscape": Picture(hills(640, 192), "RGB"), "flat-scene": Picture(flat.copy(), "RGB")}


def drift(codec: Codec, quality: int) -> tuple[float, float]:
    found = generations(codec, Picture(hills(128, 128), "RGB"), quality, count=COUNT)
    return found[0].psnr - found[-1].psnr, found[-1].bytes / found[0].bytes


def bands(codec: Codec, name: str, quality: int) -> float:
    return measure(codec, name, (256, 128), [quality])[quality].band_rms


def seams(codec: Codec, name: str, quality: int) -> tuple[float, float]:
    found = roughness(error_of(codec, pictures()[name], quality), steps(codec.model.config))
    return found["unit"] / found["near"], found["store"] / found["block"]


@pytest.mark.parametrize("quality", DRIFT)
def test_ten_generations_drift_no_further(codec: Codec, quality: int) -> None:
    loss, size = drift(codec, quality)
    assert loss <= DRIFT[quality][0] * MARGIN + 0.02  # dB: a loss may be as good as none
    assert size <= DRIFT[quality][1] * MARGIN


@pytest.mark.parametrize(("name", "quality"), BANDS)
def test_gradients_band_no_more(codec: Codec, name: str, quality: int) -> None:
    assert bands(codec, name, quality) <= BANDS[name, quality] * MARGIN


@pytest.mark.parametrize(("name", "quality"), SEAMS)
def test_borders_of_units_show_no_more(codec: Codec, name: str, quality: int) -> None:
    unit, store = seams(codec, name, quality)
    assert unit <= SEAMS[name, quality][0] * MARGIN
    assert store <= SEAMS[name, quality][1] * MARGIN


def test_what_is_stored_never_drifts(codec: Codec) -> None:
    """Text is stored without loss, and then every generation is the first."""
    text = Picture(np.asarray(drawn("terminal"))[40:104, :128].copy(), "RGB")
    found = generations(codec, text, 8, count=2)
    assert found[0].psnr == float("inf")
    assert found[0].bytes == found[1].bytes
    assert plain(found)[1]["psnr"] is None


def test_banding_sees_bands_and_nothing_else() -> None:
    exact = linear(256, 128)
    pixels = np.asarray(rounded(exact))
    fine = banding(exact, pixels)
    assert fine.band_rms < 0.02
    assert fine.rms == pytest.approx(12**-0.5, rel=0.05)  # of a uniform distribution one level wide
    coarse = np.asarray(rounded(np.round(exact / 8) * 8))
    stepped = banding(exact, coarse)
    assert stepped.band_rms > 10 * fine.band_rms
    assert stepped.levels < fine.levels / 4
    assert stepped.run > 4 * fine.run
    noisy = banding(exact, np.asarray(rounded(exact + np.random.default_rng(0).uniform(-4, 4, (128, 256, 1)))))
    assert noisy.rms > stepped.rms * 0.9
    assert noisy.band_rms < stepped.band_rms / 3
    shifted = banding(exact, pixels + np.uint8(3))
    assert shifted.band_rms == pytest.approx(fine.band_rms)
    assert shifted.shift_rms == pytest.approx(3, rel=0.01)


def test_a_spectrum_peaks_at_the_period_of_the_error() -> None:
    exact = linear(512, 8)
    waves = exact + 5 * np.sin(2 * np.pi * np.arange(512) / 16)[None, :, None]
    found = banding(exact, np.asarray(rounded(waves))).spectrum
    assert found[3] == max(found)  # 16 pixels
    assert found[3] == pytest.approx(5 / 2**0.5, rel=0.05)


def test_the_longest_run() -> None:
    assert [longest_run(np.array(row, np.uint8)) for row in ([1], [1, 1, 2], [1, 2, 2, 2, 3, 3])] == [1, 2, 3]


def test_roughness_is_found_where_a_step_is() -> None:
    sides = (64, 32, 8)
    kinds = classes(130, sides)
    assert [CLASSES[kinds[at]] for at in (63, 64, 31, 32, 7, 8, 9, 66)] == [
        "unit", "unit", "store", "store", "block", "block", "within", "within"
    ]  # fmt: skip
    for at, name in ((64, "unit"), (96, "store"), (40, "block"), (44, "within")):
        error = np.zeros((16, 130, 3))
        error[:, at:] = 5
        found = roughness(error, sides)
        assert max(CLASSES, key=lambda each: found[each]) == name
        assert (found["near"] > 0) == (at == 40)


def main() -> None:
    """Print the levels."""
    codec = Codec(open_model("photo"))
    print("DRIFT =", {q: tuple(round(v, 4) for v in drift(codec, q)) for q in (2, 5, 8)})
    print("BANDS =", {(name, q): round(bands(codec, name, q), 3) for name in GRADIENTS for q in (2, 5, 8)})
    print(
        "SEAMS =", {(name, q): tuple(round(v, 3) for v in seams(codec, name, q)) for name in pictures() for q in (2, 5)}
    )


if __name__ == "__main__":
    main()
