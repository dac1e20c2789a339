"""Codes <-> bytes: lossless, identical bytes for every batch size and thread count, and damage is detected."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, formula_codes, formula_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.coding import payloads as module
from vqcodec.coding.integer_prior import Codes, IntegerPrior, Layout
from vqcodec.coding.payloads import Reader, Writer, read_units, write_units
from vqcodec.errors import DamagedFile, VqError
from vqcodec.threads import Workers

pytestmark = pytest.mark.usefixtures("payload_code")
PRIOR = IntegerPrior(formula_tensors(SMALL), SMALL, 0)
SHAPES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=5)


def grids_of(shapes: list[tuple[int, int]], salt: int = 1) -> list[Codes]:
    return [formula_codes(SMALL.sizes, *shape, salt + unit) for unit, shape in enumerate(shapes)]


@settings(max_examples=40, deadline=None)
@given(shapes=SHAPES, salt=st.integers(1, 999), batch=st.sampled_from([1, 2, 3, 16]), other=st.integers(1, 20))
def test_round_trip_and_bytes_independent_of_the_batch_size(
    shapes: list[tuple[int, int]], salt: int, batch: int, other: int
) -> None:
    grids = grids_of(shapes, salt)
    payloads = write_units(PRIOR, grids, batch=batch)
    assert payloads == write_units(PRIOR, grids, batch=other)
    assert payloads == [write_units(PRIOR, [grid])[0] for grid in grids]
    for count in (batch, other):
        back = read_units(PRIOR, payloads, shapes, batch=count)
        assert all(np.array_equal(a, b) for a, b in zip(grids, back, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (33, 20)])
def test_shapes_far_from_square(shape: tuple[int, int]) -> None:
    grids = grids_of([shape])
    back = read_units(PRIOR, write_units(PRIOR, grids), [shape])
    assert np.array_equal(back[0], grids[0])


@pytest.mark.parametrize("sizes", [(1, 5, 3), (5, 1, 3), (5, 3, 1), (1, 1, 2), (1, 7, 1)])
@pytest.mark.parametrize("shape", [(1, 1), (6, 9)])
def test_codebooks_of_one_code_are_written_and_read(sizes: tuple[int, ...], shape: tuple[int, int]) -> None:
    layout = Layout(sizes, 1, 6, 5, 2)
    prior = IntegerPrior(formula_tensors(layout), layout, 0)
    grids = [formula_codes(sizes, *shape, salt) for salt in range(1, 5)]
    payloads = write_units(prior, grids)
    back = read_units(prior, payloads, [shape] * 4)
    assert all(np.array_equal(a, b) for a, b in zip(grids, back, strict=True))
    assert payloads == write_units(prior, grids, prove=False)


ALL_CONSTANT = IntegerPrior(formula_tensors(Layout((1, 1), 1, 4, 3, 2)), Layout((1, 1), 1, 4, 3, 2), 0)


def test_constant_codes_need_no_bytes() -> None:
    assert write_units(ALL_CONSTANT, [np.zeros((2, 9, 7), np.int32)]) == [b""]
    assert not read_units(ALL_CONSTANT, [b""], [(9, 7)])[0].any()


@pytest.mark.parametrize("payload", [b"\x01" * 12, b"\xff" * 12, b"\x80" * 40])
def test_surplus_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(DamagedFile, match="more data"):
        read_units(ALL_CONSTANT, [payload], [(9, 7)])


def test_a_code_out_of_range_is_refused() -> None:
    grid = np.zeros((2, 3, 3), np.int32)
    grid[1, 2, 2] = 1
    with pytest.raises(VqError, match="codebook 1 has 1 codes"):
        write_units(ALL_CONSTANT, [grid])
    for wrong in (-1, SMALL.sizes[2]):
        grids = grids_of([(3, 3), (2, 4)])
        grids[1][2, 1, 3] = wrong
        with pytest.raises(VqError, match=f"codebook 2 has {SMALL.sizes[2]} codes"):
            write_units(PRIOR, grids)


def test_no_units_at_all() -> None:
    assert write_units(PRIOR, []) == []
    assert read_units(PRIOR, [], []) == []


def test_more_units_than_a_batch_holds() -> None:
    shapes = [(1 + n % 3, 1 + n % 4) for n in range(2 * module.BATCH + 3)]
    grids = grids_of(shapes)
    back = read_units(PRIOR, write_units(PRIOR, grids), shapes)
    assert all(np.array_equal(a, b) for a, b in zip(grids, back, strict=True))


def test_golden_bytes() -> None:
    """These bytes must never change, or existing files would no longer decode."""
    grids = grids_of([(5, 7), (1, 1), (3, 2)])
    golden = [GOLDEN_0, GOLDEN_1, GOLDEN_2]
    assert [payload.hex() for payload in write_units(PRIOR, grids)] == golden
    back = read_units(PRIOR, [bytes.fromhex(text) for text in golden], [(5, 7), (1, 1), (3, 2)])
    assert all(np.array_equal(a, b) for a, b in zip(grids, back, strict=True))
    # The other quality is another prior.
    other = IntegerPrior(formula_tensors(SMALL), SMALL, 1)
    assert write_units(other, grids_of([(1, 1)]))[0].hex() == GOLDEN_OTHER


def test_golden_counts() -> None:
    """The hash of the counts themselves, so that a failure shows where a change happened."""
    digest = hashlib.sha256()
    for counts in PRIOR.evaluate(formula_codes(SMALL.sizes, 11, 13)):
        digest.update(counts.astype("<u4").tobytes())
    assert digest.hexdigest() == GOLDEN_COUNTS


GOLDEN_0 = (
    "7fe1be9b0d3d0321ec2728d86e4f9fbb73734ac3fa73674bc11566cc2a62569342d7d8f97c542322d9a493edd3a00218"
    "510ee17057c6c4de61b114558aec8ebe"
)
GOLDEN_1 = "90e17b56"
GOLDEN_2 = "0c5c639664f74f80"
GOLDEN_OTHER = "de4b9b71"
GOLDEN_COUNTS = "4e44b88f214116f2f572f3e5638f150fb51afc2e2b6049c6fa65509dc8312960"

THREADS = """
import hashlib
from conftest import formula_codes, formula_tensors
from vqcodec.coding.integer_prior import IntegerPrior, Layout
from vqcodec.coding.payloads import read_units, write_units
layout = Layout((16, 100), 1, 96, 48, 2)
prior = IntegerPrior(formula_tensors(layout), layout, 0)
grids = [formula_codes(layout.sizes, 12, 12, salt) for salt in range(16)]
payloads = write_units(prior, grids)
for counts in prior.evaluate(formula_codes(layout.sizes, 40, 40)):
    payloads.append(counts.tobytes())
print(hashlib.sha256(b"".join(payloads)).hexdigest(), len(payloads[0]))
"""


def test_one_thread_or_two_give_equal_bytes(payload_code: str) -> None:
    here = Path(__file__).parents[1]
    running = []
    for count in ("1", "2"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
        environment = os.environ | dict.fromkeys(names, count) | {"VQCODEC_NATIVE": str(int(payload_code == "native"))}
        environment["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent)])
        command = [sys.executable, "-c", THREADS]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].split()[0]) == 64


def test_the_payload_is_as_long_as_the_counts_say() -> None:
    grid = formula_codes(SMALL.sizes, 40, 40)
    bits = 0.0
    for g, counts in enumerate(PRIOR.evaluate(grid)):
        chosen = counts[np.arange(1600), grid[g].flatten()]
        bits -= float(np.log2(chosen / counts.sum(1)).sum())
    length = 8 * len(write_units(PRIOR, [grid])[0])
    assert bits <= length <= 1.001 * bits + 64


@pytest.mark.parametrize("size", [2, 3, 256, 4096])
@pytest.mark.parametrize("peak", [0, 1, -1])
def test_the_rarest_codes_survive(size: int, peak: int) -> None:
    """One code has nearly all counts, the others 1 each: the coder must still distinguish them."""
    counts = np.ones((1, size), np.float32)
    counts[0, peak] = 2**22 - 1
    symbols = np.array([*range(0, size, max(1, size // 40)), size - 1, peak % size], np.int32)
    rows = np.repeat(counts, len(symbols), 0)
    writer = Writer(1)
    writer.code(0, symbols, rows)
    payloads = writer.payloads()
    reader = Reader(payloads)
    assert np.array_equal(reader.code(0, symbols * 0, rows), symbols)
    reader.finish()
    least = -math.log2(float(counts[0, peak] / counts.sum()))
    assert 8 * len(payloads[0]) >= least


# Damage. The container's checksums detect it first; these tests cover payloads whose checksums are valid.


def read_or_refuse(payloads: list[bytes], shapes: list[tuple[int, int]]) -> bool:
    """Whether the payloads could be read. Errors other than `DamagedFile` are not caught."""
    try:
        grids = read_units(PRIOR, payloads, shapes)
    except DamagedFile:
        return False
    for grid in grids:
        for g, size in enumerate(SMALL.sizes):
            assert grid[g].min() >= 0
            assert grid[g].max() < size
    return True


@settings(max_examples=150, deadline=None)
@given(payloads=st.lists(st.binary(max_size=60), min_size=1, max_size=3), side=st.integers(1, 6))
def test_random_bytes_are_refused_or_read_as_codes_that_exist(payloads: list[bytes], side: int) -> None:
    read_or_refuse(payloads, [(side, 2 * side)] * len(payloads))


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([2, 3, 256, 4096]),
    words=st.lists(st.sampled_from([0, 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1), max_size=12),
    exponent=st.floats(0, 22),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_decoder_never_panics(size: int, words: list[int], exponent: float, seed: int) -> None:
    """A panic of the library would not be caught by `except Exception`."""
    rng = np.random.default_rng(seed)
    counts = np.floor(2 ** rng.uniform(0, exponent, (20, size)))
    counts = np.maximum(1, np.floor(counts * ((2**22 - 1) / counts.sum(1, keepdims=True)))).astype(np.float32)
    reader = Reader([np.array(words, "<u4").tobytes()])
    try:
        codes = reader.code(0, np.zeros(20, np.int32), counts)
        assert 0 <= codes.min() <= codes.max() < size
        reader.finish()
    except DamagedFile:
        pass


@pytest.mark.parametrize("words", [b"", bytes(4), b"\xff" * 4, b"\xff" * 400, bytes(400), b"\x80", b"\xff\xff\xff"])
def test_extreme_payloads(words: bytes) -> None:
    read_or_refuse([words], [(6, 6)])


def test_truncation_is_refused_or_read_as_other_codes() -> None:
    (grid,) = grids = grids_of([(6, 6)])
    (payload,) = write_units(PRIOR, grids)
    for length in range(len(payload) - 4):  # the last word has bits to spare
        if read_or_refuse([payload[:length]], [(6, 6)]):
            assert not np.array_equal(read_units(PRIOR, [payload[:length]], [(6, 6)])[0], grid)


def test_flipped_bits_are_refused_or_read_as_other_codes() -> None:
    (grid,) = grids = grids_of([(6, 6)])
    (payload,) = write_units(PRIOR, grids)
    for at in range(0, 8 * (len(payload) - 4), 3):
        damaged = bytearray(payload)
        damaged[at // 8] ^= 1 << at % 8
        if read_or_refuse([bytes(damaged)], [(6, 6)]):
            assert not np.array_equal(read_units(PRIOR, [bytes(damaged)], [(6, 6)])[0], grid)


def test_the_words_before_the_last_codes_were_read_are_surplus() -> None:
    (payload,) = write_units(PRIOR, grids_of([(4, 4)]))
    for surplus in (bytes(8), b"\x01" * 8, b"\xff" * 80):
        padded = payload + bytes(-len(payload) % 4) + surplus
        with pytest.raises(DamagedFile, match="more data"):
            read_units(PRIOR, [padded], [(4, 4)])
    with pytest.raises(DamagedFile, match="more data"):
        read_units(PRIOR, [payload], [(1, 1)])


def test_trailing_zero_bytes_of_the_last_word_are_not_stored() -> None:
    counts = np.full((5, 16), 1000, np.float32)
    rng = np.random.default_rng(2)
    symbols = rng.integers(0, 16, (1000, 5)).astype(np.int32)
    writer = Writer(1000)
    for unit in range(1000):
        writer.code(unit, symbols[unit], counts)
    payloads = writer.payloads()
    assert any(len(payload) % 4 for payload in payloads), "some words end in a zero byte"
    assert not any(payload.endswith(b"\0") and len(payload) % 4 != 1 for payload in payloads)
    reader = Reader(payloads)
    for unit in range(1000):
        assert np.array_equal(reader.code(unit, symbols[unit] * 0, counts), symbols[unit])
    reader.finish()


def test_the_encoder_verifies_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """A faulty machine or library that returns wrong codes must not produce a file."""
    read = module._read_group

    def wrong(*arguments: object) -> list[Codes]:
        grids = read(*arguments)  # type: ignore[arg-type]
        grids[-1][0, -1, -1] += 1
        return grids

    grids = grids_of([(3, 3), (2, 1), (4, 4)])
    write_units(PRIOR, grids)
    monkeypatch.setattr(module, "_read_group", wrong)
    with pytest.raises(VqError, match="differ from those written"):
        write_units(PRIOR, grids)


def test_the_grids_given_are_left_alone() -> None:
    grids = [grid.astype(np.int64) for grid in grids_of([(3, 4), (2, 2)])]
    before = [grid.copy() for grid in grids]
    write_units(PRIOR, grids)  # type: ignore[arg-type]
    assert all(np.array_equal(a, b) for a, b in zip(grids, before, strict=True))


def test_progress_of_writing_and_reading_rises_to_one() -> None:
    shapes = [(3, 3)] * 5
    for batch in (2, 16):
        told: list[float] = []
        payloads = write_units(PRIOR, grids_of(shapes), told.append, batch)
        assert told == sorted(told)
        assert told[-1] == pytest.approx(1)
        told.clear()
        read_units(PRIOR, payloads, shapes, told.append, batch)
        assert told == sorted(told)
        assert told[-1] == pytest.approx(1)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads: int) -> None:
    shapes = [(1 + n % 3, 1 + n % 4) for n in range(21)]
    grids, workers = grids_of(shapes), Workers(threads)
    told: list[float] = []
    payloads = write_units(PRIOR, grids, told.append, workers=workers)
    assert payloads == write_units(PRIOR, grids)
    assert told[-1] == pytest.approx(1)
    back = read_units(PRIOR, payloads, shapes, told.append, workers=workers)
    assert all(np.array_equal(a, b) for a, b in zip(grids, back, strict=True))
    damaged = [*payloads[:20], payloads[20] + b"\xff" * 8]
    with pytest.raises(DamagedFile, match="more data"):
        read_units(PRIOR, damaged, shapes, workers=workers)


def test_the_words_that_the_format_rests_on() -> None:
    """Words of the range coder alone. If this fails with constriction, that library has changed, not vqcodec."""
    writer = Writer(1)
    counts = np.array([[1, 2, 3, 4]] * 40, np.float32) * 1000
    writer.code(0, np.arange(40, dtype=np.int32) * 7 % 10 % 4, counts)
    (payload,) = writer.payloads()
    words = np.frombuffer(payload + bytes(-len(payload) % 4), "<u4")
    assert words.tolist() == GOLDEN_WORDS


GOLDEN_WORDS = [259475143, 3002962368, 2718462058]
