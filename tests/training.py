"""Shared by the tests of training: report callbacks that do nothing, or stop the run."""

from __future__ import annotations

from collections.abc import Callable

from vqcodec.train.loop import Status


class Interrupted(Exception):
    """Raised by a report to simulate a kill."""


def silent(status: Status) -> None:
    pass


def stop_at(step: int) -> Callable[[Status], None]:
    def report(status: Status) -> None:
        if status.step == step:
            raise Interrupted

    return report
