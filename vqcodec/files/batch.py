"""Jobs -> outcomes: sequentially, in worker processes on this machine, or on a Ray cluster.

A picture that fails never affects the others. If a worker process dies, it is replaced and its picture is tried once
more; then the picture counts as failed. The bytes of a result do not depend on where it was computed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from vqcodec.errors import UsageError, VqError
from vqcodec.files.outcome import Outcome, attempt, failed
from vqcodec.files.plan import Job
from vqcodec.files.pool import Lost, in_processes
from vqcodec.files.work import Compressor, Decompressor
from vqcodec.threads import cores

__all__ = ["Where", "outcomes"]

TRIES = 2  # attempts per picture if worker processes die


@dataclass(frozen=True)
class Where:
    """Where the jobs run: in `jobs` processes (0: one per core, None: default), here or on the Ray cluster at `ray`.

    Raises `UsageError`.
    """

    jobs: int | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        if self.ray == "":
            raise UsageError("--ray needs the address of a cluster, or local")

    @property
    def alone(self) -> bool:
        """Whether this process runs the jobs itself."""
        return self.ray is None and self.jobs in (None, 1)


def outcomes(
    worker: Compressor | Decompressor,
    jobs: Sequence[Job],
    refused: Mapping[int, VqError],
    where: Where,
    progress: Callable[[int, int], Callable[[float], None]],
) -> Generator[tuple[int, Outcome], None, None]:
    """(index, outcome) of each job: in order if this process runs the jobs, otherwise as they finish.

    Jobs in `refused` (index -> error) are not started. `progress(index, count)` returns the function that is called
    with the fraction done of part `index` of `count`. Raises `VqError` for what concerns all jobs.
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
    with closing(_run_remotely(worker, tasks, len(todo), where)) as answers:
        for count, (number, answer) in enumerate(answers, len(refused)):
            outcome = failed(VqError(answer.reason)) if isinstance(answer, Lost) else answer
            progress(count, len(jobs))(1.0)
            yield todo[number], outcome


def _run_remotely(
    worker: Compressor | Decompressor, tasks: Generator[Job, None, None], count: int, where: Where
) -> Generator[tuple[int, Outcome | Lost], None, None]:
    """(index of the task, answer) of `count` tasks, from worker processes or a cluster, as they finish."""
    if where.ray is not None:
        from vqcodec.files.cluster import on_cluster

        return on_cluster(where.ray, worker, tasks, where.jobs or None)
    return in_processes(prepare, worker, tasks, min(where.jobs or cores(), count), 1, tries=TRIES)


def prepare(worker: Compressor | Decompressor) -> Callable[[Job], Outcome]:
    """The function that a worker process runs for each job. An unexpected exception fails that job only."""
    worker.open()

    def work(job: Job) -> Outcome:
        try:
            return attempt(worker, job, lambda done: None)
        except Exception as error:
            return failed(VqError(f"unexpected {type(error).__name__}: {error}"))

    return work
