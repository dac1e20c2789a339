"""Benchmark runs: parallel, resumable, in a fixed order. A bad picture or a dead process only affects its own rows."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic
from named_pipes import family
from numpy.typing import NDArray
from PIL import Image

from vqcodec.bench import cache as caches
from vqcodec.bench.anatomy import dissect, entropy_bits, mean_anatomy
from vqcodec.bench.cache import Cache, default_folder, digest, versions
from vqcodec.bench.lineup import Wanted, line_up
from vqcodec.bench.match import Match, read_match
from vqcodec.bench.peers import peer
from vqcodec.bench.report import print_results
from vqcodec.bench.results import Results, Row
from vqcodec.bench.study import Options, study
from vqcodec.bench.worker import _Worker
from vqcodec.codec.codec import Codec
from vqcodec.codec.describe import describe
from vqcodec.errors import UsageError
from vqcodec.files.pool import Lost, in_processes
from vqcodec.format.container import read_header
from vqcodec.model.store import Model
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vqcodec" / "bench"


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two pictures, with a broken one between them."""
    folder = tmp_path / "set"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "c.png")):
        Image.fromarray(synthetic(48, 64, seed)).save(folder / name)
    (folder / "b.png").write_bytes(b"garbage")
    return sorted(folder.iterdir())


def run(pictures: list[Path], wanted: Wanted, options: Options, told: list[float] | None = None) -> Results:
    contenders, _ = line_up(wanted, matching=options.match is not None)
    return study(contenders, pictures, options, (), None if told is None else told.append)


def printed(results: Results) -> str:
    stream = io.StringIO()
    print_results(results, stream)
    return stream.getvalue()


def names(results: Results) -> list[tuple[str, str, float, bool]]:
    return [(row.codec, row.image, row.quality, row.error is None) for row in results.rows]


def without_time(rows: tuple[Row, ...]) -> list[str]:
    """The rows without times and memory, as text, so that nan equals nan."""
    costs = {f"{verb}_{what}" for verb in ("encode", "decode") for what in ("seconds", "cpu_seconds", "mpixel_s")}
    return [str(replace(row, peak_mib=0.0, **dict.fromkeys(costs, 0.0))) for row in rows]


def test_rows_are_in_order_and_include_a_broken_picture(pictures: list[Path], patch_model: Model) -> None:
    wanted = Wanted(codecs=[str(patch_model.path), "webp:20,80"])
    told: list[float] = []
    results = run(pictures, wanted, Options(jobs=0), told)
    order = [("a.png", True), ("b.png", False), ("c.png", True)]
    assert names(results) == [
        (codec, image, quality, good)
        for codec, qualities in (("tiny-patch", (1, 2)), ("webp", (20, 80)))
        for image, good in order
        for quality in qualities
    ]
    assert "not a picture" in str(results.rows[2].error)
    assert [(row.codec, row.image) for row in results.means] == [
        *[("tiny-patch", "mean of 2")] * 2,
        *[("webp", "mean of 2")] * 2,
    ]
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert results.environment["numpy"]
    assert results.codecs["webp"] == "method 6"
    assert results.rows[0].digest == patch_model.digest.hex()


def test_worker_processes_give_the_same_rows(pictures: list[Path], patch_model: Model) -> None:
    wanted = Wanted(codecs=[str(patch_model.path), "webp:20,80"])
    here = run(pictures, wanted, Options(jobs=0, cached=False))
    there = run(pictures, wanted, Options(jobs=2, cached=False, anatomy=True))
    assert without_time(there.rows) == without_time(here.rows)
    assert len(there.anatomy) == 4


def test_cached_rows_are_not_measured_again(
    pictures: list[Path], patch_model: Model, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    done: list[str] = []
    measured = _Worker.measured

    def spy(self: _Worker, task: object) -> Row:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(task.image)  # type: ignore[attr-defined]
        return measured(self, task)  # type: ignore[arg-type]

    monkeypatch.setattr(_Worker, "measured", spy)
    wanted = Wanted(models=[str(patch_model.path)], qualities=["all"])
    with pytest.raises(KeyboardInterrupt):
        run(pictures, wanted, Options(jobs=0))
    assert done == ["a.png", "a.png", "b.png"]
    done.clear()
    with pytest.raises(KeyboardInterrupt):  # the broken picture is tried again, the good one is not
        run(pictures, wanted, Options(jobs=0))
    assert done == ["b.png", "b.png", "c.png"]
    done.clear()
    first = run(pictures, wanted, Options(jobs=0))
    assert done == ["b.png", "b.png", "c.png"]
    done.clear()
    pictures[0].rename(pictures[0].with_name("d.png"))  # the content counts, not the name
    again = run([pictures[0].with_name("d.png"), pictures[2]], wanted, Options(jobs=0))
    assert done == []
    assert [str(row) for row in again.rows] == [
        str(row).replace("a.png", "d.png") for row in first.rows if row.error is None
    ]
    done.clear()
    entry = next(home.glob("*.bin"))
    entry.write_bytes(entry.read_bytes()[:-1])
    run(pictures[2:], wanted, Options(jobs=0)), run([pictures[0].with_name("d.png")], wanted, Options(jobs=0))
    assert len(done) == 1  # a damaged entry is ignored
    done.clear()
    run(pictures[2:], wanted, Options(jobs=0, cached=False))
    assert len(done) == 2


def test_the_cache_key_and_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert digest({"a": 1, "b": (2.5,)}) == digest({"b": [2.5], "a": 1}) != digest({"a": 1})
    assert {"vqcodec", "numpy", "pillow", "scipy", "range coder", "networks"} <= set(versions())
    for name, value in (("linux", ".cache/vqcodec/bench"), ("darwin", "Library/Caches/vqcodec/bench")):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(caches.sys, "platform", name)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert default_folder() == tmp_path / value


def test_old_entries_are_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    for name, age in (("old", 61), ("new", 59)):
        cache.file(name).write_bytes(b"")
        os.utime(cache.file(name), (0, time.time() - age * 86400))
    Cache(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["new.bin"]


def test_a_run_works_without_a_cache_folder(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(run(pictures[:1], Wanted(codecs=["jpeg:50"]), Options(jobs=0)).means) == 1


def test_matched_sizes(pictures: list[Path], patch_model: Model) -> None:
    wanted = Wanted(codecs=["webp", "jpeg"])
    results = run(pictures, wanted, Options(jobs=0, match=Match("bpp", 2.0)))
    good = [row for row in results.rows if row.error is None]
    assert [(row.codec, row.image) for row in good] == [
        (codec, image) for codec in ("webp", "jpeg") for image in ("a.png", "c.png")
    ]
    assert all(abs(row.bpp / 2.0 - 1) <= 0.02 for row in good)
    assert [row.image for row in results.means] == ["mean of 2"] * 2
    assert results.bd == ()
    tiny = run(pictures[:1], wanted, Options(jobs=0, match=Match("bpp", 0.01)))
    assert "cannot be met" in str(tiny.rows[0].error)


@pytest.mark.parametrize(("text", "figure"), [("ssimulacra2=-20", "ssimulacra2"), ("psnr=29", "psnr")])
def test_matched_quality(pictures: list[Path], patch_model: Model, text: str, figure: str) -> None:
    match = read_match(text)
    results = run(pictures, Wanted(codecs=["webp", "jpeg"]), Options(jobs=0, match=match, anchor="webp"))
    good = [row for row in results.rows if row.error is None]
    assert len(good) == 4
    for row in good:
        assert match.value <= getattr(row, figure) <= match.value + 6
    assert [str(match), match.by_rate] == [{"ssimulacra2": "SSIMULACRA2 -20", "psnr": "PSNR 29 dB"}[figure], False]
    assert results.bd == ()
    lines = printed(results).split("on how many pictures better")[1]
    assert "of 2" in lines
    assert "%" in lines
    best = run(pictures[:1], Wanted(codecs=["jpeg"]), Options(jobs=0, match=read_match("psnr=90")))
    assert "PSNR 90 dB cannot be met: jpeg reaches" in str(best.rows[0].error)


def test_a_model_is_matched_by_quality(pictures: list[Path], patch_model: Model) -> None:
    codec = Codec(patch_model)
    picture = read_picture(pictures[0])
    wanted = psnr(codec.decompress(codec.compress(picture, 1)).pixels, picture.pixels)
    match = Match("psnr", wanted - 0.01)
    [row] = run(pictures[:1], Wanted(codecs=[str(patch_model.path)]), Options(jobs=0, match=match)).rows
    assert row.error is None
    assert row.psnr >= match.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "bits per pixel must be above 0"), ("1000", "below 1000"), ("x", "'x' is not a number"),
        ("vmaf=90", "use a rate such as 0.3"), ("ssimulacra2=100", "below 100"), ("psnr=", "'' is not a number"),
        ("psnr=nan", "PSNR must be above 0"),
    ],
)  # fmt: skip
def test_targets_that_are_none(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_match(text)
    assert read_match("0.3") == read_match(" bpp=0.3") == Match("bpp", 0.3)


def pixels(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def test_a_view_shows_files_of_equal_size(pictures: list[Path]) -> None:
    results = run(pictures, Wanted(codecs=["jpeg:20,60,90", "webp:20,80"]), Options(jobs=0, views=5))
    assert list(results.pictures) == ["a.png", "c.png"]
    view = results.pictures["a.png"]
    assert view.bpp == next(row.bpp for row in results.rows if row.quality == 60)
    assert list(view.shown) == ["jpeg", "webp"]
    assert view.shown["jpeg"].row.quality == 60
    assert view.shown["webp"].row.bpp == pytest.approx(view.bpp, rel=0.02)
    assert view.shown["webp"].row.quality not in (20, 80)
    assert (view.media, view.shown["webp"].media) == ("image/webp", "image/webp")
    original = read_picture(pictures[0]).pixels
    assert np.array_equal(pixels(view.original), original)
    webp = peer("webp")
    assert webp is not None
    data = webp.compress(Picture(original, "RGB"), view.shown["webp"].row.quality)
    assert np.array_equal(pixels(view.shown["webp"].picture), webp.decompress(data).pixels)


def test_a_view_shows_the_nearest_size_if_it_cannot_be_matched(pictures: list[Path], patch_model: Model) -> None:
    wanted = Wanted(codecs=["jpeg:60,90", str(patch_model.path)], qualities=["all"])
    results = run(pictures, wanted, Options(jobs=0, views=1))
    [view] = results.pictures.values()
    own = next(row for row in results.rows if row.codec == "tiny-patch" and row.quality == 2)
    assert view.bpp == own.bpp  # the first model decides, at its default quality
    assert (view.shown["tiny-patch"].row.quality, view.shown["jpeg"].row.quality) == (2, 60)
    codec = Codec(patch_model)
    decoded = codec.decompress(codec.compress(read_picture(pictures[0]), 2)).pixels
    assert np.array_equal(pixels(view.shown["tiny-patch"].picture), decoded)


# Anatomy


@pytest.mark.parametrize("name", ["patch", "conv", "filtered"])
def test_the_bits_of_a_file_add_up(name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(f"{name}_model")
    codec, picture = Codec(model), Picture(synthetic(90, 120), "RGB", np.full((90, 120), 9, np.uint8))
    data = codec.compress(picture)
    found = dissect(data, model)
    header = read_header(data)
    assert found.total_bytes == len(data)
    parts = found.header_bytes + found.checksum_bytes + found.alpha_bytes + found.postfilter_bytes
    assert parts + found.payload_bytes == len(data)
    assert found.checksum_bytes == 4 * (found.units + 1 + (model.config.vqvae.postfilter > 0))
    assert (found.postfilter_bytes > 0) == (model.config.vqvae.postfilter > 0)
    assert found.units == header.rows * header.cols > 1
    # The range coder is close to the ideal code length. Each unit ends on a word of 32 bits, and may have a map.
    maps = 8 * (1 + 13 + 2) if header.stored else 0
    assert -32 * found.units <= found.overhead_bits <= (40 + maps) * found.units + 0.001 * found.ideal_bits
    assert found.stored_bytes == describe(data).stored_bytes
    assert found.ideal_bits == pytest.approx(sum(book.bits for book in found.codebooks))
    assert found.zero_order_bits == pytest.approx(sum(book.zero_order_bits for book in found.codebooks))
    assert found.prior_gain == pytest.approx(found.zero_order_bits / found.ideal_bits)
    assert [book.size for book in found.codebooks] == [size for size, _ in model.config.vqvae.codebooks]
    assert all(1 <= book.perplexity <= book.size for book in found.codebooks)
    assert found.naive_bits == pytest.approx(found.positions * model.config.vqvae.naive_bits)


def test_zero_order_entropy_by_hand() -> None:
    assert entropy_bits(np.array([0, 0, 1, 1], np.int32)) == pytest.approx(4)
    assert entropy_bits(np.array([7, 7, 7], np.int32)) == 0
    assert entropy_bits(np.array([0, 0, 0, 1], np.int32)) == pytest.approx(8 - 3 * np.log2(3))


def test_means_of_anatomies(patch_model: Model) -> None:
    codec = Codec(patch_model)
    both = [dissect(codec.compress(Picture(synthetic(64, 64, seed), "RGB")), patch_model) for seed in (1, 2)]
    found = mean_anatomy(both)
    assert found.image == "mean of 2"
    assert found.ideal_bits == pytest.approx((both[0].ideal_bits + both[1].ideal_bits) / 2)
    assert found.codebooks[0].bits == pytest.approx(sum(one.codebooks[0].bits for one in both) / 2)


# Processes


def double(argument: int) -> Callable[[int], int]:
    def work(task: int) -> int:
        if task == 13:
            os._exit(9)
        if task == 14:
            raise ValueError("no")
        return argument * task

    return work


def test_tasks_in_processes() -> None:
    assert dict(in_processes(double, 2, [1, 2, 3], 0, 1)) == {0: 2, 1: 4, 2: 6}
    found = dict(in_processes(double, 2, [1, 13, 3, 4], 2, 1))
    lost = found.pop(1)
    assert found == {0: 2, 2: 6, 3: 8}
    assert isinstance(lost, Lost)
    assert "exit code 9" in lost.reason
    with pytest.raises(ValueError, match="no"):
        list(in_processes(double, 2, [1, 14], 2, 1))
    assert list(in_processes(double, 2, [], 2, 1)) == []


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # SIGINT is ignored if a script started the tests with &
sys.argv[0] = "vqcodec"
from vqcodec.cli.main import main
if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("how", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGKILL", -9)])
def test_no_process_is_left_behind(pictures: list[Path], tmp_path: Path, how: str, code: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    big = tmp_path / "big.png"
    Image.fromarray(synthetic(1500, 2000)).save(big)
    environment = os.environ | {"PYTHONPATH": str(Path(caches.__file__).parents[2])}
    slow = "avif:" + ",".join(str(quality) for quality in range(60, 90))  # minutes of work
    command = [sys.executable, str(script), "bench", str(big), "--codec", slow, "--jobs", "2"]
    process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while len(family(process.pid)) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        if how == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)  # to the whole process group, as a terminal does
        else:
            process.send_signal(signal.Signals[how])
        err = process.communicate(timeout=60)[1]
        assert process.returncode == code
        if how != "SIGKILL":  # a child whose parent dies during its start prints a traceback
            assert "Traceback" not in err
        while (left := family(process.pid)) and time.monotonic() < deadline + 30:
            time.sleep(0.05)
        assert left == []
    finally:
        for pid in family(process.pid):
            os.kill(pid, signal.SIGKILL)


def test_the_json_of_a_cache_entry(pictures: list[Path], home: Path) -> None:
    run(pictures[:1], Wanted(codecs=["jpeg:50"]), Options(jobs=0))
    [entry] = [json.loads(path.read_text()) for path in home.glob("*.json")]
    assert entry["row"]["codec"] == "jpeg"
    assert entry["row"]["bytes"] == next(home.glob("*.bin")).stat().st_size
