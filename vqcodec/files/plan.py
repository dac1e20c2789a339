"""Which file goes where. In: the inputs and -o of a command. Out: jobs, an input and an output each.

`plan` settles every name before anything is done; `check` refuses what can be refused without slow work.
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


@dataclass(frozen=True, slots=True)  # there may be millions
class Job:
    """One file to make of another. `None` stands for standard input and for standard output."""

    source: Path | None
    target: Path | None
    make_folder: bool = False  # the target's folder, if it is absent
    ours: int | None = None  # the size of an earlier result of ours, which may be replaced
    accept_identical: bool = False  # a target that holds the very bytes of the result counts as written

    @property
    def input(self) -> str:
        return STREAM if self.source is None else str(self.source)

    @property
    def label(self) -> str:
        """What a message calls the input."""
        return "standard input" if self.source is None else str(self.source)

    @property
    def output(self) -> str:
        return STREAM if self.target is None else str(self.target)


def plan(inputs: Sequence[str], out: str | None, suffix: str, recursive: bool = False) -> tuple[Job, ...]:
    """The jobs that make a file with `suffix` (".vq": compress; else decompress) of each input.

    A folder stands for the files of the right kind in it and, with `recursive`, in those below, which are mirrored
    under `out`. Raises `UsageError` where the request is ambiguous: two outputs of one name, an output that is an
    input, several results for one file.
    """
    if STREAM in inputs:
        return (_from_stream(inputs, out),)
    several = len(inputs) > 1 or os.path.isdir(inputs[0])
    if several and out == STREAM:
        raise UsageError("several files cannot go to standard output; name a folder with -o")
    if several and out is not None and os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"{out} is not a folder, and several files are to go there")
    wanted = pictures_in if suffix == SUFFIX else _vq_files_in
    make_folder = out is not None and (several or names_folder(out))
    jobs: list[Job] = []
    for name in inputs:
        found = wanted(Path(name), recursive) if os.path.isdir(name) else [Path(name)]
        top = Path(name) if recursive and os.path.isdir(name) else None
        jobs += [Job(source, _target(source, out, make_folder, suffix, top), make_folder) for source in found]
    _refuse_clashes(jobs)
    return tuple(jobs)


def sources(names: Sequence[str]) -> list[Path | None]:
    """The .vq files that arguments stand for: files, folders of them, or - for standard input (None)."""
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
    """The files in `folder` whose suffix is that of a format Pillow reads, in order; recursive: also below it."""
    from PIL import Image

    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    # vqcodec itself may be a format of Pillow's
    return _files_in(folder, frozenset(suffixes - {SUFFIX}), "pictures", recursive)


def _vq_files_in(folder: Path, recursive: bool = False) -> list[Path]:
    return _files_in(folder, frozenset({SUFFIX}), f"{SUFFIX} files", recursive)


def _files_in(folder: Path, suffixes: frozenset[str], what: str, recursive: bool) -> list[Path]:
    """Each folder's files by name, then what is below it. Links to folders are not followed: they may go in circles.

    Names that begin with a dot are left out, such as the ._NAME files of macOS.
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
        raise UsageError(f"standard input has no name to use in the folder {out}; -o must name a file")
    return Job(None, Path(out))


def names_folder(out: str) -> bool:
    """Whether -o means a folder: one that is there, or a name that ends like one."""
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
    """Raise `UsageError` if a job would write over the result of another one, or over an input."""
    folders: dict[Path, str] = {}  # their real paths: a look at each of its parts is dear

    def place_of(path: Path) -> str:
        folder = folders.get(path.parent)
        if folder is None:
            folder = folders[path.parent] = os.path.realpath(path.parent)
        place = os.path.join(folder, path.name)
        return os.path.realpath(place) if path.name in ("", "..") or os.path.islink(place) else place

    sources = {place_of(job.source) for job in jobs if job.source}
    makers: dict[str, Job] = {}
    for job in jobs:
        if job.target is None:
            continue
        place = place_of(job.target)
        if place in sources:
            raise UsageError(f"{job.output} is an input and would be overwritten; name another -o")
        if place in makers:
            raise UsageError(f"{makers[place].input} and {job.input} would both be written to {job.output}")
        makers[place] = job


def check(job: Job, force: bool, missing: type[VqError]) -> None:
    """Raise what stands in the way of `job`, as far as that shows without the slow work.

    missing: the error for an input that is not there.
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
    """Size and time of change (ns) of a file; None if there is none."""
    try:
        found = None if source is None else os.stat(source)
    except (OSError, ValueError):
        return None
    return None if found is None else (found.st_size, found.st_mtime_ns)


def size_of(target: Path | None) -> int | None:
    """Bytes of a file; None if there is none."""
    found = seen(target)
    return None if found is None else found[0]
