"""The choice of codes: the one with the lowest cost, of equal ones the first, with costs of all kinds."""

from __future__ import annotations

import numpy as np
import pytest

from vqcodec.model.store import Model
from vqcodec.nn.quantizer import ROWS, nearest
from vqcodec.nn.weights import open_network
from vqcodec.threads import Workers


@pytest.mark.parametrize("count", [1, ROWS, ROWS + 1, 3 * ROWS - 5])
@pytest.mark.parametrize("kind", [None, np.float32, np.uint8])
def test_the_lowest_cost_wins(implementation: str, kind: type[np.generic] | None, count: int) -> None:
    rng = np.random.default_rng(count)
    latents = rng.integers(-9, 9, (count, 3)).astype(np.float32)  # integers, so that there are equal costs, too
    vectors = rng.integers(-9, 9, (40, 3)).astype(np.float32)
    vectors[30:] = vectors[:10]
    fixed = rng.integers(0, 9, 40).astype(np.float32)
    fixed[30:] = fixed[:10]
    costs = scale = None
    total = np.square(latents[:, None].astype(float) - vectors).sum(2) + fixed
    if kind is not None:
        costs = rng.integers(0, 255, (count, 50)).astype(kind)
        costs[:, 30:40] = costs[:, :10]
        scale = rng.integers(1, 4, count).astype(np.float32)
        total += scale[:, None] * costs[:, :40].astype(float)
    found = nearest(latents, vectors, fixed, costs, scale)
    assert found.dtype == np.int32
    assert np.array_equal(found, total.argmin(1))
    assert found.max() < 30


def test_codes_that_are_not_in_use_are_not_chosen(implementation: str, fine_model: Model) -> None:
    network = open_network(fine_model)
    quantizer, rng = network.quantizer, np.random.default_rng(0)
    quantizer._counts[2][1, 5:9] = 0
    latents = rng.normal(0, 50, (20, 30, 16)).astype(np.float32)
    codes = quantizer.quantize(latents, 1, 1.0, Workers(1))
    assert not np.isin(codes[2], range(5, 9)).any()
    assert np.isin(quantizer.quantize(latents, 1, 0.0, Workers(1))[2], range(5, 9)).any()
    assert (codes.reshape(5, -1).max(1) < [quantizer.live(g)[1] for g in range(5)]).all()


def test_dequantizing_joins_the_vectors(fine_model: Model) -> None:
    quantizer = open_network(fine_model).quantizer
    codes = np.stack([np.full((2, 3), g, np.int32) for g in range(5)])
    latents = quantizer.dequantize(codes, 2)
    expected = np.concatenate([quantizer.vectors(g)[2, g] for g in range(5)])
    assert latents.shape == (2, 3, 16)
    assert (latents == expected).all()
