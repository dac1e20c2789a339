"""Codes <-> payloads, one payload for each unit of coding, with the fastest code that this machine has.

In: grids of codes [G, H, W] and the integer prior. Out: one payload per unit, in little-endian 32-bit words. Trailing
zero bytes of the last word are not stored. The coder is constriction's range coder (Martin 1979) with 24 bits of
precision. It takes the counts as float32, which is part of the format: float64 counts would produce different words.

A unit may have positions without codes. To their neighbours they are as positions outside of the unit are; nothing is
written or read for them, and the reader leaves 0 there. A unit from which no code is read has an empty payload.

Three ways give the same bytes: native code for all of it (`native`), numpy with constriction's coder, or numpy with the
coder in Python (`range_coder`). Units are processed in groups, whose waves run together, and groups in threads. Neither
changes the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from vqcodec.coding import native, range_coder
from vqcodec.coding.integer_prior import Codes, Floats, IntegerPrior, Mask
from vqcodec.coding.wavefront import sweep, traverse
from vqcodec.errors import DamagedFile, VqError
from vqcodec.progress import Progress, share_of
from vqcodec.threads import Workers

try:
    import constriction
except ImportError:  # there are platforms without a wheel
    constriction = None

__all__ = ["BATCH", "Reader", "Writer", "implementation", "read_units", "write_units"]

BATCH = 16  # the most units whose waves are processed together, with little memory
NATIVE_BATCH = 8  # the same for native code, which cannot be interrupted during a group (about a second)
NUMPY_BATCH = 8  # the fewest units in a group of numpy's, if there are as many
GROUPS_PER_THREAD = 3  # at least, where there are several threads: they then end at about the same time
_WORD = 4  # bytes
_SAMPLE = (2, 9)  # height and width of the grids by which native code is compared with numpy: longer than its rings
_LEFT_OUT = [7, 13]  # positions of the second of these grids that carry no codes


def implementation() -> str:
    """Which code is in use: "native (avx2)", "numpy with constriction" or "numpy with Python's range coder"."""
    if not native.missing():
        return f"native ({native.level()})"
    return "numpy with Python's range coder" if constriction is None else "numpy with constriction"


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
        self._unread = {unit for unit, payload in enumerate(payloads) if payload}

    def code(self, unit: int, symbols: Codes, counts: Floats) -> Codes:
        """Decode one symbol per row of counts [N, K]. Returns them; the values of `symbols` are ignored.

        Raises `DamagedFile` if the stream is invalid.
        """
        self._unread.discard(unit)
        try:
            read: Codes = self._coders[unit].decode(*self._model, counts)
        except (AssertionError, ValueError) as error:
            raise DamagedFile(f"a unit's codes cannot be read ({error}); the file is damaged") from None
        return read

    def finish(self) -> None:
        """Raises `DamagedFile` if a stream contains more data than was read."""
        if self._unread or not all(coder.maybe_exhausted() for coder in self._coders):
            raise DamagedFile("a unit holds more data than its codes need; the file is damaged")


def write_units(
    prior: IntegerPrior,
    grids: Sequence[Codes],
    progress: Progress | None = None,
    batch: int = BATCH,
    *,
    prove: bool = True,
    workers: Workers | None = None,
    coded: Sequence[Mask | None] | None = None,
) -> list[bytes]:
    """Encode grids of codes [G, H, W], one payload per grid.

    With `prove`, the payloads are decoded again and compared. `batch`: the most units processed together; `workers`:
    the threads, by default one. Neither changes the payloads. `coded`: for each unit a bool array [H, W], True at the
    positions that carry codes; None (for a unit, or for all): all of them. Elsewhere any number may stand in the grid.

    Raises `VqError` for a code out of the prior's range, and if the decoded codes differ from the input, which only a
    faulty machine or library can cause; `ValueError` if `coded` does not fit the grids.
    """
    masks = _masks(coded, [(grid.shape[1], grid.shape[2]) for grid in grids])
    grids = [grid if mask is None else np.where(mask, grid, 0) for grid, mask in zip(grids, masks, strict=True)]
    for g in range(len(prior.layout.sizes)):
        if not all(((grid[g] >= 0) & (grid[g] < prior.size(g))).all() for grid in grids):
            raise VqError(
                f"codebook {g} has {prior.size(g)} codes at this quality, and a code is out of range; nothing was saved"
            )
    write = partial(_write_group, prior, prove)
    units = [(np.array(grid, np.int32), mask) for grid, mask in zip(grids, masks, strict=True)]
    written = _in_groups(write, units, batch, workers, progress)
    return [payload for group in written for payload in group]


def read_units(
    prior: IntegerPrior,
    payloads: Sequence[bytes],
    shapes: Sequence[tuple[int, int]],
    progress: Progress | None = None,
    batch: int = BATCH,
    *,
    workers: Workers | None = None,
    coded: Sequence[Mask | None] | None = None,
) -> list[Codes]:
    """Decode payloads to grids of codes [G, H, W]; `shapes`: (H, W) of each. Raises `DamagedFile`.

    `batch`, `workers` and `coded` are those of `write_units`. Codes of positions that carry none are 0. Raises
    `ValueError` if `coded` does not fit the shapes.
    """
    units = list(zip(payloads, shapes, _masks(coded, shapes), strict=True))
    read = _in_groups(partial(_read_group, prior), units, batch, workers, progress)
    return [grid for group in read for grid in group]


def _masks(coded: Sequence[Mask | None] | None, shapes: Sequence[tuple[int, int]]) -> list[Mask | None]:
    """The mask of each unit. Raises `ValueError` for masks that do not fit the shapes."""
    if coded is None:
        return [None] * len(shapes)
    fits = len(coded) == len(shapes) and all(
        mask is None or (mask.dtype == bool and mask.shape == tuple(shape))
        for mask, shape in zip(coded, shapes, strict=True)
    )
    if not fits:
        raise ValueError("`coded` must hold None or a bool array [H, W] for each unit")
    return list(coded)


def _in_groups(
    function: Callable[..., list[Any]],
    units: Sequence[Any],
    batch: int,
    workers: Workers | None,
    progress: Progress | None,
) -> list[list[Any]]:
    """The results of `function(units, progress)` for groups of units, in threads if there are several."""
    workers = workers or Workers(1)
    # In numpy, the waves of few units are so short that threads mostly wait for Python's lock.
    batch, least = (batch, min(batch, NUMPY_BATCH)) if native.missing() else (min(batch, NATIVE_BATCH), 1)
    share = len(units) if workers.count == 1 else -(-len(units) // (GROUPS_PER_THREAD * workers.count))
    size = max(least, min(batch, share))
    groups = [units[first : first + size] for first in range(0, len(units), size)]
    if len(groups) == 1:
        return [function(groups[0], progress)]
    return workers.map(lambda group: function(group, None), groups, progress)


def _write_group(
    prior: IntegerPrior, prove: bool, units: Sequence[tuple[Codes, Mask | None]], progress: Progress | None
) -> list[bytes]:
    """Write the payloads of a group, given as codes and masks, and compare what they are read back as."""
    half = 0.5 if prove else 1.0
    grids, coded = [grid for grid, _ in units], [mask for _, mask in units]
    fast = _trusted(prior)
    payloads = fast.write(grids, coded) if fast else _written_by_numpy(prior, grids, coded, share_of(progress, 0, half))
    if prove:
        shapes = [(grid.shape[1], grid.shape[2]) for grid in grids]
        read_back = _read_group(prior, list(zip(payloads, shapes, coded, strict=True)), share_of(progress, half, 1))
        if not all(np.array_equal(a, b) for a, b in zip(read_back, grids, strict=True)):
            raise VqError("the codes read back differ from those written; nothing was saved")
    elif progress:
        progress(1)
    return payloads


def _written_by_numpy(
    prior: IntegerPrior, grids: Sequence[Codes], coded: Sequence[Mask | None], progress: Progress | None
) -> list[bytes]:
    writer = Writer(len(grids))
    for unit, (grid, mask) in enumerate(zip(grids, coded, strict=True)):
        sweep(prior, grid, writer, unit, share_of(progress, unit / len(grids), (unit + 1) / len(grids)), mask)
    return writer.payloads()


def _trusted(prior: IntegerPrior) -> native.NativePrior | None:
    """The prior in native code; None where there is none, or where it fails to write two small grids as numpy does.

    A compiler or a processor may have an error that the tests did not meet. Files must not depend on it.
    """
    fast = native.native_prior(prior)
    if fast is not None and fast.trusted is None:
        cells = np.arange(np.prod(_SAMPLE)).reshape(_SAMPLE)
        sizes = range(len(prior.layout.sizes))
        grid = np.stack([(7 * cells + 3 * g) % prior.size(g) for g in sizes]).astype(np.int32)
        mask = ~np.isin(cells, _LEFT_OUT)
        grids, coded = [grid, np.where(mask, grid, 0)], [None, mask]
        written = fast.write(grids, coded)
        fast.trusted = written == _written_by_numpy(prior, grids, coded, None) and np.array_equal(
            fast.read(written, [_SAMPLE, _SAMPLE], coded), grids
        )
    return fast if fast is not None and fast.trusted else None


def _read_group(
    prior: IntegerPrior, units: Sequence[tuple[bytes, tuple[int, int], Mask | None]], progress: Progress | None
) -> list[Codes]:
    """Read the codes of the payloads of a group, given with their shapes and masks."""
    payloads, shapes, coded = [unit[0] for unit in units], [unit[1] for unit in units], [unit[2] for unit in units]
    fast = _trusted(prior)
    if fast:
        try:
            grids = fast.read(payloads, shapes, coded)
        except ValueError as error:
            raise DamagedFile(f"{error}; the file is damaged") from None
        if progress:
            progress(1)
        return grids
    grids = [np.zeros((len(prior.layout.sizes), *shape), np.int32) for shape in shapes]
    reader = Reader(payloads)
    traverse(prior, grids, reader, progress, coded)
    reader.finish()
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
