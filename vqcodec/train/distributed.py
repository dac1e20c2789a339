"""Distributed training: several processes, with the same result as one process with the same batch.

In: the environment that torchrun gives each process (RANK, WORLD_SIZE, LOCAL_RANK, the address of the first one). Out:
`Processes`, with sums, gathering and broadcasts over the processes. With a single process these do nothing and cost
nothing.

Gradients are summed by a plain all_reduce after the last backward pass of a step. DistributedDataParallel does not fit:

- It handles only what passes through a module's forward(), but the stages also call other methods of their networks.
- It would average the gradients before all parts of a step are complete.
- The statistics of the codebooks have to be summed separately in any case.

It would also gain nothing. The networks are small (a few million weights), so there is little communication to hide
behind the backward pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vqcodec.errors import UsageError

__all__ = ["WHOLE", "Part", "Processes", "check_batch", "joined", "pick_device", "place"]

N = TypeVar("N", bound=nn.Module)
TIMEOUT = timedelta(hours=2)  # long, because all wait while the first process initialises, validates or saves


@dataclass(frozen=True)
class Part:
    """Part `index` (0-based) of the batch of a step, which is split into `count` equal parts."""

    index: int = 0
    count: int = 1

    def rows(self, batch: int) -> slice:
        """The indices in the batch of the pictures of this part."""
        size = batch // self.count
        return slice(self.index * size, (self.index + 1) * size)


WHOLE = Part()


class Processes:
    """The group of processes that train together, from the view of this one. Outside of `joined` it is alone."""

    def __init__(self) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if distributed else 0
        self.count = dist.get_world_size() if distributed else 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def parts(self, each: int) -> list[Part]:
        """The parts of a batch that this process computes, if every process computes `each` parts."""
        return [Part(self.rank * each + index, self.count * each) for index in range(each)]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes; all tensors must have the same type."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view(tensor.shape))

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over the processes. A gradient that is None in all processes stays None."""
        if self.count == 1:
            return
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        self.add_up([present, *gradients])
        for parameter, gradient, any_present in zip(parameters, gradients, present.tolist(), strict=True):
            parameter.grad = gradient if any_present else None

    def total(self, figures: dict[str, float]) -> dict[str, float]:
        """The sum of each figure over the processes."""
        if self.count == 1:
            return figures
        values = torch.tensor(list(figures.values()), dtype=torch.double, device=pick_device())
        dist.all_reduce(values)
        return dict(zip(figures, values.tolist(), strict=True))

    def gather(self, tensor: Tensor) -> Tensor:
        """Concatenate the tensors of all processes, which have equal shapes: [B, ...] -> [count * B, ...]."""
        if self.count == 1:
            return tensor
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.count)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @torch.no_grad()
    def follow(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors of every process by those of the first one."""
        for tensor in tensors if self.count > 1 else ():
            contiguous = tensor.contiguous()  # the weights of the networks are in channels-last layout
            dist.broadcast(contiguous, 0)
            tensor.copy_(contiguous)

    def agree(self, value: float) -> float:
        """The value of the first process, for example the time on its clock."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, dtype=torch.double, device=pick_device())
        dist.broadcast(shared, 0)
        return shared.item()

    def wait(self) -> None:
        """Wait until all processes have called this method."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started. Raises `UsageError` if that fails.

    An exception leaves the context without a barrier, because the other processes may be waiting for the gradients of
    this one. torchrun then ends them.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    device = pick_device()
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if device.index >= torch.cuda.device_count():
            raise UsageError(f"too many processes; give torchrun --nproc-per-node {torch.cuda.device_count()} at most")
        torch.cuda.set_device(device)  # from here on "cuda" means this device
    try:
        if device.type == "cuda":
            dist.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
        else:
            dist.init_process_group("gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the processes cannot connect to each other ({reason}); start them with torchrun") from None
    processes = Processes()
    yield processes
    processes.wait()
    dist.destroy_process_group()


def pick_device() -> torch.device:
    """CUDA if it is available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def place(network: N, device: torch.device) -> N:
    """Move a network to the device, the weights of its convolutions [O, I, h, w] in the faster channels-last layout."""
    network.to(device)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network


def check_batch(batch: int, accumulate: int) -> None:
    """Raise `UsageError` for a batch that cannot be split into equal parts."""
    count = Processes().count
    if batch % (count * accumulate):
        raise UsageError(
            f"--batch {batch} cannot be split evenly over {count} processes with --accumulate {accumulate}; "
            f"give a multiple of {count * accumulate}"
        )
