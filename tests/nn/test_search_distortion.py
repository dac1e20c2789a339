"""The distortion of the encoder's search, and its gradient, are those of training (torch)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from conftest import synthetic

from vqcodec.nn.distortion import gradient, local_distortion

torch = pytest.importorskip("torch")

from vqcodec.train.networks import distortion as trained  # noqa: E402

Floats = npt.NDArray[np.float32]
SIZES = [(11, 11), (21, 40), (48, 64), (61, 83), (192, 200)]


def pair(height: int, width: int, noise: float) -> tuple[Floats, Floats]:
    """A picture with noise, and the picture, from 0 to 1."""
    before = synthetic(height, width)
    after = np.clip(before + np.random.default_rng(3).normal(0, noise, before.shape), 0, 255).round()
    return (after / 255).astype(np.float32), (before / 255).astype(np.float32)


def as_batch(picture: Floats) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_each_position_has_the_distortion_of_training(size: tuple[int, int], share: float) -> None:
    decoded, pictures = pair(*size, 20)
    expected = trained.local_distortion(as_batch(decoded), as_batch(pictures), share, 8)[0].numpy()
    found = local_distortion(decoded, pictures, share, 8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("noise", [2, 20, 200])
@pytest.mark.parametrize("size", SIZES)
def test_the_gradient_is_that_of_autograd(size: tuple[int, int], noise: float, share: float) -> None:
    decoded, pictures = pair(*size, noise)
    x = as_batch(decoded).requires_grad_()
    mean = trained.distortion(x, as_batch(pictures), torch.tensor([share]))
    expected = torch.autograd.grad(mean.sum(), x)[0][0].permute(1, 2, 0).numpy()
    found = gradient(decoded, pictures, share)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_pictures_without_anything_in_common_have_a_finite_gradient() -> None:
    _, pictures = pair(64, 64, 1)
    assert np.isfinite(gradient(1 - pictures, pictures, 1.0)).all()
