"""The .vq container: packing and unpacking are inverse, and every invalid file raises `BadFile`."""

from __future__ import annotations

import dataclasses
import io
import struct
import tracemalloc
from typing import Any

import pytest
from containers import TINY, build
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vqcodec.errors import BadFile, DamagedFile, LimitExceeded, NotAVqFile, UnsupportedFile
from vqcodec.format.container import (
    VqFile,
    alpha_payload,
    pack,
    read_header,
    unit_payload,
    unpack,
)
from vqcodec.format.magic import MAGIC
from vqcodec.limits import Limits


def png(width: int, height: int, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), 7).save(buffer, "PNG")
    return buffer.getvalue()


# 300 x 200 pixels: both sides take two bytes, so that flips also hit continuation bits.
GRID = VqFile(b"modelABC", 300, 200, "RGB", 1, 16, 2, 2, (b"first", b"secon", b"", b"4" * 130), png(300, 200))

TINY_BYTES = bytes.fromhex(
    "895651 0a 01 0001020304050607 01"  # magic, version, digest, flags
    "03 02 05 40 01 01 03"  # width, height, quality, unit, rows, cols, length of the unit
    "2182d618"  # CRC-32 of the above
    "3ab243cc 616263"  # CRC-32 of (header checksum, 0, payload), payload
)


@st.composite
def files(draw: st.DrawFn) -> VqFile:
    rows, cols = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    unit = draw(st.integers(1, 300))
    width, height = (draw(st.integers((n - 1) * unit + 1, 11_000)) for n in (cols, rows))
    return VqFile(
        model_digest=draw(st.binary(min_size=8, max_size=8)),
        width=width,
        height=height,
        mode=draw(st.sampled_from(["RGB", "L"])),
        quality=draw(st.integers(0, 2**32 - 1)),
        unit=unit,
        rows=rows,
        cols=cols,
        units=tuple(draw(st.lists(st.binary(max_size=200), min_size=rows * cols, max_size=rows * cols))),
        alpha=draw(st.sampled_from([None, png(1, 1)[:16] + struct.pack(">II", width, height) + png(1, 1)[24:]])),
        postfilter=draw(st.none() | st.binary(max_size=20)),
    )


# --- round trips ----------------------------------------------------------------------------------


@given(files())
def test_round_trip(file: VqFile) -> None:
    data = pack(file)
    assert unpack(data) == file
    header = read_header(data)
    assert header.total_bytes == len(data)
    assert header.unit_lengths == tuple(map(len, file.units))
    assert header.alpha_bytes == len(file.alpha or b"")
    assert header.postfilter_bytes == len(file.postfilter or b"")
    parts = [4 + n for n in (*header.unit_lengths, *header.chunk_lengths)]
    assert header.header_bytes + sum(parts) == len(data)
    assert tuple(unit_payload(data, header, i) for i in range(len(file.units))) == file.units
    assert alpha_payload(data, header) == file.alpha


def test_golden_bytes() -> None:
    assert pack(TINY) == TINY_BYTES
    assert unpack(TINY_BYTES) == TINY
    assert build(flags=1) == TINY_BYTES  # the builder of this test follows the same layout


@pytest.mark.parametrize("length", [0, 127, 128, 2**14 - 1])
def test_fixed_cost_of_a_small_picture(length: int) -> None:
    file = VqFile(bytes(8), 2**14 - 1, 2**14 - 1, "RGB", 127, 127, 1, 1, (bytes(length),))
    assert len(pack(file)) - length <= 32


def test_unknown_ancillary_chunk_is_skipped_but_checked() -> None:
    data = build(chunks=((200, b"later"), (1, png(3, 2)), (200, b"again")))
    file = unpack(data)
    assert file.alpha == png(3, 2)
    assert read_header(data).chunk_types == (200, 1, 200)
    at = data.index(b"later")
    with pytest.raises(DamagedFile, match="chunk of type 200"):
        unpack(data[:at] + b"LATER" + data[at + 5 :])


@pytest.mark.parametrize(
    "change",
    [
        {"model_digest": b"short"},
        {"mode": "RGBA"},
        {"width": 0},
        {"height": -1},
        {"width": 2**32},
        {"quality": -1},
        {"unit": 0},
        {"rows": 2},
        {"rows": 2, "unit": 1},
        {"rows": 0, "units": ()},
        {"units": ()},
        {"alpha": b""},
        {"alpha": png(2, 3)},
        {"alpha": png(3, 2, "RGB")},
    ],
)
def test_pack_refuses_invalid_fields(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        pack(dataclasses.replace(TINY, **change))


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [TINY, GRID], ids=["tiny", "grid"])
def test_every_truncation_is_refused(file: VqFile) -> None:
    data = pack(file)
    for length in range(len(data)):
        with pytest.raises(BadFile):
            unpack(data[:length])
        with pytest.raises(BadFile):
            read_header(data[:length])


@pytest.mark.parametrize("file", [TINY, GRID], ids=["tiny", "grid"])
def test_every_flipped_bit_is_refused(file: VqFile) -> None:
    data = bytearray(pack(file))
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadFile) as caught:
            unpack(bytes(data))
        assert "\n" not in str(caught.value)
        data[bit // 8] ^= 1 << bit % 8
    assert unpack(bytes(data)) == file


@given(files(), st.data())
def test_any_splice_is_refused(file: VqFile, draw: st.DataObject) -> None:
    data = pack(file)
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, len(data)))
    changed = data[:start] + draw.draw(st.binary(max_size=20)) + data[end:]
    if changed != data:
        with pytest.raises(BadFile):
            unpack(changed)


def test_units_out_of_place_are_noticed() -> None:
    whole = build((300, 200, 1, 16, 2, 1), (b"first", b"secon"))
    first, second = (part for part in (whole[-18:-9], whole[-9:]))
    with pytest.raises(DamagedFile, match="unit 0"):
        unpack(whole[:-18] + second + first)
    other = build((300, 200, 2, 16, 2, 1), (b"other", b"secon"))
    with pytest.raises(DamagedFile, match=r"unit 1 \(row 1, column 0\)"):
        unpack(whole[:-9] + other[-9:])


def test_sound_units_of_a_damaged_file_can_be_read() -> None:
    data = bytearray(pack(GRID))
    data[data.index(b"secon")] ^= 1
    header = read_header(bytes(data))
    assert unit_payload(bytes(data), header, 0) == b"first"
    assert alpha_payload(bytes(data), header) == GRID.alpha
    with pytest.raises(DamagedFile, match=r"unit 1 \(row 0, column 1\)"):
        unit_payload(bytes(data), header, 1)


def test_units_before_a_cut_can_be_read() -> None:
    data = pack(GRID)
    cut = data[: data.index(b"4444") + 5]
    with pytest.raises(DamagedFile, match="truncated"):
        read_header(cut)
    header = read_header(cut, partial=True)
    assert [unit_payload(cut, header, i) for i in range(3)] == [b"first", b"secon", b""]
    for read in (lambda: unit_payload(cut, header, 3), lambda: alpha_payload(cut, header)):
        with pytest.raises(DamagedFile, match="cut off"):
            read()
    with pytest.raises(IndexError):
        unit_payload(data, header, 4)
    with pytest.raises(IndexError):
        unit_payload(data, header, -1)


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(DamagedFile, match="2 bytes follow"):
        unpack(TINY_BYTES + b"\0\0")


# --- hostile files, with right checksums ----------------------------------------------------------


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    with pytest.raises(BadFile):
        unpack(data)


@given(st.binary(max_size=100))
def test_random_bytes_after_the_magic(tail: bytes) -> None:
    with pytest.raises(BadFile):
        unpack(MAGIC + b"\x01" + tail)


@given(
    st.tuples(*[st.one_of(st.integers(0, 5), st.integers(0, 2**32 - 1))] * 6),
    st.lists(st.binary(max_size=5), max_size=6),
    st.lists(st.tuples(st.integers(0, 255), st.one_of(st.binary(max_size=5), st.just(png(3, 2)))), max_size=3),
    st.one_of(st.none(), st.integers(0, 255)),
)
def test_random_fields_with_right_checksums(
    numbers: tuple[int, ...], units: list[bytes], chunks: list[tuple[int, bytes]], flags: int | None
) -> None:
    data = build(numbers, tuple(units), tuple(chunks), flags)
    try:
        file = unpack(data)
    except BadFile:
        return
    assert file.units == tuple(units)
    assert (file.width, file.height, file.quality, file.unit, file.rows, file.cols) == numbers
    if all(kind == 1 for kind, _ in chunks):
        assert pack(file) == data  # the encoding of a file is unique


@given(st.binary(max_size=12), st.integers(0, 3))
def test_random_tables_with_right_checksums(table: bytes, flags: int) -> None:
    data = build(table=table, flags=flags)
    try:
        file = unpack(data)
    except BadFile:
        return
    assert pack(file) == data


@pytest.mark.parametrize("table", [b"\x83\x00", b"\x83\x80\x00", b"\xff\xff\xff\xff\x10", b"\xff" * 6])
def test_malformed_varints(table: bytes) -> None:
    with pytest.raises(DamagedFile, match="malformed"):
        unpack(build(table=table))


def test_largest_varint() -> None:
    with pytest.raises(DamagedFile, match=r"truncated: \d+ of 4294967\d+ bytes"):
        unpack(build(table=b"\xff\xff\xff\xff\x0f"))


@pytest.mark.parametrize(
    ("numbers", "limit"),
    [
        ((2**15, 2**14, 5, 2**15, 1, 1), "pixels=536870912"),
        ((2**20 + 1, 2, 5, 2**15, 1, 1), "side=1048577"),
        ((1, 2**32 - 1, 5, 2**15, 1, 1), "pixels=4294967295"),
        ((2**32 - 1, 2**32 - 1, 5, 1, 2**32 - 1, 2**32 - 1), f"units={(2**32 - 1) ** 2}"),
    ],
)
def test_limits(numbers: tuple[int, ...], limit: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded, match=limit):
            unpack(build(numbers))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_limits_are_inclusive_and_can_be_raised() -> None:
    assert unpack(build((2**14, 2**13, 5, 2**14, 1, 1))).width == 2**14
    assert unpack(build((2**15, 2**14, 5, 2**15, 1, 1)), Limits(pixels=2**29)).width == 2**15
    with pytest.raises(LimitExceeded, match="pixels=6"):
        unpack(TINY_BYTES, Limits(pixels=5))


def test_declared_units_that_are_missing_cost_no_memory() -> None:
    data = build((2**14, 2**14, 5, 1, 2**9, 2**9))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFile, match="truncated"):
            read_header(data, partial=True)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "numbers",
    [(0, 2, 5, 64, 1, 1), (3, 2, 5, 0, 1, 1), (3, 2, 5, 64, 0, 1), (3, 2, 5, 64, 2, 1), (3, 2, 5, 1, 1, 4)],
)
def test_contradictions(numbers: tuple[int, ...]) -> None:
    with pytest.raises(DamagedFile, match=r"is below 1|too many for 3 x 2 pixels"):
        unpack(build(numbers, (b"",) * 4))


def test_chunks() -> None:
    with pytest.raises(DamagedFile, match="more than one alpha"):
        unpack(build(chunks=((1, png(3, 2)), (1, png(3, 2)))))
    with pytest.raises(UnsupportedFile, match=r"please upgrade \(a chunk of type 7\)"):
        unpack(build(chunks=((7, b""),)))
    with pytest.raises(DamagedFile, match="declares 0 chunks"):
        unpack(build(table=b"\x03\x00", flags=2))
    with pytest.raises(DamagedFile, match="declares 256 chunks"):
        unpack(build(table=b"\x03\x80\x02", flags=2))
    with pytest.raises(DamagedFile, match="alpha channel is not a PNG of mode L and the same size"):
        unpack(build(chunks=((1, png(4, 2)),)))
    with pytest.raises(DamagedFile, match="alpha"):
        unpack(build(chunks=((1, b""),)))


# --- other formats and other versions -------------------------------------------------------------


def test_newer_version() -> None:
    for data in (MAGIC + b"\x02", MAGIC + b"\x02 whatever a later version may write"):
        with pytest.raises(UnsupportedFile, match="newer version of vqcodec, please upgrade"):
            unpack(data)
    with pytest.raises(DamagedFile, match="version 0"):
        unpack(MAGIC + b"\x00" + TINY_BYTES[5:])


@pytest.mark.parametrize("bit", range(3, 8))
def test_reserved_flags(bit: int) -> None:
    with pytest.raises(UnsupportedFile, match="upgrade"):
        unpack(build(flags=1 << bit))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (png(1, 1), "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"RIFF\0\0\0\0WEBP", "WebP"),
        (b"hello", "not a .vq file"),
    ],
)
def test_other_formats_are_named(data: bytes, words: str) -> None:
    with pytest.raises(NotAVqFile, match=words):
        unpack(data)


@pytest.mark.parametrize(
    "data",
    [
        TINY_BYTES.replace(b"\n", b"\r\n"),
        TINY_BYTES.replace(b"\n", b"\r"),
        bytes(byte & 127 for byte in TINY_BYTES),
        TINY_BYTES.decode("utf-8", "replace").encode(),
    ],
)
def test_text_mode_transfer_is_named(data: bytes) -> None:
    with pytest.raises(DamagedFile, match=r"as text .* transfer it again as binary"):
        unpack(data)
