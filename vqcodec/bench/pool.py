"""Tasks -> answers, in several processes, in any order.

Each process is a fresh interpreter that prepares itself once and then takes one task after another. One that dies, for
want of memory say, costs its task and no more. Whatever happens, none outlives this one: they are ended when the
iteration ends, and they end themselves when their parent is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar, cast

__all__ = ["Lost", "cores", "in_processes"]

A = TypeVar("A")  # what a process prepares itself with
T = TypeVar("T")  # a task
R = TypeVar("R")  # its answer

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Lost:
    """No answer: the process died over the task."""

    reason: str


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_processes(
    prepare: Callable[[A], Callable[[T], R]], argument: A, tasks: Sequence[T], jobs: int, threads: int
) -> Generator[tuple[int, R | Lost], None, None]:
    """(index, answer) of every task as it is done: `prepare(argument)(task)`, in up to `jobs` processes.

    `prepare` is a function at the top of a module; `threads` is what the libraries in each process may use, unless the
    environment says otherwise. jobs 0: in this process, one after the other. An exception in a process is raised here.
    """
    if jobs == 0:
        work = prepare(argument)
        yield from ((index, work(task)) for index, task in enumerate(tasks))
        return
    waiting = list(range(len(tasks)))[::-1]
    workers: list[_Worker[A, T, R]] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                workers.append(_Worker(prepare, argument, threads))
                workers[-1].give(waiting[-1], tasks[waiting.pop()])
            ready = set(wait([worker.pipe for worker in workers]))
            for worker in [worker for worker in workers if worker.pipe in ready]:
                done, answer = worker.index, worker.answer()
                if waiting and not isinstance(answer, Lost):
                    worker.give(waiting[-1], tasks[waiting.pop()])
                else:
                    workers.remove(worker)
                    worker.end()
                yield done, answer
    finally:
        for worker in workers:
            worker.end()


class _Worker(Generic[A, T, R]):
    """A process, seen from outside."""

    def __init__(self, prepare: Callable[[A], Callable[[T], R]], argument: A, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take locks and threads along
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, prepare, argument), daemon=True)
        self.index = -1
        with _environment(threads), _interrupts_blocked():
            self.process.start()
        other.close()  # so that its end is noticed

    def give(self, index: int, task: T) -> None:
        self.index = index
        with suppress(OSError):  # it is dead already: `answer` will find that out
            self.pipe.send(task)

    def answer(self) -> R | Lost:
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            return Lost(f"the process that worked on it ended (exit code {code}); perhaps there is not enough memory")
        if isinstance(answer, Exception):
            raise answer
        return cast(R, answer)

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, prepare: Callable[[A], Callable[[T], R]], argument: A) -> None:
    """The life of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this process
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    try:
        work = prepare(argument)
        while True:
            pipe.send(work(pipe.recv()))
    except EOFError:
        return
    except Exception as error:
        pipe.send(error)


def _die_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Numbers of threads for a new process; libraries read them when they are loaded."""
    added = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A new process inherits that Ctrl-C is held back, and so cannot die of it with a traceback while it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
