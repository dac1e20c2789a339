"""Worker processes that lose their parent, or are terminated at any time: they end without a traceback."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vqcodec
from vqcodec.errors import VqError
from vqcodec.files import pool
from vqcodec.files.pool import in_processes

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process can run `_serve`, which installs signal handlers and watches the parent."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(sentinel=0))
    monkeypatch.setattr(pool, "_exit_with_parent", lambda sentinel: None)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class DyingParent:
    """The worker's end of a pipe. The other end is closed after `answers` messages, none of which was read."""

    def __init__(self, answers: int) -> None:
        self.parent, self.pipe = multiprocessing.Pipe()
        self.answers = answers
        self.parent.send("task")
        self.close_if_due()

    def close_if_due(self) -> None:
        if self.answers == 0:
            self.parent.close()
        self.answers -= 1

    def send(self, message: object) -> None:
        self.pipe.send(message)
        self.close_if_due()

    def recv(self) -> Any:
        return self.pipe.recv()


def echoing(fault: str) -> Callable[[str], str]:
    if fault == "start":
        raise ValueError("no start")

    def work(task: str) -> str:
        if fault == "task":
            raise OSError("no space left")
        return task

    return work


@pytest.mark.parametrize(("fault", "answers"), [("", 0), ("", 1), ("", 2), ("start", 0), ("task", 1)])
def test_a_worker_whose_parent_has_died_exits_quietly(worker: None, fault: str, answers: int) -> None:
    """Reading and writing raise EOFError, BrokenPipeError or, with unread answers, ConnectionResetError."""
    with pytest.raises(SystemExit):
        pool._serve(DyingParent(answers), echoing, fault)  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_an_error_of_the_work_is_sent_even_if_it_looks_like_that_of_a_pipe(worker: None) -> None:
    parent, pipe = multiprocessing.Pipe()
    parent.send("task")
    pool._serve(pipe, echoing, "task")
    assert isinstance(parent.recv(), pool._Ready)
    assert str(parent.recv()) == "no space left"


class Unreadable(Exception):
    """Can be pickled, but not read again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def raising(kind: str) -> Callable[[str], str]:
    def work(task: str) -> str:
        if kind == "unreadable":
            raise Unreadable("no", "luck")

        class Local(Exception):  # cannot be pickled
            pass

        raise Local("no luck")

    return work


@pytest.mark.parametrize("kind", ["unreadable", "local"])
def test_an_exception_that_cannot_be_sent_arrives_as_text(kind: str) -> None:
    with pytest.raises(VqError, match=r"unexpected (Unreadable|Local): no luck"):
        list(in_processes(raising, kind, iter(["a"]), 1, 1))


def run_script(text: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a script whose processes can import it."""
    (tmp_path / "script.py").write_text(text)
    environment = os.environ | {"PYTHONPATH": str(Path(vqcodec.__file__).parents[1])}
    command = [sys.executable, str(tmp_path / "script.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


TERMINATED_AGAIN_AND_AGAIN = """
import multiprocessing, os, signal, time
from contextlib import suppress
from vqcodec.files.pool import Lost, in_processes

def prepare(_):
    return lambda task: task

if __name__ == "__main__":
    found = in_processes(prepare, None, iter(range(10**9)), 2, 1, tries=1)
    next(found)
    for delay in (0.0, 0.002, 0.01):
        time.sleep(delay)
        pids = [process.pid for process in multiprocessing.active_children()]
        for _ in range(200):
            for pid in pids:
                with suppress(OSError):
                    os.kill(pid, signal.SIGTERM)
        while not isinstance(next(found)[1], Lost):
            pass
        next(answer for _, answer in found if not isinstance(answer, Lost))
    found.close()
    print("done")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process at once")
def test_workers_that_are_terminated_again_and_again_print_nothing(tmp_path: Path) -> None:
    done = run_script(TERMINATED_AGAIN_AND_AGAIN, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


KILLED_PARENT = """
import os, signal
from vqcodec.files.pool import in_processes

def prepare(_):
    return lambda task: bytes(1000)

if __name__ == "__main__":
    found = in_processes(prepare, None, iter(range(10**9)), 2, 1)
    for _ in range(50):
        next(found)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_workers_of_a_killed_parent_print_nothing(tmp_path: Path) -> None:
    done = run_script(KILLED_PARENT, tmp_path)  # returns when the workers have closed standard error, too
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")


TWICE = """
import os, signal, sys
from vqcodec.cli.terminal import unwind_when_ended
unwind_when_ended()
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    os.kill(os.getpid(), signal.SIGTERM)  # arrives while temporary files are removed
    print("cleaned up")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process at once")
def test_a_second_sigterm_does_not_stop_the_cleanup(tmp_path: Path) -> None:
    done = run_script(TWICE, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (143, "cleaned up\n", "")
