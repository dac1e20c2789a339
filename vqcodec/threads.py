"""Worker threads: independent parts of a computation -> their results in order, on all cores.

In: a function and its arguments. Out: its results. The results may not depend on the number of threads, so every part
computes the same as it would alone: matrix products inside a part use one thread of BLAS.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Generic, TypeVar

from vqcodec.progress import Progress

__all__ = ["Workers", "cores", "default_threads"]

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # parts per thread that are started before the first result is taken: bounds the memory


def cores() -> int:
    """The number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads(processes: int = 1) -> int:
    """Threads for each of `processes`: OMP_NUM_THREADS if that is a positive number, else their share of the cores."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdecimal() and int(setting) else max(1, cores() // processes)


class Workers:
    """Up to `count` threads, by default `default_threads()`. They are started when they are first needed.

    Several threads of a program may share an object.
    """

    def __init__(self, count: int | None = None) -> None:
        if count is not None and count < 1:
            raise ValueError(f"the number of threads must be at least 1, not {count}")
        self.count = count or default_threads()

    def map(self, function: Callable[[T], R], items: Sequence[T], progress: Progress | None = None) -> list[R]:
        """The results of `function` for all items, in their order. `progress` is called by the calling thread.

        Called inside a part, it computes all in the thread of that part: parts do not wait for each other. If a part
        raises an exception, no further part is started, and it is raised when the running ones have ended.
        """
        if len(items) < 2 or self.count == 1 or _inside():
            found: Iterator[R] = map(function, items)
        elif progress is None:
            with _one_blas_thread():
                return self._shared(function, items)
        else:
            found = self.results(function, items)
        results: list[R] = []
        with _one_blas_thread():
            for result in found:
                results.append(result)
                if progress:
                    progress(len(results) / len(items))
        return results

    def _shared(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The results, computed by the calling thread and others. Cheaper than `results` where parts are short."""
        share = _Share(function, items)
        helpers = [self._threads.submit(share.work) for _ in range(min(self.count, len(items)) - 1)]
        try:
            share.work()
        finally:
            share.stopped = True
            for helper in helpers:
                if not helper.cancel():
                    helper.exception()  # wait until it has ended
        return share.results()

    def results(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """As `map`, one result after the other. At most `AHEAD` items per thread are taken ahead of them."""
        if self.count == 1 or _inside():
            yield from map(function, items)
            return
        rest = iter(items)
        pending: deque[Future[R]] = deque()
        try:
            pending.extend(self._submit(function, item) for item in islice(rest, AHEAD * self.count))
            while pending:
                yield pending[0].result()
                pending.popleft()
                pending.extend(self._submit(function, item) for item in islice(rest, 1))
        finally:
            for future in pending:
                future.cancel()
            for future in pending:
                if not future.cancelled():
                    future.exception()  # wait until it has ended

    def _submit(self, function: Callable[[T], R], item: T) -> Future[R]:
        return self._threads.submit(_part, function, item)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.count, thread_name_prefix="vqcodec")


class _Share(Generic[T, R]):
    """Parts that several threads take one after another."""

    def __init__(self, function: Callable[[T], R], items: Sequence[T]) -> None:
        self.stopped = False
        self._function, self._items = function, items
        self._found: dict[int, R] = {}
        self._errors: dict[int, BaseException] = {}
        self._next = iter(range(len(items)))
        self._lock = threading.Lock()

    def work(self) -> None:
        """Compute parts until none is left, or one has failed."""
        before, _HERE.inside = _inside(), True
        try:
            while (index := self._take()) is not None:
                try:
                    self._found[index] = self._function(self._items[index])
                except BaseException as error:
                    self.stopped, self._errors[index] = True, error
        finally:
            _HERE.inside = before

    def results(self) -> list[R]:
        """All results in order. Raises the error of the first part that failed."""
        if self._errors:
            raise self._errors[min(self._errors)]
        return [self._found[index] for index in range(len(self._items))]

    def _take(self) -> int | None:
        with self._lock:
            return None if self.stopped else next(self._next, None)


def _part(function: Callable[[T], R], item: T) -> R:
    """Runs in a thread of `Workers`."""
    _HERE.inside = True
    return function(item)


def _inside() -> bool:
    """Whether this thread computes a part already."""
    return getattr(_HERE, "inside", False)


_HERE = threading.local()  # `inside` is set while a thread computes a part


class _BlasLimit:
    """Limits BLAS to one thread while any thread of the program asks for it. The limit is one of the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._restore: Callable[[], None] | None = None

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                limiter = self._controller.limit(limits=1, user_api="blas")
                self._restore = limiter.restore_original_limits

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._restore is not None:
                self._restore()
                self._restore = None

    @cached_property
    def _controller(self):  # type: ignore[no-untyped-def]
        """Finds the BLAS libraries that are loaded, which takes milliseconds."""
        import numpy as np  # noqa: F401  (its BLAS must be loaded to be found)
        from threadpoolctl import ThreadpoolController

        return ThreadpoolController()


_blas = _BlasLimit()


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    _blas.enter()
    try:
        yield
    finally:
        _blas.leave()
