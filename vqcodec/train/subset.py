"""A trained model -> the same model at some of its qualities, for those that are not worth shipping.

Networks and prior hold a row for each quality; the others are left out. What remains gives the same codes, counts and
pictures as before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vqcodec.config import ModelConfig
from vqcodec.errors import UsageError
from vqcodec.nn.vqvae import VQVAE

__all__ = ["keep_qualities"]

_OF_QUALITIES = re.compile(r"(film|gain|quantizer\.(vectors|counts|sums)[0-9]+)$")
_TABLE = re.compile(r"codes\.([0-9]+)\.([0-9]+)\.(.+)")


def keep_qualities(
    config: ModelConfig, network: VQVAE, prior: dict[str, Tensor], wanted: Sequence[int]
) -> tuple[ModelConfig, VQVAE, dict[str, Tensor]]:
    """Configuration, autoencoder and integer prior of the qualities `wanted` (from 1, rising), which are renumbered.

    Raises `UsageError` where there are no such qualities, fewer than two, or the default one is left out.
    """
    kept = [quality - 1 for quality in wanted]
    if len(kept) < 2 or sorted(set(kept)) != kept or not 0 <= kept[0] <= kept[-1] < config.vqvae.qualities:
        raise UsageError(f"keep at least 2 of the qualities 1 to {config.vqvae.qualities}, in rising order")
    if config.default_quality - 1 not in kept:
        raise UsageError(f"the default quality, {config.default_quality}, must be kept")
    lambdas, shares = config.vqvae.lambdas, config.vqvae.rate_shares
    vqvae = replace(
        config.vqvae,
        lambdas=tuple(lambdas[quality] for quality in kept),
        rate_shares=tuple(shares[quality] for quality in kept if shares),
    )
    smaller = VQVAE(vqvae)
    state = network.state_dict()
    smaller.load_state_dict({name: t[kept] if _OF_QUALITIES.search(name) else t for name, t in state.items()})
    tensors: dict[str, Tensor] = {}
    for name, tensor in prior.items():
        table = _TABLE.match(name)
        if table is None:
            tensors[name] = tensor[torch.tensor(kept)] if name.endswith(".bias") else tensor
        elif int(table[2]) in kept:
            tensors[f"codes.{table[1]}.{kept.index(int(table[2]))}.{table[3]}"] = tensor
    default = kept.index(config.default_quality - 1) + 1
    return replace(config, vqvae=vqvae, default_quality=default), smaller.eval().requires_grad_(False), tensors
