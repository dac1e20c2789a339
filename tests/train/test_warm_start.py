"""A prior initialised from a finished model: it starts with the same predictions, code by code."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FINE, PATCH, random_prior
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.errors import UsageError
from vqcodec.model.config import ModelConfig, VQVAEConfig
from vqcodec.model.store import Model
from vqcodec.train.networks.pixelcnn import GatedPixelCNN
from vqcodec.train.networks.quantizer import VectorQuantizer
from vqcodec.train.networks.vqvae import VQVAE
from vqcodec.train.networks.weights import open_network, save_model
from vqcodec.train.warm_start import start_from_model


def make(config: ModelConfig, folder: Path) -> Model:
    """A model in which all codes are in use and differ."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = VQVAE(config.vqvae)
        for g in range(len(config.vqvae.codebooks)):
            network.quantizer.get_buffer(f"counts{g}").uniform_(1, 9)
    return save_model(folder, config, network, random_prior(config.vqvae, config.prior).integers())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make(FINE, tmp_path_factory.mktemp("warm") / "model")


def started(model: Model, quantizer: VectorQuantizer, config: VQVAEConfig | None = None) -> GatedPixelCNN:
    prior = GatedPixelCNN(config or model.config.vqvae, model.config.prior)
    prior.describe_codes(quantizer)
    start_from_model(prior, quantizer, model)
    return prior


@pytest.mark.parametrize("labels", [0, 3])
def test_with_the_same_codes_it_is_the_same_prior(tmp_path: Path, labels: int) -> None:
    config = dataclasses.replace(FINE, prior=dataclasses.replace(FINE.prior, labels=labels))
    model = make(config, tmp_path / "model")
    found = started(model, open_network(model).quantizer).integers()
    assert set(found) == set(model.prior_tensors)
    for name, tensor in model.prior_tensors.items():
        assert np.array_equal(found[name].numpy(), tensor), name


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_permuted_codes_have_the_same_cost(model: Model, seed: int) -> None:
    network = open_network(model)
    generator = torch.Generator().manual_seed(seed)
    orders = {}
    for g in range(len(network.quantizer.codebooks)):
        live = int(network.quantizer.live(g)[1])
        orders[g] = torch.randperm(live, generator=generator)
        for name in ("vectors", "counts"):
            rows = network.quantizer.get_buffer(f"{name}{g}")[1]
            rows[:live] = rows[:live][orders[g]]
    prior = started(model, network.quantizer).eval()
    before = started(model, open_network(model).quantizer).eval()
    codes = torch.stack([torch.randint(len(order), (2, 3, 5), generator=generator) for order in orders.values()], 1)
    as_before = torch.stack([order[codes[:, g]] for g, order in orders.items()], 1)
    torch.testing.assert_close(prior.bits(codes, 1), before.bits(as_before, 1), rtol=1e-4, atol=1e-4)


def test_additional_qualities_start_from_the_nearest_old_one(model: Model) -> None:
    config = dataclasses.replace(model.config.vqvae, lambdas=(32.0, 20.0, 8.0, 5.0, 2.0), rate_shares=((0.5,) * 5,) * 5)
    prior = started(model, VectorQuantizer(config), config)
    old = started(model, open_network(model).quantizer)
    assert torch.equal(prior.to_state.bias, old.to_state.bias[[0, 0, 1, 2, 2]])


def test_another_prior_is_refused(patch_model: Model) -> None:
    config = dataclasses.replace(PATCH.prior, channels=16)
    prior = GatedPixelCNN(PATCH.vqvae, config)
    with pytest.raises(UsageError, match="without --init"):
        start_from_model(prior, open_network(patch_model).quantizer, patch_model)
