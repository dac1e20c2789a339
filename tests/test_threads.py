"""Worker threads: results in order, errors, progress, no threads within threads, one BLAS thread in parts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from vqcodec.threads import AHEAD, Workers, cores, default_threads


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("items", [0, 1, 7])
def test_results_come_in_the_order_of_the_items(count: int, items: int) -> None:
    told: list[float] = []

    def slow_first(number: int) -> int:
        time.sleep(0.01 if number == 0 else 0)
        return number * number

    assert Workers(count).map(slow_first, range(items), told.append) == [n * n for n in range(items)]
    assert told == [(n + 1) / items for n in range(items)]


def test_parts_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=30)  # passes only if three parts wait at once
    assert len(Workers(3).map(lambda _: meeting.wait(), range(3))) == 3


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_ends_the_work_when_the_running_parts_have_ended(count: int) -> None:
    ended: list[int] = []

    def work(number: int) -> None:
        if number == 2:
            raise KeyError(number)
        time.sleep(0.01)
        ended.append(number)

    with pytest.raises(KeyError, match="2"):
        Workers(count).map(work, range(100))
    after = list(ended)
    time.sleep(0.05)
    assert ended == after
    assert len(ended) <= 2 + AHEAD * count


def test_parts_compute_their_own_parts_themselves() -> None:
    workers, others = Workers(2), Workers(2)

    def outer(_: int) -> set[str]:
        inner = [*workers.map(lambda _: threading.current_thread().name, range(4))]
        return {threading.current_thread().name, *inner, *others.map(lambda _: threading.current_thread().name, [1, 2])}

    assert [len(names) for names in workers.map(outer, range(4))] == [1] * 4


def test_items_are_taken_only_a_little_ahead_of_the_results() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = Workers(2).results(lambda number: number, items())
    assert next(results) == 0
    assert len(taken) == 2 * AHEAD
    assert next(results) == 1
    assert len(taken) == 2 * AHEAD + 1
    results.close()


def blas_threads() -> set[int]:
    """The numbers of threads of numpy's BLAS. scipy may have loaded one of its own since, which parts do not use."""
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    ours = [library for library in libraries if "numpy" in library["filepath"]] or libraries
    return {library["num_threads"] for library in ours}


@pytest.mark.parametrize("count", [1, 2])
def test_blas_has_one_thread_in_parts_and_its_own_number_after_them(count: int) -> None:
    np.zeros((2, 2)) @ np.zeros((2, 2))
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        workers = Workers(count)

        def part(_: int) -> set[int]:
            return blas_threads() | set.union(*workers.map(lambda _: blas_threads(), [1, 2]))

        assert workers.map(part, range(3)) == [{1}] * 3
        assert blas_threads() == before
        with pytest.raises(ZeroDivisionError):
            workers.map(lambda _: 1 // 0, range(3))
        assert blas_threads() == before


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (default_threads(), Workers().count, Workers(2).count) == (3, 3, 2)
    for unusable in ("", "0", "-1", "4,2", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", unusable)
        assert default_threads() == cores() >= 1
    with pytest.raises(ValueError, match="at least 1"):
        Workers(0)
