"""Planning: the inputs and -o of a command -> jobs, each with one input and one output.

`plan` determines all file names before any work starts. `check` finds errors of a job that need no slow work.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vqcodec.errors import OutputError, UsageError, VqError
from vqcodec.files.folders import SUFFIX, pictures_in, vq_files_in

__all__ = [
    "STREAM", "Job", "Naming", "Plan", "check", "is_stream", "names_folder", "plan", "seen", "size_of", "sources",
    "with_advice", "without_existing",
]  # fmt: skip

STREAM = "-"  # standard input or standard output
_STREAM_NAMES = (
    ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"),
    ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"),
)
_MOST_NAMED = 4  # other pictures with the same result that an error names


@dataclass(frozen=True, slots=True)  # slots: there may be millions of jobs
class Job:
    """One input file and the output file to make from it. `None` is standard input or standard output."""

    source: Path | None
    target: Path | None
    make_folder: bool = False  # create the folder of the target if needed
    ours: int | None = None  # bytes of an earlier result: a target of this size may be replaced
    accept_identical: bool = False  # an existing target with the same bytes counts as written
    keep_times: bool = False  # the target gets the modification time of the source
    refused: str | None = None  # why the job cannot be done: its target is an input, or the target of another job

    @property
    def input(self) -> str:
        """The input as records name it."""
        return STREAM if self.source is None else str(self.source)

    @property
    def label(self) -> str:
        """The input as messages name it."""
        return "standard input" if self.source is None else str(self.source)

    @property
    def output(self) -> str:
        """The output as records and messages name it."""
        return STREAM if self.target is None else str(self.target)


@dataclass(frozen=True)
class Naming:
    """How the inputs of a command become jobs: the options of `plan`."""

    suffix: str  # of the outputs: ".vq" for compressing, another one for decompressing
    recursive: bool = False  # take the subfolders of a folder too
    keep_suffix: bool = False  # a.jpg -> a.jpg.vq
    keep_times: bool = False


@dataclass(frozen=True)
class Plan:
    """The jobs of a command, and what is left out of the folders that it names."""

    jobs: tuple[Job, ...]
    several: bool = False  # whether the inputs are a folder or more than one file
    others: Counter[str] = field(default_factory=Counter)  # files in folders that are not taken, by suffix


def plan(inputs: Sequence[str], out: str | None, naming: Naming) -> Plan:
    """One job per input file.

    A folder is replaced by the files of the right kind in it and, if `recursive`, in its subfolders, which are
    mirrored under `out`. Jobs with the same output, and jobs whose output is an input, are `refused`; the other jobs
    are not affected. Raises `UsageError` if several results would go to one file, or if a folder has no such files.
    """
    if "" in inputs or out == "":
        raise UsageError("a name is empty; give a file, a folder, or - for a standard stream")
    if any(is_stream(name, 0) for name in inputs):
        return Plan((_from_stream(inputs, out),))
    several = len(inputs) > 1 or os.path.isdir(inputs[0])
    to_stream = out is not None and is_stream(out, 1)
    if several and to_stream:
        raise UsageError("several files cannot go to standard output; name a folder with -o")
    if several and out is not None and os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"{out} is not a folder; for several files, -o must name a folder")
    make_folder = out is not None and not to_stream and (several or names_folder(out))
    jobs: list[Job] = []
    others: Counter[str] = Counter()
    for name in inputs:
        top = Path(name) if naming.recursive and os.path.isdir(name) else None
        for source in _files_of(name, naming, others):
            target = None if to_stream else _target(source, out if make_folder else None, naming, top)
            if out is not None and not make_folder and not to_stream:
                target = Path(out)
            jobs.append(Job(source, target, make_folder, keep_times=naming.keep_times))
    return Plan(tuple(_with_clashes_refused(jobs)), several, others)


def _files_of(name: str, naming: Naming, others: Counter[str]) -> list[Path]:
    if not os.path.isdir(name):
        return [Path(name)]
    if naming.suffix == SUFFIX:
        return pictures_in(Path(name), naming.recursive, others)
    return vq_files_in(Path(name), naming.recursive)


def is_stream(name: str, number: int) -> bool:
    """Whether a name stands for standard input (number 0) or output (1): -, or a device such as /dev/stdout."""
    return name == STREAM or name in _STREAM_NAMES[number]


def sources(names: Sequence[str]) -> list[Path | None]:
    """The .vq files that the arguments name: files, folders of them, or - for standard input (None).

    Raises `UsageError`.
    """
    found: list[Path | None] = []
    for name in names:
        if is_stream(name, 0):
            found.append(None)
        else:
            found += vq_files_in(Path(name)) if os.path.isdir(name) else [Path(name)]
    if found.count(None) > 1:
        raise UsageError("standard input (-) can be read only once")
    return found


def _from_stream(inputs: Sequence[str], out: str | None) -> Job:
    if len(inputs) > 1:
        raise UsageError("standard input (-) cannot be combined with other inputs")
    if out is None or is_stream(out, 1):
        return Job(None, None)
    if names_folder(out):
        raise UsageError(f"standard input has no file name; -o must name a file, not the folder {out}")
    return Job(None, Path(out))


def names_folder(out: str) -> bool:
    """Whether -o names a folder: an existing one, or a name that ends with a slash."""
    return out.endswith(("/", os.sep)) or os.path.isdir(out)


def _target(source: Path, folder: str | None, naming: Naming, top: Path | None) -> Path:
    """The output of a source: beside it, or in `folder`, where it is placed as the source is below `top`.

    The suffix is replaced, or with `keep_suffix` added. Without its .vq, a name from an earlier run with `keep_suffix`
    may already have the suffix of the output: a.png.vq -> a.png.
    """
    if naming.keep_suffix:
        named = source.with_name(source.name + naming.suffix)
    elif naming.suffix != SUFFIX and Path(source.stem).suffix.lower() == naming.suffix:
        named = source.with_suffix("")
    else:
        named = source.with_suffix(naming.suffix)
    if folder is None:
        return named
    return Path(folder) / (named.relative_to(top) if top else named.name)


def _with_clashes_refused(jobs: Sequence[Job]) -> list[Job]:
    """The jobs; those that would overwrite the result of another job, or an input, are refused."""
    folders: dict[Path, str] = {}  # real paths, cached: resolving one is slow

    def real_path(path: Path) -> str:
        folder = folders.get(path.parent)
        if folder is None:
            folder = folders[path.parent] = os.path.realpath(path.parent)
        path_key = os.path.join(folder, path.name)
        return os.path.realpath(path_key) if path.name in ("", "..") or os.path.islink(path_key) else path_key

    sources = {real_path(job.source) for job in jobs if job.source}
    targets = [None if job.target is None else real_path(job.target) for job in jobs]
    writers: defaultdict[str, list[Job]] = defaultdict(list)
    for job, target in zip(jobs, targets, strict=True):
        if target is not None:
            writers[target].append(job)
    found = []
    for job, target in zip(jobs, targets, strict=True):
        if target in sources:
            reason = f"{job.output} is an input and would be overwritten; name another -o"
            found.append(replace(job, refused=reason))
        elif target is not None and len(writers[target]) > 1:
            found.append(replace(job, refused=_clash(job, writers[target])))
        else:
            found.append(job)
    return found


def _clash(job: Job, writers: Sequence[Job]) -> str:
    """Why `job` is refused, which is one of the `writers` of the same output."""
    others = [writer for writer in writers if writer is not job]
    if any(other.source == job.source for other in others):
        return f"it is given {len(writers)} times, and each result would be {job.output}"
    names = [other.input for other in others[:_MOST_NAMED]]
    if len(others) > _MOST_NAMED:
        names.append(f"{len(others) - _MOST_NAMED:,} more")
    assert job.source is not None
    advice = "give each an -o of its own"
    if all(other.source is not None and other.source.name != job.source.name for other in others):
        advice = "--keep-suffix gives each a name of its own"
    return f"its result {job.output} would also be that of {', '.join(names)}; {advice}"


def without_existing(jobs: Sequence[Job]) -> list[Job]:
    """The jobs without those whose target exists, unless an earlier run with the same manifest has written it."""
    return [
        job
        for job in jobs
        if job.refused is not None or job.target is None or job.ours is not None or not os.path.lexists(job.target)
    ]


def check(job: Job, force: bool, missing: type[VqError]) -> None:
    """Raise `VqError` for each error of `job` that can be found without slow work.

    missing: the type of error for an input that does not exist.
    """
    from vqcodec.output import check_destination

    if job.refused is not None:
        raise UsageError(job.refused)
    if job.source is None and sys.stdin.isatty():
        raise UsageError("standard input is a terminal; name a file, or pipe one in")
    if job.target is None and sys.stdout.isatty():
        raise UsageError("the result is binary and is not written to a terminal; use -o FILE, or a pipe")
    if job.source is not None and not os.path.exists(job.source):
        raise missing(f"{job.source}: there is no such file")
    if job.target is None:
        return
    if job.source is not None and os.path.exists(job.target) and os.path.samefile(job.source, job.target):
        raise UsageError(f"{job.target} is the input itself; name another output with -o")
    if not job.make_folder or os.path.isdir(job.target.parent):
        try:
            check_destination(job.target, force=force or job.accept_identical)
        except OutputError as error:
            raise with_advice(error) from error.__cause__


def with_advice(error: OutputError) -> OutputError:
    """The error; if it is that a file exists, it names --skip-existing too."""
    if not isinstance(error.__cause__, FileExistsError):
        return error
    return OutputError(f"{error}, or --skip-existing to leave it as it is")


def seen(source: Path | None) -> tuple[int, int] | None:
    """Size (bytes) and modification time (ns) of a file; None if it does not exist."""
    try:
        found = None if source is None else os.stat(source)
    except (OSError, ValueError):
        return None
    return None if found is None else (found.st_size, found.st_mtime_ns)


def size_of(target: Path | None) -> int | None:
    """Size of a file in bytes; None if it does not exist."""
    found = seen(target)
    return None if found is None else found[0]
