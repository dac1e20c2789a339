"""The range coder in Python: word for word what constriction writes and reads, and golden words without it."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.coding.range_coder import InvalidData, RangeDecoder, RangeEncoder, left_cumulatives

GOLDEN = ["07f3ffbf", "7ce1ba6c"]
GOLDEN_CHECKSUMS = [3993828430, 119596745, 1230414966, 2604582506]
KINDS = ("uniform", "steep", "certain", "heavy-tailed")


def draw(kind: str, rows: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols [rows] and counts [rows, size] as the prior gives them: whole numbers from 1, sums below 2^23."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == "uniform":
        counts = rng.integers(1, 1 << int(rng.integers(1, 15)), (rows, size))
    elif kind == "certain":  # long runs of one likely symbol
        counts = np.ones((rows, size))
        counts[:, rng.integers(size)] = 1 << 22
    else:
        counts = np.maximum(1, np.exp2(rng.normal(0, 2 if kind == "steep" else 5, (rows, size))))
    counts = np.minimum(counts, (1 << 22) // size).round().astype(np.float32) if kind != "certain" else counts
    counts = counts.astype(np.float32)
    likely = counts.argmax(1)
    symbols = np.where(rng.random(rows) < (0.995 if kind == "certain" else 0.3), likely, rng.integers(0, size, rows))
    return symbols.astype(np.int32), counts


def encoded(symbols: np.ndarray, counts: np.ndarray) -> np.ndarray:
    encoder = RangeEncoder()
    encoder.encode(symbols, counts)
    return encoder.get_compressed()


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_those_of_constriction(kind: str) -> None:
    constriction = pytest.importorskip("constriction")
    model = constriction.stream.model.Categorical(perfect=False)
    for seed in range(24):
        size = (2, 3, 7, 40, 256)[seed % 5]
        symbols, counts = draw(kind, 2500, size, seed)
        theirs = constriction.stream.queue.RangeEncoder()
        ours = RangeEncoder()
        for part in np.array_split(np.arange(len(symbols)), 3):
            theirs.encode(symbols[part], model, counts[part])
            ours.encode(symbols[part], counts[part])
        words = ours.get_compressed()
        assert np.array_equal(words, theirs.get_compressed())
        decoder = RangeDecoder(words)
        assert np.array_equal(decoder.decode(counts), symbols)
        assert decoder.maybe_exhausted()


@pytest.mark.parametrize("seed", range(200))
def test_any_words_are_read_as_constriction_reads_them(seed: int) -> None:
    constriction = pytest.importorskip("constriction")
    model = constriction.stream.model.Categorical(perfect=False)
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 32, int(rng.integers(0, 20)), dtype=np.uint64).astype(np.uint32)
    if seed % 3 == 0:
        words = np.where(rng.random(len(words)) < 0.7, np.uint32(0xFFFFFFFF), words).astype(np.uint32)
    _, counts = draw(KINDS[seed % len(KINDS)], 40, int(rng.integers(2, 257)), seed)
    theirs, ours = constriction.stream.queue.RangeDecoder(words), RangeDecoder(words)
    try:
        expected = theirs.decode(model, counts)
    except (AssertionError, ValueError):
        with pytest.raises(InvalidData):
            ours.decode(counts)
        return
    assert np.array_equal(ours.decode(counts), expected)
    assert ours.maybe_exhausted() == theirs.maybe_exhausted()


def test_golden_words() -> None:
    """Needs no other coder: the words that version 1 of the format has for these symbols."""
    counts = np.array([[5, 1, 250], [1, 1, 1], [1 << 20, 3, 9]] * 4, np.float32)
    symbols = np.array([2, 0, 0, 1, 2, 1, 0, 1, 2, 2, 2, 0], np.int32)
    words = encoded(symbols, counts)
    assert [f"{word:08x}" for word in words.tolist()] == GOLDEN
    assert np.array_equal(RangeDecoder(words).decode(counts), symbols)
    checksums = []
    for step in range(7, 11):
        counts = np.arange(1, 300 * 17 + 1, dtype=np.float32).reshape(300, 17)
        symbols = (np.arange(300, dtype=np.int32) * step) % 17
        checksums.append(zlib.crc32(encoded(symbols, counts).astype("<u4").tobytes()))
    assert checksums == GOLDEN_CHECKSUMS


def test_without_symbols_there_are_no_words() -> None:
    assert encoded(np.zeros(0, np.int32), np.ones((0, 4), np.float32)).tolist() == []
    assert RangeDecoder(np.zeros(0, np.uint32)).maybe_exhausted()


@given(st.integers(2, 300), st.integers(1, 60), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_round_trip(size: int, rows: int, seed: int) -> None:
    symbols, counts = draw(KINDS[seed % len(KINDS)], rows, size, seed)
    words = encoded(symbols, counts)
    decoder = RangeDecoder(words)
    assert np.array_equal(decoder.decode(counts), symbols)
    assert decoder.maybe_exhausted()
    longer = RangeDecoder(np.append(words, [1, 1]).astype(np.uint32))
    longer.decode(counts)
    assert not longer.maybe_exhausted()


@given(st.integers(2, 4096), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_every_symbol_keeps_a_probability(size: int, seed: int) -> None:
    _, counts = draw(KINDS[seed % len(KINDS)], 5, size, seed)
    edges = left_cumulatives(counts)
    assert (edges[:, 0] == 0).all()
    assert (edges[:, -1] == 1 << 24).all()
    assert (np.diff(edges, axis=1) > 0).all()


@pytest.mark.parametrize("symbol", [-1, 3])
def test_a_symbol_without_a_count_is_refused(symbol: int) -> None:
    with pytest.raises(ValueError, match="0 to 2"):
        RangeEncoder().encode(np.array([symbol], np.int32), np.ones((1, 3), np.float32))
