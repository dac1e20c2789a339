"""Loads and saves networks: the files of a model <-> its autoencoder.

In: a `Model`, or a folder with config.json and weights.safetensors. Out: a `VQVAE` in float32, or the files. Weights
are stored in half precision, codebooks in single precision.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from vqcodec.errors import OutputError
from vqcodec.model.config import ModelConfig, VQVAEConfig, to_json
from vqcodec.model.store import CONFIG, PRIOR, WEIGHTS, Model, open_model
from vqcodec.nn.weights import check_codes, read_tensors
from vqcodec.train.networks.vqvae import VQVAE

__all__ = ["load_network", "open_network", "round_weights", "save_model", "save_network"]


def open_network(model: Model) -> VQVAE:
    """Load the autoencoder of a model, in float32 and evaluation mode. Raises `ModelError`."""
    network = load_network(model.path, model.config.vqvae)
    check_codes(_live(network), model.prior_tensors)
    return network


def load_network(folder: Path, config: VQVAEConfig) -> VQVAE:
    """Load the autoencoder from a model's folder, which need not contain a prior. Raises `ModelError`."""
    tensors = read_tensors(folder, config)  # checks the shapes before `VQVAE` allocates any
    network = VQVAE(config).float()  # float32, even if the program has set another default dtype
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, strict=False)
    return network.eval().requires_grad_(False)


def save_model(folder: Path, config: ModelConfig, network: VQVAE, prior: dict[str, Tensor]) -> Model:
    """Write the files of a model into `folder`, which is created if needed; `prior`: from `GatedPixelCNN.integers`.

    Networks are stored in half precision. Raises `OutputError` if the files cannot be written, and `ModelError` if the
    prior violates a bound or lacks codes; then `folder` is left unchanged.
    """
    folder = folder.absolute()
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_network(partial, config, network)
        (partial / PRIOR).write_bytes(save(prior))
        model = open_model(partial)
        for quality in range(config.vqvae.qualities):
            for label in [None, *range(config.prior.labels)]:
                model.prior(quality, label)
        check_codes(_live(network), {name: tensor.numpy() for name, tensor in prior.items()})
        folder.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, PRIOR, CONFIG):
            (partial / name).replace(folder / name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write the model ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return open_model(folder)


def save_network(folder: Path, config: ModelConfig, network: VQVAE) -> None:
    """Write only networks and configuration into `folder`. It is not a model yet, but a training run can start from it.

    Raises `OutputError`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_network(folder, config, network)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write the networks ({error.strerror or error})") from None


def _write_network(folder: Path, config: ModelConfig, network: VQVAE) -> None:
    (folder / CONFIG).write_text(to_json(config), encoding="utf-8", newline="\n")
    state = network.state_dict()
    weights = {
        name: state[name].to(torch.float32 if name.startswith("quantizer.") else torch.float16).contiguous()
        for name in _shipped(network)
    }
    (folder / WEIGHTS).write_bytes(save(weights))


def round_weights(network: VQVAE) -> None:
    """Round the networks in place to the half precision of the files, so that measurements match the shipped model."""
    with torch.no_grad():
        for name in _shipped(network):
            if not name.startswith("quantizer."):
                tensor = network.state_dict()[name]
                tensor.copy_(tensor.to(torch.float16))


def _live(network: VQVAE) -> list[list[int]]:
    """How many codes of each codebook may be chosen at each quality."""
    return [network.quantizer.live(g).tolist() for g in range(len(network.config.codebooks))]


def _shipped(network: VQVAE) -> list[str]:
    """Names of the tensors that are stored in a model: all except the sums of the moving averages."""
    return [name for name in network.state_dict() if not name.startswith("quantizer.sums")]
