"""The post-filter: its weights are fitted to a picture, take a few bytes, and never make a picture worse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import CONV, FINE_FILTERED, PATCH, make_model, synthetic
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.codec.codec import Codec
from vqcodec.codec.content import Content
from vqcodec.codec.partial import Region, decompress_region, salvage
from vqcodec.codec.rate_control import Target, compress_to
from vqcodec.coding.filter_weights import MAX_EXPONENT, MAX_NUMBER, Weights, pack_weights, unpack_weights
from vqcodec.errors import DamagedFile, ModelError
from vqcodec.format import container
from vqcodec.model.config import ModelConfig
from vqcodec.model.store import Model
from vqcodec.nn import tiled
from vqcodec.nn.postfilter import REACH, Postfilter, padded
from vqcodec.nn.weights import open_network
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture

pytestmark = pytest.mark.usefixtures("codes_only")

# --- weights and bytes ----------------------------------------------------------------------------

numbers = st.integers(-MAX_NUMBER, MAX_NUMBER) | st.integers(-5, 5)


@given(st.lists(numbers, min_size=1, max_size=40), st.integers(0, MAX_EXPONENT))
def test_weights_come_back(values: list[int], exponent: int) -> None:
    weights = Weights(tuple(values), exponent)
    payload = pack_weights(weights)
    assert unpack_weights(payload, len(values)) == weights
    assert weights.values == tuple(value / 2**exponent for value in values)
    for count in {1, len(values) - 1, len(values) + 1} - {0, len(values)}:
        with pytest.raises(DamagedFile):
            unpack_weights(payload, count + 8 * (count > len(values)))  # the last byte may hold a few zeros more


@pytest.mark.parametrize(
    ("values", "exponent", "payload"),
    [
        ((0,), 0, "00 80"),
        ((0, 1, -1, 2), 6, "60 a6 40"),  # 1, 010, 011, 00100
        ((5, -7, 9, 8), 9, "93 45 66 57"),  # order 3: 17, 22, 25, 23, each after a zero
        ((MAX_NUMBER, -MAX_NUMBER), 15, None),
    ],
)
def test_bytes_of_weights_are_part_of_the_format(values: tuple[int, ...], exponent: int, payload: str | None) -> None:
    found = pack_weights(Weights(values, exponent))
    if payload is not None:
        assert found.hex(" ") == payload
    assert unpack_weights(found, len(values)) == Weights(values, exponent)


@pytest.mark.parametrize("weights", [Weights((0,), -1), Weights((0,), 16), Weights((MAX_NUMBER + 1,), 3)])
def test_weights_out_of_range_are_not_written(weights: Weights) -> None:
    with pytest.raises(ValueError, match="exponent"):
        pack_weights(weights)


@given(st.binary(max_size=40), st.integers(1, 20))
def test_a_payload_is_the_only_encoding_of_its_weights_or_is_refused(payload: bytes, count: int) -> None:
    try:
        weights = unpack_weights(payload, count)
    except DamagedFile:
        return
    assert pack_weights(weights) == payload
    assert len(weights.numbers) == count


def test_a_long_payload_is_refused_before_it_is_read() -> None:
    with pytest.raises(DamagedFile, match="1000000 bytes cannot be the weights"):
        unpack_weights(bytes(1_000_000), 16)


# --- the filter -----------------------------------------------------------------------------------


def random_filter(count: int = 4, seed: int = 0) -> Postfilter:
    return Postfilter((np.random.default_rng(seed).normal(size=(count, 3, 3, 5, 5)) / 20).astype(np.float32))


def test_the_response_is_the_sum_over_pixels_and_channels() -> None:
    postfilter, x = random_filter(), np.random.default_rng(1).uniform(0, 255, (9, 21, 3)).astype(np.float32)
    weights = (0.5, -1.0, 0.0, 2.0)
    y = postfilter.apply(x, weights)
    assert y.shape == x.shape
    kernel = np.tensordot(weights, postfilter.kernels, 1).transpose(0, 2, 3, 1)  # [output, height, width, input]
    np.testing.assert_allclose(y[4, 3], x[4, 3] + (kernel * (x[2:7, 1:6] - 127.5)).sum((1, 2, 3)), atol=1e-3)
    # At the edge the outermost pixels are repeated.
    around = np.pad(x - 127.5, ((2, 2), (2, 2), (0, 0)), mode="edge")
    for row, column in ((0, 0), (8, 20), (3, 16)):
        inner = around[row : row + 5, column : column + 5]
        expected = x[row, column] + (kernel * inner).sum((1, 2, 3))
        np.testing.assert_allclose(y[row, column], expected, atol=1e-3)
    np.testing.assert_allclose(postfilter.apply(x, (0.0,) * 4), x, atol=1e-4)


@pytest.mark.parametrize("step", [1, 3])
def test_the_normal_equations_give_the_error_of_any_weights(step: int) -> None:
    postfilter, rng = random_filter(), np.random.default_rng(2)
    decoded, pixels = rng.uniform(0, 255, (24, 30, 3)).astype(np.float32), rng.integers(0, 256, (24, 30, 3), np.uint8)
    gram, correlation = postfilter.normal_equations(padded(decoded), pixels, step)
    for weights in ((0.3, 0.1, -0.2, 0.4), (0.0, 1.0, 0.0, 0.0)):
        filtered = postfilter.apply(decoded, weights)
        before, after = (np.square((y - pixels)[::step, ::step].astype(float)).sum() for y in (decoded, filtered))
        assert after - before == pytest.approx(weights @ gram @ weights - 2 * correlation @ weights, rel=1e-4)


# --- in files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def codec(filtered_model: Model) -> Codec:
    return Codec(filtered_model)


def filtered(codec: Codec, height: int, width: int, weights: Weights, quality: int = 2) -> Picture:
    """The picture that the codes of another picture decode to with these weights."""
    codes = codec.to_codes(synthetic(height, width), quality, effort=0)
    return Picture(codec.render(codes, quality, (height, width), "RGB", None, weights), "RGB")


def test_planted_weights_are_found(codec: Codec) -> None:
    planted = Weights((-20, 3, 9), 7)
    codes = codec.to_codes(synthetic(200, 300), 2, effort=0)
    picture = filtered(codec, 200, 300, planted)
    found = codec.fit(picture.pixels, Content.of(codes), 2)
    assert found is not None
    assert found.values == pytest.approx(planted.values, abs=0.02)
    plain, better = (codec.render(codes, 2, (200, 300), "RGB", weights=w) for w in (None, found))
    assert psnr(picture.pixels, better) > psnr(picture.pixels, plain) + 6


@pytest.mark.parametrize("samples", [1 << 14, 1 << 12])
def test_a_subset_of_the_pixels_gives_similar_weights(
    codec: Codec, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = codec.to_codes(synthetic(200, 300), 2, effort=0)
    dense = codec.fit(synthetic(200, 300), Content.of(codes), 2)
    monkeypatch.setattr(tiled, "SAMPLES", samples)
    sparse = codec.fit(synthetic(200, 300), Content.of(codes), 2)
    assert dense is not None
    assert sparse is not None
    assert sparse.values == pytest.approx(dense.values, abs=0.05)


def test_windows_do_not_change_the_filter(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, codes = Weights((-20, 30, 9), 7), codec.to_codes(synthetic(150, 170), 2, effort=0)
    whole, found = codec.to_pixels(codes, 2, weights=weights), codec.fit(synthetic(150, 170), Content.of(codes), 2)
    monkeypatch.setattr(tiled, "WINDOW", 40)
    assert np.abs(codec.to_pixels(codes, 2, weights=weights).astype(int) - whole).max() <= 1
    again = codec.fit(synthetic(150, 170), Content.of(codes), 2)
    assert found is not None
    assert again is not None
    assert again.values == pytest.approx(found.values, abs=1e-3)


@pytest.mark.parametrize("quality", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (5, 90), (64, 48), (130, 99)])
def test_the_filter_never_increases_the_error(codec: Codec, size: tuple[int, int], quality: int) -> None:
    pixels = synthetic(*size)
    codes = codec.to_codes(pixels, quality)
    data = codec.pack(Picture(pixels, "RGB"), Content.of(codes), quality)
    plain = codec.render(codes, quality, size, "RGB")
    errors = [float(np.square(y - pixels.astype(float)).sum()) for y in (plain, codec.decompress(data).pixels)]
    if container.unpack(data).postfilter is None:
        assert errors[0] == errors[1]
    else:
        assert errors[1] < errors[0]


def test_no_weights_if_they_are_not_worth_their_bytes(codec: Codec) -> None:
    codes = codec.to_codes(synthetic(60, 60), 2, effort=0)
    decoded = codec.render(codes, 2, (60, 60), "RGB")
    assert codec.fit(decoded, Content.of(codes), 2) is None
    data = codec.pack(Picture(decoded, "RGB"), Content.of(codes), 2)
    assert container.unpack(data).postfilter is None


def test_zero_and_duplicate_kernels_are_handled(codec: Codec) -> None:
    codes, pixels = codec.to_codes(synthetic(80, 80), 2, effort=0), synthetic(80, 80)
    network = codec.network
    assert network.postfilter is not None
    before = network.postfilter.kernels.copy()
    try:
        network.postfilter.kernels[1] = network.postfilter.kernels[0]
        assert codec.fit(pixels, Content.of(codes), 2) is not None
        network.postfilter.kernels[:] = 0
        assert codec.fit(pixels, Content.of(codes), 2) is None
    finally:
        network.postfilter.kernels[:] = before


def test_a_region_is_filtered_like_the_whole_picture(codec: Codec) -> None:
    picture = filtered(codec, 150, 170, Weights((-20, 30, 9), 7))
    data = codec.compress(picture, 2)
    assert container.unpack(data).postfilter is not None
    whole = codec.decompress(data).pixels
    for region in (Region(0, 0, 170, 150), Region(70, 60, 3, 9), Region(33, 0, 31, 150)):
        part = decompress_region(codec, data, region).pixels
        there = whole[region.top : region.top + region.height, region.left : region.left + region.width]
        assert np.abs(part.astype(int) - there).max() <= 1


def test_grey_pictures_are_filtered(codec: Codec) -> None:
    grey = filtered(codec, 90, 90, Weights((-20, 40, 0), 7)).pixels[:, :, :1].repeat(3, 2)
    data = codec.compress(Picture(grey, "L"), 2)
    back = codec.decompress(data)
    assert back.mode == "L"
    assert container.unpack(data).postfilter is not None
    assert (back.pixels == back.pixels[:, :, :1]).all()


def test_targets_include_the_filter(tmp_path: Path) -> None:
    codec = Codec(make_model(FINE_FILTERED, tmp_path / "model"))
    picture = Picture(synthetic(120, 160), "RGB")
    plain = codec.compress(picture, 2)
    wanted = psnr(picture.pixels, codec.decompress(plain).pixels) - 0.1
    data = compress_to(codec, picture, Target("psnr", wanted)).data
    assert wanted <= psnr(picture.pixels, codec.decompress(data).pixels) <= wanted + 0.05
    assert container.unpack(data).postfilter is not None
    smaller = compress_to(codec, picture, Target("bytes", 0.95 * len(plain))).data
    assert 0.98 * 0.95 * len(plain) - 16 <= len(smaller) <= 0.95 * len(plain)


def with_weights(codec: Codec, payload: bytes | None) -> bytes:
    file = container.unpack(codec.compress(Picture(synthetic(70, 90), "RGB"), 2))
    return container.pack(dataclasses.replace(file, postfilter=payload))


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x0f\xff\xff", bytes(99), b"\x60\xe1"])
def test_weights_that_contradict_the_model_are_damage(codec: Codec, payload: bytes) -> None:
    data = with_weights(codec, payload)
    for read in (codec.decompress, lambda data: decompress_region(codec, data, Region(0, 0, 9, 9))):
        with pytest.raises(DamagedFile, match="weights"):
            read(data)
    saved = salvage(codec, data)
    assert saved.damage == ("the weights of its post-filter were lost; the picture is slightly less accurate",)
    plain = codec.decompress(with_weights(codec, None))
    assert np.array_equal(saved.picture.pixels, plain.pixels)


def test_large_weights_of_a_hostile_file_give_a_picture(codec: Codec) -> None:
    payload = pack_weights(Weights((MAX_NUMBER, -MAX_NUMBER, MAX_NUMBER), 0))
    assert codec.decompress(with_weights(codec, payload)).pixels.shape == (70, 90, 3)


def test_flipped_bits_of_the_weights_are_noticed(codec: Codec) -> None:
    data = with_weights(codec, pack_weights(Weights((3, -2, 1), 6)))
    header = container.read_header(data)
    for at in range(header.offsets[-1] - 4, header.offsets[-1] + header.lengths[-1]):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(DamagedFile, match="type 2"):
            codec.decompress(bytes(broken))
        assert salvage(codec, bytes(broken)).damage == (
            "the weights of its post-filter were lost; the picture is slightly less accurate",
        )


def test_a_model_without_a_filter_refuses_weights(fine_model: Model) -> None:
    codec = Codec(fine_model)
    data = codec.compress(Picture(synthetic(40, 40), "RGB"))
    file = container.unpack(data)
    assert file.postfilter is None
    with pytest.raises(DamagedFile, match="its model has none"):
        codec.decompress(container.pack(dataclasses.replace(file, postfilter=b"\x00\x80")))


@pytest.mark.parametrize(("config", "count"), [(PATCH, -1), (PATCH, 65), (CONV, 1)])
def test_impossible_filters_are_no_models(config: ModelConfig, count: int) -> None:
    with pytest.raises(ModelError, match="post-filter"):
        dataclasses.replace(config.vqvae, postfilter=count)


def test_the_reach_of_the_decoder_covers_the_filter(filtered_model: Model) -> None:
    config = filtered_model.config.vqvae
    assert open_network(filtered_model).config.decoder_reach == config.decoder_blocks + 2
    assert config.stride >= REACH
