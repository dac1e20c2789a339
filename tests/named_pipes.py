"""Named pipes as pictures: whoever reads one is in the middle of its work, for as long as a test wants."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

needs_pipes = pytest.mark.skipif(
    not hasattr(os, "mkfifo") or not Path("/proc/self/fd").exists(), reason="needs named pipes and /proc"
)


def family(group: int) -> list[int]:
    """The processes of a group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = path.read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def reader_of(path: Path, pids: list[int]) -> int | None:
    """Which of the processes has the pipe open."""
    for pid in pids:
        with suppress(OSError):  # it has ended meanwhile
            if any(os.readlink(link) == str(path) for link in Path(f"/proc/{pid}/fd").glob("*")):
                return pid
    return None


def opened(path: Path) -> int:
    """The end of a pipe that is written to, once somebody reads it."""
    deadline = time.monotonic() + 300
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def kill_reader(path: Path, pids: Callable[[], list[int]]) -> None:
    """Kill the process that is in the middle of reading a pipe."""
    end = opened(path)
    while (pid := reader_of(path, pids())) is None:
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    gone = select.poll()
    gone.register(end, 0)  # an error: nobody reads any more; its last thread may take a moment
    assert gone.poll(60_000)
    os.close(end)


def feed(path: Path, data: bytes) -> None:
    end = opened(path)
    os.set_blocking(end, True)
    with open(end, "wb") as stream:
        stream.write(data)
