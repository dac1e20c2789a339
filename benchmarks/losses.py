"""Analysis of a model's distortion and bits: transform, quantiser, prior and unit boundaries.

    python benchmarks/losses.py DATA/photos-dev [--model photo] [--json FILE]

The figures are means over the central 512 x 512 pixels of the pictures, for every quality:

- `transform_psnr`: PSNR (dB) of the decoder with the encoder's unquantised latents. It was not trained on such latents.
- `vq_gap`: excess of distortion + lambda * bits over the rate-distortion function of the latents at the same slope, in
  bits per position. Only for codebooks of one dimension; by the Blahut-Arimoto algorithm.
- `zero_order_bits`, `prior_bits`: bits per position, by the code frequencies in these pictures, and by the prior.
- `rate_shares`: prior bits over zero-order bits, for each codebook.
- `marginal_shares`: the same ratio for the change of the bits between 3/4 and 4/3 of lambda. Ideally, the
  configuration's `rate_shares` equal this ratio. It is not meaningful for codebooks so fine that their zero-order
  entropy hardly changes.
- `unit_edge`: relative excess of the bits of four units of 32 x 32 positions over those of one unit of 64 x 64. A large
  picture in units of 64 x 64 loses about half of that.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vqcodec.codec.code_prices import bits_taken, prices
from vqcodec.codec.codec import Codec
from vqcodec.files.folders import pictures_in
from vqcodec.model.store import open_model
from vqcodec.picture.read import read_picture
from vqcodec.windows import split

SIDE = 512
GRID = 1024  # bins of the histogram for the Blahut-Arimoto algorithm
ROUNDS = 300  # of the Blahut-Arimoto algorithm
LAMBDA_SCALES = (0.75, 1.0, 1 / 0.75)
LEAST_BITS, LEAST_CHANGE = 0.01, 0.05  # smallest entropy and change, bits per position, for a meaningful ratio


def rate_distortion_cost(samples: NDArray[np.float64], lam: float) -> float:
    """min D + lambda * R of a scalar source per sample (Blahut 1972, theorem 6), on a histogram of `samples`."""
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
    """Excess bits per position of the one-dimensional codebooks over the rate-distortion function; latents [N, D]."""
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
    prior = codec.prior(index)
    transform, latents, edges = [], [], []
    for pixels in pictures:
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            z = codec.network.encoder(x, torch.tensor([index]))
            y = codec.network.decoder(z, torch.tensor([index]))
        transform.append(-10 * float((y.clamp(0, 1) - x).square().mean().log10()))
        latents.append(z[0].flatten(1).T.numpy())
        codes = codec.to_codes(pixels, quality, effort=0)
        parts = sum(
            bits_taken(prices(prior, unit), unit).sum() for row in split(codes, config.unit // 2) for unit in row
        )
        edges.append(parts / bits_taken(prices(prior, codes), codes).sum() - 1)
    zero, real = np.swapaxes([entropies(codec, pictures, quality, scale) for scale in LAMBDA_SCALES], 0, 1)
    return {
        "quality": quality,
        "transform_psnr": float(np.mean(transform)),
        "vq_gap": scalar_gap(np.concatenate(latents), codec, index),
        "zero_order_bits": float(zero[1].sum()),
        "prior_bits": float(real[1].sum()),
        "unit_edge": float(np.mean(edges)),
        "rate_shares": shares(real[1], zero[1], LEAST_BITS),
        "marginal_shares": shares(real[0] - real[2], zero[0] - zero[2], LEAST_CHANGE),
    }


def entropies(
    codec: Codec, pictures: list[NDArray[np.uint8]], quality: int, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bits per position of each codebook at lambda times `scale`: by the code frequencies, and by the prior."""
    prior, sizes = codec.prior(quality - 1), [size for size, _ in codec.model.config.vqvae.codebooks]
    grids = [codec.to_codes(pixels, quality, effort=0, rate_scale=scale) for pixels in pictures]
    positions = sum(codes[0].size for codes in grids)
    by_grid = [bits_taken(prices(prior, codes), codes).sum((1, 2), dtype=np.float64) for codes in grids]
    taken: NDArray[np.float64] = sum(by_grid) / positions
    zero = np.zeros(len(sizes))
    for g, size in enumerate(sizes):
        share = np.bincount(np.concatenate([codes[g].ravel() for codes in grids]), minlength=size) / positions
        zero[g] = -(share[share > 0] * np.log2(share[share > 0])).sum()
    return zero, taken


def shares(real: NDArray[np.float64], zero: NDArray[np.float64], least: float) -> list[float | None]:
    """Real bits over zero-order bits of each codebook; None where the latter are not more than `least`."""
    return [round(float(r / z), 2) if z > least else None for r, z in zip(real, zero, strict=True)]


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
