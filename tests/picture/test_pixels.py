"""Pixels without loss: every picture comes back, the first bytes hold the size, damage is an error."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import synthetic
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.errors import DamagedFile, UnsupportedFile
from vqcodec.picture import lossless
from vqcodec.picture.lossless import BY_EFFORT, FAST, FASTEST, Setting, is_available, pack_pixels, unpack_pixels

# A lossless WebP of one white pixel, in the words of RFC 9649: signature, 14 + 14 bits of size, no alpha.
WHITE = bytes.fromhex("2f00000000")
SETTINGS = [FASTEST, *BY_EFFORT]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from(SETTINGS), st.booleans())
def test_any_pixels_come_back(height: int, width: int, seed: int, setting: Setting, few: bool) -> None:
    pixels = np.random.default_rng(seed).integers(0, 3 if few else 256, (height, width, 3)).astype(np.uint8)
    assert np.array_equal(unpack_pixels(pack_pixels(pixels, setting), height, width), pixels)


def test_the_bitstream_starts_with_its_size_and_has_no_file_header() -> None:
    assert pack_pixels(np.full((1, 1, 3), 255, np.uint8), FAST)[:5] == WHITE
    payload = pack_pixels(synthetic(300, 17), FAST)
    assert payload[:5] == bytes([0x2F]) + (16 | 299 << 14).to_bytes(4, "little")


def test_more_effort_gives_no_larger_files() -> None:
    pixels = np.kron(np.random.default_rng(3).integers(0, 2, (60, 60, 1)), np.ones((3, 3, 3))).astype(np.uint8) * 200
    sizes = [len(pack_pixels(pixels, setting)) for setting in (FASTEST, *BY_EFFORT)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


@pytest.mark.parametrize("size", [(17, 300), (300, 18), (1, 1)])
def test_another_size_is_refused_before_it_is_decoded(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    payload = pack_pixels(synthetic(300, 17), FAST)
    monkeypatch.setattr(lossless.Image, "open", None)
    with pytest.raises(DamagedFile, match="size"):
        unpack_pixels(payload, *size)


@given(st.data())
def test_damaged_bitstreams_are_errors_or_pictures_of_that_size(draw: st.DataObject) -> None:
    payload = bytearray(pack_pixels(synthetic(24, 31), FAST))
    cut = draw.draw(st.integers(0, len(payload)))
    place = draw.draw(st.integers(0, len(payload) - 1))
    payload[place] ^= draw.draw(st.integers(1, 255))
    for data in (bytes(payload), bytes(payload[:cut])):
        try:
            found = unpack_pixels(data, 24, 31)
        except DamagedFile:
            continue
        assert found.shape == (24, 31, 3)


def test_without_webp_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = pack_pixels(synthetic(5, 5), FAST)
    monkeypatch.setattr(lossless.features, "check", lambda name: False)
    assert not is_available()
    for action in (lambda: pack_pixels(synthetic(5, 5), FAST), lambda: unpack_pixels(payload, 5, 5)):
        with pytest.raises(UnsupportedFile, match="pip install"):
            action()
