"""How a job ended. In: a job, and who does it. Out: an `Outcome`, whatever is wrong with the files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vqcodec.errors import VqError
from vqcodec.files.plan import Job, seen, size_of
from vqcodec.files.work import Compressor, Decompressor, Record

__all__ = ["NO_MEMORY", "Outcome", "attempt", "failed"]

NO_MEMORY = "there is not enough memory"


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a record, or with an error."""

    record: Record | None
    error: str | None = None
    exit_code: int = 0  # what that of the command would be, if it were the only one
    seen: tuple[int, int] | None = None  # size and time (ns) of the input, before it was read
    size: int | None = None  # of the output


def attempt(worker: Compressor | Decompressor, job: Job, progress: Callable[[float], None]) -> Outcome:
    """Do one job, whatever may be wrong with its files."""
    before = seen(job.source)
    try:
        record = worker.work(job, progress)
    except (VqError, MemoryError) as error:
        return failed(error if isinstance(error, VqError) else VqError(NO_MEMORY), before)
    return Outcome(record, seen=before, size=size_of(job.target))


def failed(error: VqError, before: tuple[int, int] | None = None) -> Outcome:
    return Outcome(None, str(error), error.exit_code, before)
