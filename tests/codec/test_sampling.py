"""Samples: codes follow the probabilities of the prior and depend only on the seed; known codes stay; labels matter."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from command import vqcodec_in_process
from conftest import LABELLED, SMALL, make_model, synthetic
from PIL import Image

from vqcodec.codec import sampling as module
from vqcodec.codec.codec import Codec
from vqcodec.codec.sampling import UNKNOWN, Drawing, Sampler, complete, draw_codes, sample, sheet, weights_of
from vqcodec.coding.integer_prior import IntegerPrior
from vqcodec.errors import UsageError
from vqcodec.limits import Limits
from vqcodec.model.store import Model
from vqcodec.picture.picture import Picture


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(LABELLED, tmp_path_factory.mktemp("labelled") / "labelled")


def drawn(prior: IntegerPrior, count: int, height: int, width: int, **how: Any) -> npt.NDArray[np.int32]:
    codes = np.full((count, len(prior.layout.sizes), height, width), UNKNOWN, np.int32)
    draw_codes(prior, list(codes), Drawing(**how))
    return codes


def test_codes_are_as_frequent_as_their_counts_say() -> None:
    counts = np.array([[10, 1, 3, 2, 40, 7, 7]], np.float32)  # so small that one more or less would show
    codes = Sampler(Drawing(), [0]).code(0, np.full(50000, UNKNOWN, np.int32), counts.repeat(50000, 0))
    expected = 50000 * counts[0] / counts.sum()
    square = np.square(np.bincount(codes, minlength=7) - expected) / expected
    assert square.sum() < 6 + 4 * np.sqrt(12)  # chi-squared, 6 degrees of freedom


@pytest.mark.parametrize("how", [{}, {"temperature": 0.7}, {"top_p": 0.9}])
def test_each_code_is_drawn_given_all_codes_before_it(small_prior: IntegerPrior, how: dict[str, float]) -> None:
    """The mean cost of the codes, by the probabilities they were drawn from, is the entropy of these."""
    codes = drawn(small_prior, 1, 40, 40, **how)[0]
    surprise = variance = 0.0
    for grid, counts in zip(codes, small_prior.evaluate(codes), strict=True):
        weights = weights_of(counts, Drawing(**how))
        share = weights / weights.sum(1, keepdims=True)
        bits = -np.log2(np.where(share > 0, share, 1))
        entropy = (share * bits).sum(1)
        assert (np.take_along_axis(weights, grid.reshape(-1, 1), 1) > 0).all()
        surprise += float((np.take_along_axis(bits, grid.reshape(-1, 1), 1)[:, 0] - entropy).sum())
        variance += float((share * np.square(bits - entropy[:, None])).sum())
    assert abs(surprise) < 3 * np.sqrt(variance)
    assert variance > 500, "the distribution is too plain to show anything"


def test_the_seed_gives_the_same_codes_everywhere(small_prior: IntegerPrior) -> None:
    """These codes must never change: prior and random numbers are integers."""
    first, second = drawn(small_prior, 3, 9, 8, seed=5), drawn(small_prior, 3, 9, 8, seed=5, top_p=0.8)
    assert [zlib.crc32(codes.astype("<i4").tobytes()) for codes in (first, second)] == [1492518738, 3647417485]
    assert not np.array_equal(first, drawn(small_prior, 3, 9, 8, seed=6))
    assert len({codes.tobytes() for codes in first}) == 3


def test_what_is_drawn_does_not_depend_on_the_batch(small_prior: IntegerPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn(small_prior, 5, 4, 6)
    monkeypatch.setattr(module, "BATCH", 2)
    assert np.array_equal(drawn(small_prior, 5, 4, 6), whole)
    assert np.array_equal(drawn(small_prior, 1, 4, 6)[0], whole[0])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [30, 50, 5, 15]),
        ({"top_p": 1e-9}, [0, 50, 0, 0]),
        ({"top_p": 0.5}, [0, 50, 0, 0]),
        ({"top_p": 0.51}, [30, 50, 0, 0]),
        ({"top_p": 0.8}, [30, 50, 0, 0]),
        ({"top_p": 0.96}, [30, 50, 5, 15]),
        ({"temperature": 1e-320}, [0, 1, 0, 0]),
        ({"temperature": 1e9}, [1, 1, 1, 1]),
        ({"temperature": 0.5}, [900, 2500, 25, 225]),
        ({"temperature": 0.5, "top_p": 0.7}, [900, 2500, 0, 0]),
    ],
)
def test_temperature_and_top_p(how: dict[str, float], expected: list[int]) -> None:
    weights = weights_of(np.array([[30, 50, 5, 15]], np.float32), Drawing(**how))
    assert weights.dtype == np.int64
    assert np.allclose(weights[0] / weights.sum(), np.array(expected) / sum(expected), rtol=1e-5, atol=0)


def test_top_p_keeps_the_first_of_equally_likely_codes() -> None:
    assert weights_of(np.full((2, 5), 7, np.float32), Drawing(top_p=0.5)).tolist() == [[7, 7, 7, 0, 0]] * 2


def test_known_codes_stay_and_affect_later_ones(small_prior: IntegerPrior) -> None:
    """Codes may be known at any position, although `complete` only needs an upper part."""
    rng = np.random.default_rng(0)
    first, second = drawn(small_prior, 2, 8, 9)
    known = rng.random(first.shape) < 0.5
    grid = np.where(known, first, UNKNOWN).astype(np.int32)
    draw_codes(small_prior, [grid], Drawing(seed=3))
    assert np.array_equal(grid[known], first[known])
    assert (grid >= 0).all()
    assert all(codes.max() < size for codes, size in zip(grid, SMALL.sizes, strict=True))
    below = [np.concatenate([upper[:, :1], np.full_like(upper[:, 1:], UNKNOWN)], 1) for upper in (first, second)]
    for codes in below:
        draw_codes(small_prior, [codes], Drawing(temperature=1e-9))
    assert not np.array_equal(below[0][:, 1:], below[1][:, 1:])


@pytest.mark.parametrize(("keep", "rows"), [(0.5, 4), (0.25, 2), (0.01, 0), (0.99, 8)])
def test_a_picture_is_completed_from_its_upper_part(
    conv_model: Model, monkeypatch: pytest.MonkeyPatch, keep: float, rows: int
) -> None:
    codec, pixels = Codec(conv_model), synthetic(30, 45)
    seen: list[npt.NDArray[np.int32]] = []
    render = codec.render
    monkeypatch.setattr(codec, "render", lambda codes, *rest: seen.append(codes.copy()) or render(codes, *rest))
    pictures = complete(codec, Picture(pixels, "L"), keep, Drawing(2))
    assert [(p.width, p.height, p.mode) for p in pictures] == [(45, 30, "L")] * 2
    for codes in seen:
        assert codes.shape == (1, 8, 12)
        assert codes.min() >= 0
        if rows:
            assert np.array_equal(codes[:, :rows], codec.to_codes(pixels[: rows * 4], 1))
    assert np.array_equal(seen[0], seen[1]) == (rows == 8)
    pixels[rows * 4 :] = 255 - pixels[rows * 4 :]  # the lower part of the original must not matter
    again = complete(codec, Picture(pixels, "L"), keep, Drawing(2))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(pictures, again, strict=True))


def test_samples_are_larger_than_a_unit_where_asked(patch_model: Model) -> None:
    codec, told = Codec(patch_model), list[float]()
    pictures = sample(codec, (75, 50), Drawing(3, quality=1), told.append)  # units of 32 x 32 pixels
    assert [p.pixels.shape for p in pictures] == [(75, 50, 3)] * 3
    assert len({p.pixels.tobytes() for p in pictures}) == 3
    assert told == sorted(told)
    assert 0 < told[0] <= told[-1] <= 1


def test_a_codebook_with_a_single_code(tmp_path: Path, patch_model: Model) -> None:
    from safetensors.numpy import load_file, save_file

    for name in ("config.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((patch_model.path / name).read_bytes())
    tensors = load_file(patch_model.path / "prior.safetensors")
    cut = {name: t[:1] if name.startswith("codes.1.0.") else t for name, t in tensors.items()}
    save_file({name: np.ascontiguousarray(t) for name, t in cut.items()}, tmp_path / "prior.safetensors")
    prior = Model(tmp_path, patch_model.config, b"").prior(0)
    assert prior.constant(1)
    codes = drawn(prior, 2, 5, 5)
    assert codes.min() == codes[:, 1].max() == 0


def test_a_label_changes_what_is_drawn(labelled: Model) -> None:
    codec = Codec(labelled)
    found = {sample(codec, (32, 32), Drawing(label=label))[0].pixels.tobytes() for label in (None, 0, 1, 2)}
    assert len(found) == 4


def test_a_labelled_model_compresses_pictures_of_unknown_class(labelled: Model) -> None:
    codec, picture = Codec(labelled), Picture(synthetic(40, 52), "RGB")
    back = codec.decompress(codec.compress(picture))
    assert np.array_equal(back.pixels, codec.render(codec.to_codes(picture.pixels, 1), 1, (40, 52), "RGB"))


def test_a_sheet_has_its_pictures_in_rows() -> None:
    pictures = [Picture(np.full((4, 6, 3), n, np.uint8), "L") for n in range(5)]
    found = sheet(pictures)
    assert (found.pixels.shape, found.mode) == ((4 + 2 + 4, 6 + 2 + 6 + 2 + 6, 3), "L")
    assert found.pixels[::6, ::8, 0].tolist() == [[0, 1, 2], [3, 4, 255]]
    assert np.array_equal(sheet(pictures[:1]).pixels, pictures[0].pixels)
    assert sheet(pictures, 1).pixels.shape == (28, 6, 3)


def refusals() -> list[tuple[dict[str, Any], str]]:
    cases = [("temperature", value) for value in (0.0, -1.0, float("nan"), float("inf"))]
    cases += [("top_p", value) for value in (0.0, 1.01, float("nan"))]
    return [({name: value}, name.replace("_", "-")) for name, value in cases] + [({"seed": -1}, "seed")]


@pytest.mark.parametrize(("how", "text"), [*refusals(), ({"count": 0}, "at least 1")])
def test_options_out_of_range_are_refused(how: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Drawing(**how)


def test_too_many_pixels_are_refused(conv_model: Model) -> None:
    codec = Codec(conv_model, Limits(pixels=1000))
    assert len(sample(codec, (10, 10), Drawing(10))) == 10
    with pytest.raises(UsageError, match="ask for fewer"):
        sample(codec, (10, 10), Drawing(11))
    with pytest.raises(UsageError, match="one pixel"):
        sample(codec, (0, 10), Drawing())


Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Run, labelled: Model, conv_model: Model) -> Run:
    bundle(photo=labelled, paper=conv_model)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: vqcodec_in_process(monkeypatch, "sample", *arguments)


def size_of(name: str) -> tuple[int, int]:
    with Image.open(name) as image:
        return image.size


def test_the_command(run: Run) -> None:
    done = run("-n", "5", "--size", "20x12", "-o", "a.png", "--label", "2", "--json")
    record = json.loads(done.out)
    assert (done.code, record["outputs"], record["label"], record["seed"]) == (0, ["a.png"], 2, 1)
    assert (record["width"], record["height"], record["count"]) == (20, 12, 5)
    assert size_of("a.png") == (3 * 20 + 2 * 2, 2 * 12 + 2)
    for name, more in [("b.png", ()), ("c.png", ("--seed", "2")), ("d.png", ("--temperature", "0.5"))]:
        assert run("-n", "5", "--size", "20x12", "--label", "2", "-o", name, *more).code == 0
        assert (Path(name).read_bytes() == Path("a.png").read_bytes()) == (name == "b.png")
    assert run("-n", "1").code == 0
    assert size_of("samples.png") == (32, 32)
    assert run("-n", "10", "-o", "new/", "--from", "a.png", "--keep", "0.3", "--top-p", "0.9").code == 0
    assert sorted(os.listdir("new")) == [f"sample-{n:02}.png" for n in range(1, 11)]
    assert {size_of(f"new/{name}") for name in os.listdir("new")} == {size_of("a.png")}
    assert len({Path("new", name).read_bytes() for name in os.listdir("new")}) == 10


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--label", "3"], 2, "labels 0 to 2, not 3"),
        (["--label", "-1"], 2, "labels 0 to 2, not -1"),
        (["--model", "paper", "--label", "0"], 2, "has no labels"),
        (["--temperature", "0"], 2, "temperature must be more than 0"),
        (["--top-p", "0"], 2, "top-p must be more than 0"),
        (["--top-p", "1.5"], 2, "at most 1"),
        (["--size", "32"], 2, "WIDTHxHEIGHT"),
        (["--size", "0x8"], 2, "at least one pixel"),
        (["--size", "100000x100000"], 1, "beyond the limit"),
        (["-n", "1000000", "--size", "32x32"], 2, "ask for fewer"),
        (["-q", "2"], 2, "the qualities 1 to 1"),
        (["--keep", "0.5"], 2, "--from PICTURE"),
        (["--from", "in.png", "--keep", "1"], 2, "less than 1"),
        (["--from", "in.png", "--size", "8x8"], 2, "--size cannot be used with --from"),
        (["--from", "none.png"], 1, "none.png"),
        (["-o", "-"], 2, "not standard output"),
        (["-o", "a.xyz"], 2, "a.xyz"),
        (["-o", "none/a.png"], 1, "there is no folder"),
        (["-o", "in.png"], 1, "--force"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(run: Run, arguments: list[str], code: int, text: str) -> None:
    Image.fromarray(synthetic(8, 8)).save("in.png")
    before = sorted(os.listdir())
    done = run(*arguments)
    assert (done.code, done.err.count("\n"), done.out) == (code, 1, "")
    assert text in done.err
    assert sorted(os.listdir()) == before
