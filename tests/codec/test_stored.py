"""Stored pixels in the codec: the choice, exact pixels, and every other operation on files that have them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import synthetic
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.codec import stored as choice
from vqcodec.codec.codec import Codec
from vqcodec.codec.content import (
    Content,
    Mask,
    around,
    coded_positions,
    filled,
    map_around,
    payloads_of,
    read_codes,
    read_part,
    unit_bounds,
)
from vqcodec.codec.describe import describe
from vqcodec.codec.encode_options import EncodeOptions, compress
from vqcodec.codec.partial import Region, decompress_region, salvage
from vqcodec.codec.rate_control import Target, compress_to
from vqcodec.errors import DamagedFile, UsageError, VqError
from vqcodec.format import container
from vqcodec.format.units import block_side
from vqcodec.model.store import Model
from vqcodec.picture.metadata import Keep
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.ssimulacra2 import ssimulacra2

SIZE = (75, 90)  # pixels: 10 x 12 positions, 3 x 3 units of the tiny models, blocks of one position


def half_drawn(height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    """A picture whose left half is a drawing of few colours, and whose right half is texture."""
    pixels = synthetic(height, width)
    rows, columns = np.mgrid[:height, : width // 2]
    pixels[:, : width // 2] = np.where((rows // 5 + columns // 7) % 2, 255, 30)[:, :, None]
    return pixels


def with_mask(codec: Codec, pixels: np.ndarray, mask: Mask, quality: int = 2) -> tuple[bytes, Content]:
    """A file in which the positions of the mask are stored."""
    content = codec.with_stored(codec.to_codes(pixels, quality), pixels, mask, 0)
    return codec.pack(Picture(pixels, "RGB"), content, quality), content


def by_pixel(mask: Mask, size: tuple[int, int] = SIZE, stride: int = 8) -> Mask:
    return mask.repeat(stride, 0).repeat(stride, 1)[: size[0], : size[1]]


masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((10, 12)) < (seed % 9) / 8)


@given(masks)
def test_stored_pixels_are_exact_and_the_file_reads_to_its_content(patch_model: Model, mask: Mask) -> None:
    codec, pixels = Codec(patch_model), half_drawn()
    data, content = with_mask(codec, pixels, mask)
    file = container.unpack(data)
    assert file.stored == mask.any()
    found = read_part(file, patch_model, dict(enumerate(file.units)))
    assert np.array_equal(found.codes, content.codes)
    assert np.array_equal(found.coded, content.coded)
    assert np.array_equal(found.stored, mask)
    decoded = codec.decompress(data).pixels
    assert np.array_equal(decoded[by_pixel(mask)], pixels[by_pixel(mask)])


@given(masks)
def test_positions_with_codes_are_those_not_stored_and_their_neighbours(mask: Mask) -> None:
    near = np.zeros_like(mask)
    for row, column in np.argwhere(~mask):
        near[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
    assert np.array_equal(around(~mask), near)
    for side, unit in ((1, 4), (2, 12)):
        blocks = np.kron(mask, np.ones((side, side), bool))
        expected = around(~blocks)
        for top in range(0, blocks.shape[0], unit):
            for left in range(0, blocks.shape[1], unit):
                area = (top, min(top + unit, blocks.shape[0]), left, min(left + unit, blocks.shape[1]))
                found = coded_positions(map_around(blocks, area, side), area, side)
                assert np.array_equal(found, expected[top : area[1], left : area[3]])


def test_a_drawing_is_stored_and_texture_is_not(fine_model: Model) -> None:
    content = Codec(fine_model).encode(half_drawn(), 2)
    left, right = content.stored[:, :4], content.stored[:, 7:]  # away from the border between both
    assert left.mean() > 0.9
    assert right.mean() < 0.1


def test_a_smaller_lambda_stores_more_and_in_the_end_everything(fine_model: Model) -> None:
    codec, pixels = Codec(fine_model), synthetic(*SIZE)
    shares = [codec.encode(pixels, 2, None, 0, scale).stored.mean() for scale in (1.0, 0.1, 0.01, 1e-5)]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] == 1


def test_the_choice_lowers_the_cost_of_the_whole_file(fine_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, pixels = Codec(fine_model), half_drawn()
    networks = codec._networks(1)

    def cost() -> float:
        data = codec.compress(Picture(pixels, "RGB"), 1, effort=0)
        content = codec.encode(pixels, 1, None, 0)
        errors = networks.errors(filled(content.codes, content.coded), pixels)
        return float(errors[~content.stored].sum()) + networks.price * 8 * len(data)

    with_stored = cost()
    monkeypatch.setattr(choice, "MOST_BPP", -1.0)
    assert with_stored < 0.9 * cost()


@pytest.mark.parametrize("threads", [2, 5])
def test_the_file_does_not_depend_on_the_number_of_threads(fine_model: Model, threads: int) -> None:
    picture = Picture(half_drawn(), "RGB")
    assert Codec(fine_model, threads=threads).compress(picture) == Codec(fine_model, threads=1).compress(picture)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["RGB", "L"]), st.booleans(), st.integers(0, 99))
def test_lossless_pictures_come_back_bit_for_bit(
    patch_model: Model, height: int, width: int, mode: str, alpha: bool, seed: int
) -> None:
    numbers = np.random.default_rng(seed)
    pixels = numbers.integers(0, 256, (height, width, 3)).astype(np.uint8)
    if mode == "L":
        pixels = np.repeat(pixels[:, :, :1], 3, 2)
    clear = numbers.integers(0, 256, (height, width)).astype(np.uint8) if alpha else None
    source = Picture(pixels, mode, clear)  # type: ignore[arg-type]
    encoded = compress(Codec(patch_model), source, EncodeOptions(lossless=True), measure=True)
    found = Codec(patch_model).decompress(encoded.data)
    assert np.array_equal(found.pixels, pixels)
    assert found.mode == mode
    assert found.alpha is None if clear is None else np.array_equal(found.alpha, clear)
    assert encoded.psnr == np.inf
    assert describe(encoded.data).stored == 1


def test_lossless_works_for_every_family_of_models(model: Model) -> None:
    source = Picture(synthetic(50, 70), "RGB")
    data = compress(Codec(model), source, EncodeOptions(lossless=True)).data
    assert np.array_equal(Codec(model).decompress(data).pixels, source.pixels)


def test_a_lossless_file_needs_neither_networks_nor_prior(patch_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Picture(synthetic(40, 50), "RGB")
    data = compress(Codec(patch_model), source, EncodeOptions(lossless=True)).data
    reader = Codec(patch_model)
    monkeypatch.setattr(Codec, "network", None)
    monkeypatch.setattr(Codec, "prior", None)
    assert np.array_equal(reader.decompress(data).pixels, source.pixels)


def test_lossless_and_a_quality_or_target_are_refused() -> None:
    for options in ({"quality": 1}, {"psnr": 30.0}, {"size": 99}, {"bpp": 1.0}, {"ssimulacra2": 50.0}):
        with pytest.raises(UsageError, match="--lossless"):
            EncodeOptions(lossless=True, **options)  # type: ignore[arg-type]


def test_hidden_colours_are_kept_without_loss() -> None:
    keep = Keep(hidden_colours=False)
    assert EncodeOptions(lossless=True, keep=keep).keep.hidden_colours
    assert not EncodeOptions(keep=keep).keep.hidden_colours


# Targets


@pytest.mark.parametrize(("kind", "value"), [("psnr", 55.0), ("ssimulacra2", 97.0), ("psnr", 200.0)])
def test_targets_beyond_the_codes_are_reached_by_storing(fine_model: Model, kind: str, value: float) -> None:
    codec, source = Codec(fine_model), Picture(half_drawn(), "RGB")
    found = compress_to(codec, source, Target(kind, value), None, 0)  # type: ignore[arg-type]
    figure = {"psnr": psnr, "ssimulacra2": ssimulacra2}[kind](source.pixels, codec.decompress(found.data).pixels)
    assert figure >= value
    lossless = compress(codec, source, EncodeOptions(lossless=True, effort=0)).data
    assert len(found.data) <= len(lossless)


def test_a_large_size_is_a_file_without_loss(fine_model: Model) -> None:
    codec, source = Codec(fine_model), Picture(synthetic(*SIZE), "RGB")
    found = compress_to(codec, source, Target("bytes", 10**6), None, 0)
    assert np.array_equal(codec.decompress(found.data).pixels, source.pixels)
    assert "below the target" in found.notices[0]


# Parts of files


@given(masks, st.data())
def test_regions_are_parts_of_the_picture(patch_model: Model, mask: Mask, draw: st.DataObject) -> None:
    codec, pixels = Codec(patch_model), half_drawn()
    data, _ = with_mask(codec, pixels, mask)
    left, top = draw.draw(st.integers(0, SIZE[1] - 1)), draw.draw(st.integers(0, SIZE[0] - 1))
    width, height = draw.draw(st.integers(1, SIZE[1] - left)), draw.draw(st.integers(1, SIZE[0] - top))
    found = decompress_region(codec, data, Region(left, top, width, height)).pixels
    place = slice(top, top + height), slice(left, left + width)
    inside = by_pixel(mask)[place]
    assert np.array_equal(found[inside], pixels[place][inside])
    whole = codec.decompress(data).pixels[place]
    # The nearest code of a position without codes may lie in a unit that the region does not need.
    assert np.abs(found.astype(int) - whole)[by_pixel(around(~mask))[place]].max(initial=0) <= 1


def test_salvage_keeps_what_is_stored_in_other_units(patch_model: Model) -> None:
    codec, pixels = Codec(patch_model), half_drawn()
    mask = np.zeros((10, 12), bool)
    mask[:, :8] = True
    data, _ = with_mask(codec, pixels, mask)
    header = container.read_header(data)
    broken = bytearray(data)
    broken[header.offsets[4] + 1] ^= 1
    found = salvage(codec, bytes(broken))
    assert len(found.damage) == 1
    top, bottom, left, right = unit_bounds(header, patch_model)[4]
    intact = by_pixel(mask)
    intact[8 * top : 8 * bottom, 8 * left : 8 * right] = False
    assert np.array_equal(found.picture.pixels[intact], pixels[intact])
    with pytest.raises(DamagedFile):
        codec.decompress(bytes(broken))


def test_units_can_be_read_one_by_one(patch_model: Model) -> None:
    pixels, mask = half_drawn(), np.indices((10, 12)).sum(0) % 3 == 0
    data, content = with_mask(Codec(patch_model), pixels, mask)
    file = container.unpack(data)
    for index, (top, bottom, left, right) in enumerate(unit_bounds(file, patch_model)):
        part = read_part(file, patch_model, {index: file.units[index]})
        place = slice(top, bottom), slice(left, right)
        assert np.array_equal(part.codes[:, top:bottom, left:right], content.codes[:, top:bottom, left:right])
        assert np.array_equal(part.coded[place], content.coded[place])
        assert part.coded.sum() == content.coded[place].sum()


def test_there_are_no_codes_to_export(patch_model: Model) -> None:
    mask = np.ones((10, 12), bool)
    data, _ = with_mask(Codec(patch_model), half_drawn(), mask)
    with pytest.raises(UsageError, match="100% of the picture is stored without loss and has no codes"):
        read_codes(container.unpack(data), patch_model)


@given(masks)
def test_info_gives_the_share_of_blocks(patch_model: Model, mask: Mask) -> None:
    data, content = with_mask(Codec(patch_model), half_drawn(), mask)
    found = describe(data)
    assert found.stored == pytest.approx(mask.mean())
    assert found.stored_bytes == sum(map(len, content.streams.values()))
    assert describe(data[: len(data) // 2], partial=True).stored <= 1


# Damage


def test_a_map_of_another_size_is_refused(patch_model: Model) -> None:
    codec = Codec(patch_model)
    data, _ = with_mask(codec, half_drawn(), np.eye(10, 12, dtype=bool))
    file = container.unpack(data)
    swapped = dataclasses.replace(file, units=(*file.units[:-1], file.units[0]))
    with pytest.raises(DamagedFile, match="map"):
        codec.decompress(container.pack(swapped))


@given(st.integers(0, 8), st.integers(0, 10**6), st.integers(1, 255))
def test_any_change_of_a_payload_is_an_error_or_a_picture(patch_model: Model, unit: int, at: int, bits: int) -> None:
    codec = Codec(patch_model)
    data, _ = with_mask(codec, half_drawn(), np.indices((10, 12)).sum(0) % 2 == 0)
    file = container.unpack(data)
    payload = bytearray(file.units[unit])
    payload[at % len(payload)] ^= bits
    hostile = dataclasses.replace(file, units=(*file.units[:unit], bytes(payload), *file.units[unit + 1 :]))
    try:
        found = codec.decompress(container.pack(hostile))
    except VqError:
        return
    assert found.pixels.shape == (*SIZE, 3)


def test_a_library_that_does_not_keep_pixels_is_noticed(patch_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, pixels = Codec(patch_model), half_drawn()
    mask = np.ones((10, 12), bool)
    content = codec.with_stored(codec.to_codes(pixels, 1), pixels // 2, mask, 0)
    with pytest.raises(VqError, match="nothing was saved"):
        codec.pack(Picture(pixels, "RGB"), content, 1)


def test_grey_pictures_stay_grey_whatever_is_stored(patch_model: Model) -> None:
    codec, pixels = Codec(patch_model), half_drawn()
    content = codec.with_stored(codec.to_codes(pixels, 1), pixels, np.ones((10, 12), bool), 0)
    found = codec.decompress(codec.pack(Picture(pixels, "L"), content, 1)).pixels
    assert (found[:, :, 0] == found[:, :, 1]).all()
    assert (found[:, :, 1] == found[:, :, 2]).all()


def test_nothing_is_stored_where_pillow_lacks_webp(fine_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqcodec.picture.lossless.features.check", lambda name: False)
    codec, source = Codec(fine_model), Picture(half_drawn(), "RGB")
    assert not container.unpack(codec.compress(source)).stored
    with pytest.raises(UsageError, match="WebP"):
        compress(codec, source, EncodeOptions(lossless=True))


def test_files_without_stored_blocks_have_no_maps(patch_model: Model) -> None:
    codec, pixels = Codec(patch_model), synthetic(*SIZE)
    codes = codec.to_codes(pixels, 1)
    payloads = payloads_of(Content.of(codes), patch_model.prior(0), patch_model.config.unit)
    file = container.unpack(codec.pack(Picture(pixels, "RGB"), Content.of(codes), 1))
    assert file.units == tuple(payloads)
    assert not file.stored
    assert block_side(patch_model.config.unit) == 1
