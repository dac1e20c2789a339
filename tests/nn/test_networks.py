"""Networks in numpy and in native code give the results of those in torch: latents, codes, pixels, the step back."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from conftest import synthetic

from vqcodec.model.config import VQVAEConfig
from vqcodec.nn.decoder import PatchDecoder
from vqcodec.nn.networks import Networks
from vqcodec.nn.trunk import Signs
from vqcodec.threads import Workers

torch = pytest.importorskip("torch")

from vqcodec.train.networks.vqvae import VQVAE  # noqa: E402
from vqcodec.train.networks.weights import _shipped  # noqa: E402

BOOKS = ((16, 1), (8, 2), (32, 4))
PATCH = VQVAEConfig("patch", 8, 12, 10, 2, 3, BOOKS, (3.0, 0.2))
SCALED = dataclasses.replace(PATCH, stem="scaled", stride=16, lambdas=(4.0, 1.0, 0.1), postfilter=3)
CONV = VQVAEConfig("conv", 4, 12, 5, 2, 2, ((32, 6),))
DEEP = dataclasses.replace(CONV, stride=16, lambdas=(0.0, 0.5))
CONFIGS = {"patch": PATCH, "scaled": SCALED, "conv": CONV, "deep": DEEP}
SIZES = [(1, 1), (1, 6), (5, 3), (11, 14)]
ONE = Workers(1)
Floats = npt.NDArray[np.float32]


def pair(config: VQVAEConfig) -> tuple[VQVAE, Networks]:
    """The same networks of random weights, of which all matter, in torch and in numpy."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        network = VQVAE(config).eval().requires_grad_(False)
        for name, tensor in network.state_dict().items():
            if name.endswith(("film", "kernels", "encoder.out.weight", "decoder.out.weight")):
                tensor.normal_(0, 0.2)
            elif name.endswith("bias"):
                tensor.normal_(0, 0.1)
            elif name.startswith("quantizer.counts"):
                tensor.uniform_(0, 9)
            elif name.startswith("quantizer.vectors"):
                tensor.normal_(0, 2)
            elif name == "decoder.scale":
                tensor.uniform_(0.5, 3)
    state = network.state_dict()
    return network, Networks(config, {name: state[name].numpy() for name in _shipped(network)})


def as_batch(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def rows(tensor: torch.Tensor) -> Floats:
    """A batch of one [1, C, H, W] as [H, W, C]."""
    found: Floats = tensor[0].permute(1, 2, 0).numpy()
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_latents_codes_and_pixels_are_those_of_torch(
    implementation: str, config: VQVAEConfig, size: tuple[int, int]
) -> None:
    theirs, ours = pair(config)
    pixels = synthetic(size[0] * config.stride, size[1] * config.stride)
    for quality in range(config.qualities):
        latents = rows(theirs.encoder(as_batch(pixels), torch.tensor([quality])))
        found = ours.encoder(quality).forward(pixels, ONE)
        assert found.shape == latents.shape
        np.testing.assert_allclose(found, latents, atol=1e-4 * np.abs(latents).max())
        # From the same latents, the codes are the same except where two are equally good.
        codes = theirs.quantizer.quantize(torch.from_numpy(latents).permute(2, 0, 1)[None], quality)
        same = ours.quantizer.quantize(latents, quality, 1.0, ONE)
        assert (same != codes[0].numpy()).mean() <= 0.002
        assert (ours.to_codes(pixels, quality, 1.0, ONE) != codes[0].numpy()).mean() <= 0.01
        decoded = 255 * rows(theirs.to_pictures(codes, quality))
        again = ours.to_pictures(codes[0].numpy().astype(np.int32), quality, ONE)
        np.testing.assert_allclose(again, decoded, atol=2e-3 * max(1, np.abs(decoded).max() / 255))


def test_the_postfilter_is_that_of_torch(implementation: str) -> None:
    theirs, ours = pair(SCALED)
    assert theirs.postfilter is not None
    assert ours.postfilter is not None
    weights = (0.5, -0.25, 0.1)
    for size in ((16, 16), (48, 80)):
        pixels = synthetic(*size)
        found = ours.postfilter.apply(pixels.astype(np.float32), weights)
        np.testing.assert_allclose(found, 255 * rows(theirs.postfilter(as_batch(pixels), weights)), atol=2e-3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("config", [PATCH, SCALED], ids=["patch", "scaled"])
def test_the_step_back_is_the_gradient(implementation: str, config: VQVAEConfig, size: tuple[int, int]) -> None:
    theirs, ours = pair(config)
    rng = np.random.default_rng(1)
    slopes = rng.normal(size=(size[0] * config.stride, size[1] * config.stride, 3)).astype(np.float32)
    for quality in range(config.qualities):
        latents = rng.normal(0, 3, (*size, config.latent_dim)).astype(np.float32)
        z = torch.from_numpy(latents).permute(2, 0, 1)[None].requires_grad_()
        pictures = 255 * theirs.decoder(z, torch.tensor([quality]))
        (gradient,) = torch.autograd.grad(pictures, z, torch.from_numpy(slopes).permute(2, 0, 1)[None])
        decoder, signs = ours.decoder(quality), Signs()
        assert isinstance(decoder, PatchDecoder)
        decoder.forward(latents, ONE, signs)
        found = decoder.back(slopes, signs, ONE)
        # Where a value before a ReLU is almost 0, its sign and thus the gradient may differ.
        near = np.isclose(found, rows(gradient), rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))
        assert near.mean() > 0.995


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_part_of_the_positions_is_that_of_the_whole(implementation: str, config: VQVAEConfig) -> None:
    _, ours = pair(config)
    pixels = synthetic(23 * config.stride, 30 * config.stride)
    area = (slice(6, 12), slice(17, 30))
    latents = ours.encoder(0).forward(pixels, ONE)
    np.testing.assert_allclose(ours.encoder(0).forward(pixels, ONE, area), latents[area], atol=1e-3)
    whole = ours.decoder(0).forward(latents, ONE)
    inside = tuple(slice(part.start * config.stride, part.stop * config.stride) for part in area)
    np.testing.assert_allclose(ours.decoder(0).forward(latents, ONE, wanted=area), whole[inside], atol=1e-2)
