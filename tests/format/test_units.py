"""Payloads of units that may hold stored pixels: the layout byte by byte, every map, damaged payloads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.errors import DamagedFile
from vqcodec.format.units import BLOCKS, Map, Unit, block_side, pack_unit, unpack_unit


def map_of(*rows: str) -> Map:
    """A map from rows of "#" (stored) and "." (coded)."""
    return tuple(tuple(place == "#" for place in row) for row in rows)


MIXED = Unit(map_of("####", "#.##", "####"), b"pixels", b"codes")


def test_the_layout_of_each_mode() -> None:
    coded = Unit(map_of("....", "....", "....", "....", "...."), codes=b"codes")
    assert pack_unit(coded) == bytes([0 | 2 << 2 | 1 << 5]) + b"codes"
    stored = Unit(map_of("###", "###", "###"), b"pixels")
    assert pack_unit(stored) == bytes([1]) + b"pixels"
    #  1111 1011 1111 and four bits of padding; 6 bytes of pixels
    assert pack_unit(MIXED) == bytes([2 | 1 << 5, 0b11111011, 0b11110000, 6]) + b"pixels" + b"codes"


@given(st.integers(1, BLOCKS), st.integers(1, BLOCKS), st.data())
def test_units_come_back(rows: int, columns: int, draw: st.DataObject) -> None:
    bits = draw.draw(st.lists(st.booleans(), min_size=(rows + 2) * (columns + 2), max_size=(rows + 2) * (columns + 2)))
    blocks: Map = tuple(tuple(bits[i : i + columns + 2]) for i in range(0, len(bits), columns + 2))
    stored = Unit(blocks).stored
    unit = Unit(blocks, b"p" * 200 if stored else b"", b"" if all(bits) else draw.draw(st.binary(max_size=9)))
    found = unpack_unit(pack_unit(unit))
    assert (found.pixels, found.codes, found.stored, found.blocks) == (unit.pixels, unit.codes, stored, (rows, columns))
    assert found.map == unit.map if stored else not any(any(row) for row in found.map)


@given(st.binary(max_size=40))
def test_other_bytes_are_refused_or_what_a_writer_writes(data: bytes) -> None:
    try:
        unit = unpack_unit(data)
    except DamagedFile:
        return
    assert pack_unit(unit) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (bytes([1]), "malformed"),  # stored, without pixels
        (bytes([3]), "malformed"),
        (bytes([2 | 1 << 5, 0xFF]), "truncated"),
        (bytes([2 | 1 << 5, 0xFF, 0xF0, 1]) + b"p", "malformed"),  # everything is stored: that is mode 1
        (bytes([2 | 1 << 5, 0xF9, 0xF0, 1]) + b"p", "malformed"),  # nothing of the unit is stored
        (bytes([2 | 1 << 5, 0xFB, 0xF1, 1]) + b"p", "malformed"),  # padding that is not 0
        (bytes([2 | 1 << 5, 0xFB, 0xF0, 0]), "malformed"),  # no pixels
        (bytes([2 | 1 << 5, 0xFB, 0xF0, 7]) + b"pixels", "truncated"),
        (bytes([2 | 1 << 5, 0xFB, 0xF0, 0x86, 0]) + b"pixels", "malformed"),  # a number that is not the shortest
    ],
)
def test_damaged_payloads(data: bytes, message: str) -> None:
    with pytest.raises(DamagedFile, match=message):
        unpack_unit(data)


@pytest.mark.parametrize(
    "unit",
    [
        Unit(MIXED.map, b"", b"codes"),
        Unit(map_of("...", "...", "..."), b"pixels"),
        Unit(map_of("###", "###", "###"), b"pixels", b"codes"),
        Unit(((True,) * 3,) * (BLOCKS + 3), b"pixels"),
    ],
)
def test_parts_that_contradict_each_other(unit: Unit) -> None:
    with pytest.raises(ValueError, match="unit"):
        pack_unit(unit)


@pytest.mark.parametrize(("unit", "side"), [(1, 1), (8, 1), (9, 2), (64, 8), (65, 9)])
def test_the_side_of_a_block(unit: int, side: int) -> None:
    assert block_side(unit) == side
