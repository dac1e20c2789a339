"""The autoencoder: the paper's architecture, shapes, how far a network looks, the start as a PCA."""

from __future__ import annotations

import pytest
import torch
from conftest import synthetic
from torch import Tensor, nn

from vqcodec.config import VQVAEConfig
from vqcodec.nn.vqvae import VQVAE, start_from_pca

PAPER = VQVAEConfig("conv", 4, 128, 32, 2, 2, ((512, 64),))


def tiny(stem: str, stride: int, *, blocks: int = 1, qualities: int = 2) -> VQVAE:
    """A small network whose every branch matters."""
    torch.manual_seed(stride)
    lambdas = tuple(1.0 / (1 + i) for i in range(qualities))
    network = VQVAE(VQVAEConfig(stem, stride, 8, 6, blocks, blocks, ((8, 2), (8, 4)), lambdas))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.abs().sum() == 0:
                parameter.normal_(0, 0.3)
    return network.eval()


def pictures(height: int, width: int, count: int = 1) -> Tensor:
    stack = torch.stack([torch.from_numpy(synthetic(height, width, seed)) for seed in range(count)])
    return stack.permute(0, 3, 1, 2).float() / 255


def test_the_paper_config_is_the_paper_network() -> None:
    network = VQVAE(PAPER)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    block = {"conv.weight": (32, 128, 3, 3), "conv.bias": (32,), "out.weight": (128, 32, 1, 1), "out.bias": (128,)}
    expected = {
        "encoder.down.0.weight": (64, 3, 4, 4),
        "encoder.down.0.bias": (64,),
        "encoder.down.1.weight": (128, 64, 4, 4),
        "encoder.down.1.bias": (128,),
        "encoder.out.weight": (64, 128, 1, 1),
        "encoder.out.bias": (64,),
        "decoder.stem.weight": (128, 64, 1, 1),
        "decoder.stem.bias": (128,),
        "decoder.up.0.weight": (128, 64, 4, 4),  # a transposed convolution: inputs first
        "decoder.up.0.bias": (64,),
        "decoder.up.1.weight": (64, 3, 4, 4),
        "decoder.up.1.bias": (3,),
        "quantizer.vectors0": (1, 512, 64),
        "quantizer.sums0": (1, 512, 64),
        "quantizer.counts0": (1, 512),
    }
    for half in ("encoder", "decoder"):
        for index in range(2):
            expected |= {f"{half}.blocks.{index}.{name}": shape for name, shape in block.items()}
    assert shapes == expected
    for conv in [*network.encoder.down, *network.decoder.up]:
        assert (conv.stride, conv.padding) == ((2, 2), (1, 1))
    kinds = [type(module) for module in network.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]
    assert kinds.count(nn.ConvTranspose2d) == 2
    assert PAPER.naive_bits == 9
    assert 3 * 8 * PAPER.stride**2 / PAPER.naive_bits == pytest.approx(42.67, abs=0.005)


@pytest.mark.parametrize("stem", ["conv", "patch"])
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_shapes(stem: str, stride: int) -> None:
    network, x = tiny(stem, stride), pictures(2 * stride, 3 * stride, 2)
    output = network(x, torch.tensor([0, 1]))
    assert output.reconstruction.shape == x.shape
    assert output.quantized.latents.shape == (2, 6, 2, 3)
    assert output.quantized.codes.shape == (2, 2, 2, 3)
    codes = network.encode(x, 1)
    assert codes.shape == (2, 2, 2, 3)
    assert network.decode(codes, 1).shape == x.shape


@pytest.mark.parametrize("stem", ["conv", "patch"])
def test_encode_and_decode_are_the_forward_pass(stem: str) -> None:
    network, x = tiny(stem, 8), pictures(32, 40, 2)
    for quality in range(2):
        output = network(x, torch.full((2,), quality))
        codes = network.encode(x, quality)
        assert torch.equal(codes, output.quantized.codes)
        torch.testing.assert_close(network.decode(codes, quality), output.reconstruction, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stem", ["conv", "patch"])
def test_the_quality_reaches_the_residual_blocks(stem: str) -> None:
    network = tiny(stem, 8)
    x = pictures(32, 32)
    low, high = (network.encoder(x, torch.tensor([quality])) for quality in range(2))
    assert not torch.allclose(low, high)
    z = torch.randn(1, 6, 4, 4)
    low, high = (network.decoder(z, torch.tensor([quality])) for quality in range(2))
    assert not torch.allclose(low, high)
    assert not any("film" in name for name in tiny(stem, 8, qualities=1).state_dict())


@pytest.mark.parametrize("stem", ["conv", "patch"])
@pytest.mark.parametrize(("stride", "blocks"), [(4, 0), (4, 2), (8, 1), (16, 1)])
def test_no_latent_depends_on_pixels_beyond_the_reach(stem: str, stride: int, blocks: int) -> None:
    network = tiny(stem, stride, blocks=blocks)
    side, quality = 2 * network.encoder_reach + 3, torch.tensor([0])
    x = torch.rand(1, 3, side * stride, side * stride)
    before = network.encoder(x, quality)
    middle = side // 2
    seen = 0
    # The corners of the middle block: what is nearest to the neighbours.
    for row, column in [(0, 0), (0, stride - 1), (stride - 1, 0), (stride - 1, stride - 1)]:
        changed = x.clone()
        changed[0, :, middle * stride + row, middle * stride + column] += 3
        seen = max(seen, spread(network.encoder(changed, quality) - before, middle, 1))
    assert blocks <= seen <= network.encoder_reach


@pytest.mark.parametrize("stem", ["conv", "patch"])
@pytest.mark.parametrize(("stride", "blocks"), [(4, 0), (4, 2), (8, 1), (16, 1)])
def test_no_pixel_depends_on_codes_beyond_the_reach(stem: str, stride: int, blocks: int) -> None:
    network = tiny(stem, stride, blocks=blocks)
    side, quality = 2 * network.decoder_reach + 3, torch.tensor([0])
    z = torch.randn(1, 6, side, side)
    changed = z.clone()
    changed[0, :, side // 2, side // 2] += 3
    difference = network.decoder(changed, quality) - network.decoder(z, quality)
    assert blocks <= spread(difference, side // 2, stride) <= network.decoder_reach


def spread(difference: Tensor, middle: int, stride: int) -> int:
    """The largest distance, in positions, between `middle` and a place where the difference [1, C, H, W] is not 0."""
    rows, columns = difference[0].abs().amax(0).nonzero(as_tuple=True)
    assert len(rows), "nothing changed at all"
    return max((rows // stride - middle).abs().max().item(), (columns // stride - middle).abs().max().item())


@pytest.mark.parametrize("stride", [4, 8])
def test_a_whole_pca_loses_nothing(stride: int) -> None:
    network = VQVAE(VQVAEConfig("patch", stride, 8, 4, 1, 1, ((2, 3 * stride**2),)))
    x = pictures(64, 64, 4)
    start_from_pca(network, x)
    quality = torch.zeros(4, dtype=torch.long)
    latents = network.encoder(x, quality)
    torch.testing.assert_close(network.decoder(latents, quality), x, atol=1e-4, rtol=0)
    basis = network.encoder.linear.weight[:, :, 0, 0]
    torch.testing.assert_close(basis @ basis.T, torch.eye(3 * stride**2), atol=1e-4, rtol=0)
    # An error of a latent is an error of pixels of the same size, in steps of 1/32 of the range.
    error = torch.randn_like(latents)
    pixels = (network.decoder(latents + error, quality) - x) * 32
    assert pixels.square().sum().item() == pytest.approx(error.square().sum().item(), rel=1e-3)


def test_a_pca_keeps_the_largest_variances_first() -> None:
    network = VQVAE(VQVAEConfig("patch", 8, 8, 4, 1, 1, ((2, 6), (2, 6))))
    x = pictures(64, 64, 8)
    start_from_pca(network, x)
    latents = network.encoder(x, torch.zeros(8, dtype=torch.long))
    deviations = latents.square().mean((0, 2, 3)).sqrt()
    assert (deviations[:-1] >= deviations[1:] - 1e-3).all()
    torch.testing.assert_close(network.decoder.scale, deviations, rtol=1e-3, atol=1e-3)
    error = (network.decoder(latents, torch.zeros(8, dtype=torch.long)) - x).square().mean()
    assert error < 0.1 * x.var()
