"""Range coder: codes and counts <-> bytes. Each unit of the latent grid is a separate stream.

In: grids of codes [G, H, W] and the integer prior. Out: one payload per unit, in little-endian 32-bit words. Trailing
zero bytes of the last word are not stored. The coder is constriction's range coder (Martin 1979) with 24 bits of
precision. It takes the counts as float32, which is part of the format: float64 counts would produce different words.
Where constriction is not installed, range_coder.py writes and reads the same words, more slowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vqcodec.coding import range_coder
from vqcodec.coding.integer_prior import Codes, Floats, IntegerPrior
from vqcodec.coding.wavefront import sweep, traverse
from vqcodec.errors import DamagedFile, VqError
from vqcodec.progress import Progress, share_of

try:
    import constriction
except ImportError:  # there are platforms without a wheel
    constriction = None

__all__ = ["Reader", "Writer", "implementation", "read_units", "write_units"]

BATCH = 16  # units whose waves are processed together: enough to keep two cores busy, with little memory
_WORD = 4  # bytes


def implementation() -> str:
    """Which range coder is in use: "constriction" or "python". Both write and read the same words."""
    return "python" if constriction is None else "constriction"


class Writer:
    """Encoder: codes -> words, for several units in parallel."""

    def __init__(self, units: int) -> None:
        queue, self._model = _backend()
        self._coders = [queue.RangeEncoder() for _ in range(units)]

    def code(self, unit: int, symbols: Codes, counts: Floats) -> Codes:
        """Encode symbols [N] of a unit with counts [N, K]. Returns the symbols."""
        self._coders[unit].encode(symbols, *self._model, counts)
        return symbols

    def payloads(self) -> list[bytes]:
        """The finished streams, one per unit."""
        return [_trim(coder.get_compressed().astype("<u4").tobytes()) for coder in self._coders]


class Reader:
    """Decoder: words -> codes, for several units in parallel."""

    def __init__(self, payloads: Sequence[bytes]) -> None:
        queue, self._model = _backend()
        self._coders = []
        for payload in payloads:
            padded = payload + bytes(-len(payload) % _WORD)
            words = np.frombuffer(padded, "<u4").astype(np.uint32)
            self._coders.append(queue.RangeDecoder(words))

    def code(self, unit: int, symbols: Codes, counts: Floats) -> Codes:
        """Decode one symbol per row of counts [N, K]. Returns them; the values of `symbols` are ignored.

        Raises `DamagedFile` if the stream is invalid.
        """
        try:
            read: Codes = self._coders[unit].decode(*self._model, counts)
        except (AssertionError, ValueError) as error:
            raise DamagedFile(f"a unit's codes cannot be read ({error}); the file is damaged") from None
        return read

    def finish(self) -> None:
        """Raises `DamagedFile` if a stream contains more data than was read."""
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
    """Encode grids of codes [G, H, W], one payload per grid.

    With `prove`, the payloads are decoded again and compared. `batch`: number of units processed together; it does not
    change the payloads.

    Raises `VqError` for a code out of the prior's range, and if the decoded codes differ from the input, which only a
    faulty machine or library can cause.
    """
    for g in range(len(prior.layout.sizes)):
        if not all(((grid[g] >= 0) & (grid[g] < prior.size(g))).all() for grid in grids):
            raise VqError(
                f"codebook {g} has {prior.size(g)} codes at this quality, and a code is out of range; nothing was saved"
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
        read_back = read_units(prior, written, shapes, share_of(progress, middle, end))
        if not all(np.array_equal(a, b) for a, b in zip(read_back, group, strict=True)):
            raise VqError("the codes read back differ from those written; nothing was saved")
    return payloads


def read_units(
    prior: IntegerPrior,
    payloads: Sequence[bytes],
    shapes: Sequence[tuple[int, int]],
    progress: Progress | None = None,
    batch: int = BATCH,
) -> list[Codes]:
    """Decode payloads to grids of codes [G, H, W]; `shapes`: (H, W) of each. Raises `DamagedFile`."""
    grids: list[Codes] = []
    for first in range(0, len(payloads), batch):
        members = slice(first, first + batch)
        group = [np.zeros((len(prior.layout.sizes), *shape), np.int32) for shape in shapes[members]]
        reader = Reader(payloads[members])
        start, share = first / len(payloads), len(group) / len(payloads)
        traverse(prior, group, reader, share_of(progress, start, start + share))
        reader.finish()
        grids += group
    return grids


def _trim(stream: bytes) -> bytes:
    """Remove the zero bytes at the end of the last word. The reader adds them again."""
    shortest = max(0, len(stream) - _WORD + 1)
    return stream[:shortest] + stream[shortest:].rstrip(b"\0")


def _backend() -> tuple[Any, tuple[Any, ...]]:
    """The module with the coders, and the arguments that they take before the counts."""
    if constriction is None:
        return range_coder, ()
    return constriction.stream.queue, (constriction.stream.model.Categorical(perfect=False),)
