"""Where a model's distortion and bits come from: transform, quantiser, prior, edges of units.

    python benchmarks/losses.py DATA/photos-dev [--model photo] [--json FILE]

For every quality, means over the pictures' central 512 x 512 pixels:

- `transform_psnr`: the decoder given the encoder's latents, unquantised. It was not trained for such clean latents.
- `vq_gap`: how much more distortion + lambda * bits the codebooks cost than the rate-distortion function of their
  latents at the same slope, in bits a position; by Blahut and Arimoto's algorithm, for codebooks of one dimension.
  As if lambda were the same everywhere (no masking).
- `zero_order_bits`, `prior_bits`: of a position, by the frequencies of the codes in these pictures, and by the prior.
- `rate_shares`: the second over the first, for each codebook; a configuration takes its setting of that name from it.
- `unit_edge`: how many more bits four units of 32 x 32 positions need than one of 64 x 64. A large picture in units of
  64 x 64 loses about half of that.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vqcodec.codec import Codec, split
from vqcodec.image import read_picture
from vqcodec.jobs import pictures_in
from vqcodec.prices import prices
from vqcodec.store import open_model

SIDE = 512
GRID = 1024  # steps of the histogram that Blahut-Arimoto works on
ROUNDS = 300


def rate_distortion_cost(samples: NDArray[np.float64], lam: float) -> float:
    """min D + lambda * R of a scalar source, per sample: Blahut 1972, theorem 6, on a histogram of `samples`."""
    low, high = samples.min(), samples.max()
    counts, edges = np.histogram(samples, GRID, (low, high + 1e-9))
    centres = (edges[1:] + edges[:-1]) / 2
    source = counts / counts.sum()
    used = source > 0
    source, points = source[used], centres[used]
    kernel = np.exp(-((points[:, None] - centres[None, :]) ** 2) * np.log(2) / lam)
    output = np.full(GRID, 1 / GRID)
    for _ in range(ROUNDS):
        weights = kernel * output
        weights /= weights.sum(1, keepdims=True)
        output = source @ weights
    return float(-lam * (source * np.log2(kernel @ output)).sum())


def scalar_gap(latents: NDArray[np.float32], codec: Codec, quality: int) -> float:
    """Bits a position that the one-dimensional codebooks lose against the rate-distortion function; [N, D] latents."""
    quantizer = codec.network.quantizer
    gap = 0.0
    channel = 0
    for g, (_, dim) in enumerate(codec.model.config.vqvae.codebooks):
        if dim == 1:
            lam = float(quantizer.lambdas[quality] * quantizer.shares[quality, g])
            samples = latents[:, channel].astype(np.float64)
            live = int(quantizer.live(g)[quality])
            vectors = quantizer.vectors(g)[quality, :live, 0].double().numpy()
            bits = quantizer.bits(g)[quality, :live].double().numpy()
            codes = ((samples[:, None] - vectors) ** 2 + lam * bits).argmin(1)
            share = np.bincount(codes, minlength=live) / len(codes)
            entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
            cost = ((samples - vectors[codes]) ** 2).mean() + lam * entropy
            gap += (cost - rate_distortion_cost(samples, lam)) / lam
        channel += dim
    return gap


def measure(codec: Codec, pictures: list[NDArray[np.uint8]], quality: int) -> dict[str, Any]:
    """The figures of one quality (from 1)."""
    index, config = quality - 1, codec.model.config
    prior = codec.model.prior(index)
    transform, latents, grids, taken, edges = [], [], [], [], []
    for pixels in pictures:
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            z = codec.network.encoder(x, torch.tensor([index]))
            y = codec.network.decoder(z, torch.tensor([index]))
        transform.append(-10 * float((y.clamp(0, 1) - x).square().mean().log10()))
        latents.append(z[0].flatten(1).T.numpy())
        codes = codec.encode(pixels, quality, effort=0)
        grids.append(codes)
        taken.append(coded_bits(prices(prior, codes), codes))
        parts = sum(
            coded_bits(prices(prior, unit), unit).sum() for row in split(codes, config.unit // 2) for unit in row
        )
        edges.append(parts / taken[-1].sum() - 1)
    positions = sum(codes[0].size for codes in grids)
    zero = np.zeros(len(config.vqvae.codebooks))
    for g, (size, _) in enumerate(config.vqvae.codebooks):
        share = np.bincount(np.concatenate([codes[g].ravel() for codes in grids]), minlength=size) / positions
        zero[g] = -(share[share > 0] * np.log2(share[share > 0])).sum()
    real = sum(taken) / positions
    return {
        "quality": quality,
        "transform_psnr": float(np.mean(transform)),
        "vq_gap": scalar_gap(np.concatenate(latents), codec, index),
        "zero_order_bits": float(zero.sum()),
        "prior_bits": float(np.sum(real)),
        "unit_edge": float(np.mean(edges)),
        "rate_shares": [round(float(r / z), 2) if z > 0.01 else None for r, z in zip(real, zero, strict=True)],
    }


def coded_bits(bits: list[NDArray[np.float32]], codes: NDArray[np.int32]) -> NDArray[np.float64]:
    """The bits of codes [G, h, w] in each codebook, given those of every code [h * w, K]."""
    found = [np.take_along_axis(b, c.reshape(-1, 1), 1).sum() for b, c in zip(bits, codes, strict=True)]
    return np.array(found, np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    codec = Codec(open_model(arguments.model))
    pictures = []
    for path in pictures_in(arguments.dataset):
        pixels = read_picture(path).pixels
        top, left = (max(0, side - SIDE) // 2 for side in pixels.shape[:2])
        pictures.append(pixels[top : top + SIDE, left : left + SIDE])
    rows = []
    for quality in range(1, codec.model.config.vqvae.qualities + 1):
        rows.append(measure(codec, pictures, quality))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
