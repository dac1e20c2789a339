"""A pool of worker processes: tasks -> answers, in any order.

Each worker is a new interpreter that prepares itself once and then runs one task after another. If a worker dies, for
example when memory runs out, only its task is lost. Workers never outlive the parent for long: they are terminated when
the iteration ends, and they exit when the parent has died. In both cases they remove their temporary files first.
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
from typing import Any, Generic, TypeVar, cast

from vqcodec.errors import VqError

__all__ = ["THREADS", "Lost", "in_processes"]

A = TypeVar("A")  # argument of `prepare`
T = TypeVar("T")  # a task
R = TypeVar("R")  # its answer

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_GRACE = 10  # seconds for a process to clean up
MAX_FAILED_STARTS = 3  # after this many processes in a row died while starting, give up


@dataclass(frozen=True)
class Lost:
    """No answer: the process died while it ran the task."""

    reason: str


def in_processes(
    prepare: Callable[[A], Callable[[T], R]],
    argument: A,
    tasks: Iterable[T],
    jobs: int,
    threads: int,
    *,
    tries: int = 1,
) -> Generator[tuple[int, R | Lost], None, None]:
    """(index, answer) of every task as it finishes: `prepare(argument)(task)`, in up to `jobs` processes.

    `prepare` must be a function at the top level of a module. `threads` is the number of threads that libraries use in
    each process, unless the environment sets it. With jobs 0, the tasks run in this process, sequentially. An exception
    in a process is raised here. A task is taken from `tasks` only when a process is free. If a process dies, its task
    runs again in a fresh process, up to `tries` times in total. Raises `VqError` if processes die while starting.
    """
    if jobs == 0:
        work = prepare(argument)
        yield from ((index, work(task)) for index, task in enumerate(tasks))
        return
    new_tasks = ((index, task, 1) for index, task in enumerate(tasks))
    retries: list[tuple[int, T, int]] = []  # (index, task, number of the attempt)
    workers: list[_Worker[A, T, R]] = []
    failed_starts = 0  # in a row
    try:
        while True:
            while len(workers) < jobs and (item := retries.pop() if retries else next(new_tasks, None)) is not None:
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
                index, task, attempt = worker.item
                if not isinstance(answer, Lost) and (item := next(new_tasks, None)) is not None:
                    worker.give(item)
                else:
                    workers.remove(worker)
                    worker.end()
                if isinstance(answer, Lost) and not worker.ready:  # the task did not cause that
                    failed_starts += 1
                    if failed_starts >= MAX_FAILED_STARTS:
                        raise VqError(f"worker processes cannot start: {answer.reason}")
                    retries.append((index, task, attempt))
                elif isinstance(answer, Lost) and attempt < tries:
                    retries.append((index, task, attempt + 1))
                else:
                    yield index, answer
    finally:
        for worker in workers:
            worker.process.terminate()  # terminate all before waiting for any
        for worker in workers:
            worker.end()


class _Ready:
    """The first message of a process: `prepare` is done."""


class _Worker(Generic[A, T, R]):
    """The parent's handle of a worker process."""

    def __init__(self, prepare: Callable[[A], Callable[[T], R]], argument: A, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, prepare, argument), daemon=True)
        self.ready = False
        with _environment(threads), _interrupts_blocked():
            self.process.start()
        other.close()  # else `recv` would not notice that the process ended

    def give(self, item: tuple[int, T, int]) -> None:
        """Send a task: (index, task, number of the attempt)."""
        self.item = item
        with suppress(OSError):  # the process is dead already; `answer` reports that
            self.pipe.send(item[1])

    def answer(self) -> R | Lost | _Ready:
        """Receive the next message; waits for it. Raises the exception that the process sent, if any."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            return Lost(f"its worker process died (exit code {code}); perhaps there is not enough memory")
        if isinstance(answer, Exception):
            raise answer
        self.ready = True
        return cast("R | _Ready", answer)

    def end(self) -> None:
        """Terminate the process, and kill it if it does not exit in time."""
        self.process.terminate()
        self.process.join(_GRACE)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, prepare: Callable[[A], Callable[[T], R]], argument: A) -> None:
    """The main loop of a worker process. It ends quietly when the parent has died."""
    for name in ("SIGINT", "SIGHUP"):  # the parent gets them too and terminates this process; Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit_cleanly)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()
    try:
        try:
            work = prepare(argument)
            _send(pipe, _Ready())
            while True:
                _send(pipe, work(_receive(pipe)))
        except Exception as error:
            _send(pipe, error)
    finally:
        # The rest of the exit is short. An exception from a signal handler there would be printed with a traceback.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _receive(pipe: Connection) -> Any:
    """The next message of the parent. Exits if the parent has died."""
    try:
        return pipe.recv()
    except (EOFError, OSError):  # a reset connection, if the parent died before it had read all answers
        sys.exit(1)


def _send(pipe: Connection, message: object) -> None:
    """Send a message to the parent. Exits if the parent has died."""
    if isinstance(message, Exception) and not isinstance(message, VqError) and type(message).__module__ != "builtins":
        # Exceptions of libraries may not survive the way: some cannot be sent, others cannot be read again.
        message = VqError(f"unexpected {type(message).__name__}: {message}")
    try:
        pipe.send(message)
    except OSError:
        sys.exit(1)


def _exit_cleanly(number: int, _: object) -> None:
    """Signal handler: exit by an exception, so that temporary files are removed."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _exit_with_parent(sentinel: int) -> None:
    """Wait for the end of the parent, then terminate this process."""
    wait([sentinel])
    with suppress(OSError):
        os.kill(os.getpid(), signal.SIGTERM)  # interrupts the main thread, which may be busy
    time.sleep(_GRACE)
    os._exit(1)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set the numbers of threads that a new process inherits; libraries read them when they are loaded."""
    added = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block SIGINT: a new process inherits that, so that Ctrl-C cannot kill it with a traceback while it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it later would unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
