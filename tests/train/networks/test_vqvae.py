"""The autoencoder: the architecture of the paper, shapes, reach, initialisation by PCA, gradient steps."""

from __future__ import annotations

import pytest
import torch
from conftest import synthetic
from torch import Tensor, nn

from vqcodec.model.config import VQVAEConfig
from vqcodec.train.networks.vqvae import VQVAE, PatchDecoder, start_from_pca

PAPER = VQVAEConfig("conv", 4, 128, 32, 2, 2, ((512, 64),))


def tiny(stem: str, stride: int, *, blocks: int = 1, qualities: int = 2) -> VQVAE:
    """A small network in which every branch affects the output."""
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
    codes = network.to_codes(x, 1)
    assert codes.shape == (2, 2, 2, 3)
    assert network.to_pictures(codes, 1).shape == x.shape


@pytest.mark.parametrize("stem", ["conv", "patch"])
def test_encode_and_decode_are_the_forward_pass(stem: str) -> None:
    network, x = tiny(stem, 8), pictures(32, 40, 2)
    for quality in range(2):
        output = network(x, torch.full((2,), quality))
        codes = network.to_codes(x, quality)
        assert torch.equal(codes, output.quantized.codes)
        torch.testing.assert_close(network.to_pictures(codes, quality), output.reconstruction, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stem", ["patch", "scaled"])
@pytest.mark.parametrize("qualities", [1, 3])
def test_a_decoder_at_one_quality_does_the_same(stem: str, qualities: int) -> None:
    network = tiny(stem, 8, blocks=2, qualities=qualities)
    assert isinstance(network.decoder, PatchDecoder)
    with torch.no_grad():
        for parameter in network.decoder.parameters():  # gains, scales and shifts matter too
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        network.decoder.scale.uniform_(0.5, 2.0)
    before = {name: tensor.clone() for name, tensor in network.decoder.state_dict().items()}
    z = torch.randn(2, network.config.latent_dim, 5, 4, generator=torch.Generator().manual_seed(2))
    for quality in range(qualities):
        found = network.decoder.at(quality)
        for asked in range(qualities):
            wanted = network.decoder(z, torch.full((2,), quality))
            torch.testing.assert_close(found(z, torch.full((2,), asked)), wanted, atol=1e-5, rtol=1e-4)
        assert not any(parameter.requires_grad for parameter in found.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.decoder.state_dict().items())


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
    side, quality = 2 * network.config.encoder_reach + 3, torch.tensor([0])
    x = torch.rand(1, 3, side * stride, side * stride)
    before = network.encoder(x, quality)
    middle = side // 2
    seen = 0
    # The corners of the middle block: what is nearest to the neighbours.
    for row, column in [(0, 0), (0, stride - 1), (stride - 1, 0), (stride - 1, stride - 1)]:
        changed = x.clone()
        changed[0, :, middle * stride + row, middle * stride + column] += 3
        seen = max(seen, spread(network.encoder(changed, quality) - before, middle, 1))
    assert blocks <= seen <= network.config.encoder_reach


@pytest.mark.parametrize("stem", ["conv", "patch"])
@pytest.mark.parametrize(("stride", "blocks"), [(4, 0), (4, 2), (8, 1), (16, 1)])
def test_no_pixel_depends_on_codes_beyond_the_reach(stem: str, stride: int, blocks: int) -> None:
    network = tiny(stem, stride, blocks=blocks)
    side, quality = 2 * network.config.decoder_reach + 3, torch.tensor([0])
    z = torch.randn(1, 6, side, side)
    changed = z.clone()
    changed[0, :, side // 2, side // 2] += 3
    difference = network.decoder(changed, quality) - network.decoder(z, quality)
    assert blocks <= spread(difference, side // 2, stride) <= network.config.decoder_reach


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


# A gradient step towards the picture.


def orthonormal(branch: float) -> tuple[VQVAE, Tensor]:
    """A patch network initialised by PCA with a decoder branch of the given size, and pictures [4, 3, 48, 64]."""
    x = pictures(48, 64, 24)
    torch.manual_seed(8)
    network = VQVAE(VQVAEConfig("patch", 8, 8, 6, 1, 1, ((64, 1), (64, 1), (64, 2), (64, 4)), (2.0, 0.5))).eval()
    start_from_pca(network, x)
    with torch.no_grad():
        network.decoder.out.weight.normal_(0, branch)
        for quality in range(2):
            latents = network.encoder(x, torch.full((24,), quality)).permute(0, 2, 3, 1).flatten(0, 2)
            network.quantizer.start_from(latents, quality)
    return network.requires_grad_(False), x[:4]


def cost(network: VQVAE, codes: Tensor, x: Tensor, quality: int) -> float:
    """|picture - decoder(e)|^2 + lambda * bits, in the units of the latents."""
    error = (network.to_pictures(codes, quality)[:, :, : x.shape[2], : x.shape[3]] - x).square().sum() * 32**2
    bits = sum(network.quantizer.bits(g)[quality][codes[:, g]].sum() for g in range(codes.shape[1]))
    return float(error + network.quantizer.lambdas[quality] * bits)


@pytest.mark.parametrize("quality", [0, 1])
def test_one_full_step_reaches_the_optimum_of_an_orthonormal_decoder(quality: int) -> None:
    """From any start; the optimum is the output of the encoder."""
    network, x = orthonormal(0.0)
    latents = network.encoder(x, torch.full((4,), quality))
    best = network.to_codes(x, quality)
    for codes in (best, torch.zeros_like(best), best.flip(2)):
        moved, _ = network.descend(codes, x, quality, 1.0)
        torch.testing.assert_close(moved, latents, atol=1e-3, rtol=0)
        assert torch.equal(network.quantizer.quantize(moved, quality), best)


@pytest.mark.parametrize("quality", [0, 1])
@pytest.mark.parametrize("size", [(48, 64), (43, 57)])
def test_steps_lower_distortion_plus_rate(quality: int, size: tuple[int, int]) -> None:
    network, x = orthonormal(1.0)
    codes = network.to_codes(x, quality)
    part = x[:, :, : size[0], : size[1]]
    costs = [cost(network, codes, part, quality)]
    for step in (0.6, 0.6, 0.5):
        codes = network.quantizer.quantize(network.descend(codes, part, quality, step)[0], quality, step)
        costs.append(cost(network, codes, part, quality))
    assert costs == sorted(costs, reverse=True)
    assert costs[1] < 0.99 * costs[0]


def test_the_step_goes_along_the_gradient_of_the_decoded_error() -> None:
    network, x = orthonormal(0.2)
    codes = network.to_codes(x, 0)
    latents = network.quantizer.dequantize(codes, 0)
    moved = network.descend(codes, x, 0, 0.25)[0] - latents

    def half_error(shift: float) -> float:
        decoded = network.decoder(latents + shift * moved / moved.norm(), torch.zeros(4, dtype=torch.long))
        return float((decoded - x).double().square().sum() * 32**2 / 2)

    slope = (half_error(1.0) - half_error(-1.0)) / 2
    assert slope == pytest.approx(-moved.norm().item() / 0.25, rel=0.02)


def test_each_position_has_its_own_step_length() -> None:
    network, x = orthonormal(0.2)
    codes = network.to_codes(x, 0)
    latents = network.quantizer.dequantize(codes, 0)
    lengths = torch.rand(latents.shape[2:])
    whole = network.descend(codes, x, 0, 1.0)[0] - latents
    moved = network.descend(codes, x, 0, lengths)[0] - latents
    torch.testing.assert_close(moved, lengths * whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(41, 64), (48, 57), (33, 63)])
def test_pixels_outside_the_picture_are_ignored(size: tuple[int, int]) -> None:
    """The result is as if the decoder had no error there."""
    network, x = orthonormal(0.2)
    codes = network.to_codes(x, 1)
    met = network.to_pictures(codes, 1)
    met[:, :, : size[0], : size[1]] = x[:, :, : size[0], : size[1]]
    short, errors = network.descend(codes, x[:, :, : size[0], : size[1]], 1, 0.6)
    torch.testing.assert_close(short, network.descend(codes, met, 1, 0.6)[0], atol=1e-4, rtol=1e-4)
    whole, others = network.descend(codes, x, 1, 0.6)
    assert not torch.allclose(short, whole)
    rows, columns = (side // network.config.stride for side in size)  # that lie within as a whole
    assert torch.equal(errors[:, :rows, :columns], others[:, :rows, :columns])
    others = others[:, : errors.shape[1], : errors.shape[2]]
    assert (errors <= others).all()
    assert (errors < others).any()


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_no_step_depends_on_codes_or_pixels_beyond_the_reach(blocks: int) -> None:
    network = tiny("patch", 4, blocks=blocks)
    reach = network.config.decoder_reach
    middle = 2 * reach + 1
    side = 2 * middle + 1
    codes, x = torch.randint(8, (1, 2, side, side)), torch.rand(1, 3, side * 4, side * 4)
    before, _ = network.descend(codes, x, 0, 0.6)
    others = codes.clone()
    others[0, :, middle, middle] = (others[0, :, middle, middle] + 3) % 8
    assert reach < spread(network.descend(others, x, 0, 0.6)[0] - before, middle, 1) <= 2 * reach
    changed = x.clone()
    changed[0, :, middle * 4 : middle * 4 + 4, middle * 4 : middle * 4 + 4] += 1
    assert blocks <= spread(network.descend(codes, changed, 0, 0.6)[0] - before, middle, 1) <= reach


def test_a_step_leaves_the_network_as_it_was() -> None:
    network = tiny("patch", 8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    moved, errors = network.descend(torch.zeros(1, 2, 4, 4, dtype=torch.long), pictures(32, 32), 0, 0.6)
    assert not moved.requires_grad
    assert not errors.requires_grad
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
