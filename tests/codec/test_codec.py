"""The codec from a picture to a file and back, with the two tiny models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import synthetic
from PIL import Image

import vqcodec
from vqcodec.codec import code_search as refine
from vqcodec.codec import codec as module
from vqcodec.codec.code_prices import bits_taken, prices
from vqcodec.codec.codec import Codec
from vqcodec.codec.content import Content, grid_shape, read_codes
from vqcodec.codec.describe import describe
from vqcodec.errors import BadFile, DamagedFile, LimitExceeded, UnknownModel, UsageError
from vqcodec.format import container
from vqcodec.format.container import VqFile
from vqcodec.limits import Limits
from vqcodec.model import store
from vqcodec.model.store import Model
from vqcodec.nn import tiled
from vqcodec.nn.decoder import ConvDecoder, PatchDecoder
from vqcodec.nn.encoder import Encoder
from vqcodec.nn.weights import open_network
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.threads import Workers
from vqcodec.windows import split

pytestmark = pytest.mark.usefixtures("codes_only")

SIZES = [(1, 1), (1, 40), (40, 1), (37, 3), (3, 37), (8, 8), (9, 65), (64, 8), (50, 70), (100, 33)]


def picture(height: int, width: int, seed: int = 0, **fields: object) -> Picture:
    return Picture(synthetic(height, width, seed), **{"mode": "RGB", **fields})  # type: ignore[arg-type]


def whole(model: Model, pixels: np.ndarray, quality: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes [G, h, w] and pixels [H, W, 3] from a single pass of the networks over the whole picture."""
    stride = model.config.vqvae.stride
    height, width = pixels.shape[:2]
    padding = ((0, -height % stride), (0, -width % stride), (0, 0))
    network = open_network(model)
    codes = network.to_codes(np.pad(pixels, padding, mode="edge"), quality - 1, 1.0, Workers(1))
    y = network.to_pictures(codes, quality - 1, Workers(1))
    return codes, np.clip(np.round(y), 0, 255).astype(np.uint8)[:height, :width]


def distance(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_any_size_decode_to_the_output_of_the_networks(model: Model, size: tuple[int, int]) -> None:
    codec, source = Codec(model), picture(*size)
    for quality in range(1, model.config.vqvae.qualities + 1):
        data = codec.compress(source, quality, effort=0)
        codes, pixels = whole(model, source.pixels, quality)
        assert np.array_equal(read_codes(container.unpack(data), model), codes)
        back = codec.decompress(data)
        assert back.pixels.shape == (*size, 3)
        assert back.pixels.dtype == np.uint8
        assert (back.mode, back.alpha) == ("RGB", None)
        assert distance(back.pixels, pixels) <= 1


def test_the_decoded_picture_resembles_the_original() -> None:
    """Guards the other tests: equal results would show nothing if they were noise."""
    source = synthetic(64, 64)
    assert len(np.unique(source)) > 50


@pytest.mark.parametrize("window", [8, 16, 24, 40])
def test_windows_do_not_change_the_result(model: Model, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    """Codes and pixels equal those of a pass over the whole picture: there is no seam."""
    source = picture(61, 83, 5)
    quality = model.config.vqvae.qualities
    codes, pixels = whole(model, source.pixels, quality)
    monkeypatch.setattr(tiled, "WINDOW", window)
    codec = Codec(model)
    assert np.array_equal(codec.to_codes(source.pixels, quality, effort=0), codes)
    assert distance(codec.to_pixels(codes, quality)[:61, :83], pixels) <= 1


def test_networks_process_one_window_at_a_time(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input of the networks is never larger than a window and its surroundings, so memory is bounded."""
    monkeypatch.setattr(tiled, "WINDOW", 16)
    codec = Codec(model)
    network = codec.network
    sides: dict[str, list[int]] = {"encoder": [], "decoder": []}
    for kind, seen in ((Encoder, "encoder"), (PatchDecoder, "decoder"), (ConvDecoder, "decoder")):

        def record(self: Any, x: Any, *rest: Any, kind: Any = kind, seen: str = seen, plain: Any = kind.forward,
                   **options: Any) -> Any:  # fmt: skip
            sides[seen].append(max(x.shape[:2]))
            return plain(self, x, *rest, **options)

        monkeypatch.setattr(kind, "forward", record)
    codes = codec.to_codes(synthetic(90, 200), 1, effort=len(module.ROUNDS) - 1)
    rounds = module.ROUNDS[-1] if model.config.vqvae.stem == "patch" else 0
    windows, stride, unit = 6 * 13, model.config.vqvae.stride, model.config.unit
    units = -(-codes.shape[1] // unit) * -(-codes.shape[2] // unit)
    assert (len(sides["encoder"]), len(sides["decoder"])) == (windows, (rounds + 1) * units if rounds else 0)
    assert max(sides["encoder"]) <= 16 + 2 * network.config.encoder_reach * stride
    assert max([*sides["decoder"], 0]) <= unit + 2 * refine.SURROUNDINGS
    sides["decoder"].clear()
    codec.to_pixels(codes, 1)
    assert len(sides["decoder"]) == windows
    assert max(sides["decoder"]) <= 16 // stride + 2 * network.config.decoder_reach


def test_compressing_is_deterministic(model: Model) -> None:
    source = picture(50, 40)
    assert Codec(model).compress(source) == Codec(store.open_model(model.path)).compress(source)


def test_the_default_quality_is_the_model_s(patch_model: Model) -> None:
    codec, source = Codec(patch_model), picture(30, 30)
    assert codec.compress(source) == codec.compress(source, 2) != codec.compress(source, 1)
    assert describe(codec.compress(source)).quality == 2


@pytest.mark.parametrize("quality", [0, -1, 3])
def test_a_quality_that_the_model_lacks_is_refused(patch_model: Model, quality: int) -> None:
    with pytest.raises(UsageError, match="1 to 2"):
        Codec(patch_model).compress(picture(8, 8), quality)


def test_grey_comes_back_as_grey(model: Model) -> None:
    grey = np.repeat(synthetic(40, 50)[:, :, :1], 3, axis=2)
    codec = Codec(model)
    back = codec.decompress(codec.compress(Picture(grey, "L")))
    assert back.mode == "L"
    assert np.array_equal(back.pixels[:, :, 0], back.pixels[:, :, 1])
    assert np.array_equal(back.pixels[:, :, 0], back.pixels[:, :, 2])
    # The mean of the networks' output.
    colour = codec.decompress(codec.compress(Picture(grey, "RGB"))).pixels
    assert distance(back.pixels[:, :, 0], colour.mean(axis=2).round()) == 0


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_alpha_comes_back_exactly(model: Model, mode: str, size: tuple[int, int]) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    pixels = synthetic(*size) if mode == "RGB" else np.repeat(synthetic(*size)[:, :, :1], 3, axis=2)
    codec = Codec(model)
    data = codec.compress(Picture(pixels, mode, alpha))  # type: ignore[arg-type]
    back = codec.decompress(data)
    assert back.mode == mode
    assert np.array_equal(back.alpha, alpha)
    # The colours do not depend on the alpha.
    assert np.array_equal(back.pixels, codec.decompress(codec.compress(Picture(pixels, mode))).pixels)  # type: ignore[arg-type]
    info = describe(data)
    assert info.alpha
    assert info.alpha_bytes > 0


def test_opaque_and_transparent_alpha_differ_from_none(conv_model: Model) -> None:
    codec = Codec(conv_model)
    for level in (0, 255):
        alpha = np.full((9, 9), level, np.uint8)
        assert np.array_equal(codec.decompress(codec.compress(picture(9, 9, alpha=alpha))).alpha, alpha)


def test_progress_rises_to_one(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled, "WINDOW", 24)
    codec = Codec(model)
    told: list[float] = []
    for effort in range(len(module.ROUNDS)):
        told.clear()
        data = codec.compress(picture(70, 50), progress=told.append, effort=effort)
        assert told == sorted(told)
        assert told[-1] == pytest.approx(1)
    told.clear()
    codec.decompress(data, told.append)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)


# Effort.

EFFORTS = range(len(module.ROUNDS))


def cost(codec: Codec, source: Picture, quality: int, **options: float) -> tuple[float, float, float]:
    """(distortion + lambda * bits, distortion in the units of the latents, bits of the payload)."""
    codes = codec.to_codes(source.pixels, quality, **options)  # type: ignore[arg-type]
    file = container.unpack(codec.pack(source, Content.of(codes), quality))
    pixels = codec.render(codes, quality, source.pixels.shape[:2], source.mode)
    distortion = float(np.square((pixels.astype(float) - source.pixels) * (32 / 255)).sum())
    bits = 8 * sum(map(len, file.units))
    return distortion + codec.model.config.vqvae.lambdas[quality - 1] * bits, distortion, bits


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("effort", EFFORTS)
def test_files_of_every_effort_are_read_to_the_codes_that_were_found(
    fine_model: Model, size: tuple[int, int], effort: int
) -> None:
    codec, source = Codec(fine_model), picture(*size)
    for quality in (1, 3):
        data = codec.compress(source, quality, effort=effort)
        codes = codec.to_codes(source.pixels, quality, effort=effort)
        assert np.array_equal(read_codes(container.unpack(data), fine_model), codes)
        assert np.array_equal(codec.decompress(data).pixels, codec.render(codes, quality, size, "RGB"))


@pytest.mark.parametrize("quality", [1, 2, 3])
def test_effort_lowers_the_rate_distortion_cost(fine_model: Model, quality: int) -> None:
    codec = Codec(fine_model)
    sources = [picture(60, 75, seed) for seed in range(30, 34)]
    costs = [[cost(codec, source, quality, effort=effort)[0] for source in sources] for effort in EFFORTS]
    assert np.mean(costs[1]) < 0.999 * np.mean(costs[0])
    assert max(np.mean(costs[effort]) for effort in EFFORTS[2:]) < 1.0005 * np.mean(costs[1])


def test_steps_that_are_too_long_are_reverted_and_shortened(fine_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, source = Codec(fine_model), picture(60, 75)
    costs = []
    for name in ("FIRST_STEP", "LONGEST", "LONGEST_AT_LAST"):
        monkeypatch.setattr(refine, name, 50.0)
    for rounds in range(12):  # 50, 25, 12.5, ... until they are short enough
        monkeypatch.setattr(module, "ROUNDS", (rounds,))
        costs.append(cost(codec, source, 2, effort=0)[0])
    assert max(costs) < 1.02 * costs[0]
    assert costs[-1] < 0.995 * costs[0]


def test_errors_are_those_of_the_decoded_picture(fine_model: Model) -> None:
    networks = tiled.Tiled(open_network(fine_model), 1)
    pixels = synthetic(61, 83, 5)
    codes = networks.to_codes(pixels)
    decoded = networks.to_pixels(codes)[:61, :83]
    total = np.square(decoded.astype(float) - pixels).sum() * (32 / 255) ** 2
    errors = networks.errors(codes, pixels)
    assert errors.shape == codes.shape[1:]
    assert errors.sum() == pytest.approx(total, rel=1e-5)
    block = np.square(decoded[8:16, 80:].astype(float) - pixels[8:16, 80:]).sum() * (32 / 255) ** 2
    assert errors[1, 10] == pytest.approx(block, rel=1e-5)


@pytest.mark.parametrize("window", [8, 24])
@pytest.mark.parametrize("effort", EFFORTS)
def test_windows_do_not_change_the_result_at_any_effort(
    shared_model: Model, monkeypatch: pytest.MonkeyPatch, window: int, effort: int
) -> None:
    codec, source = Codec(shared_model), picture(61, 83, 5)
    whole_picture = codec.to_codes(source.pixels, 1, effort=effort)
    monkeypatch.setattr(tiled, "WINDOW", window)
    assert np.array_equal(codec.to_codes(source.pixels, 1, effort=effort), whole_picture)
    if effort:
        assert not np.array_equal(codec.to_codes(source.pixels, 1, effort=0), whole_picture)


def costs_of(model: Model, codes: np.ndarray, pixels: np.ndarray, quality: int) -> np.ndarray:
    """Distortion + lambda * bits at each position: [h, w]."""
    networks, prior, unit = tiled.Tiled(open_network(model), quality - 1), model.prior(quality - 1), model.config.unit
    costs = networks.errors(codes, pixels)
    for row, bits_row in zip(split(codes, unit), split(costs[None], unit), strict=True):
        for grid, total in zip(row, bits_row, strict=True):
            total += networks.price * bits_taken(prices(prior, grid), grid).sum(0)
    return costs


def test_the_search_in_a_unit_changes_no_codes_around_it(fine_model: Model) -> None:
    networks, unit = tiled.Tiled(open_network(fine_model), 1), fine_model.config.unit
    pixels = synthetic(8 * (unit + 8), 8 * (unit + 5), 5)
    codes = networks.to_codes(pixels)
    found, inner = codes.copy(), (slice(4, unit + 4), slice(2, unit + 2))
    refine._Unit(found, pixels, inner, networks, fine_model.prior(1)).run(3, None)
    changed = (found != codes).any(0)
    assert changed[inner].mean() > 0.02
    changed[inner] = False
    assert not changed.any()


def test_the_search_leaves_no_seam_between_units(fine_model: Model) -> None:
    """Positions at the edges of units gain as much as others."""
    codec, unit = Codec(fine_model), fine_model.config.unit
    edges = np.isin(np.arange(40) % unit, (0, unit - 1))
    edges = edges[:, None] | edges
    gains = []
    for seed in range(4):
        pixels = synthetic(320, 320, seed)
        before, after = (costs_of(fine_model, codec.to_codes(pixels, 2, effort=effort), pixels, 2) for effort in (0, 2))
        gains.append([1 - after[place].sum() / before[place].sum() for place in (edges, ~edges)])
    at_edges, elsewhere = np.mean(gains, axis=0)
    assert at_edges > 0.8 * elsewhere > 0.01


def test_codes_are_chosen_by_distance_and_bits_at_their_position(fine_model: Model) -> None:
    network, rng = open_network(fine_model), np.random.default_rng(0)
    latents = rng.normal(0, 20, (3, 4, 16)).astype(np.float32)
    bits = [rng.uniform(0, 12, (12, size)).astype(np.float32) for size, _ in fine_model.config.vqvae.codebooks]
    steps = rng.uniform(0.1, 2, (3, 4)).astype(np.float32)
    codes = tiled.Tiled(network, 1, 0.7).choose(latents, bits, steps)
    assert (codes.shape, codes.dtype) == ((5, 3, 4), np.int32)
    rate, start = 0.7 * fine_model.config.vqvae.lambdas[1] * steps.reshape(12, 1), 0
    for g, (_, dim) in enumerate(fine_model.config.vqvae.codebooks):
        vectors, live = network.quantizer.vectors(g)[1].astype(float), int(network.quantizer.live(g)[1])
        parts = latents[:, :, start : start + dim].reshape(12, dim)
        costs = np.square(parts[:, None] - vectors).sum(2) + rate * bits[g]
        assert np.array_equal(codes[g].ravel(), costs[:, :live].argmin(1))
        start += dim


def test_pixels_may_be_read_only(model: Model) -> None:
    """The pixels of a Pillow picture and those shared by other processes are read-only."""
    pixels = synthetic(33, 40)
    expected = [Codec(model).to_codes(pixels, 1, effort=effort) for effort in EFFORTS]
    pixels.flags.writeable = False
    for effort in EFFORTS:
        assert np.array_equal(Codec(model).to_codes(pixels, 1, effort=effort), expected[effort])


def test_the_conv_family_has_nothing_to_search(conv_model: Model) -> None:
    codec, source = Codec(conv_model), picture(33, 40)
    assert len({codec.compress(source, effort=effort) for effort in EFFORTS}) == 1


def test_the_default_effort(fine_model: Model) -> None:
    codec, source = Codec(fine_model), picture(60, 75)
    files = [codec.compress(source, effort=effort) for effort in EFFORTS]
    assert codec.compress(source) == files[module.DEFAULT_EFFORT]
    assert files[-1] != files[0]


@pytest.mark.parametrize("effort", [-1, len(EFFORTS), 100])
def test_an_unknown_effort_is_refused(conv_model: Model, effort: int) -> None:
    with pytest.raises(UsageError, match=f"0 to {len(EFFORTS) - 1}"):
        Codec(conv_model).compress(picture(8, 8), effort=effort)


SCALES = (0.1, 0.5, 1.0, 2.0, 10.0)  # of lambda


def test_a_larger_lambda_gives_a_smaller_file_and_a_worse_picture(fine_model: Model) -> None:
    codec = Codec(fine_model)
    found = []
    for scale in SCALES:
        parts = [cost(codec, picture(60, 75, seed), 2, rate_scale=scale, effort=1)[1:] for seed in range(4)]
        found.append(np.mean(parts, axis=0))
    distortions, bits = zip(*found, strict=True)
    assert all(a > b for a, b in pairwise(bits))
    assert distortions[0] < distortions[2] < distortions[-1]


def test_without_effort_a_larger_lambda_takes_codes_that_are_more_common(fine_model: Model) -> None:
    codec, pixels = Codec(fine_model), synthetic(60, 75)
    means = []
    for scale in SCALES:
        codes = codec.to_codes(pixels, 2, effort=0, rate_scale=scale)
        means.append(sum(codec.network.quantizer.bits(g)[1][grid].mean().item() for g, grid in enumerate(codes)))
    assert all(a > b for a, b in pairwise(means))


def test_alpha_and_grey_at_every_effort(fine_model: Model) -> None:
    codec, grey = Codec(fine_model), np.repeat(synthetic(33, 47)[:, :, :1], 3, axis=2)
    alpha = synthetic(33, 47, 2)[:, :, 0].copy()
    for effort in EFFORTS:
        back = codec.decompress(codec.compress(Picture(grey, "L", alpha), effort=effort))
        assert (back.mode, back.pixels.shape) == ("L", grey.shape)
        assert np.array_equal(back.alpha, alpha)


# Units.


def test_units_tile_the_grid() -> None:
    codes = np.arange(2 * 9 * 11, dtype=np.int32).reshape(2, 9, 11)
    rows = split(codes, 4)
    assert [[grid.shape[1:] for grid in row] for row in rows] == [
        [(4, 4), (4, 4), (4, 3)],
        [(4, 4), (4, 4), (4, 3)],
        [(1, 4), (1, 4), (1, 3)],
    ]
    assert np.array_equal(np.concatenate([np.concatenate(row, 2) for row in rows], 1), codes)


def test_units_are_independent(patch_model: Model) -> None:
    """The payload of each unit equals that of a picture that consists of this unit alone."""
    config = patch_model.config
    codec, source = Codec(patch_model), picture(70, 90)
    file = container.unpack(codec.compress(source, 1))
    codes = read_codes(file, patch_model)
    assert (file.rows, file.cols) == (3, 3)
    for index, payload in enumerate(file.units):
        grid = split(codes, config.unit)[index // 3][index % 3]
        size = {"height": grid.shape[1] * 8, "width": grid.shape[2] * 8}
        single = dataclasses.replace(file, **size, rows=1, cols=1, units=(payload,))
        assert np.array_equal(read_codes(single, patch_model), grid)


@pytest.mark.parametrize(("height", "width", "stride", "shape"), [(1, 1, 8, (1, 1)), (9, 16, 8, (2, 2))])
def test_grid_shapes(height: int, width: int, stride: int, shape: tuple[int, int]) -> None:
    assert grid_shape(height, width, stride) == shape


# Invalid files.


@pytest.fixture
def file(patch_model: Model) -> VqFile:
    return container.unpack(Codec(patch_model).compress(picture(70, 90), 1))


def test_a_file_of_another_model_is_refused(patch_model: Model, conv_model: Model, file: VqFile) -> None:
    data = container.pack(file)
    with pytest.raises(UnknownModel, match=patch_model.digest.hex()):
        Codec(conv_model).decompress(data)
    with pytest.raises(UnknownModel):
        Codec(patch_model).decompress(container.pack(dataclasses.replace(file, model_digest=bytes(8))))


WRONG: list[tuple[str, Callable[[VqFile], VqFile]]] = [
    ("quality", lambda f: dataclasses.replace(f, quality=2)),
    ("quality", lambda f: dataclasses.replace(f, quality=2**32 - 1)),
    ("units", lambda f: dataclasses.replace(f, unit=5)),
    ("units", lambda f: dataclasses.replace(f, unit=3)),
    ("units", lambda f: dataclasses.replace(f, rows=1, cols=9)),
    ("units", lambda f: dataclasses.replace(f, rows=9, cols=1)),
    ("units", lambda f: dataclasses.replace(f, rows=2, units=f.units[:6])),
    ("units", lambda f: dataclasses.replace(f, rows=4, units=f.units + f.units[:3])),
    ("units", lambda f: dataclasses.replace(f, width=2**16)),
    ("units", lambda f: dataclasses.replace(f, height=2**12)),
    ("units", lambda f: dataclasses.replace(f, height=60)),
    ("more data", lambda f: dataclasses.replace(f, units=(f.units[0] + bytes(40), *f.units[1:]))),
]


@pytest.mark.parametrize(("match", "change"), WRONG, ids=range(len(WRONG)))
def test_a_well_formed_file_that_contradicts_its_model_is_refused(
    patch_model: Model, file: VqFile, match: str, change: Callable[[VqFile], VqFile]
) -> None:
    data = container.pack(change(file))
    with pytest.raises(DamagedFile, match=match):
        Codec(patch_model).decompress(data)


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\xff" * 50, bytes(50), b"no codes at all, but long enough text"])
def test_a_unit_that_is_not_a_stream_of_codes_ends_in_codes_or_an_error(
    patch_model: Model, file: VqFile, payload: bytes
) -> None:
    data = container.pack(dataclasses.replace(file, units=(payload, *file.units[1:])))
    try:
        back = Codec(patch_model).decompress(data)
    except BadFile:
        return
    assert back.pixels.shape == (70, 90, 3)


def test_alpha_that_is_cut_off_is_refused(patch_model: Model) -> None:
    codec = Codec(patch_model)
    alpha = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    good = container.unpack(codec.compress(picture(20, 20, alpha=alpha)))
    assert good.alpha is not None
    for length in (33, 45, len(good.alpha) // 2):  # after the PNG's first fields
        with pytest.raises(DamagedFile, match="alpha"):
            codec.decompress(container.pack(dataclasses.replace(good, alpha=good.alpha[:length])))


@pytest.mark.parametrize("limit", [150, 50])
def test_alpha_may_be_as_large_as_the_picture_may(
    conv_model: Model, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Pillow warns of a PNG above its own limit and refuses one of twice that, far below the format's limit."""
    alpha = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    codec = Codec(conv_model)
    data = codec.compress(picture(16, 16, alpha=alpha))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert np.array_equal(codec.decompress(data).alpha, alpha)


def test_every_flipped_bit_is_noticed(conv_model: Model) -> None:
    codec = Codec(conv_model)
    data = codec.compress(picture(12, 12))
    for at in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises((BadFile, UnknownModel)):
            codec.decompress(bytes(damaged))


def test_every_truncation_is_noticed(conv_model: Model) -> None:
    codec = Codec(conv_model)
    data = codec.compress(picture(12, 12))
    for length in range(len(data)):
        with pytest.raises(BadFile):
            codec.decompress(data[:length])


def test_a_picture_beyond_the_limits_is_refused_before_any_work(
    conv_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Codec(conv_model, Limits(pixels=100, side=50))
    codec.compress(picture(10, 10))
    for size in [(11, 10), (1, 51), (51, 1)]:
        data = Codec(conv_model).compress(picture(*size))
        with pytest.raises(LimitExceeded, match=f"{size[1]}x{size[0]}"):
            codec.compress(picture(*size))
        with pytest.raises(LimitExceeded, match=f"{size[1]} x {size[0]} pixels"):
            codec.decompress(data)
        assert describe(data).width == size[1]


# File sizes and headers.


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (30, 20)])
def test_the_fixed_cost_of_a_small_picture_is_at_most_32_bytes(model: Model, size: tuple[int, int]) -> None:
    data = Codec(model).compress(picture(*size), 1)
    file = container.unpack(data)
    assert len(data) - sum(map(len, file.units)) <= 32


def test_the_payload_is_as_long_as_the_cross_entropy(patch_model: Model) -> None:
    """The file is as long as the cross-entropy of the prior, plus a little for each unit."""
    codec, source = Codec(patch_model), picture(160, 160)
    file = container.unpack(codec.compress(source, 1))
    codes, prior, bits = read_codes(file, patch_model), patch_model.prior(0), 0.0
    for row in split(codes, patch_model.config.unit):
        for grid in row:
            for g, counts in enumerate(prior.evaluate(grid)):
                symbols = grid[g].flatten()
                bits -= float(np.log2(counts[np.arange(len(symbols)), symbols] / counts.sum(1)).sum())
    payload = 8 * sum(map(len, file.units))
    assert bits <= payload <= bits * 1.001 + 33 * len(file.units)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_describe_returns_the_header(patch_model: Model, mode: str, bundle: Callable[..., Path]) -> None:
    data = Codec(patch_model).compress(picture(70, 90, mode=mode), 2)
    info = describe(data)
    file = container.unpack(data)
    assert (info.width, info.height, info.mode, info.alpha, info.quality) == (90, 70, mode, False, 2)
    assert (info.unit, info.rows, info.cols) == (4, 3, 3)
    assert info.unit_bytes == tuple(map(len, file.units))
    assert (info.model_digest, info.model) == (patch_model.digest.hex(), None)
    assert info.total_bytes == len(data) == info.header_bytes + sum(info.unit_bytes) + 4 * 9
    assert info.alpha_bytes == 0
    channels = 3 if mode == "RGB" else 1
    assert info.channels == channels
    assert info.bpp == pytest.approx(8 * len(data) / (70 * 90))
    assert info.bits_per_dim == pytest.approx(8 * len(data) / (70 * 90 * channels))
    assert info.ratio == pytest.approx(70 * 90 * channels / len(data))

    folder = bundle(some=patch_model)
    assert describe(data).model == "tiny-patch"
    # The header must remain readable with a damaged installation.
    bundle(other=patch_model)
    (folder / "other" / "prior.safetensors").unlink()
    assert describe(data).model is None


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\x89VQ\n", b"hello, this is a text"])
def test_describe_refuses_other_files(data: bytes) -> None:
    with pytest.raises(BadFile):
        describe(data)


# The public functions.


@pytest.fixture
def package(patch_model: Model, bundle: Callable[..., Path]) -> None:
    """The patch model is the bundled one, under the default name."""
    bundle(photo=patch_model)


@pytest.mark.usefixtures("package")
def test_encode_decode_info(conv_model: Model) -> None:
    image = Image.fromarray(synthetic(40, 60))
    data = vqcodec.encode(image)
    assert vqcodec.info(data).model == "tiny-patch"
    assert vqcodec.info(data).quality == 2
    back = vqcodec.decode(data)
    assert (back.mode, back.size) == ("RGB", (60, 40))
    assert psnr(np.array(back), np.array(image)) > 10

    other = vqcodec.encode(image, quality=1, model=conv_model.path)
    assert vqcodec.info(other).model is None
    with pytest.raises(UnknownModel, match="--model"):
        vqcodec.decode(other)
    assert vqcodec.decode(other, model=conv_model.path).size == (60, 40)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_modes_of_pillow(mode: str) -> None:
    image = Image.fromarray(synthetic(20, 20))
    image = Image.fromarray(np.full((20, 20), 40000, np.uint16)) if mode == "I;16" else image.convert(mode)
    back = vqcodec.decode(vqcodec.encode(image))
    expected = {"P": "RGB", "1": "L", "I;16": "L", "CMYK": "RGB"}.get(mode, mode)
    assert back.mode == expected
    if mode in ("LA", "RGBA"):
        assert np.array_equal(np.array(back.getchannel("A")), np.array(image.getchannel("A")))
