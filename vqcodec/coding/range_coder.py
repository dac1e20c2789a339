"""A range coder in Python that writes and reads the words of constriction's, to the bit.

In: symbols [N] and their counts [N, K]. Out: 32-bit words, and back. This module is the specification of the native
code, and takes the place of constriction where neither is installed (payloads.py). docs/format.md has the arithmetic.

The coder keeps an interval [lower, lower + range) of 64-bit numbers (Martin 1979). A symbol narrows it:

      lower                                                    lower + range
        |-- symbol 0 --|-- symbol 1 --|-- ... --|-- symbol K-1 --|
                       |<- scale * probability ->|                  scale = range >> 24

When the range falls below 2^32, the top word of `lower` is written and both numbers move up by a word. If the interval
then reaches past 2^64, a later carry may still change that word: the interval is called inverted, and words are held
back until the carry is known.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["PRECISION", "InvalidData", "RangeDecoder", "RangeEncoder", "left_cumulatives"]

Words = npt.NDArray[np.uint32]
Symbols = npt.NDArray[np.int32]
Counts = npt.NDArray[np.float32]
Cumulatives = npt.NDArray[np.int64]

PRECISION = 24  # bits of a probability
_TOTAL = 1 << PRECISION
_WORD_BITS = 32
_WORD_MAX = (1 << _WORD_BITS) - 1
_STATE_MAX = (1 << 64) - 1
_LEAST_RANGE = 1 << 32  # below it the state moves up by a word


class InvalidData(ValueError):
    """The words cannot come from an encoder with these counts."""


class RangeEncoder:
    """Symbols -> words."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._lower, self._range = 0, _STATE_MAX
        self._held: int | None = None  # the first word that is held back while the interval is inverted
        self._count = 0  # of words that are held back

    def encode(self, symbols: Symbols, counts: Counts) -> None:
        """Append symbols [N] with counts [N, K], float32. Raises `ValueError` for a symbol outside 0 to K - 1."""
        if len(symbols) and not 0 <= symbols.min() <= symbols.max() < counts.shape[1]:
            raise ValueError(f"symbols must be 0 to {counts.shape[1] - 1}")
        edges = left_cumulatives(counts)
        rows = np.arange(len(symbols))
        left = edges[rows, symbols]
        for start, probability in zip(left.tolist(), (edges[rows, symbols + 1] - left).tolist(), strict=True):
            scale = self._range >> PRECISION
            lower = (self._lower + scale * start) & _STATE_MAX
            size = scale * probability
            if self._held is not None and (lower + size) & _STATE_MAX > lower:
                self._release(carry=lower < self._lower)
            if size < _LEAST_RANGE:
                word = lower >> _WORD_BITS
                lower = (lower << _WORD_BITS) & _STATE_MAX
                size <<= _WORD_BITS
                if self._held is not None:
                    self._count += 1
                elif (lower + size) & _STATE_MAX > lower:
                    self._words.append(word)
                else:
                    self._held, self._count = word, 1
            self._lower, self._range = lower, size

    def get_compressed(self) -> Words:
        """The words of all symbols so far. The encoder stays as it is."""
        if self._range == _STATE_MAX:
            return np.zeros(0, np.uint32)
        point = (self._lower + _LEAST_RANGE - 1) & _STATE_MAX
        held = [] if self._held is None else _resolved(self._held, self._count, carry=point < self._lower)
        words = [*self._words, *held, point >> _WORD_BITS]
        if ((self._lower + self._range) & _STATE_MAX) >> _WORD_BITS == words[-1]:
            words.append(0)
        return np.array(words, np.uint32)

    def _release(self, carry: bool) -> None:
        """Write the words that were held back."""
        assert self._held is not None
        self._words += _resolved(self._held, self._count, carry)
        self._held, self._count = None, 0


class RangeDecoder:
    """Words -> symbols."""

    def __init__(self, words: Words) -> None:
        self._words = words.tolist()
        self._next = 0
        self._lower, self._range, self._point = 0, _STATE_MAX, 0
        for _ in range(2):
            self._point = self._point << _WORD_BITS | self._word()

    def decode(self, counts: Counts) -> Symbols:
        """As many symbols as there are rows of counts [N, K]. Raises `InvalidData`."""
        edges = left_cumulatives(counts)
        symbols = np.empty(len(counts), np.int32)
        for index, row in enumerate(edges):
            scale = self._range >> PRECISION
            quantile = ((self._point - self._lower) & _STATE_MAX) // scale
            if quantile >= _TOTAL:
                raise InvalidData("the words contradict the counts")
            symbol = int(row.searchsorted(quantile, "right")) - 1
            left = int(row[symbol])
            self._lower = (self._lower + scale * left) & _STATE_MAX
            self._range = scale * (int(row[symbol + 1]) - left)
            if self._range < _LEAST_RANGE:
                self._lower = (self._lower << _WORD_BITS) & _STATE_MAX
                self._range <<= _WORD_BITS
                self._point = (self._point << _WORD_BITS) & _STATE_MAX | self._word()
            symbols[index] = symbol
        return symbols

    def maybe_exhausted(self) -> bool:
        """Whether the words may end here: False is certain, True is not."""
        if self._next < len(self._words):
            return False
        return self._range == _STATE_MAX or (self._point - self._lower) & _STATE_MAX < 2 * _LEAST_RANGE - 1

    def _word(self) -> int:
        """The next word; 0 past the end."""
        if self._next >= len(self._words):
            return 0
        self._next += 1
        word: int = self._words[self._next - 1]
        return word


def left_cumulatives(counts: Counts) -> Cumulatives:
    """Counts [N, K], float32 -> the edges of their intervals [N, K + 1], from 0 to 2^24, strictly rising.

    Each symbol gets 1, and its share of the 2^24 - K that are left, rounded down at the edges. All is computed in
    float32, in this order: another order or precision would give other words. Counts are whole numbers with a sum of at
    most 2^24, so their sums are exact.
    """
    rows, size = counts.shape
    sums = np.cumsum(counts, axis=1, dtype=np.float32)  # [N, K]
    scale = np.float32(_TOTAL - size) / sums[:, -1:]
    edges = np.empty((rows, size + 1), np.int64)
    edges[:, 0], edges[:, size] = 0, _TOTAL
    edges[:, 1:size] = sums[:, :-1] * scale
    edges[:, 1:size] += np.arange(1, size)
    return edges


def _resolved(first: int, count: int, carry: bool) -> list[int]:
    """The words that were held back, once it is known whether a carry reaches them."""
    if carry:
        return [(first + 1) & _WORD_MAX] + [0] * (count - 1)
    return [first] + [_WORD_MAX] * (count - 1)
