"""Numbers of variable length, and a reader of bytes that never reads past the end.

varint: unsigned LEB128, 1 to 5 bytes, below 2**32, in the shortest form only. Only the standard library is used.
"""

from __future__ import annotations

from vqcodec.errors import DamagedFile

__all__ = ["ByteReader", "varint"]


def varint(number: int) -> bytes:
    """The bytes of a number. Raises `ValueError` unless it is in 0 .. 2**32 - 1."""
    if not 0 <= number < 2**32:
        raise ValueError(f"{number} is not in 0 .. 2**32 - 1")
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes(out) + bytes([number])


class ByteReader:
    """Reads bytes from a position on. Raises `DamagedFile` at the end of the data and for malformed numbers.

    `part`: what the data are, for messages: "the header".
    """

    def __init__(self, data: bytes, at: int, part: str) -> None:
        self.data, self.at, self.part = data, at, part

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > len(self.data) - self.at:
            raise DamagedFile(f"the file is truncated: its {len(self.data)} bytes end inside {self.part}")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def varint(self) -> int:
        """The next number."""
        number = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if number >= 2**32 or (byte == 0 and shift > 0):
                    break
                return number
        raise DamagedFile(f"the file is damaged: a number in {self.part} is malformed")
