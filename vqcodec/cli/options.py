"""Options that several commands share, and parsers of option values. The parsers raise `UsageError`."""

from __future__ import annotations

import os
import re
from typing import Annotated

import typer

from vqcodec.errors import UsageError

__all__ = [
    "Effort", "Force", "Json", "MaxPixels", "ModelName", "Quality", "Threads", "parse_count", "parse_qualities",
    "parse_region", "parse_shape", "parse_size",
]  # fmt: skip


def parse_size(text: str) -> int:
    """Text -> bytes: a number, with k, M or G for powers of 1000, or KiB, MiB or GiB for powers of 1024."""
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]+)?)\s*(?:([kKMG])(i)?)?[bB]?", text.strip())
    size = 0
    if match:
        number, prefix, binary = match.groups()
        size = int(float(number) * (1024 if binary else 1000) ** ("KMG".index(prefix.upper()) + 1 if prefix else 0))
    if size < 1:
        raise UsageError(f"{text!r} is not a size; give bytes, such as 50000, 50k or 1.5M")
    return size


def parse_count(text: str) -> int:
    """Text -> count, for example of pixels: a number, with k, M or G for powers of 1000."""
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]+)?)([kKMG])?", text.strip())
    count = 0
    if match:
        count = int(float(match[1]) * 1000 ** ("KMG".index(match[2].upper()) + 1 if match[2] else 0))
    if not 1 <= count < 2**63:
        raise UsageError(f"{text!r} is not a count; give a number, such as 200000000, 200M or 1.5G")
    return count


def parse_qualities(text: str) -> tuple[int, ...]:
    """Text such as 2-8 or 1,3,5 -> qualities, in the given order."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", part.strip())
        if not match:
            raise UsageError(f"{text!r} is not a list of qualities; give it as 2-8 or 1,3,5")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(found)


def parse_region(text: str) -> tuple[int, int, int, int]:
    """Text X,Y,W,H -> left, top, width, height in pixels."""
    if not re.fullmatch(r"\s*[0-9]{1,9}(\s*,\s*[0-9]{1,9}){3}\s*", text):
        raise UsageError(f"{text!r} is not a region; give X,Y,WIDTH,HEIGHT in pixels")
    left, top, width, height = (int(part.strip()) for part in text.split(","))
    return left, top, width, height


def parse_shape(text: str) -> tuple[int, int]:
    """Text WxH -> width and height in pixels."""
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*[xX×]\s*([0-9]{1,9})\s*", text)
    if not match:
        raise UsageError(f"{text!r} is not a size in pixels; give WIDTHxHEIGHT, such as 256x256")
    return int(match[1]), int(match[2])


def set_threads(count: int | None) -> int | None:
    """Set the number of threads of this process, and of the worker processes that it starts."""
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = str(count)
    return count


Quality = Annotated[
    int | None,
    typer.Option("--quality", "-q", help="1 (smallest file) to the model's highest; `vqcodec models` lists them."),
]
Effort = Annotated[
    int | None,
    typer.Option("--effort", min=0, max=3, help="How long to search for better codes, 0 to 3; default 1."),
]
ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME|FOLDER", help="Model to use; see `vqcodec models`.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace existing files.")]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels", metavar="N", parser=parse_count, help="Refuse pictures with more pixels; default 134M."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        callback=set_threads,
        help="Threads that share the work on a picture; default: one per core, or 1 in worker processes.",
    ),
]
