"""Pictures <-> latents: the autoencoder of the VQ-VAE, in floats.

In: pictures [B, 3, H, W] in [0, 1], H and W multiples of the stride. Out: latents [B, D, H/stride, W/stride], and back.

Two families share the residual blocks. "conv" is the network of van den Oord et al. 2017 (section 4.1): strided
convolutions down, transposed ones up. "patch" begins as a linear block transform (the PCA of stride x stride blocks,
orthonormal, so that a squared error of a latent is a squared error of pixels) and adds convolutional branches that
start at zero: training refines a codec that already works.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.model.config import VQVAEConfig
from vqcodec.nn.postfilter import Postfilter
from vqcodec.nn.quantizer import Quantized, VectorQuantizer

__all__ = ["VQVAE", "Output", "PatchDecoder", "start_from_pca", "to_samples"]

# Latents of the patch family measure pixels in steps of 1/32 of the range (8 of 255 grey levels).
PIXEL_SCALE = 32.0


@dataclass(frozen=True)
class Output:
    """A forward pass: the reconstruction [B, 3, H, W] and what the quantiser did."""

    reconstruction: Tensor
    quantized: Quantized


class VQVAE(nn.Module):
    """Encoder, vector quantiser, decoder, post-filter. Qualities are 0-based here: indices into `config.lambdas`."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: nn.Module = PatchEncoder(config) if config.transform else ConvEncoder(config)
        self.quantizer = VectorQuantizer(config)
        self.decoder: nn.Module = PatchDecoder(config) if config.transform else ConvDecoder(config)
        self.postfilter = Postfilter(config.postfilter) if config.postfilter else None

    def forward(self, pictures: Tensor, quality: Tensor) -> Output:
        """Reconstruct pictures [B, 3, H, W] at the qualities [B]."""
        quantized = self.quantizer(self.encoder(pictures, quality), quality)
        return Output(self.decoder(quantized.latents, quality), quantized)

    @torch.no_grad()
    def to_codes(self, pictures: Tensor, quality: int, scale: float = 1.0) -> Tensor:
        """Codes [B, G, H/stride, W/stride] of pictures [B, 3, H, W] at one quality, lambda times `scale`."""
        index = torch.full((len(pictures),), quality, device=pictures.device)
        return self.quantizer.quantize(self.encoder(pictures, index), quality, scale)

    @torch.no_grad()
    def descend(
        self, codes: Tensor, pictures: Tensor, quality: int, step: float | Tensor, decoder: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """Latents [B, D, h, w] that decode to better pictures [B, 3, H, W] than the codes do; and the codes' `errors`.

        One gradient step on the squared error of the *decoded* picture, its length that of all positions or of each
        [h, w]. Quantised at `step` times lambda it is one of proximal gradient descent (Beck & Teboulle 2009, section
        2.2) on |picture - decoder(e)|^2 + lambda * bits. H and W may fall short of whole positions: what lies beyond
        is not part of the picture and counts for nothing. `decoder`: what does the same as the network's, in less time.
        """
        assert self.config.transform, "only its latents measure pixels"
        index = torch.full((len(codes),), quality, device=codes.device)
        latents = self.quantizer.dequantize(codes, quality)
        with torch.enable_grad():
            latents.requires_grad_()
            decoded = (decoder or self.decoder)(latents, index)
            difference = decoded[:, :, : pictures.shape[2], : pictures.shape[3]] - pictures
            (gradient,) = torch.autograd.grad(difference.square().sum() * (PIXEL_SCALE**2 / 2), latents)
        return latents.detach() - step * gradient, self.errors(decoded.detach(), pictures)

    def errors(self, decoded: Tensor, pictures: Tensor) -> Tensor:
        """Squared errors of decoded pictures, as samples of 8 bits, from pictures [B, 3, H, W]; [B, h, w].

        In the unit of the latents; of positions that lie across the edge of the picture only what lies within.
        """
        height, width = pictures.shape[2:]
        difference = to_samples(decoded[:, :, :height, :width]) / 255 - pictures
        squares = difference.square().sum(1, keepdim=True) * PIXEL_SCALE**2
        whole = F.pad(squares, (0, -width % self.config.stride, 0, -height % self.config.stride))
        return F.avg_pool2d(whole, self.config.stride, divisor_override=1)[:, 0]

    @torch.no_grad()
    def to_pictures(self, codes: Tensor, quality: int, weights: Sequence[float] = ()) -> Tensor:
        """Pictures [B, 3, H, W], not clipped, of codes [B, G, H/stride, W/stride] at one quality.

        `weights`: those of the post-filter's kernels; without them it has no part.
        """
        index = torch.full((len(codes),), quality, device=codes.device)
        latents: Tensor = self.quantizer.dequantize(codes, quality)
        pictures: Tensor = self.decoder(latents, index)
        return self.postfilter(pictures, weights) if self.postfilter and weights else pictures

    @property
    def encoder_reach(self) -> int:
        """How many positions beside its own a latent depends on, each way."""
        return self.config.encoder_blocks + 1  # the stem sees less than one block more

    @property
    def decoder_reach(self) -> int:
        """How many latent positions beside its own a pixel depends on, each way."""
        reach = self.config.decoder_blocks + 1  # a pixel's side decides which way the transposed convolutions lean
        return reach + (self.postfilter is not None)  # whose reach is less than a position


def to_samples(pictures: Tensor) -> Tensor:
    """Pictures on 0 to 1, not clipped -> samples of 8 bits: whole numbers from 0 to 255, still floats."""
    return (pictures * 255).round().clamp(0, 255)


class ResidualBlock(nn.Module):
    """x + 1x1(relu(film(3x3(relu(x))))); scale and shift per quality where there are several (FiLM, Perez 2018)."""

    def __init__(self, width: int, inner: int, qualities: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, inner, 3, padding=1)
        self.out = nn.Conv2d(inner, width, 1)
        self.film = nn.Parameter(torch.zeros(qualities, 2, inner)) if qualities > 1 else None

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        h = self.conv(F.relu(x))
        if self.film is not None:
            scale, shift = self.film[quality][:, :, :, None, None].unbind(1)  # [B, inner, 1, 1] each
            h = h * (1 + scale) + shift
        result: Tensor = x + self.out(F.relu(h))
        return result


class Blocks(nn.ModuleList):
    """A stack of residual blocks and the ReLU that closes it."""

    def __init__(self, config: VQVAEConfig, count: int) -> None:
        super().__init__(ResidualBlock(config.width, config.residual_width, config.qualities) for _ in range(count))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        for block in self:
            x = block(x, quality)
        return F.relu(x)


class PatchEncoder(nn.Module):
    """Blocks of pixels -> latents: a 1x1 convolution over unshuffled pixels plus a convolutional branch."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.stride = config.stride
        pixels = 3 * config.stride**2
        self.linear = nn.Conv2d(pixels, config.latent_dim, 1, bias=False)
        self.stem = nn.Conv2d(pixels, config.width, 3, padding=1)
        self.blocks = Blocks(config, config.encoder_blocks)
        self.out = nn.Conv2d(config.width, config.latent_dim, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(_bias(self.out))
        self.gain = _gains(config)

    def forward(self, pictures: Tensor, quality: Tensor) -> Tensor:
        pixels = F.pixel_unshuffle((pictures - 0.5) * PIXEL_SCALE, self.stride)  # [B, 3*s*s, h, w]
        branch = self.out(self.blocks(self.stem(pixels / 8), quality))  # /8: pixels to about unit variance
        latents: Tensor = _exact_1x1(self.linear, pixels) + _scaled(branch.float(), self.gain, quality)
        return latents


class PatchDecoder(nn.Module):
    """Latents -> blocks of pixels: the linear transform's transpose plus a convolutional branch."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.stride = config.stride
        pixels = 3 * config.stride**2
        self.register_buffer("scale", torch.ones(config.latent_dim))  # standard deviation of each latent
        self.scale: Tensor
        self.linear = nn.Conv2d(config.latent_dim, pixels, 1, bias=False)
        self.stem = nn.Conv2d(config.latent_dim, config.width, 3, padding=1)
        self.blocks = Blocks(config, config.decoder_blocks)
        self.out = nn.Conv2d(config.width, pixels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(_bias(self.out))
        self.gain = _gains(config)

    def forward(self, latents: Tensor, quality: Tensor) -> Tensor:
        branch = self.out(self.blocks(self.stem(latents / self.scale[:, None, None]), quality))
        pixels = _exact_1x1(self.linear, latents) + _scaled(branch.float(), self.gain, quality)
        pictures: Tensor = F.pixel_shuffle(pixels, self.stride) / PIXEL_SCALE + 0.5
        return pictures

    @torch.no_grad()
    def at(self, quality: int) -> PatchDecoder:
        """A copy that decodes at one quality only, whichever it is asked for: the same pictures, up to rounding.

        What depends on the quality is multiplied into the weights, and no longer takes passes over memory.
        """
        found = copy.deepcopy(self).requires_grad_(False)
        found.stem.weight.div_(found.scale[:, None, None])
        found.scale.fill_(1)
        for block in found.blocks:
            assert isinstance(block, ResidualBlock)
            if block.film is not None:
                scale, shift = block.film[quality]
                block.conv.weight.mul_((1 + scale)[:, None, None, None])
                _bias(block.conv).mul_(1 + scale).add_(shift)
                block.film = None
        if found.gain is not None:
            found.out.weight.mul_(found.gain[quality])
            _bias(found.out).mul_(found.gain[quality])
            found.gain = None
        return found


class ConvEncoder(nn.Module):
    """4x4 convolutions of stride 2, residual blocks, 1x1 to the latents (van den Oord et al. 2017, section 4.1)."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        steps = int(math.log2(config.stride))
        widths = [3, *[config.width // 2] * (steps - 1), config.width]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.blocks = Blocks(config, config.encoder_blocks)
        self.out = nn.Conv2d(config.width, config.latent_dim, 1)

    def forward(self, pictures: Tensor, quality: Tensor) -> Tensor:
        x = (pictures - 0.5) * 4  # about unit variance
        for i, conv in enumerate(self.down):
            x = conv(F.relu(x) if i else x)
        latents: Tensor = self.out(self.blocks(x, quality)).float()
        return latents


class ConvDecoder(nn.Module):
    """1x1 from the latents, residual blocks, transposed 4x4 convolutions of stride 2 back to pixels."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        steps = int(math.log2(config.stride))
        widths = [config.width, *[config.width // 2] * (steps - 1), 3]
        self.stem = nn.Conv2d(config.latent_dim, config.width, 1)
        self.blocks = Blocks(config, config.decoder_blocks)
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))

    def forward(self, latents: Tensor, quality: Tensor) -> Tensor:
        x = self.blocks(self.stem(latents), quality)
        for i, conv in enumerate(self.up):
            x = conv(F.relu(x) if i else x)
        pictures: Tensor = x.float() / 4 + 0.5
        return pictures


@torch.no_grad()
def start_from_pca(model: VQVAE, pictures: Tensor) -> None:
    """Set the linear transforms of the patch family to the PCA of the blocks of pictures [B, 3, H, W]."""
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, PatchEncoder)
    assert isinstance(decoder, PatchDecoder)
    pixels = F.pixel_unshuffle((pictures - 0.5) * PIXEL_SCALE, encoder.stride)
    blocks = pixels.permute(0, 2, 3, 1).flatten(0, 2).double()  # [N, 3*s*s]
    variances, vectors = torch.linalg.eigh(blocks.T @ blocks / len(blocks))
    order = variances.argsort(descending=True)[: encoder.linear.out_channels]
    basis = vectors[:, order].T.float()  # [D, 3*s*s], largest variance first
    encoder.linear.weight.copy_(basis[:, :, None, None])
    decoder.linear.weight.copy_(basis.T[:, :, None, None])
    decoder.scale.copy_(variances[order].sqrt().float())


def _exact_1x1(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The convolution in float32: 8 bits of mantissa, as in bf16 autocast, would be a visible error of pixels."""
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = conv(x.float())
        return result


def _gains(config: VQVAEConfig) -> nn.Parameter | None:
    """What the branches are multiplied by at each quality: [Q], of the order of the quantiser's error."""
    if config.stem != "scaled":
        return None
    lambdas = [max(value, 1e-3) for value in config.lambdas]
    middle = math.prod(value ** (1 / len(lambdas)) for value in lambdas)  # their geometric mean
    # Numbers, not tensors: arithmetic on torch's meta device, where shapes are checked, takes seconds to import.
    return nn.Parameter(torch.tensor([math.sqrt(value / middle) for value in lambdas]))


def _scaled(branch: Tensor, gain: Tensor | None, quality: Tensor) -> Tensor:
    """The branch [B, C, H, W] times its gain at the qualities [B]."""
    return branch if gain is None else branch * gain[quality][:, None, None, None]


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
