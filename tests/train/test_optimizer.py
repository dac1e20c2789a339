"""The optimiser: Muon for matrices, Adam for the rest, and which weights are which."""

from __future__ import annotations

import pytest
import torch
from conftest import CONV, PATCH
from torch import Tensor, nn

from vqcodec.model.config import ModelConfig, PriorConfig
from vqcodec.train.networks.pixelcnn import GatedPixelCNN
from vqcodec.train.networks.vqvae import VQVAE
from vqcodec.train.optimizer import UPDATE_RMS, WEIGHT_DECAY, Muon, hidden_weights, orthogonalize
from vqcodec.train.prior import PriorStage
from vqcodec.train.vqvae import VQVAEStage


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


@pytest.mark.parametrize("shape", [(8, 8), (64, 8), (8, 64), (96, 480), (33, 1), (1, 33)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_an_orthogonalised_matrix_has_singular_values_near_1(shape: tuple[int, int], size: float) -> None:
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.logspace(0, -2, min(shape))
    matrix = size * left @ values.diag() @ right
    result = orthogonalize(matrix)
    assert (result.shape, result.dtype) == (matrix.shape, matrix.dtype)
    found = torch.linalg.svdvals(result)
    clear = values / values.norm() > 0.005  # smaller values would need more iterations
    assert clear.float().mean() > 0.6
    assert found.max() < 1.3
    assert found[: int(clear.sum())].min() > 0.6
    # The same directions: U^T result V is diagonal, about.
    inner = left.T @ result @ right.T
    assert (inner.diagonal()[clear] > 0.6).all()
    assert (inner - inner.diagonal().diag()).abs().max() < 0.1


def test_no_gradient_makes_no_update() -> None:
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))


@pytest.mark.parametrize("shape", [(40, 10), (10, 40), (12, 6, 3, 3)])
def test_one_update_is_as_large_as_one_of_adam(shape: tuple[int, ...]) -> None:
    """Both can use the same learning rate, whatever the size of the gradient."""
    for size in (1e-4, 1e4):
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = size * torch.randn(shape)
        Muon([weight], [], lr=0.1).step()
        change = -weight.detach()
        assert change.square().mean().sqrt().item() == pytest.approx(0.1 * UPDATE_RMS, rel=0.3)
        assert (change * weight.grad).sum() > 0, "the step goes down"


def test_the_matrix_of_a_convolution_has_a_row_for_each_output() -> None:
    weight, flat = nn.Parameter(torch.randn(6, 5, 3, 3)), nn.Parameter(torch.randn(6, 45))
    flat.data = weight.detach().flatten(1).clone()
    weight.data = weight.detach().contiguous(memory_format=torch.channels_last)
    optimizer = Muon([weight, flat], [], lr=0.1)
    for _ in range(3):
        weight.grad = torch.randn(6, 5, 3, 3)
        flat.grad = weight.grad.flatten(1).clone()
        optimizer.step()
    torch.testing.assert_close(weight.detach().flatten(1), flat.detach())


def test_the_momentum_looks_ahead() -> None:
    """Nesterov: what counts is gradient + 0.95 * momentum, and the momentum sums gradients that fade by 0.95."""
    weight, gradients = nn.Parameter(torch.randn(4, 6)), torch.randn(3, 4, 6)
    optimizer, momentum = Muon([weight], [], lr=0.1), torch.zeros(4, 6)
    for gradient in gradients:
        before = weight.detach().clone()
        weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.95 * momentum + gradient
        update = orthogonalize(gradient + 0.95 * momentum) * UPDATE_RMS * 6**0.5
        torch.testing.assert_close(weight.detach(), (1 - 0.1 * WEIGHT_DECAY) * before - 0.1 * update)


def test_matrices_shrink_by_a_share_of_the_learning_rate_and_the_others_do_not() -> None:
    matrix, other = nn.Parameter(torch.randn(3, 5)), nn.Parameter(torch.randn(3, 5))
    before = matrix.detach().clone(), other.detach().clone()
    matrix.grad, other.grad = torch.zeros(3, 5), torch.zeros(3, 5)
    Muon([matrix], [other], lr=0.3).step()
    torch.testing.assert_close(matrix.detach(), (1 - 0.3 * WEIGHT_DECAY) * before[0])
    assert torch.equal(other, before[1])


def test_the_others_are_trained_by_adam() -> None:
    shapes = [(7,), (3, 4), (2, 2, 3)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    muon, adam = Muon([], ours, lr=0.02), torch.optim.Adam(theirs, lr=0.02)
    for step in range(60):
        for group in (*muon.param_groups, *adam.param_groups):
            group["lr"] = 0.02 / (1 + step)
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine) * 10.0 ** (step % 5 - 2)
            other.grad = mine.grad.clone()
        muon.step()
        adam.step()
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


class Fit(nn.Module):
    """Least squares with a hidden layer: 40 outputs of a small network of the same kind."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(12, 24), nn.Linear(24, 4)
        self.x = torch.randn(40, 12)
        with torch.no_grad():
            self.y = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 4))(self.x)

    def loss(self) -> Tensor:
        return (self.outer(torch.relu(self.inner(self.x))) - self.y).square().mean()

    def train_for(self, optimizer: Muon, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            self.loss().backward()
            optimizer.step()


def test_least_squares_are_found() -> None:
    network = Fit()
    before = network.loss().item()
    network.train_for(Muon(*hidden_weights(network, ("inner",)), lr=0.01), 150)
    assert network.loss().item() < 0.05 * before


def test_a_saved_state_leads_to_the_same_weights() -> None:
    network = Fit()
    optimizer = Muon(*hidden_weights(network, ("inner",)), lr=0.01)
    network.train_for(optimizer, 7)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    moments = optimizer.state_dict()
    moments["state"] = {n: {k: v.clone() for k, v in state.items()} for n, state in moments["state"].items()}
    network.train_for(optimizer, 5)
    expected = [p.detach().clone() for p in network.parameters()]

    network.load_state_dict(weights)
    again = Muon(*hidden_weights(network, ("inner",)), lr=0.01)
    again.load_state_dict(moments)
    network.train_for(again, 5)
    assert all(torch.equal(a, b) for a, b in zip(expected, network.parameters(), strict=True))

    network.load_state_dict(weights)
    network.train_for(Muon(*hidden_weights(network, ("inner",)), lr=0.01), 5)
    assert not torch.equal(expected[0], network.inner.weight), "the moments make no difference: this shows nothing"


def test_weights_without_a_gradient_stay() -> None:
    used, unused = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(2, 3))
    for optimizer in (Muon([used, unused], [], lr=0.1), Muon([], [used, unused], lr=0.1)):
        used.grad = torch.randn(2, 3)
        optimizer.step()
        assert torch.equal(unused, torch.ones(2, 3))
        assert len(optimizer.state) == 1


def names_of(network: nn.Module, stage: type[VQVAEStage] | type[PriorStage]) -> tuple[set[str], set[str]]:
    """Names of the weights that Muon trains, and of the others."""
    name_of = {id(p): name for name, p in network.named_parameters()}
    first, second = ([name_of[id(p)] for p in part] for part in hidden_weights(network, stage.hidden))
    assert len(first) + len(second) == len(name_of) == len({*first, *second}), "each weight is in one list"
    return set(first), set(second)


@pytest.mark.parametrize("config", [CONV, PATCH], ids=lambda config: config.name)
def test_the_hidden_weights_of_the_autoencoder(config: ModelConfig) -> None:
    matrices, others = names_of(VQVAE(config.vqvae), VQVAEStage)
    blocks = {f"{side}.blocks.0.{part}.weight" for side in ("encoder", "decoder") for part in ("conv", "out")}
    stems = {
        "patch": {"encoder.stem.weight", "decoder.stem.weight"},
        "conv": {
            "decoder.stem.weight",
            *(f"{part}.{n}.weight" for part in ("encoder.down", "decoder.up") for n in "01"),
        },
    }
    assert matrices == blocks | stems[config.vqvae.stem]
    assert all(word not in name for name in matrices for word in ("film", "linear", "bias", "quantizer"))
    assert others >= {"encoder.out.weight", "encoder.out.bias", "decoder.stem.bias"}


def test_the_hidden_weights_of_the_prior() -> None:
    network = GatedPixelCNN(PATCH.vqvae, PriorConfig(channels=8, blocks=3, head_channels=6, labels=2))
    matrices, others = names_of(network, PriorStage)
    gated = {f"{block}.{part}.weight" for block in ("entry", "blocks.0", "blocks.1") for part in ("gate", "project")}
    assert matrices == gated | {"to_state.weight", *(f"heads.{g}.weight" for g in range(3))}
    assert {name for name in others if name.startswith("codes.")} >= {"codes.0.free", "codes.0.out.weight"}


def test_frozen_weights_are_in_neither_list() -> None:
    network = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    network["a"].requires_grad_(False)
    matrices, others = hidden_weights(network, ("a", "b"))
    assert [p.shape for p in (*matrices, *others)] == [(2, 2), (2,)]
