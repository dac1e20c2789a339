"""Fault injection: kill commands, fill the disk, remove permissions, close pipes; then check what is left behind.

    python benchmarks/faults.py [--count N] [--real N] [--seed N] [--json FILE]

Every trial runs the real command line on tiny pictures in a separate process. The processes are forks of one process
that has loaded everything, so thousands of trials are affordable. `--real` sets the number of trials that start a new
Python process instead.

After a trial, every output must be complete, unchanged or absent. The inputs must be unchanged. The exit code must be
the one that the README documents. No other files may remain, except the hidden temporary file of a process that was
killed by SIGKILL. Violations are listed as lost, and the exit code is then 1. POSIX only. Trials with full or read-only
disks (tmpfs) and with folders without permission need root.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from trials import Done, Row, Scene, at_step, check, drop, make_scenes, mounted, run, spawn, steps, warm_up

from vqcodec.model import store
from vqcodec.nn import weights

KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
NOBODY = 65534


# --- signals -------------------------------------------------------------------------------


def exit_codes(number: signal.Signals) -> set[int]:
    """The valid exit codes of a command that received this signal."""
    return {0, -number} if number == signal.SIGKILL else {0, 128 + number}


def signals_at_any_moment(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """Send a signal after a random time."""
    for scene in scenes:
        scene.reset()
        start = time.perf_counter()
        run(scene.folder, scene.arguments, before=scene.prepare)
        usual = time.perf_counter() - start
        for _ in range(count // len(scenes)):
            number, delay = rng.choice(KILLS), rng.uniform(0, usual)
            scene.reset()

            def kill(pid: int, delay: float = delay, number: signal.Signals = number) -> None:
                time.sleep(delay)
                os.kill(pid, number)

            done = run(scene.folder, scene.arguments, before=scene.prepare, default=128 + number, during=kill)
            # The signal may arrive before its handler is installed. Then it kills the process.
            codes = exit_codes(number) | {-number}
            check(row, scene, done, codes, f"{number.name} after {delay:.4f} s", killed=done.code == -signal.SIGKILL)


def signals_at_steps(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """Send a signal at a random bytecode of writing the output."""
    for scene in scenes:
        total = steps(scene)
        for _ in range(count // len(scenes)):
            number, moment = rng.choice(KILLS), rng.randint(1, total)

            def kill(step: int, moment: int = moment, number: signal.Signals = number) -> None:
                if step == moment:
                    os.kill(os.getpid(), number)

            scene.reset()
            fault = at_step(kill)
            done = run(scene.folder, scene.arguments, before=lambda s=scene, f=fault: drop(s.prepare(), f()))
            killed = done.code == -signal.SIGKILL
            check(row, scene, done, exit_codes(number), f"{number.name} at step {moment} of {total}", killed=killed)


def signals_to_real_processes(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """Send a signal after a random time to a new Python process, not a fork."""
    command = [sys.executable, "-c", "from vqcodec.cli.main import main; main()"]
    usual = 0.0
    for index in range(count + 1):
        scene, number = rng.choice(scenes), rng.choice(KILLS)
        scene.reset()
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, *scene.arguments], cwd=scene.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        delay = rng.uniform(0, usual)
        if index:
            time.sleep(delay)
            process.send_signal(number)
        out, err = process.communicate()
        if not index:  # the first process runs undisturbed, to measure its duration
            usual = time.perf_counter() - start
            continue
        if process.returncode in (-signal.SIGINT, 1) and number == signal.SIGINT and b"KeyboardInterrupt" in err:
            err = b""  # Ctrl-C while Python imports the command line: nothing handles KeyboardInterrupt yet
            process.returncode = -signal.SIGINT
        codes = exit_codes(number) | {-number}
        done = Done(process.returncode, out, err)
        check(row, scene, done, codes, f"{number.name} after {delay:.2f} s", killed=done.code == -signal.SIGKILL)


# --- disks and folders ---------------------------------------------------------------------


def no_room_for_a_byte(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """The system limits the size of a file (RLIMIT_FSIZE)."""
    import resource

    for scene in scenes:
        size = max(map(len, scene.outputs.values()))
        limits = range(size) if size <= count // len(scenes) else sorted(rng.sample(range(size), count // len(scenes)))
        for limit in limits:
            scene.reset()
            limited = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
            done = run(scene.folder, scene.arguments, before=lambda s=scene, f=limited: drop(s.prepare(), f()))
            check(row, scene, done, {1}, f"room for {limit} bytes of {size}")


def full_disk(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """A tmpfs with room for a random number of pages, and with or without a free inode for one more file."""
    page = os.sysconf("SC_PAGE_SIZE")
    for scene in scenes:
        for _ in range(count // len(scenes)):
            room, inode = rng.randint(0, -(-max(map(len, scene.outputs.values())) // page)), rng.random() < 0.8
            with mounted(scene.folder, "size=1m,mode=755"):
                scene.reset()
                with open(scene.folder / "filler", "wb") as filler:
                    free = os.statvfs(scene.folder).f_bfree
                    filler.write(bytes(max(0, free - room) * page))
                if not inode:
                    used = sum(1 for _ in scene.folder.rglob("*")) + 1
                    remount = ["mount", "-o", f"remount,size=1m,nr_inodes={used}", scene.folder]
                    subprocess.run(remount, check=True)
                done = run(scene.folder, scene.arguments)
                (scene.folder / "filler").unlink()
                check(row, scene, done, {0, 1}, f"room for {room} pages and {'a' if inode else 'no'} file")


def read_only(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """A tmpfs that is mounted read-only."""
    for scene in scenes:
        with mounted(scene.folder, "size=1m,mode=755"):
            scene.reset()
            subprocess.run(["mount", "-o", "remount,ro", scene.folder], check=True)
            for _ in range(count // len(scenes)):
                check(row, scene, run(scene.folder, scene.arguments), {1}, "read-only")


def no_permission(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """Run as a user who may not write to the folder or may not read the input."""
    for scene in scenes:
        scene.reset()
        for _ in range(count // len(scenes)):
            closed = rng.choice(sorted(scene.inputs)) if rng.random() < 0.5 else None
            scene.reset()
            if closed:
                (scene.folder / closed).chmod(0o600)
            done = run(scene.folder, scene.arguments, before=lambda: os.setuid(NOBODY))
            check(row, scene, done, {1}, f"no permission for {closed or 'the folder'}")


def output_is_input(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """The output is the input: by the same name, another spelling, a symbolic or hard link, a linked folder."""
    for scene in [scene for scene in scenes if len(scene.inputs) == 1]:
        source = scene.folder / next(iter(scene.inputs))
        for _ in range(count // 4):
            scene.reset()
            ways = {
                "the same": source.name,
                "dotted": f"./././{source.name}",
                "up and down": f"../{scene.folder.name}/{source.name}",
                "absolute": str(source),
                "slashes": f".//{source.name}",
                "symbolic link": "link",
                "link to a link": "link2",
                "hard link": "hard",
                "linked folder": f"here/{source.name}",
            }
            (scene.folder / "link").symlink_to(source.name)
            (scene.folder / "link2").symlink_to("link")
            os.link(source, scene.folder / "hard")
            (scene.folder / "here").symlink_to(".")
            way = rng.choice(sorted(ways))
            force = rng.choice([[], ["--force"]])
            arguments = [*scene.to(ways[way]), *force]
            done = run(scene.folder, arguments)
            kinds = [(scene.folder / name).is_symlink() for name in ("link", "link2", "here", "hard")]
            for name in ("link", "link2", "here", "hard"):
                (scene.folder / name).unlink()
            check(row, scene, done, {2}, f"{way} {force}")
            if kinds != [True, True, True, False]:
                row.lost.append(f"{scene.name}, {way}: a link was replaced")


# --- streams and races ---------------------------------------------------------------------


def reader_gone(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """Standard output is a pipe whose reader closes it after some bytes."""
    import fcntl

    for scene in [scene for scene in scenes if len(scene.inputs) == 1]:
        size = len(next(iter(scene.outputs.values())))
        for _ in range(count // 4):
            scene.reset()
            take = rng.randrange(size - 4096) if size > 4096 else 0  # the pipe buffers 4096 bytes

            def small() -> None:
                fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096)

            done = run(scene.folder, scene.to("-"), before=small, take=take)
            check(row, scene, done, {1}, f"after {take} bytes of {size}")
            if done.err:
                row.lost.append(f"{scene.name}: an error message after the reader closed the pipe: {done.err.decode()}")


def input_ends_early(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """Standard input is a pipe that ends before the file does."""
    for scene in [scene for scene in scenes if len(scene.inputs) == 1 and not scene.old]:
        name, content = next(iter(scene.inputs.items()))
        for _ in range(count // 2):
            scene.reset()
            end = rng.randrange(min(len(content), 60_000))
            done = run(scene.folder, scene.to(scene.out, "-"), stdin=content[:end])
            # The bytes after the last sample of a PNG are not needed for decoding.
            codes = {0, 1} if name.endswith(".png") and end >= len(content) - 16 else {1}
            check(row, scene, done, codes, f"{end} bytes of {len(content)}")


def closed_streams(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """The process starts without one, two or all three of its standard streams."""
    for scene in scenes:
        for _ in range(count // len(scenes)):
            scene.reset()
            closed = rng.choice([(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])

            def close(closed: tuple[int, ...] = closed) -> None:
                for number in closed:
                    os.close(number)
                    setattr(sys, ("stdin", "stdout", "stderr")[number], None)

            done = run(scene.folder, scene.arguments, before=close)
            check(row, scene, done, {1} if 1 in closed else {0}, f"without {closed}")


def at_once(row: Row, scenes: list[Scene], count: int, rng: random.Random) -> None:
    """Three processes write the same output. With --force the last one wins, without it the first one."""
    scene = next(scene for scene in scenes if scene.name == "several")
    for _ in range(count):
        scene.reset()
        force = rng.random() < 0.5
        processes = []
        for name in sorted(scene.inputs):
            pause, chance = random.Random(rng.random()), 0.02
            slow = at_step(lambda _, p=pause, c=chance: time.sleep(0.002) if p.random() < c else None)
            command = scene.to("same.vq", name) + ["--force"] * force
            null = os.open(os.devnull, os.O_RDWR)
            without = rng.choice([0, 0, 1, 2])
            rival = Scene("rival", scene.folder, "", {}, "", [], without=without)
            processes.append(
                spawn(scene.folder, command, lambda r=rival, s=slow: drop(r.prepare(), s()), 70, [null] * 3, null, [])
            )
            os.close(null)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in processes)
        same = scene.folder / "same.vq"
        content = same.read_bytes() if same.exists() else b""
        same.unlink(missing_ok=True)
        row.injected += 1
        row.codes.update(codes)
        row.whole += content in scene.outputs.values()
        expected = [0] * len(processes) if force else [0] + [1] * (len(processes) - 1)
        if codes != expected or content not in scene.outputs.values() or scene.files() != scene.inputs:
            row.lost.append(f"at once, force {force}: exit codes {codes}, {len(content)} bytes, {list(scene.files())}")


KINDS: dict[str, Callable[[Row, list[Scene], int, random.Random], None]] = {
    "signal at any moment": signals_at_any_moment,
    "signal at a step of writing": signals_at_steps,
    "signal, real processes": signals_to_real_processes,
    "no room for a byte": no_room_for_a_byte,
    "full disk (tmpfs)": full_disk,
    "read-only file system": read_only,
    "no permission": no_permission,
    "output is input": output_is_input,
    "reader gone": reader_gone,
    "input ends early": input_ends_early,
    "streams closed": closed_streams,
    "several at once": at_once,
}


def unavailable(kind: str, folder: Path) -> str | None:
    """Why a kind of fault cannot be injected on this machine, or None."""
    if kind in ("full disk (tmpfs)", "read-only file system"):
        try:
            with mounted(folder, "size=64k"):
                return None
        except (OSError, subprocess.CalledProcessError):
            return "needs permission to mount a tmpfs"
    return "needs root" if kind == "no permission" and os.geteuid() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="trials of each kind (default 300)")
    parser.add_argument("--real", type=int, default=24, help="trials that start a new Python process (default 24)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only kinds whose name contains TEXT")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default="paper")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if os.name != "posix":
        sys.exit("this needs a POSIX system")
    store.Model.prior = functools.cache(store.Model.prior)  # load once, in the parent of all forks
    weights.open_network = functools.cache(weights.open_network)
    rows: dict[str, Row] = {}
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)  # for trials that run as another user
        warm_up(root, options.model)
        scenes = make_scenes(root, options.model)
        for kind, inject in KINDS.items():
            if options.only not in kind:
                continue
            reason = unavailable(kind, scenes[0].folder)
            if reason:
                skipped[kind] = reason
                continue
            rows[kind] = Row()
            real = kind == "signal, real processes"
            inject(rows[kind], scenes, options.real if real else options.count, random.Random(options.seed))
            print(f"{kind:28}{rows[kind]}", flush=True)
    for kind, reason in skipped.items():
        print(f"{kind}: skipped, {reason}")
    lost = [f"{kind}: {text}" for kind, row in rows.items() for text in row.lost]
    total = sum(row.injected for row in rows.values())
    print(*lost, f"{total} faults, {len(lost) or 'nothing'} lost", sep="\n")
    if options.json:
        table = {kind: {**vars(row), "codes": dict(sorted(row.codes.items()))} for kind, row in rows.items()}
        where = {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "seed": options.seed,
        }
        text = json.dumps({**where, "faults": total, "lost": len(lost), "kinds": table, "skipped": skipped}, indent=2)
        options.json.write_text(text + "\n")
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
