"""Running one job. In: a job and a worker. Out: an `Outcome`; errors of the files are part of it, not raised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vqcodec.errors import NO_MEMORY, VqError
from vqcodec.files.plan import Job, seen, size_of
from vqcodec.files.work import Compressor, Decompressor, Record

__all__ = ["Outcome", "attempt", "failed"]


@dataclass(frozen=True)
class Outcome:
    """The result of a job: a record, or an error."""

    record: Record | None
    error: str | None = None
    exit_code: int = 0  # exit code of the command if this is its only job
    seen: tuple[int, int] | None = None  # size and modification time (ns) of the input, before it was read
    size: int | None = None  # bytes of the output


def attempt(worker: Compressor | Decompressor, job: Job, progress: Callable[[float], None]) -> Outcome:
    """Run one job. A `VqError` or a lack of memory becomes an outcome with an error."""
    before = seen(job.source)
    try:
        record = worker.work(job, progress)
    except (VqError, MemoryError) as error:
        return failed(error if isinstance(error, VqError) else VqError(NO_MEMORY), before)
    return Outcome(record, seen=before, size=size_of(job.target))


def failed(error: VqError, before: tuple[int, int] | None = None) -> Outcome:
    """The outcome of a job that failed. `before`: size and modification time (ns) of its input."""
    return Outcome(None, str(error), error.exit_code, before)
