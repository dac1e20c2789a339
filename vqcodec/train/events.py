"""Reports of a run -> TensorBoard event files. Needs the package `tensorboard`.

In: the `Status` of each report. Out: a file events.out.tfevents... in the folder, with a curve for each figure.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vqcodec.errors import UsageError
from vqcodec.train.loop import Status

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Events"]


class Events:
    """A `report` callback of `loop.run` that writes event files. Raises `UsageError` if `tensorboard` is missing."""

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise UsageError("--tensorboard needs a package: pip install 'vqcodec[tensorboard]'")
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def __call__(self, status: Status) -> None:
        """Write the figures of one report."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # A run that was killed may have reported steps after its last checkpoint. They will be reported again.
            self._writer = SummaryWriter(str(self._folder), purge_step=status.step)
        for key, value in status.figures.items():
            self._writer.add_scalar(key, value, status.step)
        self._writer.flush()
