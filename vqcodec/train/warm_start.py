"""The prior of a finished model -> the initial state of a new float prior, for similar codes.

In: the new prior (after `describe_codes`), the model, and the quantiser of the new codes. Out: the new prior, changed
in place. The networks have the same shape, so their weights are those of the integer prior. A new code takes over the
tables of the nearest code of the model at the corresponding quality.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vqcodec.coding.formats import GATE_EXPONENT, LOGIT_EXPONENT, TRUNK_EXPONENT
from vqcodec.errors import UsageError
from vqcodec.model.store import Model
from vqcodec.train.networks.pixelcnn import CodeTables, ExactLinear, GatedBlock, GatedPixelCNN
from vqcodec.train.networks.quantizer import VectorQuantizer
from vqcodec.train.networks.weights import open_network
from vqcodec.train.qualities import in_proportion

__all__ = ["start_from_model"]


@torch.no_grad()
def start_from_model(prior: GatedPixelCNN, quantizer: VectorQuantizer, model: Model) -> None:
    """Set the weights of `prior` to those of a model. Raises `UsageError` if their shapes differ.

    If the numbers of qualities differ, the lowest and the highest correspond, and those between in proportion.
    """
    if (model.config.prior, model.config.vqvae.codebooks) != (prior.prior, prior.config.codebooks):
        raise UsageError(f"the model {model.name} has another prior or other codebooks; start without --init")
    tensors = {name: torch.from_numpy(tensor) for name, tensor in model.prior_tensors.items()}
    rows = in_proportion(prior.config.qualities, model.config.vqvae.qualities)
    for name, block in [("entry", prior.entry), *((f"block.{i}", b) for i, b in enumerate(prior.blocks))]:
        assert isinstance(block, GatedBlock)
        _load(block.gate, tensors, f"{name}.gate", TRUNK_EXPONENT, GATE_EXPONENT, rows)
        _load(block.project, tensors, f"{name}.project", GATE_EXPONENT, TRUNK_EXPONENT, rows)
    _load(prior.to_state, tensors, "state", TRUNK_EXPONENT, TRUNK_EXPONENT, rows)
    before = open_network(model).quantizer
    for g, (head, tables) in enumerate(zip(prior.heads, prior.codes, strict=True)):
        assert isinstance(head, ExactLinear)
        assert isinstance(tables, CodeTables)
        _load(head, tensors, f"head.{g}", TRUNK_EXPONENT, TRUNK_EXPONENT, rows)
        tables.out.weight.zero_()  # then the tables equal their free part, which is set below
        for quality, row in enumerate(rows):
            live = int(tables.live[quality])
            old_codes = before.vectors(g)[row, : int(before.live(g)[row])]
            codes = quantizer.vectors(g)[quality, :live].cpu()
            # The faster matrix-product mode is not accurate enough to distinguish close codes.
            nearest = torch.cdist(codes, old_codes, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
            name = f"codes.{g}.{row}"
            out, out_bias = _floats(tensors, f"{name}.out", TRUNK_EXPONENT, LOGIT_EXPONENT)
            embedding = tensors[f"{name}.embedding"].float() / 2**TRUNK_EXPONENT
            state = tensors.get(f"{name}.state", torch.zeros_like(embedding)).float() / 2**TRUNK_EXPONENT
            tables.free[quality, :live] = torch.cat([embedding, state, out], 1)[nearest].to(tables.free)
            # Correct for codes that are used more or less often than their old counterparts.
            change = (quantizer.bits(g)[quality, :live].cpu() - before.bits(g)[row][nearest]) * math.log(2)
            tables.bias[quality, :live] = (out_bias[nearest] - change).to(tables.bias)


def _load(
    layer: ExactLinear, tensors: dict[str, Tensor], name: str, in_exponent: int, out_exponent: int, rows: list[int]
) -> None:
    """Set weights and biases of a layer from the integer tensors `name`; `rows`: the old quality for each new one."""
    weight, bias = _floats(tensors, name, in_exponent, out_exponent)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias[rows])
    if layer.label is not None:
        scale = _exponents(tensors, name, in_exponent, out_exponent) + in_exponent
        layer.label.copy_(tensors[f"{name}.label"] / 2.0**scale)


def _floats(tensors: dict[str, Tensor], name: str, in_exponent: int, out_exponent: int) -> tuple[Tensor, Tensor]:
    """The float weight [O, I] and bias [..., O] that `integer_product` converts to these integers."""
    exponents = _exponents(tensors, name, in_exponent, out_exponent)
    shift = tensors[f"{name}.shift"].long()
    half = torch.where(shift > 0, 2.0 ** (shift - 1), 0.0)
    return tensors[f"{name}.weight"] / 2.0 ** exponents[:, None], (tensors[f"{name}.bias"] - half) / 2.0 ** (
        exponents + in_exponent
    )


def _exponents(tensors: dict[str, Tensor], name: str, in_exponent: int, out_exponent: int) -> Tensor:
    """The exponents [O] of the rows of a weight, from its shifts."""
    return tensors[f"{name}.shift"].long() - in_exponent + out_exponent
