"""Windows and threads: neither changes what the networks compute."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import synthetic

from vqcodec.model.store import Model
from vqcodec.nn import tiled, tiles
from vqcodec.nn.networks import Networks
from vqcodec.nn.tiled import Tiled
from vqcodec.nn.weights import open_network, read_tensors
from vqcodec.threads import Workers


@pytest.mark.parametrize("window", [64, 1024])
def test_the_number_of_threads_does_not_change_anything(
    implementation: str, filtered_model: Model, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled, "WINDOW", window)
    monkeypatch.setattr(tiles, "STRIP", 8)  # several strips even in a small picture
    pixels = synthetic(150, 230)
    results = []
    for threads in (1, 2, 3):
        networks = Tiled(open_network(filtered_model), 1, workers=Workers(threads))
        codes = networks.to_codes(pixels)
        slopes = networks.slopes(codes, pixels)
        costs = [np.ones((codes[0].size, size), np.float32) for size, _ in filtered_model.config.vqvae.codebooks]
        chosen = networks.choose(slopes.latents - slopes.gradient, costs, np.ones(codes.shape[1:], np.float32))
        results.append([
            codes, networks.to_pixels(codes, None, (0.2, 0.1, -0.1)), slopes.gradient, slopes.errors, chosen,
            networks.errors(chosen, pixels), *networks.normal_equations(codes, pixels),
        ])  # fmt: skip
    for other in results[1:]:
        assert all(np.array_equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_windows_do_not_change_codes_and_pixels(
    implementation: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks, pixels, shares = Tiled(open_network(model), 0), synthetic(150, 230), list[float]()
    codes = networks.to_codes(pixels)
    whole = networks.to_pixels(codes)
    monkeypatch.setattr(tiled, "WINDOW", 40)
    assert (networks.to_codes(pixels, shares.append) != codes).mean() < 0.002
    assert len(shares) == 24
    assert shares[-1] == 1
    assert np.abs(networks.to_pixels(codes).astype(int) - whole).max() <= 1


def test_the_search_minimises_the_distortion_of_the_model(fine_model: Model) -> None:
    """The share of the configuration reaches gradient and errors; pictures below the window have squared error only."""
    config = fine_model.config.vqvae
    tensors = read_tensors(fine_model.path, config)
    plain, network = (
        Networks(each, tensors) for each in (config, dataclasses.replace(config, structure=(0.0, 0.75, 0.5)))
    )
    pixels = synthetic(61, 83, 5)
    codes = Tiled(plain, 1).to_codes(pixels)
    one, other = (Tiled(each, 1).slopes(codes, pixels) for each in (plain, network))
    assert np.abs(one.gradient - other.gradient).max() > 1e-3
    assert np.abs(one.errors - other.errors).max() > 1e-2
    same = Tiled(network, 0).slopes(codes, pixels)
    assert np.array_equal(same.errors, Tiled(plain, 0).slopes(codes, pixels).errors)
    small, few = pixels[:10, :40], codes[:, :2, :5]
    assert np.array_equal(Tiled(network, 1).errors(few, small), Tiled(plain, 1).errors(few, small))


def test_a_step_down_the_gradient_lowers_the_distortion(implementation: str, fine_model: Model) -> None:
    network = open_network(fine_model)
    networks, pixels = Tiled(network, 1), synthetic(61, 83, 5)
    codes = networks.to_codes(pixels)
    slopes = networks.slopes(codes, pixels)
    np.testing.assert_allclose(slopes.errors, networks.errors(codes, pixels), rtol=1e-4)

    def error(latents: np.ndarray) -> float:
        decoded = network.decoder(1).forward(latents.astype(np.float32), Workers(1))[:61, :83]
        return float(np.square(decoded - pixels).sum()) * (32 / 255) ** 2 / 2

    # The slope along the gradient is the square of its length.
    step = 1e-3
    length = float(np.square(slopes.gradient).sum())
    change = error(slopes.latents - step * slopes.gradient) - error(slopes.latents + step * slopes.gradient)
    assert change == pytest.approx(-2 * step * length, rel=0.05)
