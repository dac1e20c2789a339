"""Tasks -> answers, in several processes, in any order.

Each process is a fresh interpreter that prepares itself once and then takes one task after another. One that dies, for
want of memory say, costs its task and no more. Whatever happens, none outlives this one for long: they are ended when
the iteration ends, and they end themselves when their parent is gone, in both cases without leaving half a file.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar, cast

from vqcodec.errors import VqError

__all__ = ["THREADS", "Lost", "cores", "in_processes"]

A = TypeVar("A")  # what a process prepares itself with
T = TypeVar("T")  # a task
R = TypeVar("R")  # its answer

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_GRACE = 10  # seconds for a process to unwind
MAX_FAILED_STARTS = 3  # processes that die while they start, in a row, are enough


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
    prepare: Callable[[A], Callable[[T], R]],
    argument: A,
    tasks: Iterable[T],
    jobs: int,
    threads: int,
    *,
    tries: int = 1,
) -> Generator[tuple[int, R | Lost], None, None]:
    """(index, answer) of every task as it is done: `prepare(argument)(task)`, in up to `jobs` processes.

    `prepare` is a function at the top of a module; `threads` is what the libraries in each process may use, unless the
    environment says otherwise. jobs 0: in this process, one after the other. An exception in a process is raised here.
    `tasks` are taken one by one, when a process is free. A task that a process died over is tried again, each time in a
    fresh one, until it was given `tries` times. Raises `VqError` where processes die before they take a task.
    """
    if jobs == 0:
        work = prepare(argument)
        yield from ((index, work(task)) for index, task in enumerate(tasks))
        return
    fresh = ((index, task, 1) for index, task in enumerate(tasks))
    again: list[tuple[int, T, int]] = []  # (index, task, which try this is)
    workers: list[_Worker[A, T, R]] = []
    failed_starts = 0  # in a row
    try:
        while True:
            while len(workers) < jobs and (item := again.pop() if again else next(fresh, None)) is not None:
                workers.append(_Worker(prepare, argument, threads))
                workers[-1].give(item)
            if not workers:
                return
            ready = set(wait([worker.pipe for worker in workers]))
            for worker in [worker for worker in workers if worker.pipe in ready]:
                answer = worker.answer()
                if isinstance(answer, _Ready):
                    failed_starts = 0
                    continue
                index, task, turn = worker.item
                if not isinstance(answer, Lost) and (item := next(fresh, None)) is not None:
                    worker.give(item)
                else:
                    workers.remove(worker)
                    worker.end()
                if isinstance(answer, Lost) and not worker.ready:  # that is no fault of the task
                    failed_starts += 1
                    if failed_starts >= MAX_FAILED_STARTS:
                        raise VqError(f"no process can be started: {answer.reason}")
                    again.append((index, task, turn))
                elif isinstance(answer, Lost) and turn < tries:
                    again.append((index, task, turn + 1))
                else:
                    yield index, answer
    finally:
        for worker in workers:
            worker.process.terminate()  # all of them, before the first is waited for
        for worker in workers:
            worker.end()


class _Ready:
    """What a process says once it is prepared."""


class _Worker(Generic[A, T, R]):
    """A process, seen from outside."""

    def __init__(self, prepare: Callable[[A], Callable[[T], R]], argument: A, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take locks and threads along
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, prepare, argument), daemon=True)
        self.ready = False
        with _environment(threads), _interrupts_blocked():
            self.process.start()
        other.close()  # so that its end is noticed

    def give(self, item: tuple[int, T, int]) -> None:
        self.item = item
        with suppress(OSError):  # it is dead already: `answer` will find that out
            self.pipe.send(item[1])

    def answer(self) -> R | Lost | _Ready:
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            return Lost(f"the process that worked on it ended (exit code {code}); perhaps there is not enough memory")
        if isinstance(answer, Exception):
            raise answer
        self.ready = True
        return cast("R | _Ready", answer)

    def end(self) -> None:
        self.process.terminate()
        self.process.join(_GRACE)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, prepare: Callable[[A], Callable[[T], R]], argument: A) -> None:
    """The life of a process."""
    for name in ("SIGINT", "SIGHUP"):  # the parent gets them too, and ends this process; not every system has both
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _unwind)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    try:
        work = prepare(argument)
        pipe.send(_Ready())
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, BrokenPipeError):  # the parent is gone
        return
    except Exception as error:
        pipe.send(error)


def _unwind(number: int, _: object) -> None:
    """End, but remove temporary files first."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _die_with(sentinel: int) -> None:
    wait([sentinel])
    with suppress(OSError):
        os.kill(os.getpid(), signal.SIGTERM)  # to the main thread, which may be at work for long
    time.sleep(_GRACE)
    os._exit(1)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Numbers of threads for a new process; libraries read them when they are loaded."""
    added = [name for name in THREADS if name not in os.environ]
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
    resource_tracker.ensure_running()  # whose start would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
