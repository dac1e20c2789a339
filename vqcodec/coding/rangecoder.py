"""Counts and codes <-> bytes: units of the latent grid, each a range-coded stream of its own.

In: grids of codes [G, H, W] and the integer prior. Out: one payload per unit, little-endian 32-bit words whose last
word may lack trailing zero bytes. The coder is constriction's range coder (Martin 1979) with 24 bits of precision;
the counts go in as float32, which is part of the format: float64 counts would give other words.
"""

from __future__ import annotations

from collections.abc import Sequence

import constriction
import numpy as np

from vqcodec.coding.integer_prior import Codes, Floats, IntegerPrior
from vqcodec.coding.wavefront import sweep, traverse
from vqcodec.errors import DamagedFile, VqError
from vqcodec.progress import Progress, share_of

__all__ = ["Reader", "Writer", "read_units", "write_units"]

BATCH = 16  # units that go through their waves together: enough to keep two cores busy, little memory
_WORD = 4


class Writer:
    """Codes -> words, for several units at once."""

    def __init__(self, units: int) -> None:
        self._model = constriction.stream.model.Categorical(perfect=False)
        self._coders = [constriction.stream.queue.RangeEncoder() for _ in range(units)]

    def code(self, unit: int, symbols: Codes, counts: Floats) -> Codes:
        """Append symbols [N] with counts [N, K]; returns them."""
        self._coders[unit].encode(symbols, self._model, counts)
        return symbols

    def payloads(self) -> list[bytes]:
        """The finished streams."""
        return [_trim(coder.get_compressed().astype("<u4").tobytes()) for coder in self._coders]


class Reader:
    """Words -> codes, for several units at once."""

    def __init__(self, payloads: Sequence[bytes]) -> None:
        self._model = constriction.stream.model.Categorical(perfect=False)
        self._coders = []
        for payload in payloads:
            padded = payload + bytes(-len(payload) % _WORD)
            words = np.frombuffer(padded, "<u4").astype(np.uint32)
            self._coders.append(constriction.stream.queue.RangeDecoder(words))

    def code(self, unit: int, symbols: Codes, counts: Floats) -> Codes:
        """Read as many symbols as there are rows of counts [N, K]; `symbols` is not looked at."""
        try:
            read: Codes = self._coders[unit].decode(self._model, counts)
        except (AssertionError, ValueError) as error:
            raise DamagedFile(f"a unit's codes cannot be read ({error}); the file is damaged") from None
        return read

    def finish(self) -> None:
        """Raises `DamagedFile` where a stream holds more than was read."""
        if not all(coder.maybe_exhausted() for coder in self._coders):
            raise DamagedFile("a unit holds more data than its codes need; the file is damaged")


def write_units(
    prior: IntegerPrior,
    grids: Sequence[Codes],
    progress: Progress | None = None,
    batch: int = BATCH,
    *,
    prove: bool = True,
) -> list[bytes]:
    """Payloads of the grids [G, H, W] of codes. They are read back before they are returned, unless not to `prove`.

    Raises `VqError` for a code that the prior does not know, and where what was read differs from what was written,
    which only a broken machine or library can cause.
    """
    for g in range(len(prior.layout.sizes)):
        if not all(((grid[g] >= 0) & (grid[g] < prior.size(g))).all() for grid in grids):
            raise VqError(
                f"codebook {g} has {prior.size(g)} codes at this quality, and there are others; nothing was saved"
            )
    payloads: list[bytes] = []
    total = len(grids)
    for first in range(0, len(grids), batch):
        group = [np.array(grid, np.int32) for grid in grids[first : first + batch]]
        writer = Writer(len(group))
        for unit, grid in enumerate(group):
            start = (first + unit / 2) / total
            sweep(prior, grid, writer, unit, share_of(progress, start, start + 0.5 / total))
        written = writer.payloads()
        payloads += written
        if not prove:
            continue
        shapes = [(grid.shape[1], grid.shape[2]) for grid in group]
        middle, end = (first + len(group) / 2) / total, (first + len(group)) / total
        proof = read_units(prior, written, shapes, share_of(progress, middle, end))
        if not all(np.array_equal(a, b) for a, b in zip(proof, group, strict=True)):
            raise VqError("the codes read back differ from those written; nothing was saved")
    return payloads


def read_units(
    prior: IntegerPrior,
    payloads: Sequence[bytes],
    shapes: Sequence[tuple[int, int]],
    progress: Progress | None = None,
    batch: int = BATCH,
) -> list[Codes]:
    """Grids [G, H, W] of codes of payloads with the given (H, W). Raises `DamagedFile`."""
    grids: list[Codes] = []
    for first in range(0, len(payloads), batch):
        some = slice(first, first + batch)
        group = [np.zeros((len(prior.layout.sizes), *shape), np.int32) for shape in shapes[some]]
        reader = Reader(payloads[some])
        done, more = first / len(payloads), len(group) / len(payloads)
        traverse(prior, group, reader, share_of(progress, done, done + more))
        reader.finish()
        grids += group
    return grids


def _trim(stream: bytes) -> bytes:
    """Without the zero bytes at the end of the last word, which the reader adds again."""
    shortest = max(0, len(stream) - _WORD + 1)
    return stream[:shortest] + stream[shortest:].rstrip(b"\0")
