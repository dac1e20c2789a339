"""Trials of faults.py: run the command line in a forked process, in a known folder, and check the files it leaves.

In: a `Scene` (a command, its inputs, existing outputs) and a fault to inject. Out: a `Row` with the trial counted, and
with every violation listed.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # no threads may exist when the process forks

import contextlib
import errno
import io
import select
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image

from vqcodec import output
from vqcodec.cli import main as cli
from vqcodec.files import work  # noqa: F401  imported once here, not in every fork

OLD = b"what was there before"
HIDDEN = ".vqcodec-"  # prefix of temporary files

Action = Callable[[], None]
Files = dict[str, bytes]  # name -> content


@dataclass
class Done:
    """How a process ended."""

    code: int  # negative: the signal that killed it
    out: bytes
    err: bytes


@dataclass
class Row:
    """The counts of all trials of a kind."""

    injected: int = 0  # trials
    whole: int = 0  # all outputs complete
    as_before: int = 0  # all outputs unchanged or absent
    mixed: int = 0  # some of several outputs complete, the others as before
    codes: Counter[int] = field(default_factory=Counter)
    left: int = 0  # hidden temporary files left behind
    lost: list[str] = field(default_factory=list)  # violations

    def __str__(self) -> str:
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(self.codes.items()))
        states = f"{self.whole:5} whole {self.as_before:5} as before {self.mixed:4} some {self.left:4} hidden"
        return f"{self.injected:5} {states}   exit codes {codes}   {len(self.lost)} lost"


@dataclass
class Scene:
    """A command in its own folder, and the outputs that it writes without faults."""

    name: str
    folder: Path
    command: str
    inputs: Files
    out: str
    options: list[str]
    outputs: Files = field(default_factory=dict)
    old: Files = field(default_factory=dict)  # files that exist at the outputs before the command runs
    without: int = 0  # simulated file system: 1: no hard links; 2: no rename without replacing either

    @property
    def arguments(self) -> list[str]:
        return self.to(self.out)

    def to(self, out: str, source: str | None = None) -> list[str]:
        """The arguments of the command with another output, and optionally another input."""
        return [self.command, *([source] if source else sorted(self.inputs)), "-o", out, *self.options]

    def reset(self) -> None:
        """Restore the folder: only the inputs and the old outputs."""
        for path in [path for path in self.folder.rglob("*") if not path.is_dir()]:
            if str(path.relative_to(self.folder)) not in self.inputs:
                path.unlink()
        for name, content in {**self.inputs, **self.old}.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(content)

    def files(self) -> Files:
        """The content of all files in the folder, by relative path."""
        paths = [path for path in sorted(self.folder.rglob("*")) if not path.is_dir()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}

    def prepare(self) -> None:
        """Called in the forked process: simulate the file system of this scene."""

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        for owner, name in ((os, "link"), (output, "_rename_new"))[: self.without]:
            setattr(owner, name, refuse)


def drop(*_: object) -> None:
    """Discard the arguments. Lets a lambda evaluate several expressions."""


def spawn(
    folder: Path, arguments: list[str], before: Action, default: int, streams: list[int], ready: int, others: list[int]
) -> int:
    """Fork a process that runs the command line. Returns its process id.

    before: called in the fork. default: the exit code if an exception such as KeyboardInterrupt occurs outside the
    command line. streams: descriptors for standard input, output and error. ready: descriptor to which the process
    writes a byte just before the command line runs. others: descriptors that the process closes.
    """
    pid = os.fork()
    if pid:
        return pid
    code: int | str | None = default
    try:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        for descriptor in others:  # the parent's ends; a pipe has no reader only if all copies are closed
            os.close(descriptor)
        os.chdir(folder)
        sys.stdin, sys.stdout = os.fdopen(0, "r", closefd=False), os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, closefd=False)
        sys.argv = ["vqcodec", *arguments]
        before()
        os.write(ready, b".")
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else int(code is not None))


def run(
    folder: Path,
    arguments: list[str],
    *,
    before: Action = lambda: None,
    default: int = 70,
    during: Callable[[int], None] = lambda pid: None,
    stdin: bytes = b"",
    take: int | None = None,
) -> Done:
    """Run the command line in a fork. `during(pid)` is called when it starts.

    before: called in the fork. default: see `spawn`. take: number of bytes to read from stdout before closing it; None:
    all.
    """
    pipes = [os.pipe() for _ in range(4)]
    (feed_in, feed), (out, out_in), (err, err_in), (ready, ready_in) = pipes
    os.write(feed, stdin)  # must fit into the pipe's buffer
    os.close(feed)
    if take == 0:
        os.close(out)
    others = [err, ready] if take == 0 else [out, err, ready]
    pid = spawn(folder, arguments, before, default, [feed_in, out_in, err_in], ready_in, others)
    for descriptor in (feed_in, out_in, err_in, ready_in):
        os.close(descriptor)
    os.read(ready, 1)
    during(pid)
    texts = {out: b"", err: b""} if take != 0 else {err: b""}
    waiting = set(texts)
    while waiting:
        for descriptor in select.select(list(waiting), [], [])[0]:
            chunk = os.read(descriptor, 4096 if take is None or descriptor == err else take - len(texts[out]))
            texts[descriptor] += chunk
            if not chunk or (descriptor == out and len(texts[out]) == take):
                waiting.discard(descriptor)
                os.close(descriptor)
    os.close(ready)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Done(code, texts.get(out, b""), texts[err])


def check(row: Row, scene: Scene, done: Done, codes: set[int], what: str, *, killed: bool = False) -> Files:
    """Check the outcome of a trial and count it. Returns the hidden temporary files that were left behind.

    codes: the valid exit codes. what: a description of the fault. killed: SIGKILL ended the process, so one temporary
    file may remain.
    """
    files = scene.files()
    row.injected += 1
    row.codes[done.code] += 1
    faults = []
    if done.code not in codes:
        faults.append(f"exit code {done.code}")
    if b"Traceback" in done.err:
        faults.append(done.err.decode().strip().splitlines()[-1])
    states = set()
    for name, content in scene.outputs.items():
        found = files.pop(name, None)
        states.add("whole" if found == content else "as before" if found == scene.old.get(name) else "broken")
    faults += ["an output is neither complete nor as before"] * ("broken" in states)
    faults += ["exit code 0 without a complete output"] * (done.code == 0 and states != {"whole"})
    row.whole += states == {"whole"}
    row.as_before += states == {"as before"}
    row.mixed += states == {"whole", "as before"}
    for name, content in scene.inputs.items():
        if files.pop(name, None) != content:
            faults.append(f"the input {name} changed")
    left = {name: content for name, content in files.items() if Path(name).name.startswith(HIDDEN)}
    row.left += len(left)
    if len(left) > killed or len(files) > len(left):
        faults.append(f"left behind: {', '.join(files)}")
    if left and not faults:  # it must not disturb the next run
        again = run(scene.folder, [*scene.arguments, "--force"])
        if again.code or any((scene.folder / name).read_bytes() != data for name, data in scene.outputs.items()):
            faults.append(f"the next run fails: {again.err.decode()}")
    row.lost += [f"{scene.name}, {what}: {fault}" for fault in faults]
    return left


def at_step(action: Callable[[int], None]) -> Action:
    """A function for `before` of `run`: calls `action(n)` at the n-th bytecode of writing the output, for every n."""
    real = output.write_atomic
    count = 0

    def step(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count += 1
            action(count)
        return step

    def traced(path: Path, data: bytes, **options: Any) -> None:
        sys.settrace(step)
        try:
            real(path, data, **options)
        finally:
            sys.settrace(None)

    return lambda: setattr(output, "write_atomic", traced)


def steps(scene: Scene) -> int:
    """The number of bytecodes that writing a scene's outputs executes."""
    reading, writing = os.pipe()
    counted = at_step(lambda _: drop(os.write(writing, b".")))
    scene.reset()
    total = 0

    def read(pid: int) -> None:
        nonlocal total
        os.close(writing)
        while chunk := os.read(reading, 65536):
            total += len(chunk)

    run(
        scene.folder,
        scene.arguments,
        before=lambda: (scene.prepare(), counted(), os.set_blocking(writing, True)),
        during=read,
    )
    os.close(reading)
    return total


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a tmpfs on the folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def picture(height: int, width: int, seed: int) -> bytes:
    """A PNG file with gradients and noise."""
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([x * 3 + seed * 40, y * 5, (x // 8 + y // 8) % 2 * 180], 2)
    samples = slopes + np.random.default_rng(seed).integers(0, 30, slopes.shape)
    file = io.BytesIO()
    Image.fromarray(samples.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def make_scenes(root: Path, model: str) -> list[Scene]:
    """The scenes, each in its own folder below `root`, with their expected outputs."""
    pictures = {f"{name}.png": picture(40, 56, seed) for seed, name in enumerate("abc")}
    one, options = {"a.png": pictures["a.png"]}, ["--model", model]
    compress = Scene("compress", root / "1", "compress", one, "a.vq", options)
    record_outputs(compress)
    file = {"a.vq": compress.outputs["a.vq"]}
    scenes = [
        compress,
        Scene("decompress", root / "2", "decompress", file, "a.png", []),
        Scene("compress --force", root / "3", "compress", one, "a.vq", [*options, "--force"], old={"a.vq": OLD}),
        Scene("decompress --force", root / "4", "decompress", file, "a.png", ["--force"], old={"a.png": OLD}),
        Scene("compress, no hard links", root / "5", "compress", one, "a.vq", options, without=1),
        Scene("several", root / "6", "compress", pictures, "out", options),
    ]
    for scene in scenes[1:]:
        record_outputs(scene)
    return scenes


def warm_up(root: Path, model: str) -> None:
    """Load everything that vqcodec loads lazily. A trial that runs as another user may not be able to load it."""
    names = [str(root / name) for name in ("w.png", "w.vq", "w2.png")]
    Path(names[0]).write_bytes(picture(16, 16, 0))
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        for command in (
            ["compress", names[0], "-o", names[1], "--model", model],
            ["decompress", names[1], "-o", names[2]],
        ):
            cli.app(command, standalone_mode=False)


def record_outputs(scene: Scene) -> None:
    """Run the command without faults, record its outputs and check that they can be read."""
    scene.folder.mkdir()
    scene.reset()
    done = run(scene.folder, scene.arguments, before=scene.prepare)
    scene.outputs = {name: data for name, data in scene.files().items() if name not in scene.inputs}
    if done.code or not scene.outputs:
        sys.exit(f"{scene.name} fails without a fault: {done.err.decode()}")
    for name, data in scene.outputs.items():
        if name.endswith(".vq"):
            (scene.folder / name).write_bytes(data)
            assert run(scene.folder, ["verify", "--deep", name]).code == 0
        else:
            Image.open(io.BytesIO(data)).load()
