"""Pictures <-> latents and codes: the VQ-VAE (encoder, quantiser, decoder, post-filter), in floats.

In: pictures [B, 3, H, W] in [0, 1], H and W multiples of the stride. Out: latents [B, D, H/stride, W/stride], and back.

There are two families of networks, which share the residual blocks:

- "conv" is the network of van den Oord et al. 2017 (section 4.1), with strided convolutions in the encoder and
  transposed ones in the decoder.
- "patch" (and its variant "scaled") is a linear transform of stride x stride blocks plus convolutional branches. The
  transform is initialised with a PCA and the branches with zeros, so training refines a codec that already works. The
  PCA is orthonormal: a squared error of latents equals a squared error of pixels, in steps of 1/PIXEL_SCALE.
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
from vqcodec.nn.fold import PIXEL_SCALE
from vqcodec.train.networks.distortion import distortion, local_distortion
from vqcodec.train.networks.postfilter import Postfilter
from vqcodec.train.networks.quantizer import Quantized, VectorQuantizer

__all__ = ["VQVAE", "Output", "PatchDecoder", "start_from_pca", "to_samples"]


@dataclass(frozen=True)
class Output:
    """The result of a forward pass: the reconstruction [B, 3, H, W] and the result of the quantiser."""

    reconstruction: Tensor
    quantized: Quantized


class VQVAE(nn.Module):
    """Encoder, vector quantiser, decoder and post-filter. Qualities are 0-based: indices into `config.lambdas`."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: nn.Module = PatchEncoder(config) if config.transform else ConvEncoder(config)
        self.quantizer = VectorQuantizer(config)
        self.decoder: nn.Module = PatchDecoder(config) if config.transform else ConvDecoder(config)
        self.postfilter = Postfilter(config.postfilter) if config.postfilter else None

    def forward(self, pictures: Tensor, quality: Tensor) -> Output:
        """Reconstruct pictures [B, 3, H, W] at the qualities [B], without the post-filter."""
        quantized = self.quantizer(self.encoder(pictures, quality), quality)
        return Output(self.decoder(quantized.latents, quality), quantized)

    @torch.no_grad()
    def to_codes(self, pictures: Tensor, quality: int, scale: float = 1.0) -> Tensor:
        """Codes [B, G, H/stride, W/stride] of pictures [B, 3, H, W] at one quality, with lambda times `scale`."""
        index = torch.full((len(pictures),), quality, device=pictures.device)
        return self.quantizer.quantize(self.encoder(pictures, index), quality, scale)

    @torch.no_grad()
    def descend(
        self,
        codes: Tensor,
        pictures: Tensor,
        quality: int,
        step: float | Tensor,
        decoder: nn.Module | None = None,
        structure: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """One gradient step on the latents of codes [B, G, h, w], down the distortion of the *decoded* picture.

        Returns the moved latents [B, D, h, w] and the `errors` [B, h, w] of the codes. `step` is the step length, one
        for all positions or one for each [h, w]. Quantising the result with `step` times lambda completes a step of
        proximal gradient descent (Beck & Teboulle 2009, section 2.2) on |picture - decoder(e)|^2 + lambda * bits,
        or with a share `structure` of the structural term in the distortion (`nn.distortion`).

        H and W of the pictures [B, 3, H, W] need not be multiples of the stride: decoded pixels outside the picture
        are ignored. `decoder`: a faster equivalent of the network's own decoder.
        """
        assert self.config.transform, "the latents of the conv family are not in pixel units"
        index = torch.full((len(codes),), quality, device=codes.device)
        latents = self.quantizer.dequantize(codes, quality)
        with torch.enable_grad():
            latents.requires_grad_()
            decoded = (decoder or self.decoder)(latents, index)
            inside = decoded[:, :, : pictures.shape[2], : pictures.shape[3]].float()
            means = distortion(inside, pictures, torch.full((len(codes),), structure, device=codes.device))
            (gradient,) = torch.autograd.grad(means.sum() * (pictures[0].numel() * PIXEL_SCALE**2 / 2), latents)
        return latents.detach() - step * gradient, self.errors(decoded.detach(), pictures, structure)

    def errors(self, decoded: Tensor, pictures: Tensor, structure: float = 0.0) -> Tensor:
        """Distortion [B, h, w] of decoded pictures, rounded to 8 bits, against pictures [B, 3, H, W].

        The sums are per position, in units of the latents. Pixels outside the picture do not count. `structure`: the
        share of the structural term; the rest, by default all, is squared error.
        """
        height, width = pictures.shape[2:]
        samples = to_samples(decoded[:, :, :height, :width]) / 255
        scale = 3 * self.config.stride**2 * PIXEL_SCALE**2
        return scale * local_distortion(samples, pictures, structure, self.config.stride)

    @torch.no_grad()
    def to_pictures(self, codes: Tensor, quality: int, weights: Sequence[float] = ()) -> Tensor:
        """Decode codes [B, G, H/stride, W/stride] at one quality to pictures [B, 3, H, W], not clipped.

        `weights`: the weights of the post-filter's kernels. Without weights the post-filter is skipped.
        """
        index = torch.full((len(codes),), quality, device=codes.device)
        latents: Tensor = self.quantizer.dequantize(codes, quality)
        pictures: Tensor = self.decoder(latents, index)
        return self.postfilter(pictures, weights) if self.postfilter and weights else pictures


def to_samples(pictures: Tensor) -> Tensor:
    """Pictures with range [0, 1], not clipped -> 8-bit samples: integers from 0 to 255, as floats."""
    return (pictures * 255).round().clamp(0, 255)


class ResidualBlock(nn.Module):
    """x + 1x1(relu(film(3x3(relu(x))))).

    With several qualities, `film` is a scale and a shift for each quality (FiLM, Perez 2018); with one, the identity.
    """

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
    """A stack of residual blocks, followed by a ReLU."""

    def __init__(self, config: VQVAEConfig, count: int) -> None:
        super().__init__(ResidualBlock(config.width, config.residual_width, config.qualities) for _ in range(count))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        for block in self:
            x = block(x, quality)
        return F.relu(x)


class PatchEncoder(nn.Module):
    """Pictures -> latents: a linear transform of blocks of pixels plus a convolutional branch.

    The transform is a 1x1 convolution over the pixels of a block, unshuffled to channels.
    """

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
        branch = self.out(self.blocks(self.stem(pixels / 8), quality))  # / 8 gives about unit variance
        latents: Tensor = _exact_1x1(self.linear, pixels) + _scaled(branch.float(), self.gain, quality)
        return latents


class PatchDecoder(nn.Module):
    """Latents -> pictures: the transpose of the linear transform plus a convolutional branch."""

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
        """A copy specialised to one quality (0-based). It ignores the quality that its `forward` is given.

        The scales and shifts of that quality are folded into the weights, which saves passes over memory. The decoded
        pictures are the same, up to rounding.
        """
        decoder = copy.deepcopy(self).requires_grad_(False)
        decoder.stem.weight.div_(decoder.scale[:, None, None])
        decoder.scale.fill_(1)
        for block in decoder.blocks:
            assert isinstance(block, ResidualBlock)
            if block.film is not None:
                scale, shift = block.film[quality]
                block.conv.weight.mul_((1 + scale)[:, None, None, None])
                _bias(block.conv).mul_(1 + scale).add_(shift)
                block.film = None
        if decoder.gain is not None:
            decoder.out.weight.mul_(decoder.gain[quality])
            _bias(decoder.out).mul_(decoder.gain[quality])
            decoder.gain = None
        return decoder


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
    """Initialise the linear transforms of the patch family with the PCA of the blocks of pictures [B, 3, H, W]."""
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
    """The convolution in float32. The 8-bit mantissa of bf16 autocast would cause visible errors of the pixels."""
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = conv(x.float())
        return result


def _gains(config: VQVAEConfig) -> nn.Parameter | None:
    """The initial gains of the branches at each quality: [Q], proportional to the quantisation error.

    None unless the stem is "scaled".
    """
    if config.stem != "scaled":
        return None
    lambdas = [max(value, 1e-3) for value in config.lambdas]
    mean = math.prod(value ** (1 / len(lambdas)) for value in lambdas)  # geometric
    # Python floats instead of tensors: the shapes of a model are checked on torch's meta device, and the first tensor
    # arithmetic there imports modules for seconds.
    return nn.Parameter(torch.tensor([math.sqrt(value / mean) for value in lambdas]))


def _scaled(branch: Tensor, gain: Tensor | None, quality: Tensor) -> Tensor:
    """The branch [B, C, H, W] times its gain at the qualities [B]."""
    return branch if gain is None else branch * gain[quality][:, None, None, None]


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
