"""Format-aware mutations for benchmarks/fuzz.py: parse a file, change one place, and write it again.

In: the bytes of a .vq file, of a PNG, or of the three files of a model. Out: mutated bytes. Their lengths and checksums
are valid except for the change itself, so that the fuzzer gets past these checks. Inputs that cannot be parsed are
mutated as plain bytes.
"""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = [
    "Draft", "Inner", "join", "mutate_model", "mutate_parts", "mutate_png", "mutate_text", "mutate_vq", "png", "split",
    "varint",
]  # fmt: skip

Inner = Callable[[bytes], bytes]  # mutates plain bytes, by libFuzzer's own mutations

MAGIC, PNG_MAGIC = b"\x89VQ\n", b"\x89PNG\r\n\x1a\n"
NUMBERS = sorted({v for n in (0, 2, 3, 4, 6, 7, 8, 14, 16, 20, 24, 28, 31, 32) for v in (2**n - 1, 2**n, 2**n + 1)})
MALFORMED = (b"\x83\x00", b"\x80\x80\x00", b"\xff" * 5, b"\xff" * 6, b"\xff\xff\xff\xff\x10")
BOMB = zlib.compress(bytes(1 << 20), 9)  # a kilobyte that decompresses to a megabyte
PNG_CHUNKS = (
    (b"zTXt", b"a\0\0" + BOMB), (b"iTXt", b"a\0\1\0\0\0" + BOMB), (b"iCCP", b"a\0\0" + BOMB), (b"eXIf", b"II*\0"),
    (b"acTL", struct.pack(">II", 2, 0)), (b"acTL", bytes(8)), (b"fcTL", bytes(26)), (b"fdAT", bytes(4) + BOMB),
    (b"IDAT", BOMB), (b"tRNS", b"\0\1"), (b"PLTE", bytes(768)), (b"cHRM", bytes(3)), (b"gAMA", b""), (b"sRGB", b""),
    (b"pHYs", b"\0"), (b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)), (b"CgBI", b""),
)  # fmt: skip
VALUES = (
    None, True, -1, 0, 1, 2, 64, 4096, 2**31, 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "conv", "patch",
    "scaled", "ema", "gradient", "a\nb", "\ud800", [], [[2, 1]], [[4096, 1024]] * 64, [0.0] * 65, [1.0] * 64, {},
)  # fmt: skip
DTYPES = ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "F64", "I64")
FILLINGS = (
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\0",
    b"\0\x7c",
    b"\0\x7e",
    b"\0\0\x80\x7f",
    b"\0\0\xc0\x7f",
)  # with inf, NaN
CHUNK_TYPES = (0, 1, 2, 127, 128, 129, 130, 131, 255)
SIZES = (0, 1, 2, 3, 8, 2**31, 2**63, 2**64 - 1)


def varint(number: int) -> bytes:
    """Unsigned LEB128 in its shortest form."""
    groups = [number & 127]
    while number := number >> 7:
        groups.append(number & 127)
    return bytes(group | 128 for group in groups[:-1]) + bytes(groups[-1:])


@dataclass
class Draft:
    """The parts of a .vq file. Any may be invalid; `build` adds matching lengths and checksums."""

    numbers: list[bytes]  # width, height, quality, unit, rows, cols: varints, or other bytes in their place
    units: list[bytes]
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    digest: bytes = bytes(8)
    version: int = 1
    flags: int = 0  # without the bit for chunks, which `build` adds
    false_lengths: dict[int, bytes] = field(default_factory=dict)  # index of a part -> length to write instead

    @classmethod
    def parse(cls, data: bytes) -> Draft:
        """Parse a .vq file. Raises `IndexError` or `ValueError` if it is invalid."""
        at = 14

        def number() -> int:
            nonlocal at
            value = shift = 0
            while True:
                value |= (data[at] & 127) << shift
                at, shift = at + 1, shift + 7
                if data[at - 1] < 128:
                    return value

        numbers = [number() for _ in range(6)]
        lengths = [number() for _ in range(min(numbers[4] * numbers[5], len(data)))]
        kinds = []
        for _ in range(number() if data[13] & 2 else 0):
            at += 1
            kinds.append(data[at - 1])
            lengths.append(number())
        parts = []
        at += 4
        for length in lengths:
            parts.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        units = parts[: len(parts) - len(kinds)]
        chunks = list(zip(kinds, parts[len(units) :], strict=True))
        return cls([varint(n) for n in numbers], units, chunks, data[5:13], data[4], data[13] & ~2)

    def build(self) -> bytes:
        """The bytes of the file, with valid checksums."""
        parts = [*self.units, *(payload for _, payload in self.chunks)]
        lengths = [self.false_lengths.get(i, varint(len(part))) for i, part in enumerate(parts)]
        flags = self.flags ^ (2 if self.chunks else 0)
        head = MAGIC + bytes([self.version]) + self.digest + bytes([flags]) + b"".join(self.numbers)
        head += b"".join(lengths[: len(self.units)])
        if self.chunks:
            head += varint(len(self.chunks))
            for (kind, _), length in zip(self.chunks, lengths[len(self.units) :], strict=True):
                head += bytes([kind]) + length
        checksum = zlib.crc32(head)
        pieces = [head, struct.pack("<I", checksum)]
        for index, part in enumerate(parts):
            pieces += [struct.pack("<I", zlib.crc32(struct.pack("<II", checksum, index) + part)), part]
        return b"".join(pieces)


def mutate_vq(data: bytes, rng: random.Random, inner: Inner) -> bytes:
    """Mutate a .vq file, in most cases with valid checksums."""
    try:
        draft = Draft.parse(data)
    except (IndexError, ValueError):
        return inner(data)
    try:
        return _mutate_draft(data, draft, rng, inner)
    except zlib.error:  # a chunk was invalid already
        return inner(data)


def _mutate_draft(data: bytes, draft: Draft, rng: random.Random, inner: Inner) -> bytes:
    way = rng.random()
    if way < 0.1:
        return inner(data)
    if way < 0.2:
        return data[: rng.randrange(len(data) + 1)]
    if way < 0.4:
        _change_number(draft, rng)
    elif way < 0.65 and draft.units:
        i = rng.randrange(len(draft.units))
        draft.units[i] = _other_payload(draft.units[i], draft.units, rng, inner)
    elif way < 0.9 and draft.chunks:
        i = rng.randrange(len(draft.chunks))
        kind, payload = draft.chunks[i]
        draft.chunks[i] = (kind, (mutate_png if kind < 128 else _mutate_deflated)(payload, rng, inner))
    else:
        _change_frame(draft, rng)
    return draft.build()


def _change_number(draft: Draft, rng: random.Random) -> None:
    i = rng.randrange(6)
    draft.numbers[i] = rng.choice(MALFORMED) if rng.random() < 0.1 else varint(rng.choice([*NUMBERS, *range(1, 70)]))
    if rng.random() < 0.8:  # as many units as the header declares, at most 64
        rows, cols = (int.from_bytes(number, "little") & 127 for number in draft.numbers[4:])
        draft.units = [draft.units[k % len(draft.units)] if draft.units else b"" for k in range(min(rows * cols, 64))]


def _change_frame(draft: Draft, rng: random.Random) -> None:
    match rng.randrange(6):
        case 0:
            draft.version = rng.choice((0, 2, 255))
        case 1:
            draft.flags ^= 1 << rng.randrange(8)
        case 2:
            draft.digest = rng.randbytes(8)
        case 3:
            draft.chunks.insert(rng.randint(0, len(draft.chunks)), (rng.choice(CHUNK_TYPES), BOMB))
        case 4 if draft.chunks:
            draft.chunks.pop(rng.randrange(len(draft.chunks)))
        case _:
            draft.false_lengths[rng.randint(0, len(draft.units))] = rng.choice([*map(varint, NUMBERS[:-2]), *MALFORMED])


def _other_payload(payload: bytes, others: list[bytes], rng: random.Random, inner: Inner) -> bytes:
    match rng.randrange(6):
        case 0:
            return b""
        case 1:
            return payload[: rng.randrange(len(payload) + 1)]
        case 2:
            return rng.choice(others)
        case 3:
            return payload + rng.choice((bytes(5), b"\xff" * 64, rng.randbytes(9)))
        case 4:
            return rng.randbytes(rng.randrange(200))
        case _:
            return inner(payload)


def _mutate_deflated(payload: bytes, rng: random.Random, inner: Inner) -> bytes:
    """Mutate a zlib stream, before or after compression."""
    match rng.randrange(4):
        case 0:
            return inner(payload)
        case 1:
            return rng.choice((b"", BOMB, zlib.compress(bytes((1 << 20) + 1)), payload + b"x", payload * 2))
        case _:
            return zlib.compress(inner(zlib.decompress(payload)))


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG file made of chunks (name, content), with valid checksums."""
    body = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return PNG_MAGIC + body


def mutate_png(data: bytes, rng: random.Random, inner: Inner) -> bytes:
    """Mutate a PNG file, in most cases with valid checksums."""
    chunks, at = [], len(PNG_MAGIC)
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    way = rng.random()
    if not chunks or way < 0.1:
        return inner(data)
    i = rng.randrange(len(chunks))
    name, content = chunks[i]
    if way < 0.4:
        chunks[i] = (name, inner(content))
    elif way < 0.5:
        chunks.pop(i)
    elif way < 0.6:
        chunks.insert(rng.randint(0, len(chunks)), chunks[i])
    elif way < 0.95:
        chunks.insert(rng.randint(0, len(chunks)), rng.choice(PNG_CHUNKS))
    else:
        return png(chunks)[: rng.randrange(len(data) + 1)]
    return png(chunks)


def join(parts: tuple[bytes, ...]) -> bytes:
    """Join several files to one input, each preceded by its length (u32, little-endian)."""
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def split(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Split an input into three files; missing ones are empty."""
    found, at = [], 0
    for _ in range(3):
        length = int.from_bytes(data[at : at + 4], "little")
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found[0], found[1], found[2]


def mutate_parts(data: bytes, rng: random.Random, inner: Inner) -> bytes:
    """Mutate one of three joined files."""
    files = list(split(data))
    i = rng.randrange(3)
    files[i] = b"" if rng.random() < 0.1 else inner(files[i])
    return join((files[0], files[1], files[2]))


def mutate_model(data: bytes, rng: random.Random, inner: Inner) -> bytes:
    """Mutate a model: a value of its configuration, a tensor, or plain bytes."""
    files = list(split(data))
    i = rng.randrange(3)
    change = _mutate_json if i == 0 else _mutate_tensors
    try:
        files[i] = inner(files[i]) if rng.random() < 0.1 else change(files[i], rng, inner)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error, OverflowError):
        files[i] = inner(files[i])
    return join((files[0], files[1], files[2]))


def _mutate_json(text: bytes, rng: random.Random, inner: Inner) -> bytes:
    config = json.loads(text)
    place = rng.choice([config, config["vqvae"], config["prior"]])
    key = rng.choice(sorted(place))
    match rng.randrange(8):
        case 0:
            del place[key]
        case 1:
            place[rng.choice(("new", "a\nb\x1b[2J", "\ud800", "x" * 3000))] = 1
        case 2 if isinstance(place[key], list):
            place[key] = rng.choice((place[key][1:], place[key] * 2, [*place[key], rng.choice(VALUES)]))
        case 3 if isinstance(place[key], str):
            place[key] = inner(place[key].encode()).decode("utf-8", "replace")
        case _:
            place[key] = rng.choice(VALUES)
    return json.dumps(config).encode()


def _mutate_tensors(data: bytes, rng: random.Random, inner: Inner) -> bytes:
    (length,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    names = sorted(set(header) - {"__metadata__"})
    name = rng.choice(names)
    entry = header[name]
    start, stop = entry["data_offsets"]
    match rng.randrange(8):
        case 0:
            header[rng.choice(("foreign", "a\nb\x1b[2J", "x" * 3000, rng.choice(names)))] = header.pop(name)
        case 1:
            entry["dtype"] = rng.choice(DTYPES)
        case 2:
            entry["shape"] = [rng.choice(SIZES) if rng.random() < 0.4 else side for side in entry["shape"]]
        case 3:
            entry["shape"] = rng.choice(([], [1, *entry["shape"]], entry["shape"][::-1], [0, 2**63], [-1]))
        case 4:  # an empty tensor takes no bytes: the tensors after it move up
            width = stop - start
            body = body[:start] + body[stop:]
            for other in (header[n] for n in names):
                other["data_offsets"] = [at - width if at >= stop else at for at in other["data_offsets"]]
            entry["shape"] = rng.choice(([0], [0, 2**62], [0, 2**64 - 1], [2**32, 2**31, 0], entry["shape"]))
        case 5:
            entry["data_offsets"] = rng.choice(([0, 0], [start, 2**63], [stop, start], [0, len(body)]))
        case 6:
            filled = (rng.choice(FILLINGS) * (stop - start))[: rng.choice((4, stop - start))]
            body = body[:start] + filled + body[start + len(filled) :]
        case _:
            changed = inner(body[start:stop])[: stop - start].ljust(stop - start, b"\0")
            body = body[:start] + changed + body[stop:]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def mutate_text(data: bytes, rng: random.Random, inner: Inner) -> bytes:
    """Mutate the text of a command-line option."""
    if rng.random() < 0.5 or not data:
        return inner(data)
    at = rng.randrange(len(data) + 1)
    pieces = (" ", "\t", ",", "-", ".", "1", "k", "KiB", "GB", "٣", "\n", "\0", "\ud800", "9" * 19, " " * 5000)
    return data[:at] + rng.choice(pieces).encode("utf-8", "surrogatepass") + data[at:]
