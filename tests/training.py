"""What tests of training share: reports that tell nothing, or end the run."""

from __future__ import annotations

from collections.abc import Callable

from vqcodec.train.loop import Status


class Interrupted(Exception):
    """Stands for a kill."""


def silent(status: Status) -> None:
    pass


def stop_at(step: int) -> Callable[[Status], None]:
    def report(status: Status) -> None:
        if status.step == step:
            raise Interrupted

    return report
