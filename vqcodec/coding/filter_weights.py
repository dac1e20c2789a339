"""Weights of a post-filter <-> bytes: one integer for each kernel of the model.

In: `Weights`. Out: the payload of a chunk, a few bytes long. The same in the other direction.

    payload  = u8        exponent (high four bits): a number n is the weight n * 2^-exponent
                         order k of the codes (low four bits): the lowest of those that give the shortest payload
               codes     of the numbers, one after another, the most significant bit first; then bits 0 to a whole byte

A number n is mapped to u = 2n - 1 if it is positive, else to u = -2n. u is written with the Exp-Golomb code of order k
(Teuhola 1978): u + 2^k in binary, preceded by as many zeros as it has bits beyond k + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from vqcodec.errors import DamagedFile

__all__ = ["MAX_EXPONENT", "MAX_NUMBER", "Weights", "pack_weights", "unpack_weights"]

MAX_EXPONENT = 15
MAX_NUMBER = (1 << 15) - 1  # largest magnitude of a number
ORDERS = range(8)
LONGEST = 2 * 17  # bits of the longest code


@dataclass(frozen=True)
class Weights:
    """The post-filter weights of a file, in fixed point."""

    numbers: tuple[int, ...]  # one for each kernel
    exponent: int  # the numbers are multiples of 2^-exponent

    @property
    def values(self) -> tuple[float, ...]:
        """The weights as floats, which represent them exactly."""
        return tuple(number / (1 << self.exponent) for number in self.numbers)


def pack_weights(weights: Weights) -> bytes:
    """Encode weights as the payload of a chunk. Raises `ValueError` for numbers out of range."""
    if not 0 <= weights.exponent <= MAX_EXPONENT or any(abs(number) > MAX_NUMBER for number in weights.numbers):
        raise ValueError(f"exponents must be 0 to {MAX_EXPONENT}, magnitudes at most {MAX_NUMBER}, not {weights}")
    naturals = [2 * number - 1 if number > 0 else -2 * number for number in weights.numbers]
    codes = ["".join(_code(natural, order) for natural in naturals) for order in ORDERS]
    order = min(ORDERS, key=lambda order: -(-len(codes[order]) // 8))
    bits = codes[order]
    bits += "0" * (-len(bits) % 8)
    return bytes([weights.exponent << 4 | order]) + int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:]


def unpack_weights(payload: bytes, count: int) -> Weights:
    """Decode the weights of `count` kernels. Raises `DamagedFile` for payloads that `pack_weights` cannot produce."""
    if not 1 <= len(payload) <= 1 + -(-count * LONGEST // 8):
        raise DamagedFile(f"the file is damaged: {len(payload)} bytes cannot be the weights of {count} kernels")
    exponent, order = payload[0] >> 4, payload[0] & 15
    bits = "".join(f"{byte:08b}" for byte in payload[1:])
    numbers, at = [], 0
    for _ in range(count):
        first = bits.find("1", at)
        end = first + (first - at) + order + 1
        if first < 0 or end > len(bits):
            raise DamagedFile("the file is damaged: the weights of its post-filter are truncated")
        natural = int(bits[first:end], 2) - (1 << order)
        numbers.append((natural + 1) // 2 if natural % 2 else -natural // 2)
        at = end
    weights = Weights(tuple(numbers), exponent)
    if any(abs(number) > MAX_NUMBER for number in numbers) or pack_weights(weights) != payload:
        raise DamagedFile("the file is damaged: the weights of its post-filter are not in canonical form")
    return weights


def _code(natural: int, order: int) -> str:
    """The bits of the Exp-Golomb code of a number >= 0."""
    binary = f"{natural + (1 << order):b}"
    return "0" * (len(binary) - 1 - order) + binary
