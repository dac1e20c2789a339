"""Small .vq files with dummy payloads, for tests of the container."""

from __future__ import annotations

import hostile

from vqcodec.format.container import VqFile

TINY = VqFile(bytes(range(8)), 3, 2, "L", 5, 64, 1, 1, (b"abc",))


def build(
    numbers: tuple[int, ...] = (3, 2, 5, 64, 1, 1),
    units: tuple[bytes, ...] = (b"abc",),
    chunks: tuple[tuple[int, bytes], ...] = (),
    flags: int | None = None,
    table: bytes | None = None,
) -> bytes:
    """A file of arbitrary fields with valid checksums; `table` replaces the lengths of the parts."""
    return hostile.build(numbers, units, chunks, bytes(range(8)), flags=flags, table=table)
