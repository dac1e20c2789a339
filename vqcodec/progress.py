"""What a long task tells of its progress: the fraction done, 0 to 1."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "share_of"]

Progress = Callable[[float], None]


def share_of(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """What a part of a task, from `start` to `stop` of the whole, is to tell."""
    if progress is None:
        return None
    return lambda done: progress(start + (stop - start) * done)
