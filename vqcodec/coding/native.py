"""Codes <-> payloads in native code, where it was built: the same integers and words as numpy, several times faster.

In: an `IntegerPrior`, and codes or payloads. Out: the other of the two, or the price levels of all codes. The C code
(`_native.c`) is an optional part of the installation. Where it is missing, `native_prior` returns None and `missing`
says why. The environment variable VQCODEC_NATIVE=0 switches it off.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from vqcodec.coding.exp_table import EXP
from vqcodec.coding.integer_prior import Codes, IntegerPrior, Levels, Mask

__all__ = ["NativePrior", "level", "missing", "native_prior", "optional", "price_levels"]


def optional(load: Callable[[], Any]) -> tuple[Any, str | None]:
    """The native module that `load` imports, and None; or None, and why there is none."""
    if os.environ.get("VQCODEC_NATIVE") == "0":
        return None, "switched off by VQCODEC_NATIVE=0"
    try:
        return load(), None
    except ImportError as error:
        return None, " ".join(str(error).split())


def _import() -> Any:
    from vqcodec.coding import _native  # type: ignore[attr-defined]

    return _native


_native, _missing = optional(_import)

Shape = tuple[int, int]


class NativePrior:
    """An integer prior in native code. Several threads may use it at once; they do not hold Python's lock."""

    def __init__(self, prior: IntegerPrior, level: str = "") -> None:
        """`level`: one of the instruction sets that `_native.levels()` lists; by default the best."""
        self.trusted: bool | None = None  # whether it agrees with numpy; None: not compared yet
        layout = prior.layout
        tables = [each.tobytes() for each in prior.tables]
        tables.append(b"")  # the last codebook has no updates
        self._sizes = tuple(prior.size(g) for g in range(len(layout.sizes)))
        self._loaded = _native.load(
            level,
            layout.channels,
            layout.head_channels,
            layout.blocks,
            self._sizes,
            tuple((each.weight.tobytes(), each.bias.tobytes(), each.shift.tobytes()) for each in prior.products),
            tuple(tables),
            np.array(EXP, np.uint32).tobytes(),
        )

    def read(
        self, payloads: Sequence[bytes], shapes: Sequence[Shape], coded: Sequence[Mask | None] | None = None
    ) -> list[Codes]:
        """Decode units that go through the waves together. Raises `ValueError` for a damaged payload.

        `coded`: for each unit the positions [h, w] that carry codes; None: all. The codes of the others are 0.
        """
        codes = _native.read(self._loaded, tuple(payloads), _plain(shapes), _mask_bytes(coded, len(shapes)))
        return [
            np.frombuffer(data, np.int32).reshape(-1, *shape).copy() for data, shape in zip(codes, shapes, strict=True)
        ]

    def write(self, grids: Sequence[Codes], coded: Sequence[Mask | None] | None = None) -> list[bytes]:
        """Encode units of codes [G, h, w] that go through the waves together. Raises `ValueError` for unknown codes.

        `coded` as in `read`. The other positions must hold codes, too, of any value.
        """
        codes = tuple(np.ascontiguousarray(grid, np.int32).tobytes() for grid in grids)
        shapes = _plain([grid.shape[1:] for grid in grids])
        return list(_native.write(self._loaded, codes, shapes, _mask_bytes(coded, len(grids))))

    def price_levels(self, codes: Codes) -> list[Levels]:
        """As `IntegerPrior.price_levels`; the arrays cannot be written to."""
        data = np.ascontiguousarray(codes, np.int32).tobytes()
        levels, sums = _native.price(self._loaded, data, _plain([codes.shape[1:]])[0])
        return [
            Levels(np.frombuffer(level, np.uint8).reshape(-1, size), np.frombuffer(total, np.uint64))
            for size, level, total in zip(self._sizes, levels, sums, strict=True)
        ]


def missing() -> str | None:
    """Why there is no native code; None if there is."""
    return _missing


def level() -> str:
    """The instruction set that native code uses on this machine. Only where it is not missing."""
    name: str = _native.levels()[-1]
    return name


def native_prior(prior: IntegerPrior) -> NativePrior | None:
    """The prior in native code, made when it is first asked for; None where there is no native code."""
    if _native is None:
        return None
    with _lock:
        made = _made.get(prior)
        if made is None:
            made = _made[prior] = NativePrior(prior)
    return made


def price_levels(prior: IntegerPrior, codes: Codes) -> list[Levels]:
    """`IntegerPrior.price_levels`, in native code where there is any. The arrays may be read-only."""
    fast = native_prior(prior)
    return fast.price_levels(codes) if fast else prior.price_levels(codes)


_lock = threading.Lock()
_made: WeakKeyDictionary[IntegerPrior, NativePrior] = WeakKeyDictionary()


def _mask_bytes(coded: Sequence[Mask | None] | None, units: int) -> tuple[bytes | None, ...]:
    """The masks as C takes them: a byte of 0 or 1 for each position, row by row."""
    if coded is None:
        return (None,) * units
    return tuple(None if mask is None else np.ascontiguousarray(mask, np.bool_).tobytes() for mask in coded)


def _plain(shapes: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(side) for side in shape) for shape in shapes)
