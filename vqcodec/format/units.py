"""The payload of a unit in a file with stored pixels <-> its parts: the map of blocks, stored pixels and codes.

In: a `Unit`. Out: the payload, and back. Only the standard library is used.

A unit is cut into at most 8 x 8 blocks of ceil(unit / 8) positions a side, smaller at the right and bottom. A block is
either coded or stored: its pixels are in the payload without loss (picture/lossless.py). Files without stored blocks
have no such payloads: their payloads are the codes alone.

    payload = head     u8        bits 0-1: the mode; bits 2-4: rows of blocks - 1; bits 5-7: columns of blocks - 1
              mode 0: codes                         every block is coded
              mode 1: pixels                        every block is stored, and so are those next to the unit
              mode 2: map, length varint, pixels, codes
    map     = one bit for each block of the unit and of the frame of blocks around it, row by row, highest bit first,
              then 0 bits to a whole byte; 1: the block is stored, or outside of the picture

Stored positions carry codes if one of their eight neighbours is not stored, so that the networks decode the pixels next
to a stored block as they would inside of the picture. The frame of the map tells this for the border of the unit, so
that a unit can be read without its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

from vqcodec.errors import DamagedFile
from vqcodec.format.varint import ByteReader, varint

__all__ = ["BLOCKS", "Map", "Unit", "block_side", "pack_unit", "unpack_unit"]

BLOCKS = 8  # of a whole unit along each side, at most
Map = tuple[tuple[bool, ...], ...]
_CODED, _STORED, _MIXED = range(3)


@dataclass(frozen=True)
class Unit:
    """The parts of a unit's payload.

    `map`: [rows + 2][columns + 2], True for stored blocks and those outside of the picture; the outermost entries are
    the blocks around the unit. `pixels` is empty if no block of the unit is stored, `codes` if no position has codes.
    """

    map: Map
    pixels: bytes = b""
    codes: bytes = b""

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return len(self.map) - 2, len(self.map[0]) - 2

    @property
    def stored(self) -> int:
        """How many blocks of the unit are stored."""
        return sum(sum(row[1:-1]) for row in self.map[1:-1])


def block_side(unit: int) -> int:
    """The side of a block in positions, for units of `unit` positions a side."""
    return -(-unit // BLOCKS)


def pack_unit(unit: Unit) -> bytes:
    """The payload of a unit. Raises `ValueError` for parts that contradict each other."""
    rows, columns = unit.blocks
    if not (1 <= rows <= BLOCKS and 1 <= columns <= BLOCKS):
        raise ValueError(f"{rows} x {columns} blocks; a unit has 1 to {BLOCKS} a side")
    mode = _mode(unit)
    if bool(unit.pixels) != (mode != _CODED) or (mode == _STORED and unit.codes):
        raise ValueError("the parts of a unit do not fit its map")
    head = bytes([mode | (rows - 1) << 2 | (columns - 1) << 5])
    if mode == _CODED:
        return head + unit.codes
    if mode == _STORED:
        return head + unit.pixels
    bits = "".join("01"[stored] for row in unit.map for stored in row)
    packed = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return head + packed + varint(len(unit.pixels)) + unit.pixels + unit.codes


def unpack_unit(payload: bytes) -> Unit:
    """The parts of a payload. Raises `DamagedFile` unless `pack_unit` writes these bytes for them."""
    reader = ByteReader(payload, 0, "a unit")
    head = reader.byte()
    mode, rows, columns = head & 3, (head >> 2 & 7) + 1, (head >> 5) + 1
    if mode == _CODED:
        return Unit(_uniform(rows, columns, False), codes=payload[1:])
    if mode == _STORED and len(payload) > 1:
        return Unit(_uniform(rows, columns, True), pixels=payload[1:])
    if mode == _MIXED:
        count, across = (rows + 2) * (columns + 2), columns + 2
        size = -(-count // 8)
        number = int.from_bytes(reader.take(size), "big")
        bits = [bool(number >> (8 * size - 1 - i) & 1) for i in range(8 * size)]
        rows_of_map = tuple(tuple(bits[i : i + across]) for i in range(0, count, across))
        pixels = reader.take(reader.varint())
        unit = Unit(rows_of_map, pixels, payload[reader.at :])
        if pixels and not any(bits[count:]) and _mode(unit) == _MIXED:
            return unit
    raise DamagedFile("the file is damaged: the map of a unit is malformed")


def _mode(unit: Unit) -> int:
    if not unit.stored:
        return _CODED
    return _STORED if all(all(row) for row in unit.map) else _MIXED


def _uniform(rows: int, columns: int, stored: bool) -> Map:
    return ((stored,) * (columns + 2),) * (rows + 2)
