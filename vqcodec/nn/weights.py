"""Loads and saves networks: the files of a model <-> its autoencoder.

In: a `Model`, or a folder with config.json and weights.safetensors. Out: a `VQVAE` in float32, or the files. Weights
are stored in half precision, codebooks in single precision.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vqcodec.errors import ModelError, OutputError
from vqcodec.model.config import ModelConfig, VQVAEConfig, to_json
from vqcodec.model.store import CONFIG, PRIOR, WEIGHTS, Model, open_model, read_file
from vqcodec.nn.vqvae import VQVAE

__all__ = ["load_network", "open_network", "round_weights", "save_model", "save_network"]


def open_network(model: Model) -> VQVAE:
    """Load the autoencoder of a model, in float32 and evaluation mode. Raises `ModelError`."""
    network = load_network(model.path, model.config.vqvae)
    _check_codes(network, model.prior_tensors)
    return network


def load_network(folder: Path, config: VQVAEConfig) -> VQVAE:
    """Load the autoencoder from a model's folder, which need not contain a prior. Raises `ModelError`."""
    path = folder / WEIGHTS
    data = read_file(path)
    try:
        tensors = {name: t.to(torch.float32) for name, t in load(data).items()}
    except Exception as error:  # safetensors raises many types for damaged files
        raise ModelError(f"{path}: not usable as weights ({error or type(error).__name__})") from None
    # Check the shapes before allocating: a configuration of a few bytes can declare networks of any size.
    with torch.device("meta"), _without_random_numbers():
        plan = VQVAE(config)
    state = plan.state_dict()
    shapes = {name: state[name].shape for name in _shipped(plan)}
    if set(tensors) != set(shapes):
        wrong = sorted(set(tensors) ^ set(shapes))[0]
        raise ModelError(f"{path}: the tensor {wrong} is missing or unexpected")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name]:
            raise ModelError(f"{path}: {name} is {tuple(tensor.shape)}, not {tuple(shapes[name])}")
        if not tensor.sum().isfinite():  # a single pass: a sum with NaN or infinity is never finite
            raise ModelError(f"{path}: {name} has values that are not finite")
    network = VQVAE(config).float()  # float32, even if the program has set another default dtype
    network.load_state_dict(tensors, strict=False)
    return network.eval().requires_grad_(False)


def _without_random_numbers() -> TorchFunctionMode:
    """Skip random initialisation: on the meta device it would import a compiler, which takes seconds."""

    class Mode(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.Tensor.normal_:
                return args[0]
            return function(*args, **(kwargs or {}))

    return Mode()


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
        _check_codes(network, prior)
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
    import torch

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


def _check_codes(network: VQVAE, prior: Mapping[str, Tensor | npt.NDArray[np.generic]]) -> None:
    """Raise `ModelError` if the quantiser may choose a code for which the prior has no row, or a codebook is empty."""
    for g in range(len(network.config.codebooks)):
        for quality, live in enumerate(network.quantizer.live(g).tolist()):
            table = prior.get(f"codes.{g}.{quality}.embedding")
            if table is None or table.ndim == 0 or live > table.shape[0]:
                raise ModelError(f"the prior lacks codes of codebook {g + 1} at quality {quality + 1}")
            if live == 0:
                raise ModelError(f"codebook {g + 1} has no code at quality {quality + 1}")


def _shipped(network: VQVAE) -> list[str]:
    """Names of the tensors that are stored in a model: all except the sums of the moving averages."""
    return [name for name in network.state_dict() if not name.startswith("quantizer.sums")]
