"""The distortion that training minimises: squared error and MS-SSIM, with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import synthetic

from vqcodec.picture import metrics
from vqcodec.train.networks.distortion import STRUCTURE, distortion, local_distortion, ms_ssim


def pair(height: int, width: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture [1, 3, H, W] and the same with noise, both in 8 bits."""
    before = synthetic(height, width)
    change = np.random.default_rng(3).normal(0, noise, before.shape)
    after = np.clip(before + change, 0, 255).round().astype(np.uint8)
    return as_tensor(before), as_tensor(after)


def as_tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(("height", "width", "noise"), [(176, 176, 5), (192, 200, 30), (181, 233, 90)])
def test_ms_ssim_is_the_measure(height: int, width: int, noise: float) -> None:
    before, after = pair(height, width, noise)
    samples = [(each[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8) for each in (before, after)]
    assert float(ms_ssim(after, before)) == pytest.approx(metrics.ms_ssim(*samples), abs=2e-5)
    assert float(ms_ssim(before, before)) == pytest.approx(1)


def test_pictures_of_a_batch_do_not_mix() -> None:
    a, b = pair(48, 64, 10)
    c, d = pair(48, 64, 60)
    both = ms_ssim(torch.cat([b, d]), torch.cat([a, c]))
    assert both.tolist() == pytest.approx([float(ms_ssim(b, a)), float(ms_ssim(d, c))], abs=1e-6)
    assert 0 < both[1] < both[0] < 1


def test_the_terms_and_their_shares() -> None:
    before, after = pair(192, 192, 20)
    error = (after - before).square().mean()
    none, half, whole = (float(distortion(after, before, torch.tensor([share]))) for share in (0.0, 0.5, 1.0))
    assert none == pytest.approx(float(error))
    assert whole == pytest.approx(STRUCTURE * (1 - float(ms_ssim(after, before))), rel=1e-4)
    assert half == pytest.approx((none + whole) / 2, rel=1e-4)


def test_a_step_down_the_gradient_lowers_it() -> None:
    before, after = pair(96, 96, 20)
    after = after.requires_grad_(True)
    shares = torch.tensor([0.5])
    start = distortion(after, before, shares)
    start.sum().backward()
    assert after.grad is not None
    assert after.grad.isfinite().all()
    with torch.no_grad():
        moved = after - 1e-3 * after.grad / after.grad.norm() * after.numel() ** 0.5
    assert float(distortion(moved, before, shares)) < start.item()


def test_the_gradient_is_finite_for_pictures_without_anything_in_common() -> None:
    before, _ = pair(64, 64, 1)
    negative = (1 - before).requires_grad_(True)
    distortion(negative, before, torch.ones(1)).sum().backward()
    assert negative.grad is not None
    assert negative.grad.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(192, 200), (61, 83), (48, 64)])
def test_the_parts_of_the_positions_add_up(height: int, width: int) -> None:
    before, after = pair(height, width, 3)
    parts = local_distortion(after, before, 0.0, 8)
    assert parts.shape == (1, -(-height // 8), -(-width // 8))
    assert float(parts.sum()) * 64 == pytest.approx(float((after - before).square().mean(1).sum()), rel=1e-4)
    parts = local_distortion(after, before, 1.0, 8)
    assert float(parts.mean()) == pytest.approx(float(distortion(after, before, torch.ones(1))), rel=0.05)


def test_a_change_counts_where_it_is() -> None:
    before, after = pair(192, 192, 5)
    worse = after.clone()
    worse[:, :, 80:112, 80:112] = 0.5
    change = local_distortion(worse, before, 0.5, 8)[0] - local_distortion(after, before, 0.5, 8)[0]
    row, column = divmod(int(change.argmax()), change.shape[1])
    assert 9 <= row <= 14
    assert 9 <= column <= 14
    assert float(change[10:14, 10:14].mean()) > 20 * float(change[:4, :4].abs().mean())
