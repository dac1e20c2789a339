"""The autoencoder of a model in numpy: encoder, quantiser, decoder and post-filter, at all of its qualities.

In: pixels [H, W, 3], uint8, H and W multiples of the stride. Out: codes [G, h, w], h = H / stride, and back. Qualities
are 0-based: indices into `config.lambdas`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from vqcodec.model.config import VQVAEConfig
from vqcodec.nn.decoder import Decoder, make_decoder
from vqcodec.nn.encoder import Encoder, make_encoder
from vqcodec.nn.fold import Tensors
from vqcodec.nn.postfilter import Postfilter
from vqcodec.nn.quantizer import Quantizer
from vqcodec.nn.tiles import WHOLE, Area, Floats, Scratch
from vqcodec.threads import Workers

__all__ = ["Networks"]

Codes = npt.NDArray[np.int32]
Samples = npt.NDArray[np.uint8]
KEPT = 2  # qualities whose encoder and decoder are kept: each takes some 30 MB


class Networks:
    """The networks of a model, from the tensors of its file. Threads may share an object."""

    def __init__(self, config: VQVAEConfig, tensors: Tensors) -> None:
        self.config = config
        self.quantizer = Quantizer(config, tensors)
        self.postfilter = Postfilter(tensors["postfilter.kernels"]) if config.postfilter else None
        scratch = Scratch()
        self._encoder = lru_cache(KEPT)(lambda quality: make_encoder(config, tensors, quality, scratch))
        self._decoder = lru_cache(KEPT)(lambda quality: make_decoder(config, tensors, quality, scratch))

    def encoder(self, quality: int) -> Encoder:
        """The encoder at a quality."""
        return self._encoder(quality)

    def decoder(self, quality: int) -> Decoder:
        """The decoder at a quality."""
        return self._decoder(quality)

    def to_codes(self, pixels: Samples, quality: int, scale: float, workers: Workers, wanted: Area = WHOLE) -> Codes:
        """Codes [G, h, w] of the `wanted` h x w positions of pixels at one quality, with lambda times `scale`."""
        latents = self.encoder(quality).forward(pixels, workers, wanted)
        return self.quantizer.quantize(latents, quality, scale, workers)

    def to_pictures(self, codes: Codes, quality: int, workers: Workers, wanted: Area = WHOLE) -> Floats:
        """The `wanted` positions of codes [G, ., .] at one quality -> pixel values [H, W, 3], 0 to 255.

        They are neither rounded nor clipped, and the post-filter is not applied.
        """
        return self.decoder(quality).forward(self.quantizer.dequantize(codes, quality), workers, wanted=wanted)
