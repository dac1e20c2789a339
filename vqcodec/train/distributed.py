"""Several processes that train together, with the same result as one process with the same batch.

In: the environment that torchrun gives each process (RANK, WORLD_SIZE, LOCAL_RANK, the address of the first one). Out:
`Processes`, which adds up, gathers and agrees; it does nothing, at no cost, where there is one process.

Gradients are added up by a plain all_reduce after the last backward pass of a step. DistributedDataParallel would see
only what passes through a module's forward(), which is not how the stages call their networks, and would take their
average before the parts of a step are complete. What the codebooks learn from has to be added up beside it in any case,
and the networks are so small (a few million weights) that hiding the transfer behind the backward pass gains nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vqcodec.errors import UsageError

__all__ = ["WHOLE", "Part", "Processes", "check_batch", "joined", "pick_device"]

PATIENCE = timedelta(hours=2)  # all wait while the first process finds the start, validates or saves


@dataclass(frozen=True)
class Part:
    """One of `count` equal parts of the batch of a step."""

    index: int = 0
    count: int = 1

    def rows(self, batch: int) -> slice:
        """Which of the pictures of the batch."""
        size = batch // self.count
        return slice(self.index * size, (self.index + 1) * size)


WHOLE = Part()


class Processes:
    """This process among those that train together; alone outside of `joined`."""

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.count = dist.get_world_size() if together else 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def parts(self, each: int) -> list[Part]:
        """The parts of a batch that this process computes, if every process computes `each`."""
        return [Part(self.rank * each + index, self.count * each) for index in range(each)]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each of the tensors, all of one type, by its sum over the processes."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view(tensor.shape))

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over the processes; one that no process has stays None."""
        if self.count == 1:
            return
        users = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        self.add_up([users, *gradients])
        for parameter, gradient, used in zip(parameters, gradients, users.tolist(), strict=True):
            parameter.grad = gradient if used else None

    def total(self, figures: dict[str, float]) -> dict[str, float]:
        """The sum of each of the figures over the processes."""
        if self.count == 1:
            return figures
        values = torch.tensor(list(figures.values()), dtype=torch.double, device=pick_device())
        dist.all_reduce(values)
        return dict(zip(figures, values.tolist(), strict=True))

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, of equal shape, one after another: [count * B, ...] of [B, ...]."""
        if self.count == 1:
            return tensor
        found = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.count)]
        dist.all_gather(found, tensor.contiguous())
        return torch.cat(found)

    @torch.no_grad()
    def follow(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors by those of the first process."""
        for tensor in tensors if self.count > 1 else ():
            same = tensor.contiguous()  # the networks' are not, in memory
            dist.broadcast(same, 0)
            tensor.copy_(same)

    def agree(self, value: float) -> float:
        """The value that the first process has, such as the time on its clock."""
        if self.count == 1:
            return value
        told = torch.tensor(value, dtype=torch.double, device=pick_device())
        dist.broadcast(told, 0)
        return told.item()

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def joined() -> Iterator[Processes]:
    """Meet the processes that torchrun started beside this one. Raises `UsageError`.

    An exception ends the process without a farewell: the others may be waiting for its gradients, and torchrun ends
    them.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    device = pick_device()
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if device.index >= torch.cuda.device_count():
            raise UsageError(f"too many processes; give torchrun --nproc-per-node {torch.cuda.device_count()} at most")
        torch.cuda.set_device(device)  # from here on "cuda" is this one
    try:
        if device.type == "cuda":
            dist.init_process_group("nccl", timeout=PATIENCE, device_id=device)
        else:
            dist.init_process_group("gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the processes do not find each other ({reason}); start them with torchrun") from None
    processes = Processes()
    yield processes
    processes.wait()
    dist.destroy_process_group()


def pick_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_batch(batch: int, accumulate: int) -> None:
    """Raises `UsageError` for a batch that cannot be cut into equal parts."""
    count = Processes().count
    if batch % (count * accumulate):
        raise UsageError(
            f"--batch {batch} cannot be cut evenly over {count} processes with --accumulate {accumulate}; "
            f"give a multiple of {count * accumulate}"
        )
