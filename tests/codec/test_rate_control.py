"""Targets of size, SSIMULACRA2 and PSNR: met closely without violating the bound, or with a notice about the nearest.

Only a target whose bound no file keeps is refused.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from conftest import synthetic

from vqcodec.codec import codec as codec_module
from vqcodec.codec import rate_control as search
from vqcodec.codec.codec import DEFAULT_EFFORT, Codec
from vqcodec.codec.describe import describe
from vqcodec.codec.rate_control import Target, compress_to
from vqcodec.errors import LimitExceeded, UsageError
from vqcodec.limits import Limits
from vqcodec.model.store import Model
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.ssimulacra2 import ssimulacra2
from vqcodec.progress import Progress

pytestmark = pytest.mark.usefixtures("codes_only")

SIZES = [(64, 88), (120, 150), (200, 160)]


def picture(size: tuple[int, int], seed: int = 20) -> Picture:
    return Picture(synthetic(*size, seed), "RGB")


def figure(codec: Codec, source: Picture, data: bytes, kind: str) -> float:
    if kind == "bytes":
        return len(data)
    measure = psnr if kind == "psnr" else ssimulacra2
    return measure(source.pixels, codec.decompress(data).pixels)


def meet(codec: Codec, source: Picture, target: Target, progress: Progress | None = None, effort: int = 1) -> bytes:
    """The bytes of a file that meets the target; no notice is expected."""
    found = compress_to(codec, source, target, progress, effort)
    assert (found.notices, found.psnr) == ((), None)
    assert (found.ssimulacra2 is None) == (target.kind != "ssimulacra2")
    return found.data


def ends(codec: Codec, source: Picture, kind: str, effort: int = 0) -> tuple[float, float]:
    """The figures of the lowest and of the highest quality."""
    qualities = (1, codec.model.config.vqvae.qualities)
    low, high = (figure(codec, source, codec.compress(source, quality, effort=effort), kind) for quality in qualities)
    return low, high


# The definition of a target.


@pytest.mark.parametrize("value", [1.0, 60.0, 5000.0, 1e9])
def test_a_size_is_met_within_2_percent_or_16_bytes_below(value: float) -> None:
    target = Target("bytes", value)
    slack = max(16, 0.02 * value)
    assert target.misses_by(value) == target.misses_by(value - 0.99 * slack) == 0
    assert target.misses_by(value + 1) > 0
    if value > 17:
        assert target.misses_by(value - 1.01 * slack) < 0


@pytest.mark.parametrize("value", [20.0, 31.7])
def test_a_psnr_is_met_within_5_hundredths_above(value: float) -> None:
    target = Target("psnr", value)
    assert target.misses_by(value) == target.misses_by(value + 0.0499) == 0
    assert target.misses_by(value + 0.051) > 0
    assert target.misses_by(value - 0.001) < 0
    assert target.misses_by(math.inf) == math.inf


@pytest.mark.parametrize("value", [-40, 0, 70.5, 100])
def test_a_score_is_met_within_half_a_point_above(value: float) -> None:
    target = Target("ssimulacra2", value)
    assert target.misses_by(value) == target.misses_by(value + 0.499) == 0
    assert target.misses_by(value - 0.001) < 0
    assert target.misses_by(value - 20) < target.misses_by(value - 10)
    if value < 100:
        assert 0 < target.misses_by(value + 0.501) < target.misses_by(100) < math.inf


@pytest.mark.parametrize("value", [100.001, math.nan, math.inf, -math.inf])
def test_a_score_is_a_number_of_at_most_100(value: float) -> None:
    with pytest.raises(UsageError, match=rf"at most 100, not {value:g}; .* 30 .* 50 .* 70 .* 90 .*lossless"):
        Target("ssimulacra2", value)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["bytes", "psnr"])
def test_a_target_must_be_positive(kind: str, value: float) -> None:
    with pytest.raises(UsageError, match="more than 0"):
        Target(kind, value)  # type: ignore[arg-type]


# Targets that can be met.


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.15, 0.5, 0.8])
@pytest.mark.parametrize("kind", ["bytes", "psnr", "ssimulacra2"])
def test_a_target_between_the_qualities_is_met(
    fine_model: Model, size: tuple[int, int], share: float, kind: str
) -> None:
    codec, source = Codec(fine_model), picture(size)
    low, high = ends(codec, source, kind)
    target = Target(kind, low + share * (high - low))  # type: ignore[arg-type]
    found = figure(codec, source, meet(codec, source, target), kind)
    assert target.misses_by(found) == 0, f"{found} for {target.value}"


@pytest.mark.parametrize(
    ("kind", "beyond"),
    [("bytes", 0.9), ("bytes", 1.03), ("psnr", 0.985), ("psnr", 1.0002), ("ssimulacra2", 0.97), ("ssimulacra2", 1.001)],
)
def test_a_target_a_little_beyond_the_qualities_is_met(fine_model: Model, kind: str, beyond: float) -> None:
    codec, source = Codec(fine_model), picture((200, 160))
    target = Target(kind, beyond * ends(codec, source, kind, effort=1)[beyond > 1])  # type: ignore[arg-type]
    found = figure(codec, source, meet(codec, source, target, effort=1), kind)
    assert target.misses_by(found) == 0, f"{found} for {target.value}"


@pytest.mark.parametrize("kind", ["bytes", "psnr", "ssimulacra2"])
def test_a_target_that_the_default_quality_meets_gives_the_default_file(fine_model: Model, kind: str) -> None:
    codec, source = Codec(fine_model), picture((120, 150))
    plain = codec.compress(source)
    value = figure(codec, source, plain, kind)
    assert meet(codec, source, Target(kind, value)) == plain  # type: ignore[arg-type]


@pytest.mark.parametrize("effort", range(len(codec_module.ROUNDS)))
def test_targets_are_met_with_the_effort_that_was_asked_for(fine_model: Model, effort: int) -> None:
    codec, source = Codec(fine_model), picture((120, 150))
    plain = codec.compress(source, 1, effort=effort)
    assert meet(codec, source, Target("bytes", len(plain)), None, effort) == plain


def test_targets_with_grey_and_alpha(fine_model: Model) -> None:
    """Alpha is part of the file, and the PSNR is that of the grey picture that comes back."""
    codec = Codec(fine_model)
    grey = np.repeat(synthetic(90, 70, 3)[:, :, :1], 3, axis=2)
    noise = np.random.default_rng(0).integers(0, 256, (90, 70), np.uint8)
    source = Picture(grey, "L", noise)
    size = len(codec.compress(source, 1)) + 30
    assert Target("bytes", size).misses_by(len(meet(codec, source, Target("bytes", size)))) == 0
    low, high = ends(codec, source, "psnr")
    target = Target("psnr", low + 0.4 * (high - low))
    back = codec.decompress(meet(codec, source, target))
    assert (back.mode, target.misses_by(psnr(back.pixels, grey))) == ("L", 0)
    assert np.array_equal(back.alpha, noise)
    low, high = ends(codec, source, "ssimulacra2")
    target = Target("ssimulacra2", (low + high) / 2)
    back = codec.decompress(meet(codec, source, target))
    assert target.misses_by(ssimulacra2(grey[:, :, 0], back.pixels[:, :, 0])) == 0
    assert np.array_equal(back.alpha, noise)


def test_the_result_is_a_file_like_any_other_and_always_the_same(fine_model: Model) -> None:
    source = picture((64, 88))
    low, high = ends(Codec(fine_model), source, "bytes")
    target = Target("bytes", (low + high) / 2)
    data = meet(Codec(fine_model), source, target)
    assert meet(Codec(fine_model), source, target) == data
    info = describe(data)
    assert (info.width, info.height, info.model_digest) == (88, 64, fine_model.digest.hex())
    assert psnr(Codec(fine_model).decompress(data).pixels, source.pixels) > 20


@pytest.mark.parametrize("kind", ["bytes", "psnr", "ssimulacra2"])
def test_a_target_between_two_figures_far_apart_gets_the_one_that_holds(
    fine_model: Model, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """This happens in small pictures, whose codes change at few values of lambda."""
    codec, source = Codec(fine_model), picture((120, 150), 21)
    encode = codec.encode
    monkeypatch.setattr(codec, "encode", lambda pixels, quality, *_: encode(pixels, quality))
    monkeypatch.setattr(Codec, "can_store", False)
    low, high = (figure(codec, source, codec.compress(source, quality), kind) for quality in (1, 2))
    for share in (0.3, 0.7):
        target = Target(kind, low + share * (high - low))  # type: ignore[arg-type]
        assert target.misses_by(low) < 0 < target.misses_by(high), "the figures are too close to show anything"
        result = figure(codec, source, meet(codec, source, target), kind)
        assert result == (low if kind == "bytes" else high)


@pytest.mark.parametrize(("effort", "most"), [(0, 6), (1, 6)])
def test_few_encodings_are_tried(fine_model: Model, monkeypatch: pytest.MonkeyPatch, effort: int, most: int) -> None:
    codec, counts = Codec(fine_model), []
    encode = codec.encode
    monkeypatch.setattr(codec, "encode", lambda *args: counts.append(1) or encode(*args))
    for seed in (20, 21):
        source = picture((120, 150), seed)
        low, high = ends(Codec(fine_model), source, "bytes")
        for share in (0.2, 0.4, 0.6, 0.8):
            meet(codec, source, Target("bytes", low + share * (high - low)), None, effort)
    assert len(counts) / 8 < most


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_progress_rises_to_one(fine_model: Model, share: float) -> None:
    codec, source, told = Codec(fine_model), picture((64, 88)), []
    low, high = ends(codec, source, "psnr")
    meet(codec, source, Target("psnr", low + share * (high - low)), told.append)
    assert told == sorted(told)
    assert told[0] > 0
    assert told[-1] == 1


# Targets beyond all files that the model makes of a picture.


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (
            "bytes",
            10**6,
            r"the best that the model tiny-fine makes of this picture is .*, below the target of 1,000,000",
        ),
        ("psnr", 5, r"the smallest file that tiny-fine makes of this picture has .*, above the target of 5.00 dB"),
        (
            "ssimulacra2",
            -900,
            r"the smallest file that tiny-fine makes of this picture has .*, above the target of SSIMULACRA2 -900.00",
        ),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (8, 9), (64, 88)])
def test_the_nearest_file_is_written_with_a_notice_if_every_file_keeps_the_bound(
    fine_model: Model, size: tuple[int, int], kind: str, value: float, text: str
) -> None:
    if kind == "ssimulacra2" and size == (1, 1):
        pytest.skip("not defined")
    codec, source = Codec(fine_model), picture(size)
    target = Target(kind, value)  # type: ignore[arg-type]
    found = compress_to(codec, source, target, measure=True)
    (notice,) = found.notices
    assert re.search(text, notice)
    reached = figure(codec, source, found.data, kind)
    assert target.text(reached) in notice
    assert target.holds(target.misses_by(reached))
    assert found.psnr == figure(codec, source, found.data, "psnr")
    assert found.ssimulacra2 == (reached if kind == "ssimulacra2" else None)
    if size == (64, 88):  # the others have few figures, in no order
        low, high = ends(codec, source, kind, DEFAULT_EFFORT)
        assert reached >= high - 0.01 if kind == "bytes" else reached <= low + 0.01


@pytest.mark.parametrize(
    ("kind", "value", "word"),
    [("bytes", 25, "smallest size"), ("psnr", 60, "highest PSNR"), ("ssimulacra2", 99.5, "highest score")],
)
@pytest.mark.parametrize("size", [(1, 1), (8, 9), (64, 88)])
def test_an_impossible_target_names_the_figure_that_is_possible(
    fine_model: Model, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], kind: str, value: float, word: str
) -> None:
    if kind == "ssimulacra2" and size == (1, 1):
        pytest.skip("not defined")
    monkeypatch.setattr(Codec, "can_store", False)  # with stored pixels, every quality is possible
    codec, source = Codec(fine_model), picture(size)
    with pytest.raises(UsageError, match=f"the {word} that the model tiny-fine reaches for this picture") as caught:
        compress_to(codec, source, Target(kind, value))  # type: ignore[arg-type]
    text = str(caught.value)
    assert Target(kind, value).text(value) in text  # type: ignore[arg-type]
    named = re.search(r"is (?:SSIMULACRA2 )?(-?[0-9.,]+)(?: bytes| dB|)$", text)
    assert named
    possible = float(named.group(1).replace(",", ""))
    if size == (64, 88):  # the others have few figures, in no order
        low, high = ends(codec, source, kind, DEFAULT_EFFORT)
        assert possible <= low + 0.01 if kind == "bytes" else possible >= high - 0.01
    # The figure in the message can be reached.
    target = Target(kind, possible + (0 if kind == "bytes" else -0.01))  # type: ignore[arg-type]
    found = figure(codec, source, compress_to(codec, source, target).data, kind)
    assert target.holds(target.misses_by(found))


def test_a_picture_with_one_figure_at_many_qualities_gets_the_one_that_holds(
    fine_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimates of the search do not hold for flat pictures: only the lowest lambda or the highest is far off."""
    codec, source = Codec(fine_model), picture((16, 16))
    pack = codec.pack
    for odd, size, target, quality in ((1, 30, 60, 1), (3, 300, 310, 3)):

        def packed(*args: Any, odd: int = odd, size: int = size, **options: Any) -> bytes:
            return bytes(size if args[2] == odd else 100) if options.get("prove") is False else pack(*args)

        monkeypatch.setattr(codec, "pack", packed)
        found = compress_to(codec, source, Target("bytes", target))
        assert describe(found.data).quality == quality


@pytest.mark.parametrize("kind", ["bytes", "psnr", "ssimulacra2"])
def test_the_psnr_of_a_file_with_a_target(fine_model: Model, kind: str) -> None:
    codec, source = Codec(fine_model), picture((64, 88))
    low, high = ends(codec, source, kind)
    found = compress_to(codec, source, Target(kind, (low + high) / 2), measure=True)  # type: ignore[arg-type]
    assert found.psnr == figure(codec, source, found.data, "psnr")


@pytest.mark.parametrize("size", [(1, 1), (7, 88), (88, 7)])
def test_a_picture_too_small_for_the_score_is_refused_before_any_work(
    fine_model: Model, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    codec, source = Codec(fine_model), picture(size)
    monkeypatch.setattr(Codec, "network", property(lambda _: pytest.fail("the network was loaded")))
    with pytest.raises(UsageError, match=f"has {size[1]}x{size[0]} pixels, and SSIMULACRA2 is defined from 8x8 on"):
        compress_to(codec, source, Target("ssimulacra2", 50))


def test_the_score_is_computed_once_a_trial_and_for_no_other_target(
    fine_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, source, counts = Codec(fine_model), picture((120, 150)), []
    low, high = ends(codec, source, "ssimulacra2", 1)
    encode = codec.encode
    monkeypatch.setattr(codec, "encode", lambda *args: counts.append("trial") or encode(*args))
    monkeypatch.setattr(search, "ssimulacra2", lambda *args: counts.append("score") or ssimulacra2(*args))
    for share in (0.2, 0.4, 0.6, 0.8):
        compress_to(codec, source, Target("ssimulacra2", low + share * (high - low)), measure=True)
    assert counts.count("score") == counts.count("trial")
    assert counts.count("trial") / 4 < 7
    counts.clear()
    compress_to(codec, source, Target("psnr", 25), measure=True)
    compress_to(codec, source, Target("bytes", 900), measure=True)
    assert "score" not in counts


def test_a_model_without_a_rate_term_refuses_targets(conv_model: Model) -> None:
    with pytest.raises(UsageError, match="tiny-conv has no rate term"):
        compress_to(Codec(conv_model), picture((20, 20)), Target("bytes", 500))


def test_a_picture_beyond_the_format_is_refused_before_any_work(
    fine_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Codec(fine_model, Limits(pixels=100, side=50))
    monkeypatch.setattr(Codec, "network", property(lambda _: pytest.fail("the network was loaded")))
    with pytest.raises(LimitExceeded, match="51x2"):
        compress_to(codec, picture((2, 51)), Target("bytes", 500))


def test_a_picture_that_comes_back_exactly_is_better_than_any_target(
    fine_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its PSNR is infinite and cannot be interpolated."""
    codec, source = Codec(fine_model), picture((16, 16))
    figures = iter([math.inf, 30.0, math.inf, math.inf, 41.0, *[math.inf, 39.0] * 20])
    monkeypatch.setattr(search, "psnr", lambda *_: next(figures))
    assert describe(compress_to(codec, source, Target("psnr", 40.0)).data).quality >= 1
    monkeypatch.setattr(search, "psnr", lambda *_: math.inf)
    found = compress_to(codec, source, Target("psnr", 40.0), measure=True)
    assert (found.psnr, describe(found.data).quality) == (math.inf, 1)
    assert "has inf dB, above the target of 40.00 dB" in found.notices[0]
