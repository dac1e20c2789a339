"""A model as a `torch.nn.Module` with the interface of CompressAI's: `forward`, `compress`, `decompress`.

In: pictures [B, 3, H, W] in [0, 1], of any H and W. Out: reconstructions, the likelihood of every code, or byte strings
(CompressAI: Bégaint et al. 2020, arXiv:2011.03029). The strings are the payloads of the .vq file that `effort=0` gives,
without the header, the checksums and the weights of the post-filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.codec.codec import Codec
from vqcodec.codec.content import grid_shape
from vqcodec.coding.integer_prior import Codes
from vqcodec.coding.payloads import read_units, write_units
from vqcodec.errors import DamagedFile, UsageError
from vqcodec.train.networks.weights import open_network
from vqcodec.windows import split

__all__ = ["CompressionModule"]


class CompressionModule(nn.Module):
    """A model at one quality, counted from 1; None is the model's default. Raises `UsageError`.

    The module stays in evaluation mode and its weights are frozen: the integer prior and the digest of the model belong
    to exactly these weights. Gradients flow from a reconstruction to the picture, straight through the quantiser.
    """

    def __init__(self, codec: Codec, quality: int | None = None) -> None:
        super().__init__()
        self.quality = codec.quality(quality)
        self._codec = codec
        self.network = open_network(codec.model)  # not shared: the caller may move it to another device
        self.eval()

    def train(self, mode: bool = True) -> CompressionModule:
        """Keep the module in evaluation mode; `mode` is ignored."""
        return super().train(False)

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Pictures [B, 3, H, W] -> {"x_hat": [B, 3, H, W], "likelihoods": {"codes": [B, G, h, w]}}.

        The likelihoods are those of the integer prior that the range coder uses. The sum of their -log2 is the size of
        the strings in bits, except for the last bytes of each string. They have no gradient. Raises `UsageError` or
        `LimitExceeded`.
        """
        height, width = self._check(x)
        quality = torch.full((len(x),), self.quality - 1, device=x.device)
        pictures = self._padded(x)
        output = self.network(pictures, quality)
        grids = output.quantized.codes.cpu().numpy().astype(np.int32)
        likelihoods = np.stack([self._likelihoods(grid) for grid in grids])
        return {
            "x_hat": output.reconstruction[:, :, :height, :width],
            "likelihoods": {"codes": torch.from_numpy(likelihoods).to(x.device)},
        }

    @torch.no_grad()
    def compress(self, x: Tensor) -> dict[str, Any]:
        """Pictures [B, 3, H, W] -> {"strings": a list of B strings for each unit of coding, "shape": (H, W)}.

        Raises `UsageError` or `LimitExceeded`.
        """
        shape = self._check(x)
        codes = self.network.to_codes(self._padded(x), self.quality - 1).cpu().numpy().astype(np.int32)
        units = [[unit for row in split(grid, self._unit) for unit in row] for grid in codes]
        in_order = [unit for units_at_place in zip(*units, strict=True) for unit in units_at_place]
        payloads = write_units(self._codec.prior(self.quality - 1), in_order)
        strings = [payloads[first : first + len(x)] for first in range(0, len(payloads), len(x))]
        return {"strings": strings, "shape": torch.Size(shape)}

    @torch.no_grad()
    def decompress(self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]) -> dict[str, Tensor]:
        """The output of `compress` -> {"x_hat": [B, 3, H, W]}, in [0, 1]. Raises `DamagedFile` or `LimitExceeded`."""
        height, width = shape
        self._codec.refuse_beyond_limits(height, width)
        config = self._codec.model.config
        rows, columns = grid_shape(height, width, config.vqvae.stride)
        batch = len(strings[0]) if strings else 0
        codes = np.zeros((batch, len(config.vqvae.codebooks), rows, columns), np.int32)
        units = [[unit for row in split(grid, self._unit) for unit in row] for grid in codes]
        if not batch or len(strings) != len(units[0]) or any(len(each) != batch for each in strings):
            raise DamagedFile(f"the strings do not fit {batch} pictures of {width}x{height}")
        places = [unit for units_at_place in zip(*units, strict=True) for unit in units_at_place]
        payloads = [payload for unit_strings in strings for payload in unit_strings]
        shapes = [(place.shape[1], place.shape[2]) for place in places]
        for place, grid in zip(places, read_units(self._codec.prior(self.quality - 1), payloads, shapes), strict=True):
            place[:] = grid
        device = next(self.network.parameters()).device
        pictures = self.network.to_pictures(torch.from_numpy(codes.astype(np.int64)).to(device), self.quality - 1)
        return {"x_hat": pictures[:, :, :height, :width].clamp(0, 1)}

    @property
    def _unit(self) -> int:
        return self._codec.model.config.unit

    def _check(self, x: Tensor) -> tuple[int, int]:
        """Height and width of pictures. Raises `UsageError` or `LimitExceeded`."""
        if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape or not x.is_floating_point():
            found = f"{x.dtype} [{', '.join(map(str, x.shape))}]"
            raise UsageError(f"pictures must be floats in [0, 1], [batch, 3, height, width], not {found}")
        self._codec.refuse_beyond_limits(x.shape[2], x.shape[3])
        return x.shape[2], x.shape[3]

    def _padded(self, x: Tensor) -> Tensor:
        """Pictures padded to a multiple of the stride by repeating the last row and column."""
        stride = self._codec.model.config.vqvae.stride
        return F.pad(x, (0, -x.shape[3] % stride, 0, -x.shape[2] % stride), mode="replicate")

    def _likelihoods(self, codes: Codes) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The probability [G, h, w] that the prior gives to each of the codes [G, h, w], unit by unit."""
        result = np.empty(codes.shape, np.float32)
        prior = self._codec.prior(self.quality - 1)
        for code_row, result_row in zip(split(codes, self._unit), split(result, self._unit), strict=True):
            for unit, place in zip(code_row, result_row, strict=True):
                for g, counts in enumerate(prior.evaluate(unit)):
                    chosen = np.take_along_axis(counts, unit[g].reshape(-1, 1), axis=1)[:, 0]
                    place[g] = (chosen / counts.sum(axis=1)).reshape(unit.shape[1:])
        return result
