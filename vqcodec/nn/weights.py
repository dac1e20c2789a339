"""Loads networks: the files of a model -> its autoencoder, without torch.

In: a `Model`, or a folder with weights.safetensors and its configuration. Out: `Networks`, or the tensors by name, in
float32. The weights are stored in half precision, the codebooks in single precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqcodec.errors import ModelError
from vqcodec.model.config import VQVAEConfig
from vqcodec.model.store import WEIGHTS, Model, read_file
from vqcodec.nn.networks import Networks
from vqcodec.nn.postfilter import SIDE
from vqcodec.nn.tiles import Floats

__all__ = ["check_codes", "open_network", "read_tensors"]

Shape = tuple[int, ...]


def open_network(model: Model) -> Networks:
    """Load the autoencoder of a model. Raises `ModelError`."""
    networks = Networks(model.config.vqvae, read_tensors(model.path, model.config.vqvae))
    live = [networks.quantizer.live(g).tolist() for g in range(len(model.config.vqvae.codebooks))]
    check_codes(live, model.prior_tensors)
    return networks


def read_tensors(folder: Path, config: VQVAEConfig) -> dict[str, Floats]:
    """The tensors of the networks in a model's folder, which need not contain a prior. Raises `ModelError`."""
    from safetensors.numpy import load

    path = folder / WEIGHTS
    data = read_file(path)
    try:
        tensors = {name: np.asarray(tensor, np.float32) for name, tensor in load(data).items()}
    except Exception as error:  # safetensors raises many types for damaged files
        raise ModelError(f"{path}: not usable as weights ({error or type(error).__name__})") from None
    # The shapes are computed, not allocated: a configuration of a few bytes can declare networks of any size.
    shapes = dict(_shapes(config))
    if set(tensors) != set(shapes):
        wrong = sorted(set(tensors) ^ set(shapes))[0]
        raise ModelError(f"{path}: the tensor {wrong} is missing or unexpected")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name]:
            raise ModelError(f"{path}: {name} is {tensor.shape}, not {shapes[name]}")
        if not np.isfinite(tensor).all():
            raise ModelError(f"{path}: {name} has values that are not finite")
    return tensors


def check_codes(live: Sequence[Sequence[int]], prior: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Raise `ModelError` if the quantiser may choose a code for which the prior has no row, or a codebook is empty.

    `live`: how many codes of each codebook may be chosen at each quality.
    """
    for g, row in enumerate(live):
        for quality, count in enumerate(row):
            table = prior.get(f"codes.{g}.{quality}.embedding")
            if table is None or table.ndim == 0 or count > table.shape[0]:
                raise ModelError(f"the prior lacks codes of codebook {g + 1} at quality {quality + 1}")
            if count == 0:
                raise ModelError(f"codebook {g + 1} has no code at quality {quality + 1}")


def _shapes(config: VQVAEConfig) -> Iterator[tuple[str, Shape]]:
    """Name and shape of every tensor of the networks of a configuration, as torch stores them."""
    pixels, width, dim, qualities = 3 * config.stride**2, config.width, config.latent_dim, config.qualities
    for part, count in (("encoder", config.encoder_blocks), ("decoder", config.decoder_blocks)):
        for index in range(count):
            yield from _block_shapes(f"{part}.blocks.{index}", config)
    for g, (size, dims) in enumerate(config.codebooks):
        yield f"quantizer.vectors{g}", (qualities, size, dims)
        yield f"quantizer.counts{g}", (qualities, size)
    yield from _convolution("encoder.out", dim, width, 1)
    if not config.transform:
        steps = config.stride.bit_length() - 1
        widths = [3, *[width // 2] * (steps - 1), width]
        yield from _convolution("decoder.stem", width, dim, 1)
        for index in range(steps):
            yield from _convolution(f"encoder.down.{index}", widths[index + 1], widths[index], 4)
            before, after = widths[steps - index], widths[steps - index - 1]
            yield f"decoder.up.{index}.weight", (before, after, 4, 4)
            yield f"decoder.up.{index}.bias", (after,)
        return
    for part, inputs, outputs in (("encoder", pixels, dim), ("decoder", dim, pixels)):
        yield f"{part}.linear.weight", (outputs, inputs, 1, 1)
        yield from _convolution(f"{part}.stem", width, inputs, 3)
        if config.stem == "scaled":
            yield f"{part}.gain", (qualities,)
    yield from _convolution("decoder.out", pixels, width, 1)
    yield "decoder.scale", (dim,)
    if config.postfilter:
        yield "postfilter.kernels", (config.postfilter, 3, 3, SIDE, SIDE)


def _block_shapes(name: str, config: VQVAEConfig) -> Iterator[tuple[str, Shape]]:
    yield from _convolution(f"{name}.conv", config.residual_width, config.width, 3)
    yield from _convolution(f"{name}.out", config.width, config.residual_width, 1)
    if config.qualities > 1:
        yield f"{name}.film", (config.qualities, 2, config.residual_width)


def _convolution(name: str, outputs: int, inputs: int, side: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (outputs, inputs, side, side)
    yield f"{name}.bias", (outputs,)
