"""A trained model -> the same model with other qualities.

Networks and prior have one row of parameters for each quality. `keep_qualities` removes qualities that are not worth
shipping; the remaining ones give the same codes, counts and pictures as before. `at_qualities` provides the initial
networks of a training run with another number of qualities.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vqcodec.errors import UsageError
from vqcodec.model.config import ModelConfig, VQVAEConfig
from vqcodec.train.networks.vqvae import VQVAE

__all__ = ["at_qualities", "in_proportion", "keep_qualities"]

_PER_QUALITY = re.compile(r"(film|gain|quantizer\.(vectors|counts|sums)[0-9]+)$")
_TABLE = re.compile(r"codes\.([0-9]+)\.([0-9]+)\.(.+)")


def keep_qualities(
    config: ModelConfig, network: VQVAE, prior: dict[str, Tensor], wanted: Sequence[int]
) -> tuple[ModelConfig, VQVAE, dict[str, Tensor]]:
    """Configuration, autoencoder and integer prior with only the qualities `wanted` (from 1, rising), renumbered.

    Raises `UsageError` if a quality does not exist, there are fewer than two, or the default quality is missing.
    """
    kept = [quality - 1 for quality in wanted]
    if len(kept) < 2 or sorted(set(kept)) != kept or not 0 <= kept[0] <= kept[-1] < config.vqvae.qualities:
        raise UsageError(f"keep at least 2 of the qualities 1 to {config.vqvae.qualities}, in rising order")
    if config.default_quality - 1 not in kept:
        raise UsageError(f"the default quality, {config.default_quality}, must be kept")
    lambdas, shares, structure = config.vqvae.lambdas, config.vqvae.rate_shares, config.vqvae.structure
    vqvae = replace(
        config.vqvae,
        lambdas=tuple(lambdas[quality] for quality in kept),
        rate_shares=tuple(shares[quality] for quality in kept if shares),
        structure=tuple(structure[quality] for quality in kept if structure),
    )
    smaller = at_qualities(network, vqvae, kept)
    tensors: dict[str, Tensor] = {}
    for name, tensor in prior.items():
        table = _TABLE.match(name)
        if table is None:
            tensors[name] = tensor[torch.tensor(kept)] if name.endswith(".bias") else tensor
        elif int(table[2]) in kept:
            tensors[f"codes.{table[1]}.{kept.index(int(table[2]))}.{table[3]}"] = tensor
    default = kept.index(config.default_quality - 1) + 1
    return replace(config, vqvae=vqvae, default_quality=default), smaller, tensors


def at_qualities(network: VQVAE, config: VQVAEConfig, rows: Sequence[int]) -> VQVAE:
    """An autoencoder with `config` whose qualities are the qualities `rows` (0-based) of `network`.

    Raises `UsageError` if the networks differ in anything but the number of qualities.
    """
    selected = VQVAE(config)
    state = network.state_dict()
    try:
        selected.load_state_dict({n: t[list(rows)] if _PER_QUALITY.search(n) else t for n, t in state.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise UsageError(f"the model to start with has another shape than the new one ({reason})") from None
    return selected.eval().requires_grad_(False)


def in_proportion(count: int, before: int) -> list[int]:
    """Map `count` qualities to `before` qualities in proportion: for each the 0-based index of the old one.

    The lowest maps to the lowest, the highest to the highest.
    """
    return [round(quality * (before - 1) / max(1, count - 1)) for quality in range(count)]
