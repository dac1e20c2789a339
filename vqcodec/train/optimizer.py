"""The optimiser of all gradient-trained stages: Muon for the hidden weight matrices, Adam for everything else.

In: the parameters of a network with their gradients. Out: the same parameters after one update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from vqcodec.train.networks.precision import has_fast_bf16

__all__ = ["Muon", "hidden_weights"]

MOMENTUM = 0.95
ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8
# Coefficients of the quintic iteration (Jordan 2024), which brings all singular values close to 1 in few steps.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
# Root mean square of an orthogonal update, relative to the learning rate. It is close to that of Adam, so that both
# can use the same learning rate (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
UPDATE_RMS = 0.2
# Weight decay of the matrices, relative to the learning rate. Without it, their norms grow fourfold in 10,000 steps,
# until small changes of the latents cause large local errors in the picture.
WEIGHT_DECAY = 0.2


class Muon(torch.optim.Optimizer):
    """Muon, orthogonalised momentum (Jordan 2024), for weight matrices; Adam (Kingma & Ba 2015) for the rest.

    The weight of a convolution, [O, I, k, k], is treated as the matrix [O, I * k * k].
    """

    def __init__(self, matrices: Iterable[Tensor], others: Iterable[Tensor], lr: float) -> None:
        groups = [{"params": list(matrices), "muon": True}, {"params": list(others), "muon": False}]
        super().__init__([group for group in groups if group["params"]], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "compute the gradients before calling step()"
        for group in self.param_groups:
            update = self._orthogonal if group["muon"] else self._adam
            decay = 1 - group["lr"] * WEIGHT_DECAY if group["muon"] else 1.0
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(decay)  # decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)
                    parameter.add_(update(parameter, parameter.grad), alpha=-group["lr"])

    def _orthogonal(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """The Muon update of a parameter, before the learning rate."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"].mul_(MOMENTUM).add_(gradient)
        matrix = (gradient + MOMENTUM * momentum).flatten(1)  # Nesterov
        scale = UPDATE_RMS * max(matrix.shape) ** 0.5
        update: Tensor = orthogonalize(matrix).view_as(parameter) * scale
        return update

    def _adam(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """The Adam update of a parameter, before the learning rate."""
        state = self.state[parameter]
        if not state:
            state["steps"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["steps"] += 1
        mean, square = state["mean"], state["square"]
        mean.lerp_(gradient, 1 - ADAM_BETAS[0])
        square.lerp_(gradient.square(), 1 - ADAM_BETAS[1])
        steps = float(state["steps"])
        unbiased = (square / (1 - ADAM_BETAS[1] ** steps)).sqrt_().add_(ADAM_EPS)
        update: Tensor = mean / (1 - ADAM_BETAS[0] ** steps) / unbiased
        return update


def orthogonalize(matrix: Tensor) -> Tensor:
    """Approximate U V^T, where U S V^T is the singular value decomposition of a matrix [O, I].

    Uses a Newton-Schulz iteration, in bf16 as published where that is fast; the result need not be exact.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(torch.bfloat16 if has_fast_bf16(matrix.device) else torch.float32)
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.T if tall else x).to(matrix.dtype)
    return result


def hidden_weights(network: nn.Module, names: tuple[str, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Split the trainable parameters of a network into matrices with one of `names` in their path, and all others."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for path, parameter in network.named_parameters():
        if parameter.requires_grad:
            hidden = parameter.ndim >= 2 and path.endswith("weight") and not set(names).isdisjoint(path.split("."))
            (matrices if hidden else others).append(parameter)
    return matrices, others
