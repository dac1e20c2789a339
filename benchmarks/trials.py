"""A trial: the command line in a process of its own, in a folder of known content, and the verdict on what it left.

In: a `Scene` (a command, its inputs, what lies at its output) and what to do to the process. Out: a `Row` with one more
trial counted, and every broken promise by name. Used by faults.py.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # a fork must find no threads

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
from vqcodec.files import work  # noqa: F401  loaded here, not in every fork

OLD = b"what was there before"
HIDDEN = ".vqcodec-"

Action = Callable[[], None]
Found = dict[str, bytes]  # name -> content


@dataclass
class Done:
    """How a process ended."""

    code: int  # negative: the signal it died of
    out: bytes
    err: bytes


@dataclass
class Row:
    """What came of all trials of a kind."""

    injected: int = 0
    whole: int = 0
    as_before: int = 0
    mixed: int = 0  # of several outputs some
    codes: Counter[int] = field(default_factory=Counter)
    left: int = 0  # hidden temporary files
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(self.codes.items()))
        states = f"{self.whole:5} whole {self.as_before:5} as before {self.mixed:4} some {self.left:4} hidden"
        return f"{self.injected:5} {states}   exit codes {codes}   {len(self.lost)} lost"


@dataclass
class Scene:
    """A command in a folder of its own, and what it makes when nothing disturbs it."""

    name: str
    folder: Path
    command: str
    inputs: Found
    out: str
    options: list[str]
    outputs: Found = field(default_factory=dict)
    old: Found = field(default_factory=dict)  # what lies there before
    without: int = 0  # of the file system: 1 no hard links, 2 no renaming without replacing, either

    @property
    def arguments(self) -> list[str]:
        return self.to(self.out)

    def to(self, out: str, source: str | None = None) -> list[str]:
        return [self.command, *([source] if source else sorted(self.inputs)), "-o", out, *self.options]

    def reset(self) -> None:
        for path in [path for path in self.folder.rglob("*") if not path.is_dir()]:
            if str(path.relative_to(self.folder)) not in self.inputs:
                path.unlink()
        for name, content in {**self.inputs, **self.old}.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(content)

    def files(self) -> Found:
        paths = [path for path in sorted(self.folder.rglob("*")) if not path.is_dir()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}

    def prepare(self) -> None:
        """In the process: the file system of this scene."""

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        for owner, name in ((os, "link"), (output, "_rename_new"))[: self.without]:
            setattr(owner, name, refuse)


def void(*_: object) -> None:
    """For a lambda that does several things."""


def spawn(
    folder: Path, arguments: list[str], before: Action, default: int, streams: list[int], ready: int, others: list[int]
) -> int:
    """Fork a process that runs the command line; `default`: the exit code if a signal comes before or after that."""
    pid = os.fork()
    if pid:
        return pid
    code: int | str | None = default
    try:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        for descriptor in others:  # the parent's ends: a reader is gone only when nobody holds it
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
    """Run the command line in a fork; `during(pid)` is called when it starts. take: bytes read before stdout closes."""
    pipes = [os.pipe() for _ in range(4)]
    (feed_in, feed), (out, out_in), (err, err_in), (ready, ready_in) = pipes
    os.write(feed, stdin)  # less than a pipe holds
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


def judge(row: Row, scene: Scene, done: Done, codes: set[int], what: str, *, killed: bool = False) -> Found:
    """Count a trial; returns the files that lie there."""
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
    faults += ["an output is neither whole nor as before"] * ("broken" in states)
    faults += ["exit code 0 without a whole output"] * (done.code == 0 and states != {"whole"})
    row.whole += states == {"whole"}
    row.as_before += states == {"as before"}
    row.mixed += states == {"whole", "as before"}
    for name, content in scene.inputs.items():
        if files.pop(name, None) != content:
            faults.append(f"the input {name} is not what it was")
    left = {name: content for name, content in files.items() if Path(name).name.startswith(HIDDEN)}
    row.left += len(left)
    if len(left) > killed or len(files) > len(left):
        faults.append(f"left behind: {', '.join(files)}")
    if left and not faults:  # it must be in nobody's way
        again = run(scene.folder, [*scene.arguments, "--force"])
        if again.code or any((scene.folder / name).read_bytes() != data for name, data in scene.outputs.items()):
            faults.append(f"the next run fails: {again.err.decode()}")
    row.lost += [f"{scene.name}, {what}: {fault}" for fault in faults]
    return left


def at_step(action: Callable[[int], None]) -> Action:
    """What makes a process call `action(n)` at every step, bytecode by bytecode, of writing its output."""
    real = output.write_atomic
    count = 0

    def step(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count += 1
            action(count)
        return step

    def traced(path: Path, data: bytes, *, force: bool) -> None:
        sys.settrace(step)
        try:
            real(path, data, force=force)
        finally:
            sys.settrace(None)

    return lambda: setattr(output, "write_atomic", traced)


def steps(scene: Scene) -> int:
    """How many steps the writing of a scene's outputs has."""
    reading, writing = os.pipe()
    counted = at_step(lambda _: void(os.write(writing, b".")))
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
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def picture(height: int, width: int, seed: int) -> bytes:
    """A PNG with slopes and noise."""
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([x * 3 + seed * 40, y * 5, (x // 8 + y // 8) % 2 * 180], 2)
    samples = slopes + np.random.default_rng(seed).integers(0, 30, slopes.shape)
    file = io.BytesIO()
    Image.fromarray(samples.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def scenes_in(root: Path, model: str) -> list[Scene]:
    """The commands, each in its folder below `root`, with what they make."""
    pictures = {f"{name}.png": picture(40, 56, seed) for seed, name in enumerate("abc")}
    one, options = {"a.png": pictures["a.png"]}, ["--model", model]
    compress = Scene("compress", root / "1", "compress", one, "a.vq", options)
    finish(compress)
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
        finish(scene)
    return scenes


def warm_up(root: Path, model: str) -> None:
    """Whatever is loaded when it is needed is loaded now: a trial as another user may not be able to."""
    names = [str(root / name) for name in ("w.png", "w.vq", "w2.png")]
    Path(names[0]).write_bytes(picture(16, 16, 0))
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        for command in (
            ["compress", names[0], "-o", names[1], "--model", model],
            ["decompress", names[1], "-o", names[2]],
        ):
            cli.app(command, standalone_mode=False)


def finish(scene: Scene) -> None:
    """Find out what an undisturbed command makes, and that it can be read."""
    scene.folder.mkdir()
    scene.reset()
    done = run(scene.folder, scene.arguments, before=scene.prepare)
    scene.outputs = {name: data for name, data in scene.files().items() if name not in scene.inputs}
    if done.code or not scene.outputs:
        sys.exit(f"{scene.name} fails undisturbed: {done.err.decode()}")
    for name, data in scene.outputs.items():
        if name.endswith(".vq"):
            (scene.folder / name).write_bytes(data)
            assert run(scene.folder, ["verify", "--deep", name]).code == 0
        else:
            Image.open(io.BytesIO(data)).load()
