"""Planning: the inputs and -o of a command -> jobs, each with one input and one output.

`plan` determines all file names before any work starts. `check` finds errors of a job that need no slow work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vqcodec.errors import UsageError, VqError

__all__ = [
    "STREAM", "Job", "check", "names_folder", "pictures_in", "plan", "seen", "size_of", "sources",
]  # fmt: skip

STREAM = "-"  # standard input or standard output
SUFFIX = ".vq"


@dataclass(frozen=True, slots=True)  # slots: there may be millions of jobs
class Job:
    """One input file and the output file to make from it. `None` is standard input or standard output."""

    source: Path | None
    target: Path | None
    make_folder: bool = False  # create the folder of the target if needed
    ours: int | None = None  # bytes of an earlier result: a target of this size may be replaced
    accept_identical: bool = False  # an existing target with the same bytes counts as written

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


def plan(inputs: Sequence[str], out: str | None, suffix: str, recursive: bool = False) -> tuple[Job, ...]:
    """One job per input file. Outputs get `suffix`: ".vq" for compressing, another one for decompressing.

    A folder is replaced by the files of the right kind in it and, with `recursive`, in its subfolders, which are
    mirrored under `out`. Raises `UsageError` if two outputs have the same name, if an output is an input, or if several
    results would go to one file.
    """
    if STREAM in inputs:
        return (_from_stream(inputs, out),)
    several = len(inputs) > 1 or os.path.isdir(inputs[0])
    if several and out == STREAM:
        raise UsageError("several files cannot go to standard output; name a folder with -o")
    if several and out is not None and os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"{out} is not a folder; for several files, -o must name a folder")
    list_folder = pictures_in if suffix == SUFFIX else _vq_files_in
    make_folder = out is not None and (several or names_folder(out))
    jobs: list[Job] = []
    for name in inputs:
        found = list_folder(Path(name), recursive) if os.path.isdir(name) else [Path(name)]
        top = Path(name) if recursive and os.path.isdir(name) else None
        jobs += [Job(source, _target(source, out, make_folder, suffix, top), make_folder) for source in found]
    _refuse_clashes(jobs)
    return tuple(jobs)


def sources(names: Sequence[str]) -> list[Path | None]:
    """The .vq files that the arguments name: files, folders of them, or - for standard input (None).

    Raises `UsageError`.
    """
    found: list[Path | None] = []
    for name in names:
        if name == STREAM:
            found.append(None)
        else:
            found += _vq_files_in(Path(name)) if os.path.isdir(name) else [Path(name)]
    if found.count(None) > 1:
        raise UsageError("standard input (-) can be read only once")
    return found


def pictures_in(folder: Path, recursive: bool = False) -> list[Path]:
    """The files in `folder`, or also below it, with the suffix of a format that Pillow reads. Raises `UsageError`."""
    from PIL import Image

    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    # vqcodec may have registered .vq with Pillow
    return _files_in(folder, frozenset(suffixes - {SUFFIX}), "pictures", recursive)


def _vq_files_in(folder: Path, recursive: bool = False) -> list[Path]:
    return _files_in(folder, frozenset({SUFFIX}), f"{SUFFIX} files", recursive)


def _files_in(folder: Path, suffixes: frozenset[str], what: str, recursive: bool) -> list[Path]:
    """The files with one of the suffixes: those of each folder, sorted by name, then those of its subfolders.

    Links to folders are not followed, since they may form cycles. Names that begin with a dot are skipped, such as the
    ._NAME files of macOS. Raises `UsageError` if a folder cannot be read or no file is found.
    """
    found: list[Path] = []
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                shown = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
                files = [e.name for e in shown if os.path.splitext(e.name)[1].lower() in suffixes and e.is_file()]
                below = [e.name for e in shown if recursive and e.is_dir(follow_symlinks=False)]
        except OSError as error:
            raise UsageError(f"the folder {here} cannot be read: {error.strerror}") from None
        found += [here / name for name in files]
        waiting += [here / name for name in reversed(below)]
    if not found:
        raise UsageError(f"there are no {what} in the folder {folder}" + (" or below it" if recursive else ""))
    return found


def _from_stream(inputs: Sequence[str], out: str | None) -> Job:
    if len(inputs) > 1:
        raise UsageError("standard input (-) cannot be combined with other inputs")
    if out is None or out == STREAM:
        return Job(None, None)
    if names_folder(out):
        raise UsageError(f"standard input has no file name; -o must name a file, not the folder {out}")
    return Job(None, Path(out))


def names_folder(out: str) -> bool:
    """Whether -o names a folder: an existing one, or a name that ends with a slash."""
    return out.endswith(("/", os.sep)) or os.path.isdir(out)


def _target(source: Path, out: str | None, in_folder: bool, suffix: str, top: Path | None) -> Path | None:
    if out is None:
        return source.with_suffix(suffix)
    if out == STREAM:
        return None
    if not in_folder:
        return Path(out)
    inside = source.relative_to(top) if top else Path(source.name)
    return Path(out) / inside.with_suffix(suffix)


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    """Raise `UsageError` if a job would overwrite the result of another job, or an input."""
    folders: dict[Path, str] = {}  # real paths, cached: resolving one is slow

    def real_path(path: Path) -> str:
        folder = folders.get(path.parent)
        if folder is None:
            folder = folders[path.parent] = os.path.realpath(path.parent)
        path_key = os.path.join(folder, path.name)
        return os.path.realpath(path_key) if path.name in ("", "..") or os.path.islink(path_key) else path_key

    sources = {real_path(job.source) for job in jobs if job.source}
    writers: dict[str, Job] = {}
    for job in jobs:
        if job.target is None:
            continue
        path_key = real_path(job.target)
        if path_key in sources:
            raise UsageError(f"{job.output} is an input and would be overwritten; name another -o")
        if path_key in writers:
            raise UsageError(f"{writers[path_key].input} and {job.input} would both be written to {job.output}")
        writers[path_key] = job


def check(job: Job, force: bool, missing: type[VqError]) -> None:
    """Raise `VqError` for each error of `job` that can be found without slow work.

    missing: the type of error for an input that does not exist.
    """
    from vqcodec.output import check_destination

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
        check_destination(job.target, force=force or job.accept_identical)


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
