"""Progress callbacks: functions that are called with the fraction done, 0 to 1."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "share_of"]

Progress = Callable[[float], None]


def share_of(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """The callback for a part of a task that spans the fractions `start` to `stop` of the whole; None without one."""
    if progress is None:
        return None
    return lambda done: progress(start + (stop - start) * done)
