"""The manifest: a JSON-lines file with the outcome of every picture, from which an interrupted run can continue.

In: the jobs of a run, then their outcomes. Out: the jobs that are left to do, and the file.
Each line is appended in one write as soon as its picture is finished. A run that is killed leaves at most one
incomplete line, the last, which the next run removes. If several lines name the same output, the last one counts.
Paths are absolute; times are modification times of the file system.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vqcodec.errors import OutputError, UsageError
from vqcodec.files.outcome import Outcome
from vqcodec.files.plan import Job, seen, size_of

__all__ = ["Manifest"]

_START = b'{"input": "'  # every line starts with this


class _Entry(NamedTuple):
    """The fields of a line that are kept in memory. There may be millions of entries."""

    input: str | None  # path; None: the job failed
    seen: tuple[int, int]  # size and modification time (ns) of the input
    options: str  # digest of the options; "": other options than now
    size: int | None  # bytes of the output; None: no run with this manifest wrote it
    left_out: bool = False  # the job is done and has no output (--skip-larger)


class Manifest:
    """An open manifest. It is locked against other runs. Close it, or use it in `with`."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Open `path`, created if needed. `settings`: all options that the results depend on.

        Raises `OutputError`, or `UsageError` if the file is not a manifest or is in use.
        """
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
        """The jobs that are not done yet, and those that are refused.

        A job is done if a line has the same input, unchanged since then, and the same options, and if its output still
        exists with the same size or was left out. The remaining jobs may replace outputs of earlier runs (`ours`). An
        output without a line may come from a run that was killed before it wrote the line. Such a job runs again, and
        succeeds if the result is identical (`accept_identical`).
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
            done = done and (ours or entry.left_out)
            if job.refused is not None or not (done and seen(job.source) == entry.seen):
                found.append(replace(job, ours=entry.size, accept_identical=True))
        return found

    def add(self, job: Job, outcome: Outcome) -> None:
        """Append the outcome of a job. Raises `OutputError`."""
        assert job.source is not None
        assert job.target is not None
        size, time = outcome.seen or (None, None)
        line: dict[str, Any] = {"input": "", "output": "", "error": outcome.error}
        if outcome.record is not None:
            line = outcome.record.to_json() | {"error": None}
        line |= {
            "input": os.path.abspath(job.source),
            "output": os.path.abspath(job.target),
            "options": self.options,
            "input_size": size,
            "input_mtime_ns": time,
            "output_size": job.ours if outcome.record is None or outcome.record.left_out else outcome.size,
        }
        data = json.dumps(line).encode() + b"\n"
        try:
            if os.write(self._file, data) < len(data):
                raise OutputError(f"cannot write all of {self.path}: perhaps the disk is full")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None

    def _lock(self) -> None:
        """Lock the file until it is closed or the process ends. Raises `UsageError`."""
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise UsageError(f"{self.path} is not a regular file; a manifest must be one")
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
        """Read all lines, and cut off an incomplete last line. Raises `UsageError`."""
        good = 0  # bytes
        with open(self.path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n") and (line.startswith(_START) or _START.startswith(line)):
                    os.ftruncate(self._file, good)
                    return
                try:
                    self._add_entry(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    raise UsageError(
                        f"{self.path} is not a manifest: line {number} is invalid; name another file"
                    ) from None
                good += len(line)

    def _add_entry(self, line: dict[str, Any]) -> None:
        before = (line["input_size"], line["input_mtime_ns"])
        # Share one string: there may be millions of entries.
        options = self.options if line["options"] == self.options else ""
        left_out = line.get("left_out", False) is True  # earlier versions do not write it
        self.entries[line["output"]] = _Entry(
            line["input"] if line["error"] is None else None, before, options, line["output_size"], left_out
        )
