"""Reading .vq files and writing results: from and to files, or standard input and output.

In: the source or the target of a job. Out: bytes, or a file that is written atomically.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import nullcontext
from pathlib import Path

from vqcodec.errors import BadFile, OutputError
from vqcodec.files.plan import Job, size_of, with_advice
from vqcodec.output import Attributes

__all__ = ["read", "write_output"]


def read(source: Path | None) -> bytes:
    """All bytes of a .vq file, or of standard input (None). Raises `BadFile`.

    `MOST_HEADER` bytes are read first. If there is more, reading stops at the length that the header declares, plus
    one byte that shows whether the file is longer. So an endless input does not exhaust memory.
    """
    from vqcodec.format.container import read_header
    from vqcodec.limits import ANY_SIZE, MOST_HEADER

    try:
        with nullcontext(sys.stdin.buffer) if source is None else source.open("rb") as stream:
            pieces = [stream.read(MOST_HEADER)]
            if len(pieces[0]) == MOST_HEADER:
                # Limits on the size of the picture apply when it is decoded.
                left = read_header(pieces[0], ANY_SIZE, partial=True).total_bytes + 1 - MOST_HEADER
                while left > 0 and (piece := stream.read(min(left, MOST_HEADER))):
                    pieces.append(piece)
                    left -= len(piece)
            return b"".join(pieces)
    except OSError as error:
        name = "standard input" if source is None else source
        raise BadFile(f"{name} cannot be read: {error.strerror}") from None


def write_output(job: Job, data: bytes, force: bool) -> None:
    """Write the result of `job` to standard output, or atomically to its target. Raises `OutputError`.

    Without `force`, an existing file is replaced only if it has the size of an earlier result (`job.ours`). A new file
    may be read and written by nobody who may not do the same with the input.
    """
    from vqcodec.output import make_folder, write_atomic

    if job.target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if job.make_folder:
        make_folder(job.target.parent)
    try:
        replaced = force or (job.ours is not None and size_of(job.target) == job.ours)
        write_atomic(job.target, data, force=replaced, attributes=_attributes(job))
    except OutputError as error:
        # An earlier process may have written the result and been killed before it could report that.
        if not (job.accept_identical and _has_content(job.target, data)):
            raise with_advice(error) from error.__cause__


def _attributes(job: Job) -> Attributes:
    """The permissions of a new output follow those of the input; its owner may always read and write it."""
    if job.source is None:
        return Attributes()
    try:
        found = os.stat(job.source)
    except OSError:  # removed since it was read
        return Attributes(mode=0o600)
    if not stat.S_ISREG(found.st_mode):
        return Attributes()
    mode = stat.S_IMODE(found.st_mode) & 0o666 | 0o600
    return Attributes(mode, found.st_gid, found.st_mtime_ns if job.keep_times else None)


def _has_content(path: Path, data: bytes) -> bool:
    try:
        return size_of(path) == len(data) and path.read_bytes() == data
    except OSError:
        return False
