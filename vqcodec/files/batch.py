"""Many jobs -> their outcomes: one after the other, in processes of this machine, or on a Ray cluster.

A picture costs its own outcome and no more, whatever happens to it: a process that dies over it is replaced, and it is
tried once more before that counts as an error. The bytes of a result do not depend on where it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from vqcodec.errors import UsageError, VqError
from vqcodec.files.outcome import Outcome, attempt, failed
from vqcodec.files.plan import Job
from vqcodec.files.pool import Lost, cores, in_processes
from vqcodec.files.work import Compressor, Decompressor

__all__ = ["Where", "outcomes"]

TRIES = 2  # how often a picture is given to a process that may die


@dataclass(frozen=True)
class Where:
    """Who does the work: so many processes (0: one for each processor), here or on the cluster at an address."""

    jobs: int | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        if self.ray == "":
            raise UsageError("--ray needs the address of a cluster, or local")

    @property
    def alone(self) -> bool:
        """Whether this process does the work itself."""
        return self.ray is None and self.jobs in (None, 1)


def outcomes(
    worker: Compressor | Decompressor,
    jobs: Sequence[Job],
    refused: Mapping[int, VqError],
    where: Where,
    progress: Callable[[int, int], Callable[[float], None]],
) -> Generator[tuple[int, Outcome], None, None]:
    """(index, outcome) of each job: in order where this process does the work, otherwise as they come.

    Those that are `refused` are not begun. `progress` gives what is told the fraction done of one of so many parts.
    """
    if where.alone:
        for index, job in enumerate(jobs):
            if index in refused:
                yield index, failed(refused[index])
            else:
                yield index, attempt(worker, job, progress(index, len(jobs)))
        return
    yield from ((index, failed(error)) for index, error in refused.items())
    todo = [index for index in range(len(jobs)) if index not in refused]
    if not todo:
        return
    tasks = (replace(jobs[index], accept_identical=True) for index in todo)
    with closing(_answers(worker, tasks, len(todo), where)) as answers:
        for count, (number, answer) in enumerate(answers, len(refused)):
            outcome = failed(VqError(answer.reason)) if isinstance(answer, Lost) else answer
            progress(count, len(jobs))(1.0)
            yield todo[number], outcome


def _answers(
    worker: Compressor | Decompressor, tasks: Generator[Job, None, None], count: int, where: Where
) -> Generator[tuple[int, Outcome | Lost], None, None]:
    if where.ray is not None:
        from vqcodec.files.cluster import on_cluster

        return on_cluster(where.ray, worker, tasks, where.jobs or None)
    return in_processes(prepare, worker, tasks, min(where.jobs or cores(), count), 1, tries=TRIES)


def prepare(worker: Compressor | Decompressor) -> Callable[[Job], Outcome]:
    """What does the jobs in a process of its own, where no surprise with one picture may end the others."""
    worker.open()

    def work(job: Job) -> Outcome:
        try:
            return attempt(worker, job, lambda done: None)
        except Exception as error:
            return failed(VqError(f"unexpected {type(error).__name__}: {error}"))

    return work
