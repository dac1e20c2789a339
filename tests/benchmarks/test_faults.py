"""A short run of benchmarks/faults.py: commands that are killed, full disks, missing permissions, closed pipes."""

from __future__ import annotations

import errno
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from vqcodec import output

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "faults.py"
NEED_ROOT = ("full disk (tmpfs)", "read-only file system", "no permission")
KINDS = (
    "signal at any moment", "signal at a step of writing", "signal, real processes", "no room for a byte", *NEED_ROOT,
    "output is input", "reader gone", "input ends early", "streams closed", "several at once",
)  # fmt: skip

posix = pytest.mark.skipif(
    os.name != "posix" or sys.platform == "darwin" or not SCRIPT.is_file(),
    reason="needs POSIX limits and forks; on macOS, Accelerate does not support forks",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("faults") / "faults.json"
    command = [sys.executable, str(SCRIPT), "--count", "6", "--real", "1", "--seed", "7", "--json", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert out.exists(), done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    found["exit code"], found["text"] = done.returncode, done.stdout
    return found


@posix
def test_all_kinds_of_faults_are_reported(report: dict[str, Any]) -> None:
    assert set(report["kinds"]) | set(report["skipped"]) == set(KINDS)
    assert set(report["skipped"]) <= set(NEED_ROOT)
    assert report["faults"] == sum(kind["injected"] for kind in report["kinds"].values())


@posix
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost(kind: str, report: dict[str, Any]) -> None:
    if kind in report["skipped"]:
        pytest.skip(report["skipped"][kind])
    assert report["kinds"][kind]["injected"] > 0
    assert report["kinds"][kind]["lost"] == []


@posix
def test_the_last_line_is_the_summary(report: dict[str, Any]) -> None:
    assert report["text"].splitlines()[-1] == f"{report['faults']} faults, nothing lost"
    assert report["exit code"] == 0


# --- Ctrl-C at every moment of writing -----------------------------------------------------

OLD, NEW = b"old content", b"new content"


def refused(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def write(path: Path, force: bool, last: int) -> int:
    """Write `path`, with KeyboardInterrupt at bytecode number `last` (0: none). Returns the number of bytecodes run."""
    count = 0

    def step(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count += 1
            if count == last:
                raise KeyboardInterrupt
        return step

    before = sys.gettrace()
    gc.disable()  # a finaliser of another test could swallow the interrupt or be counted
    sys.settrace(step)
    try:
        output.write_atomic(path, NEW, force=force)
    finally:
        sys.settrace(before)
        gc.enable()
    return count


# If the interrupt comes between opening a file and entering its `with`, Python closes the file with a warning.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("force", "links"), [(False, True), (False, False), (True, True)])
def test_ctrl_c_at_any_bytecode_leaves_the_whole_file_or_none(
    force: bool, links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow, and called hundreds of times
    if not links:
        monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "a.vq"
    if force:
        path.write_bytes(OLD)
    write(path, force, 0)  # the first call executes more library code
    path.unlink()
    if force:
        path.write_bytes(OLD)
    total = write(path, force, 0)
    whole = 0
    for last in range(1, total, 7):
        path.unlink()
        if force:
            path.write_bytes(OLD)
        with pytest.raises(KeyboardInterrupt):
            write(path, force, last)
        assert os.listdir(tmp_path) == (["a.vq"] if force or path.exists() else []), f"at {last} of {total}"
        if path.exists():
            assert path.read_bytes() in ((OLD, NEW) if force else (NEW,)), f"at {last} of {total}"
            whole += path.read_bytes() == NEW
        else:
            path.touch()
    assert 0 < whole < total / 7
