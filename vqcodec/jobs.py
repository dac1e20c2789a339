"""Which file goes where. In: the inputs and -o of a command. Out: jobs, an input and an output each.

`plan` settles every name before anything is done; `check` refuses what can be refused without slow work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vqcodec.errors import UsageError, VqError

__all__ = ["STREAM", "Job", "check", "pictures_in", "plan", "sources"]

STREAM = "-"  # standard input or standard output
SUFFIX = ".vq"


@dataclass(frozen=True)
class Job:
    """One file to make of another. `None` stands for standard input and for standard output."""

    source: Path | None
    target: Path | None
    make_folder: bool = False  # the target's folder, if it is absent

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


def plan(inputs: Sequence[str], out: str | None, suffix: str) -> tuple[Job, ...]:
    """The jobs that make a file with `suffix` (".vq": compress; else decompress) of each input.

    A folder stands for the files of the right kind in it. Raises `UsageError` where the request is ambiguous:
    two outputs of one name, an output that is an input, several results for one file.
    """
    if STREAM in inputs:
        return (_from_stream(inputs, out),)
    several = len(inputs) > 1 or os.path.isdir(inputs[0])
    if several and out == STREAM:
        raise UsageError("several files cannot go to standard output; name a folder with -o")
    if several and out is not None and os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"{out} is not a folder, and several files are to go there")
    wanted = pictures_in if suffix == SUFFIX else _vq_files_in
    sources: list[Path] = []
    for name in inputs:
        sources += wanted(Path(name)) if os.path.isdir(name) else [Path(name)]
    make_folder = out is not None and (several or _names_folder(out))
    jobs = tuple(Job(source, _target(source, out, make_folder, suffix), make_folder) for source in sources)
    _refuse_clashes(jobs)
    return jobs


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


def pictures_in(folder: Path) -> list[Path]:
    """The files in `folder`, not below it, whose suffix is that of a format Pillow reads; sorted by name."""
    from PIL import Image

    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return _files_in(folder, suffixes - {SUFFIX}, "pictures")  # vqcodec itself may be a format of Pillow's


def _vq_files_in(folder: Path) -> list[Path]:
    return _files_in(folder, {SUFFIX}, f"{SUFFIX} files")


def _files_in(folder: Path, suffixes: Iterable[str], what: str) -> list[Path]:
    try:
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in suffixes and f.is_file())
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be read: {error.strerror}") from None
    files = [file for file in files if not file.name.startswith(".")]  # such as the ._NAME files of macOS
    if not files:
        raise UsageError(f"there are no {what} in the folder {folder}")
    return files


def _from_stream(inputs: Sequence[str], out: str | None) -> Job:
    if len(inputs) > 1:
        raise UsageError("standard input (-) cannot be combined with other inputs")
    if out is None or out == STREAM:
        return Job(None, None)
    if _names_folder(out):
        raise UsageError(f"standard input has no name to use in the folder {out}; -o must name a file")
    return Job(None, Path(out))


def _names_folder(out: str) -> bool:
    return out.endswith(("/", os.sep)) or os.path.isdir(out)


def _target(source: Path, out: str | None, in_folder: bool, suffix: str) -> Path | None:
    if out is None:
        return source.with_suffix(suffix)
    if out == STREAM:
        return None
    return Path(out) / source.with_suffix(suffix).name if in_folder else Path(out)


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    """Raise `UsageError` if a job would write over the result of another one, or over an input."""
    sources = {os.path.realpath(job.source) for job in jobs if job.source}
    makers: dict[str, Job] = {}
    for job in jobs:
        if job.target is None:
            continue
        place = os.path.realpath(job.target)
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
        check_destination(job.target, force=force)
