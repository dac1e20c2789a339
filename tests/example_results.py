"""Made-up benchmark results with everything that the HTML page can show, including hostile names."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from conftest import synthetic

from vqcodec.bench.results import Anatomy, Codebook, Comparison, Published, Results, Row, Shown, View
from vqcodec.picture.picture import Picture
from vqcodec.picture.write import image_file

HOSTILE = "<img src=x onerror=alert(1)>&\"'</script><script>alert(2)</script>.png"
CODECS = {"photo": (0.2, 0.3, 0.5), "jpeg": (0.3, 0.6, 1.2), "webp": (0.1, 0.25, 0.4, 0.9), "a&b<i>": (0.33,)}
BEST = {"photo": 31.0, "jpeg": 27.5, "webp": 29.5, "a&b<i>": 26.0}  # dB at 0.33 bpp
WIDTH, HEIGHT = 96, 64


def row(image: str, codec: str, index: int, shift: float = 0.0) -> Row:
    """A plausible row at the codec's rate of this index."""
    bpp = CODECS[codec][index]
    psnr = BEST[codec] + 3.5 * math.log2(bpp / 0.33) + shift
    own = codec == "photo"
    return Row(
        image,
        codec,
        index + 1 if own else 10 * index + 12.5,
        digest="0123456789abcdef" if own else "",
        width=WIDTH,
        height=HEIGHT,
        channels=3,
        bytes=bpp * WIDTH * HEIGHT / 8,
        bpp=bpp,
        bits_per_dim=bpp / 3,
        ratio=24 / bpp,
        naive_ratio=13.7 if own else math.nan,
        gain=24 / bpp / 13.7 if own else math.nan,
        psnr=psnr,
        psnr_y=psnr + 1 + 0.3 * index,
        ms_ssim=1 - 0.045 * 2 ** ((30 - psnr) / 3.3),
        ssimulacra2=100 - 0.2 * (45 - psnr) ** 2,
        butteraugli_3norm=60 * 2 ** (-psnr / 6),
        butteraugli_max=400 * 2 ** (-psnr / 5),
        encode_mpixel_s=0.5,
        decode_mpixel_s=1.25,
        peak_mib=math.nan,
    )


def view(image: str, seed: int) -> View:
    """A picture, and simulated decoded pictures of three codecs."""
    pixels = synthetic(HEIGHT, WIDTH, seed)

    def coded(noise: int) -> bytes:
        changed = (pixels.astype(int) + np.random.default_rng(seed).integers(-noise, noise + 1, pixels.shape)).clip(
            0, 255
        )
        return image_file(Picture(changed.astype(np.uint8), "RGB"), "PNG")

    shown = {codec: Shown(row(image, codec, 0), coded(noise), "image/png") for codec, noise in SHOWN.items()}
    return View(image, WIDTH, HEIGHT, 0.328, coded(0), "image/png", shown)


SHOWN = {"photo": 12, "webp": 20, "jpeg": 30}


def example() -> Results:
    """Two pictures that were measured, one that failed; one codec with a single point; published curves."""
    names = {"kodim01.png": -2.0, HOSTILE: 2.5}
    rows = [
        row(name, codec, i, shift)
        for name, shift in names.items()
        for codec, b in CODECS.items()
        for i in range(len(b))
    ]
    rows[0] = replace(rows[0], psnr=math.inf, ms_ssim=1.0, note="lossless, oddly enough")
    means = [row("mean of 2", codec, i) for codec, bpps in CODECS.items() for i in range(len(bpps))]
    nan = math.nan
    return Results(
        rows=(*rows, Row("broken.png", "photo", 1, error="not a picture: </script><b>")),
        means=tuple(means),
        bd=(
            Comparison("photo", "webp", "ssimulacra2", -12.5, 4.25, 30.0, 60.0, 0.8, 0.2, 0.5, 1.0, 2),
            Comparison("photo", "webp", "butteraugli_3norm", 5.5, -0.125, -3.5, -1.25, 0.8, 0.2, 0.5, 1.0, 2),
            Comparison("photo", "webp", "ms_ssim", -8.0, 0.5, 10.5, 14.0, 0.8, 0.2, 0.5, 1.0, 2),
            Comparison("photo", "webp", "psnr", -20.5, 0.9, 28.0, 33.0, 0.8, 0.2, 0.5, 1.0, 2),
            Comparison("jpeg", "webp", "psnr", 44.0, -1.4, 27.0, 33.0, 0.7, 0.3, 0.9, 0.6, 2),
            Comparison("a&b<i>", "webp", "psnr", nan, nan, nan, nan, 0.0, nan, nan, 0.0, 2, reason="one point only"),
        ),
        published=(
            Published("Far <b>better", 0.2, 31.0, nan, nan, nan, "A paper, 2023"),
            Published("Far <b>better", 0.8, 37.0, nan, nan, nan, "A paper, 2023"),
            Published("webp", 0.3, 30.0, 0.96, nan, nan, "Somebody"),
        ),
        anatomy=(
            Anatomy(
                *(
                    "kodim01.png",
                    "photo",
                    2,
                    96,
                    1,
                    400.0,
                    40.0,
                    4.0,
                    0.0,
                    0.0,
                    356.0,
                    0.0,
                    2800.0,
                    48.0,
                    3900.0,
                    6000.0,
                    1.39,
                ),
                codebooks=(Codebook(256, 1000.0, 1500.0, 61.5), Codebook(64, 1800.0, 2400.0, 40.0)),
            ),
        ),
        environment={"vqcodec": "9.9.9", "command": f"vqcodec bench {HOSTILE}"},
        codecs={"photo": "model 0123456789abcdef", "jpeg": "optimised, progressive"},
        pictures={name: view(name, seed) for seed, name in enumerate(names)},
        anchor="webp",
    )
