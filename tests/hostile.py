"""Hostile .vq files. The name of each says what is wrong with it. Decoding it must do no more than raise its error.

`python tests/hostile.py` writes those that need no model, or only the model `paper`, into tests/data/hostile, where
decoders in other languages can use them too. The tests generate all of them again, plus those of a stand-in model.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqcodec.errors import BadFile, DamagedFile, LimitExceeded, NotAVqFile, UnknownModel, UnsupportedFile, VqError
from vqcodec.format.container import VqFile, unpack
from vqcodec.format.magic import MAGIC

FOLDER = Path(__file__).parent / "data" / "hostile"
SOURCE = Path(__file__).parent / "data" / "golden" / "paper-4a8ed1c0484b552b-q1-alpha.vq"

Chunks = tuple[tuple[int, bytes], ...]
NUMBERS = (3, 2, 0, 64, 1, 1)  # width, height, quality, unit, rows, cols
MEGABYTE = zlib.compress(bytes(1 << 20), 9)  # compresses to a kilobyte


@dataclass(frozen=True)
class Case:
    """The bytes of a file and the error that decoding raises. `VqError`: both an error and a picture are correct."""

    data: bytes
    error: type[VqError]


def varint(number: int) -> bytes:
    groups = [number & 127]
    while number := number >> 7:
        groups.append(number & 127)
    return bytes(group | 128 for group in groups[:-1]) + bytes(groups[-1:])


def build(
    numbers: tuple[int | bytes, ...] = NUMBERS,
    units: tuple[bytes, ...] = (b"abc",),
    chunks: Chunks = (),
    digest: bytes = b"no model",
    start: bytes = MAGIC + b"\x01",
    flags: int | None = None,
    table: bytes | None = None,
) -> bytes:
    """A file of arbitrary fields with valid checksums; `table` replaces the lengths of the parts."""
    head = start + digest + bytes([2 * bool(chunks) if flags is None else flags])
    head += b"".join(n if isinstance(n, bytes) else varint(n) for n in numbers)
    if table is None:
        table = b"".join(varint(len(unit)) for unit in units)
        if chunks:
            table += varint(len(chunks)) + b"".join(bytes([kind]) + varint(len(data)) for kind, data in chunks)
    head += table
    checksum = zlib.crc32(head)
    body = b""
    for index, payload in enumerate((*units, *(data for _, data in chunks))):
        body += struct.pack("<I", zlib.crc32(struct.pack("<II", checksum, index) + payload)) + payload
    return head + struct.pack("<I", checksum) + body


def png(width: int, height: int, extra: tuple[tuple[bytes, bytes], ...] = (), samples: bytes | None = None) -> bytes:
    """A PNG of mode L; `extra`: chunks before the samples."""
    rows = samples if samples is not None else zlib.compress(bytes((width + 1) * height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), *extra, (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def without_a_model() -> dict[str, Case]:
    """Files that are refused before a model is opened, and one whose model does not exist."""
    good, two = build(), build((3, 200, 0, 100, 2, 1), (b"first", b"secon"))
    damaged = {
        "a-byte-of-the-magic": good[:1],
        "magic-alone": MAGIC,
        "line-ends-translated": good.replace(b"\n", b"\r\n"),
        "top-bits-removed": bytes(byte & 127 for byte in good),
        "converted-to-utf-8": good.decode("utf-8", "replace").encode(),
        "version-0": build(start=MAGIC + b"\0"),
        "units-that-are-not-there": build((2**11, 2**11, 0, 16, 2**7, 2**7), (), table=b""),
        "unit-of-4-gigabytes": build(table=varint(2**32 - 1)),
        "units-of-4-gigabytes": build((2**12, 2**12, 0, 64, 32, 32), (), table=varint(2**32 - 1) * 1024),
        "chunks-of-4-gigabytes": build(flags=2, table=varint(3) + varint(255) + (b"\xc8" + varint(2**32 - 1)) * 255),
        "width-0": build((0, *NUMBERS[1:])),
        "unit-0": build((3, 2, 0, 0, 1, 1)),
        "rows-0": build((3, 2, 0, 64, 0, 1), ()),
        "more-units-than-pixels": build((3, 2, 0, 1, 4, 4), (b"",) * 16),
        "number-not-in-its-shortest-form": build((b"\x83\x00", *NUMBERS[1:])),
        "number-of-33-bits": build((b"\xff\xff\xff\xff\x1f", *NUMBERS[1:])),
        "number-without-end": build((b"\xff" * 40, *NUMBERS[1:])),
        "wrong-checksum-of-the-header": good[:15] + bytes([good[15] ^ 1]) + good[16:],
        "wrong-checksum-of-a-unit": good[:-1] + b"C",
        "units-swapped": two[:-18] + two[-9:] + two[-18:-9],
        "unit-of-another-file": two[:-9] + build((3, 201, 0, 101, 2, 1), (b"first", b"other"))[-9:],
        "bytes-after-the-end": good + bytes(2),
        "cut": good[:-2],
        "no-chunks-where-some-are-declared": build(flags=2, table=varint(3) + varint(0)),
        "256-chunks": build(chunks=((200, b""),) * 256),
        "two-alphas": build(chunks=((1, png(3, 2)), (1, png(3, 2)))),
        "alpha-of-another-size": build(chunks=((1, png(2**15, 2**15, samples=b"")),)),
        "alpha-that-is-empty": build(chunks=((1, b""),)),
        "alpha-that-is-a-jpeg": build(chunks=((1, b"\xff\xd8\xff\xe0"),)),
        "exif-bomb": build(chunks=((129, zlib.compress(bytes(1 << 22), 9)),)),
        "xmp-that-is-not-deflated": build(chunks=((130, b"<x:xmpmeta/>"),)),
        "profile-of-two-streams": build(chunks=((131, zlib.compress(b"a") * 2),)),
        "exif-that-is-empty": build(chunks=((129, zlib.compress(b"")),)),
    }
    limits = {
        "pixels": build((2**15, 2**15, 0, 2**15, 1, 1)),
        "all-the-pixels-there-can-be": build((2**32 - 1, 2**32 - 1, 0, 2**32 - 1, 1, 1)),
        "a-line-of-pixels": build((2**32 - 1, 1, 0, 2**32 - 1, 1, 1)),
        "all-the-units-there-can-be": build((2**32 - 1, 2**32 - 1, 0, 1, 2**32 - 1, 2**32 - 1), (), table=b""),
    }
    foreign = {
        "empty": b"",
        "text": b"hello",
        "png": png(3, 2),
        "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        "gif": b"GIF89a\3\0\2\0",
        "webp": b"RIFF\x10\0\0\0WEBPVP8 ",
        "tiff": b"II*\0\x08\0\0\0",
        "zip": b"PK\3\4" + bytes(26),
        "zeros": bytes(1000),
    }
    newer = {
        "version-2": build(start=MAGIC + b"\x02"),
        "version-255": MAGIC + b"\xff",
        "reserved-flag": build(flags=0x80),
        "reserved-critical-chunk": build(chunks=((7, b"what may come"),)),
    }
    cases = {f"limit-{name}": Case(data, LimitExceeded) for name, data in limits.items()}
    cases |= {f"damaged-{name}": Case(data, DamagedFile) for name, data in damaged.items()}
    cases |= {f"foreign-{name}": Case(data, NotAVqFile) for name, data in foreign.items()}
    cases |= {f"newer-{name}": Case(data, UnsupportedFile) for name, data in newer.items()}
    return cases | {"unknown-model": Case(good, UnknownModel)}


def of_stored_pixels(file: VqFile, stride: int) -> dict[str, Case]:
    """Files whose units have maps; `stride` is that of the model. The first unit is wrong, the others are coded."""
    numbers = (file.width, file.height, file.quality, file.unit, file.rows, file.cols)
    heads = []
    for row in range(file.rows):
        for col in range(file.cols):
            sides = [
                min(-(-size // stride) - place * file.unit, file.unit)
                for size, place in ((file.height, row), (file.width, col))
            ]
            rows, columns = (-(-side // -(-file.unit // 8)) for side in sides)
            heads.append((rows - 1) << 2 | (columns - 1) << 5)
    right = min(file.width, file.unit * stride), min(file.height, file.unit * stride)

    def start(width: int, height: int, more: int = 0) -> bytes:
        return b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14 | more)

    def first(payload: bytes) -> bytes:
        others = [bytes([head]) + unit for head, unit in zip(heads[1:], file.units[1:], strict=True)]
        return build(numbers, (payload, *others), (), file.model_digest, flags=4)

    stored, mixed = bytes([heads[0] | 1]), bytes([heads[0] | 2])
    return {
        "stored-without-a-head": Case(first(b""), BadFile),
        "stored-in-the-reserved-mode": Case(first(bytes([heads[0] | 3]) + bytes(99)), BadFile),
        "stored-blocks-of-another-size": Case(first(bytes([(heads[0] ^ 4) | 1]) + start(*right)), BadFile),
        "stored-pixels-that-are-not-there": Case(first(stored), BadFile),
        "stored-pixels-of-another-size": Case(first(stored + start(right[0] + 1, right[1]) + bytes(99)), BadFile),
        "stored-bomb": Case(first(stored + start(2**14, 2**14) + bytes(99)), BadFile),
        "stored-pixels-with-alpha": Case(first(stored + start(*right, 1 << 28) + bytes(99)), BadFile),
        "stored-pixels-of-a-later-version": Case(first(stored + start(*right, 1 << 29) + bytes(99)), BadFile),
        "stored-pixels-that-end": Case(first(stored + start(*right)), BadFile),
        "stored-pixels-of-zeros": Case(first(stored + start(*right) + bytes(99)), VqError),
        "stored-pixels-of-ones": Case(first(stored + start(*right) + b"\xff" * 99), VqError),
        "stored-map-that-ends": Case(first(mixed), BadFile),
        "stored-map-of-coded-blocks": Case(first(mixed + bytes(99)), BadFile),
        "stored-map-of-stored-blocks": Case(first(mixed + b"\xff" * 99), BadFile),
        "stored-pixels-of-4-gigabytes": Case(first(mixed + b"\xfb" * 13 + varint(2**32 - 1)), BadFile),
    }


def of_a_model(file: VqFile, qualities: int, stride: int) -> dict[str, Case]:
    """Variants of a valid file with valid checksums: the faults can only be detected by decoding."""
    numbers = (file.width, file.height, file.quality, file.unit, file.rows, file.cols)
    width, height = file.width, file.height

    def changed(**change: object) -> bytes:
        other = dataclasses.replace(file, **change)
        fields = (other.width, other.height, other.quality, other.unit, other.rows, other.cols)
        return build(fields, other.units, () if other.alpha is None else ((1, other.alpha),), other.model_digest)

    def with_alpha(alpha: bytes) -> bytes:
        return build(numbers, file.units, ((1, alpha),), file.model_digest)

    def units(change: bytes) -> bytes:
        return changed(units=(change, *file.units[1:]))

    good = png(width, height)
    animation = (
        (b"acTL", struct.pack(">II", 2, 0)),
        (b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 1, 0, 0)),
    )
    other_header = (b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0))
    wrong = {
        "quality-beyond": changed(quality=qualities),
        "quality-of-32-bits": changed(quality=2**32 - 1),
        "unit-of-another-side": changed(unit=file.unit + 1),
        "picture-with-more-units": changed(width=width + 10_000),
        "a-unit-for-each-position": changed(unit=1, rows=2, cols=2, units=(b"",) * 4),
        "alpha-without-samples": with_alpha(png(width, height, samples=b"")),
        "alpha-with-too-few-samples": with_alpha(png(width, height, samples=zlib.compress(bytes(3)))),
        "alpha-that-is-cut": with_alpha(good[:-20]),
        "alpha-of-a-header-alone": with_alpha(good[:33]),
        "alpha-with-a-wrong-checksum": with_alpha(good[:-17] + b"x" + good[-16:]),
        "alpha-of-2-gigabytes": with_alpha(good[:33] + b"\x7f\xff\xff\xffIDAT"),
        "alpha-with-samples-that-are-not-deflated": with_alpha(png(width, height, samples=b"not deflated")),
    }
    rows = zlib.compress(bytes((width + 1) * height) + bytes(1 << 24), 9)
    right_or_wrong = {
        "unit-that-is-empty": units(b""),
        "all-units-empty": changed(units=(b"",) * len(file.units)),
        "unit-of-zeros": units(bytes(50)),
        "unit-of-ones": units(b"\xff" * 50),
        "unit-too-long": units(file.units[0] + b"and more"),
        "unit-cut": units(file.units[0][: len(file.units[0]) // 2]),
        "unit-of-another-place": units(file.units[-1]),
        "alpha-bomb-of-samples": with_alpha(png(width, height, samples=rows)),
        "alpha-bomb-of-texts": with_alpha(png(width, height, ((b"zTXt", b"a\0\0" + MEGABYTE),) * 3)),
        "alpha-bomb-of-a-profile": with_alpha(png(width, height, ((b"iCCP", b"a\0\0" + MEGABYTE),))),
        "alpha-bomb-of-a-second-header": with_alpha(png(width, height, (other_header,))),
        "alpha-with-an-animation": with_alpha(png(width, height, (*animation, (b"fdAT", bytes(4) + MEGABYTE)))),
        "alpha-with-an-animation-of-nothing": with_alpha(png(width, height, ((b"acTL", bytes(8)),))),
        "alpha-with-a-broken-text": with_alpha(png(width, height, ((b"iTXt", b"\xff"), (b"tEXt", b"\xff\0\xff")))),
    }
    cases = {name: Case(data, BadFile) for name, data in wrong.items()}
    cases |= {name: Case(data, VqError) for name, data in right_or_wrong.items()}
    return cases | of_stored_pixels(file, stride)


def stored() -> dict[str, Case]:
    """The files in the folder, by file name."""
    paper = unpack(SOURCE.read_bytes())
    cases = without_a_model() | {f"paper-{name}": case for name, case in of_a_model(paper, 1, 4).items()}
    return {f"{name}.vq": case for name, case in cases.items()}


def of_stand_in(file: VqFile, qualities: int, stride: int) -> dict[str, Case]:
    """The files of `of_a_model`, and bombs that are too large to be stored."""
    alpha = png(file.width, file.height, ((b"zTXt", b"a\0\0" + MEGABYTE),) * 150)
    larger = {
        "alpha-bomb-of-many-texts": dataclasses.replace(file, alpha=alpha),
        "unit-of-a-megabyte": dataclasses.replace(file, units=(bytes(1 << 20), *file.units[1:])),
        "unit-of-a-random-megabyte": dataclasses.replace(
            file, units=(np.random.default_rng(0).bytes(1 << 20), *file.units[1:])
        ),
    }
    frame = (file.width, file.height, file.quality, file.unit, file.rows, file.cols)
    cases = of_a_model(file, qualities, stride)
    for name, other in larger.items():
        cases[name] = Case(build(frame, other.units, ((1, other.alpha or b""),), other.model_digest), VqError)
    return cases


def main() -> None:
    """Write all files to the folder."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, case in stored().items():
        (FOLDER / name).write_bytes(case.data)


if __name__ == "__main__":
    main()
