"""Bytes of .vq files in, results out: files, or standard input and output.

In: where a job reads from and writes to. Out: bytes, or a file that is written atomically.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

from vqcodec.errors import BadFile, OutputError
from vqcodec.files.plan import Job, size_of

__all__ = ["read", "write_output"]


def read(source: Path | None) -> bytes:
    """All bytes of a .vq file, or of standard input, which may have no end. Raises `BadFile`.

    Of a file longer than any header no more is read than its header declares, and one byte that would be too much.
    """
    from vqcodec.format.container import read_header
    from vqcodec.limits import ANY_SIZE, MOST_HEADER

    try:
        with nullcontext(sys.stdin.buffer) if source is None else source.open("rb") as stream:
            pieces = [stream.read(MOST_HEADER)]
            if len(pieces[0]) == MOST_HEADER:
                # How large a picture may be is decided when it is decoded.
                left = read_header(pieces[0], ANY_SIZE, partial=True).total_bytes + 1 - MOST_HEADER
                while left > 0 and (piece := stream.read(min(left, MOST_HEADER))):
                    pieces.append(piece)
                    left -= len(piece)
            return b"".join(pieces)
    except OSError as error:
        name = "standard input" if source is None else source
        raise BadFile(f"{name} cannot be read: {error.strerror}") from None


def write_output(job: Job, data: bytes, force: bool) -> None:
    """Write `data` where `job` wants it: a file that appears whole or not at all, or standard output."""
    from vqcodec.output import make_folder, write_atomic

    if job.target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if job.make_folder:
        make_folder(job.target.parent)
    try:
        write_atomic(job.target, data, force=force or (job.ours is not None and size_of(job.target) == job.ours))
    except OutputError:
        # A process that was killed may have come as far as that, only without saying so.
        if not (job.accept_identical and _holds(job.target, data)):
            raise


def _holds(path: Path, data: bytes) -> bool:
    try:
        return size_of(path) == len(data) and path.read_bytes() == data
    except OSError:
        return False
