"""A manifest: what became of every picture, a line of JSON each, so that a run that was stopped can go on.

In: the jobs of a run, then outcomes. Out: the jobs that are left to do, and the file. A line is appended in one write
as soon as its picture is finished; a run that is killed leaves at most one torn line, the last, which the next run
removes. Of several lines about one output the last one counts. Paths are absolute, times are those of the file system.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from vqcodec.errors import OutputError, UsageError
from vqcodec.files.outcome import Outcome
from vqcodec.files.plan import Job, seen, size_of

__all__ = ["Manifest"]

_START = b'{"input": "'  # of every line


class _Entry(NamedTuple):
    """What counts of a line. There may be millions."""

    input: str | None  # None: it failed
    seen: tuple[int, int]
    options: str
    size: int | None  # of the output, if that is ours


class Manifest:
    """An open manifest, which no other run may use at the same time. Close it, or use it in `with`."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Open `path`, made if absent. Raises `OutputError`, or `UsageError` for what is no manifest."""
        self.path = path
        text = json.dumps(settings, sort_keys=True)
        self.options = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.entries: dict[str, _Entry] = {}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from None
        try:
            self._lock()
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._file)

    def left(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that are not done: as these options ask for it, of the input as it is, with the output still there.

        What is there of an earlier run may be replaced. An output that no line is about may come from a run that was
        killed before it could write the line: it is made again, and is right if it comes out the same.
        """
        found = []
        for job in jobs:
            assert job.source is not None
            assert job.target is not None
            entry = self.entries.get(os.path.abspath(job.target))
            if entry is None:
                found.append(replace(job, accept_identical=True))
                continue
            ours = entry.size is not None and size_of(job.target) == entry.size
            done = entry.input == os.path.abspath(job.source) and entry.options == self.options
            if not (ours and done and seen(job.source) == entry.seen):
                found.append(replace(job, ours=entry.size, accept_identical=True))
        return found

    def add(self, job: Job, outcome: Outcome) -> None:
        """Append what became of a job. Raises `OutputError`."""
        assert job.source is not None
        assert job.target is not None
        size, time = outcome.seen or (None, None)
        line: dict[str, Any] = {"input": "", "output": "", "error": outcome.error}
        if outcome.record is not None:
            line = asdict(outcome.record) | {"error": None}
        line |= {
            "input": os.path.abspath(job.source),
            "output": os.path.abspath(job.target),
            "options": self.options,
            "input_size": size,
            "input_mtime_ns": time,
            "output_size": outcome.size if outcome.error is None else job.ours,
        }
        data = json.dumps(line).encode() + b"\n"
        try:
            if os.write(self._file, data) < len(data):
                raise OutputError(f"cannot write all of {self.path}: perhaps the disk is full")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None

    def _lock(self) -> None:
        """Until the file is closed, or the process dies."""
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise UsageError(f"{self.path} is not a file, as a manifest must be")
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{self.path} is in use by another run") from None
        except OSError:  # a file system without locks
            return

    def _read(self) -> None:
        good = 0  # bytes
        with open(self.path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n") and (line.startswith(_START) or _START.startswith(line)):
                    os.ftruncate(self._file, good)
                    return
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    raise UsageError(f"{self.path} is no manifest: see its line {number}; name another file") from None
                good += len(line)

    def _take(self, line: dict[str, Any]) -> None:
        before = (line["input_size"], line["input_mtime_ns"])
        # Millions of equal texts would take their memory each.
        options = self.options if line["options"] == self.options else ""
        self.entries[line["output"]] = _Entry(
            line["input"] if line["error"] is None else None, before, options, line["output_size"]
        )
