"""The weights of a post-filter <-> bytes: whole numbers, one for each kernel of the model.

In: `Weights`. Out: the payload of a chunk, a few bytes long, and back.

    payload  = u8        exponent (high four bits): a number n is the weight n * 2^-exponent
                         order k of the codes (low four bits): the lowest of those that give the shortest payload
               codes     of the numbers, one after another, the most significant bit first; then bits 0 to a whole byte

A number n is coded as u = 2n - 1 where it is positive, else -2n, by the Exp-Golomb code of order k (Teuhola 1978): u +
2^k in binary, after as many zeros as it has bits beyond k + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from vqcodec.errors import DamagedFile

__all__ = ["MAX_EXPONENT", "MAX_NUMBER", "Weights", "pack_weights", "unpack_weights"]

MAX_EXPONENT = 15
MAX_NUMBER = (1 << 15) - 1  # largest magnitude
ORDERS = range(8)
LONGEST = 2 * 17  # bits of a code


@dataclass(frozen=True)
class Weights:
    """What a file says about its post-filter."""

    numbers: tuple[int, ...]  # one for each kernel
    exponent: int  # of their unit, 2^-exponent

    @property
    def values(self) -> tuple[float, ...]:
        """The weights, which floats hold exactly."""
        return tuple(number / (1 << self.exponent) for number in self.numbers)


def pack_weights(weights: Weights) -> bytes:
    """The payload. ValueError for numbers out of range."""
    if not 0 <= weights.exponent <= MAX_EXPONENT or any(abs(number) > MAX_NUMBER for number in weights.numbers):
        raise ValueError(f"an exponent is 0 to {MAX_EXPONENT}, a number at most {MAX_NUMBER} either way: {weights}")
    naturals = [2 * number - 1 if number > 0 else -2 * number for number in weights.numbers]
    codes = ["".join(_code(natural, order) for natural in naturals) for order in ORDERS]
    order = min(ORDERS, key=lambda order: -(-len(codes[order]) // 8))
    bits = codes[order]
    bits += "0" * (-len(bits) % 8)
    return bytes([weights.exponent << 4 | order]) + int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:]


def unpack_weights(payload: bytes, count: int) -> Weights:
    """The weights of `count` kernels. Raises `DamagedFile` for anything that `pack_weights` does not give."""
    if not 1 <= len(payload) <= 1 + -(-count * LONGEST // 8):
        raise DamagedFile(f"the file is damaged: {len(payload)} bytes are no weights of {count} kernels")
    exponent, order = payload[0] >> 4, payload[0] & 15
    bits = "".join(f"{byte:08b}" for byte in payload[1:])
    numbers, at = [], 0
    for _ in range(count):
        first = bits.find("1", at)
        end = first + (first - at) + order + 1
        if first < 0 or end > len(bits):
            raise DamagedFile("the file is damaged: the weights of its post-filter are cut off")
        natural = int(bits[first:end], 2) - (1 << order)
        numbers.append((natural + 1) // 2 if natural % 2 else -natural // 2)
        at = end
    weights = Weights(tuple(numbers), exponent)
    if any(abs(number) > MAX_NUMBER for number in numbers) or pack_weights(weights) != payload:
        raise DamagedFile("the file is damaged: the weights of its post-filter are not as they are written")
    return weights


def _code(natural: int, order: int) -> str:
    binary = f"{natural + (1 << order):b}"
    return "0" * (len(binary) - 1 - order) + binary
