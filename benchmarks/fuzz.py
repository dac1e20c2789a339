"""Fuzzing: for any input bytes, vqcodec must return a result or raise one clear `VqError`.

    python benchmarks/fuzz.py --minutes 30 [--target NAME] [--findings DIR] [--json FILE]

Needs Linux and atheris (`pip install '.[fuzz]'`). libFuzzer keeps inputs that reach new code, and mutates them further.
The mutations are format-aware (benchmarks/mutations.py) and repair the checksums. Each target runs in its own process
and gets an equal share of the time. Models are tiny and have random weights.

A finding is one of these: an exception other than `VqError`; a warning; an error whose text is not one printable line
of at most 1010 characters; more than a second of CPU time; 64 MB more memory than any earlier input took (so only the
first such input is found). Each kind of finding is stored once with its traceback, after up to 300 mutations that
shorten the input. The exit code is 1 if there are findings.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

from targets import TARGETS, Target, check_text

SECONDS = 1.0  # CPU time allowed for an input
MEMORY = 64 << 10  # allowed growth, in KiB, the unit of getrusage
ADDRESS_SPACE = 16 << 30  # bytes; a larger allocation fails instead of exhausting the machine's memory
INSTRUMENTED = [
    "vqcodec.cli.options", "vqcodec.codec", "vqcodec.coding", "vqcodec.format", "vqcodec.model", "vqcodec.picture",
    "PIL.PngImagePlugin",
]  # fmt: skip
STATUS = re.compile(r"#(\d+)\s.*cov: (\d+) ft: (\d+) corp: (\d+)")


@dataclass
class Row:
    """The statistics of a target."""

    target: str
    inputs: int = 0
    coverage: int = 0  # edges reached in the instrumented modules
    features: int = 0  # edges, counted with their frequencies
    corpus: int = 0  # inputs kept
    findings: int = 0
    seconds: int = 0  # wall time
    cpu_seconds: float = 0.0


# --- checking one input --------------------------------------------------------------------------------------------


class Checker:
    """Runs inputs and stores those that are findings."""

    def __init__(self, target: Target, folder: Path, name: str) -> None:
        self.target, self.folder, self.name = target, folder, name
        self.known: set[str] = set()

    def fault(self, data: bytes) -> tuple[str, str] | None:
        """Run an input. Returns the kind of the finding and its description, or None."""
        from vqcodec.errors import VqError

        start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            try:
                self.target.run(data)
            except VqError as error:
                check_text(error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # panics of Rust libraries are not subclasses of `Exception`
            frames = traceback.extract_tb((error.__cause__ or error).__traceback__)
            place = next((f for f in reversed(frames) if "vqcodec" in Path(f.filename).parts), frames[-1])
            return f"{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}", traceback.format_exc()
        seconds = time.process_time() - start
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if seconds > SECONDS:
            return "slow", f"{seconds:.1f} s of CPU time"
        return ("memory", f"{grown >> 10} MiB more than before") if grown > MEMORY else None

    def __call__(self, data: bytes) -> None:
        """Run an input. Store it if it is a finding of a new kind."""
        found = self.fault(data)
        if found is None or found[0] in self.known:
            return
        key, description = found
        self.known.add(key)
        data = self.shortened(data, key)
        path = self.folder / f"{self.name}-{key}-{hashlib.sha256(data).hexdigest()[:8]}"
        path.write_bytes(data)
        path.with_name(path.name + ".txt").write_text(description, "utf-8", "backslashreplace")

    def shortened(self, data: bytes, key: str) -> bytes:
        """Shorten an input by random mutations, as long as it fails in the same way."""
        if key == "memory":  # cannot be reproduced: memory usage is compared with the maximum so far
            return data
        rng, deadline = random.Random(0), time.monotonic() + 30
        for _ in range(300):
            changed = self.target.mutate(data, rng, lambda old: cut(old, rng))
            if len(changed) < len(data) and time.monotonic() < deadline:
                found = self.fault(changed)
                data = changed if found and found[0] == key else data
        return data


def cut(data: bytes, rng: random.Random) -> bytes:
    """Delete a random range of bytes."""
    start, stop = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[stop:]


def fuzz(name: str, folder: Path, arguments: list[str]) -> None:
    """In a child process: run libFuzzer on a target. Does not return."""
    import atheris

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    warnings.simplefilter("error")
    corpus, scratch = Path(arguments[-1]), Path(tempfile.mkdtemp(dir=Path(arguments[-1]).parent))
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = TARGETS[name](scratch)
    longest = 4 * max(map(len, target.seeds)) + 4096
    for index, seed in enumerate(target.seeds):
        (corpus / f"seed{index}").write_bytes(seed)

    def mutator(data: bytes, most: int, seed: int) -> bytes:
        changed = target.mutate(bytes(data), random.Random(seed), lambda old: bytes(atheris.Mutate(old, len(old) + 64)))
        return changed[:most]

    atheris.Setup(
        [sys.argv[0], f"-max_len={longest}", *arguments], Checker(target, folder, name), custom_mutator=mutator
    )
    atheris.Fuzz()


# --- running all targets ------------------------------------------------------------------------------------------


def campaign(name: str, seconds: int, findings: Path) -> Row:
    """Fuzz a target in a child process. If a hang, a crash or memory use ends it, count a finding and restart it."""
    row, deadline = Row(name, seconds=seconds), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        while (left := int(deadline - time.monotonic())) > 0:
            options = [f"-max_total_time={left}", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=0"]
            line = [sys.executable, __file__, "--child", name, "--findings", str(findings)]
            line += ["--", *options, f"-artifact_prefix={findings}/{name}-", str(corpus)]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
            process = subprocess.run(line, stderr=subprocess.PIPE, text=True, errors="replace", env=environment)
            status = [tuple(map(int, match)) for match in STATUS.findall(process.stderr)]
            if not status:
                sys.exit(f"the target {name} does not start:\n{process.stderr[-2000:]}")
            row.inputs += status[-1][0]
            row.coverage, row.features, row.corpus = (max(a) for a in zip(*(s[1:] for s in status), strict=True))
            if process.returncode == 0:
                break
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    row.cpu_seconds = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
    row.findings = sum(path.suffix != ".txt" for path in findings.glob(f"{name}-*"))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="total time for all targets (default: 30)")
    parser.add_argument("--target", choices=TARGETS, action="append", help="repeatable; default: all targets")
    parser.add_argument("--findings", type=Path, default=Path("findings"), help="an empty folder; created if needed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        fuzz(arguments.child, arguments.findings, arguments.rest)
        return
    arguments.findings.mkdir(parents=True, exist_ok=True)
    if any(arguments.findings.iterdir()):
        parser.error(f"{arguments.findings} is not empty")
    targets = arguments.target or list(TARGETS)
    rows = []
    for name in targets:
        rows.append(campaign(name, max(1, round(60 * arguments.minutes / len(targets))), arguments.findings))
        print("  ".join(f"{key} {value}" for key, value in dataclasses.asdict(rows[-1]).items()), flush=True)
    if arguments.json:
        from importlib.metadata import version

        from vqcodec.bench.environment import environment

        machine = environment([], 1, 1) | {"atheris": version("atheris"), "Pillow": version("pillow")}
        result = {"environment": machine, "targets": [dataclasses.asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    if not any(arguments.findings.iterdir()):
        shutil.rmtree(arguments.findings)
    sys.exit(1 if any(row.findings for row in rows) else 0)


if __name__ == "__main__":
    main()
