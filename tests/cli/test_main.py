"""The command line: file names, exit codes, streams, usage errors. The codec is a stand-in without networks."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command import Result, Stream, vqcodec_in_process
from PIL import Image
from stand_in import DIGESTS, FakeCodec, describe, fake_model, install, png, replace

from vqcodec.cli import main as cli
from vqcodec.cli.options import parse_count, parse_size
from vqcodec.cli.terminal import named, printable
from vqcodec.codec.codec import DEFAULT_EFFORT, ROUNDS
from vqcodec.codec.encoded import Encoded
from vqcodec.coding.native import missing
from vqcodec.coding.payloads import implementation
from vqcodec.errors import OutputError, UsageError
from vqcodec.files import plan as jobs
from vqcodec.files.plan import Naming
from vqcodec.nn import native as networks
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Install the stand-in, and change to an empty folder."""
    install(monkeypatch, tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    return lambda *args, **options: vqcodec_in_process(monkeypatch, *args, **options)


Run = Callable[..., Result]


# Names


def test_without_out_a_file_is_written_next_to_its_input(run: Run) -> None:
    os.mkdir("in")
    png("in/a.b.png")
    assert run("compress", "in/a.b.png").code == 0
    assert Path("in/a.b.vq").is_file()
    os.remove("in/a.b.png")
    assert run("decompress", "in/a.b.vq").code == 0
    assert size_of("in/a.b.png") == (24, 16)


@pytest.mark.parametrize(("out", "made"), [("x.vq", "x.vq"), ("new/", "new/a.vq"), ("there", "there/a.vq")])
def test_one_file_with_out(run: Run, out: str, made: str) -> None:
    png("a.png")
    os.mkdir("there")
    assert run("compress", "a.png", "-o", out).code == 0
    assert Path(made).is_file()


def test_several_files_go_into_a_folder_that_is_made(run: Run) -> None:
    png("a.png"), png("b.png")
    assert run("compress", "a.png", "b.png", "-o", "x/y").code == 0
    assert sorted(os.listdir("x/y")) == ["a.vq", "b.vq"]
    assert run("decompress", "x/y", "-o", "z").code == 0
    assert sorted(os.listdir("z")) == ["a.png", "b.png"]


def test_a_folder_stands_for_the_pictures_in_it(run: Run) -> None:
    os.makedirs("in/deeper")
    for name in ("b.png", "a.JPG", ".hidden.png", "deeper/c.png"):
        png(f"in/{name}")
    Path("in/notes.txt").write_text("no picture")
    Path("in/old.vq").write_bytes(b"no picture")
    result = run("compress", "in", "-o", "out", "--json")
    assert [Path(r["input"]).name for r in json.loads(result.out)] == ["a.JPG", "b.png"]
    assert sorted(os.listdir("out")) == ["a.vq", "b.vq"]


def test_decompress_writes_the_format_of_the_suffix(run: Run) -> None:
    png("a.png")
    run("compress", "a.png")
    assert run("decompress", "a.vq", "-o", "b.bmp").code == 0
    assert Path("b.bmp").read_bytes().startswith(b"BM")
    result = run("decompress", "a.vq", "-o", "b.txt")
    assert result.code == 2
    assert not Path("b.txt").exists()


@pytest.mark.parametrize(
    ("inputs", "out"),
    [
        (["a.png", "b.png"], "file"),  # not a folder
        (["a.png", "b.png"], "-"),
        (["a.png", "-"], None),
        (["-"], "sub/"),  # no name to use there
        (["a.png"], "a.png"),
        (["a.png"], "sub/../a.png"),
        (["empty"], "out"),
        ([""], None),
        (["a.png", ""], "out"),
        (["a.png"], ""),
        (["a.vq"], None),  # would be its own output
    ],
)
def test_usage_errors_are_found_before_any_work(run: Run, inputs: list[str], out: str | None) -> None:
    os.mkdir("sub")
    os.mkdir("empty")
    for name in ("a.png", "a.jpg", "b.png", "sub/a.png"):
        png(name)
    Path("file").write_text("here before")
    Path("a.vq").write_text("here before")
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    result = run("compress", *inputs, *([] if out is None else ["-o", out]), "--force")
    assert result.code == 2
    assert result.err.startswith("vqcodec: error: ")
    assert result.err.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


@pytest.mark.parametrize(
    ("inputs", "out", "refused"),
    [
        (["b.png", "b.vq"], None, ["b.vq is an input and would be overwritten; name another -o"] * 2),
        (["x/b.png", "y/b.png"], "out", [
            "its result out/b.vq would also be that of y/b.png; give each an -o of its own",
            "its result out/b.vq would also be that of x/b.png; give each an -o of its own",
        ]),
        (["b.png", "c.png", "b.jpg"], None, [
            "its result b.vq would also be that of b.jpg; --keep-suffix gives each a name of its own",
            None,
            "its result b.vq would also be that of b.png; --keep-suffix gives each a name of its own",
        ]),
        (["b.png", "b.png"], None, ["it is given 2 times, and each result would be b.vq"] * 2),
        ([f"b.{n}" for n in range(7)], None, None),
    ],
)  # fmt: skip
def test_an_output_never_replaces_an_input_or_another_output(
    inputs: list[str], out: str | None, refused: list[str | None] | None
) -> None:
    found = [job.refused for job in jobs.plan(inputs, out, Naming(".vq")).jobs]
    if refused is None:
        assert "would also be that of b.1, b.2, b.3, b.4, 2 more; " in str(found[0])
    else:
        assert [None if text is None else text.replace(os.sep, "/") for text in found] == refused


@pytest.mark.parametrize(
    ("source", "suffix", "keep", "target"),
    [
        ("x/a.jpg", ".vq", False, "x/a.vq"),
        ("x/a.jpg", ".vq", True, "x/a.jpg.vq"),
        ("a.jpg_large", ".vq", False, "a.vq"),
        ("a", ".vq", True, "a.vq"),
        ("a.vq", ".png", False, "a.png"),
        ("a.jpg.vq", ".png", False, "a.jpg.png"),
        ("a.png.vq", ".png", False, "a.png"),
        ("a.PNG.vq", ".png", False, "a.PNG"),
        ("a.vq", ".png", True, "a.vq.png"),
        ("a.b.png", ".vq", False, "a.b.vq"),
    ],
)
def test_names_of_results(source: str, suffix: str, keep: bool, target: str) -> None:
    for out in (None, "out/"):
        (job,) = jobs.plan([source], out, Naming(suffix, keep_suffix=keep)).jobs
        assert job.target == (Path(target) if out is None else Path(out, Path(target).name))


def test_a_link_to_the_input_is_the_input(run: Run) -> None:
    os.link(png("a.png"), "b.vq")
    result = run("compress", "a.png", "-o", "b.vq", "--force")
    assert result.code == 2
    assert "is the input itself" in result.err


# Overwriting


def test_nothing_is_replaced_without_force(run: Run) -> None:
    png("a.png")
    Path("a.vq").write_bytes(b"precious")
    result = run("compress", "a.png")
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert "a.vq" in result.err
    assert "--force" in result.err
    assert Path("a.vq").read_bytes() == b"precious"
    assert run("compress", "a.png", "--force").code == 0
    assert Path("a.vq").read_bytes() != b"precious"


def test_an_existing_output_is_noticed_before_the_model_is_loaded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    png("a.png")
    Path("a.vq").touch()
    replace(monkeypatch, "codec")  # loading it would fail
    assert run("compress", "a.png").code == 1
    assert run("compress", "a.png", "-o", "no/such/folder.vq").code == 1
    assert run("compress", "missing.png").code == 1


# Streams


def test_standard_streams(run: Run) -> None:
    packed = run("compress", "-", stdin=png("a.png").read_bytes())
    assert packed.code == 0
    assert describe(packed.data).width == 24
    assert packed.err.startswith("- -> -  ")
    unpacked = run("decompress", "-", "-o", "-", stdin=packed.data)
    assert Image.open(io.BytesIO(unpacked.data)).format == "PNG"
    assert run("decompress", "-", "-o", "b.png", stdin=packed.data).out.startswith("- -> b.png  ")
    assert Path("b.png").read_bytes() == unpacked.data


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_names_of_standard_output(run: Run, name: str) -> None:
    result = run("compress", png("a.png"), "-o", name)
    assert describe(result.data).width == 24
    assert result.err.startswith("a.png -> -  ")
    assert run("compress", "-", "-o", name, stdin=Path("a.png").read_bytes()).data == result.data
    source = {"/dev/stdout": "/dev/stdin", "/dev/fd/1": "/dev/fd/0"}[name]
    assert run("compress", source, stdin=Path("a.png").read_bytes()).data == result.data
    assert run("compress", "a.png", png("b.png"), "-o", name).code == 2


def test_a_result_with_the_suffix_of_a_picture_is_noted(run: Run) -> None:
    result = run("compress", png("a.png"), "-o", "b.jpg")
    assert (result.code, result.err) == (
        0, "vqcodec: note: a.png: the result b.jpg is a .vq file, whatever its suffix says\n"
    )  # fmt: skip
    assert run("compress", "a.png", "-o", "b.bin").err == ""


def test_json_goes_to_standard_error_beside_binary_output(run: Run) -> None:
    result = run("compress", png("a.png"), "-o", "-", "--json")
    assert describe(result.data).height == 16
    assert json.loads(result.err)[0]["output"] == "-"


def test_no_binary_to_or_from_a_terminal(run: Run) -> None:
    png("a.png")
    result = run("compress", "a.png", "-o", "-", terminal=True)
    assert (result.code, result.data) == (2, b"")
    assert run("compress", "-", "-o", "b.vq", terminal=True).code == 2


def test_errors_name_standard_input(run: Run) -> None:
    result = run("decompress", "-", stdin=b"no such thing")
    assert (result.code, result.data) == (1, b"")
    assert result.err == "vqcodec: error: standard input: the file is damaged\n"
    assert "standard input" in run("compress", "-", stdin=b"no such thing").err


# What is printed


def test_the_line_of_a_file(run: Run) -> None:
    result = run("compress", png("a.png", (100, 100)), "-q", "2")
    size = Path("a.vq").stat().st_size
    figures = f"{size:,} bytes  {size / 1250:.2f} bpp  {30000 / size:.1f}x  q2"
    assert re.fullmatch(rf"a\.png -> a\.vq  {re.escape(figures)}  PSNR \d\d\.\d\d dB\n", result.out)
    assert result.err == ""
    result = run("decompress", "a.vq", "-o", "b.png")
    assert result.out == f"a.vq -> b.png  {Path('b.png').stat().st_size:,} bytes  from {figures}\n"


def test_json_of_several_files(run: Run) -> None:
    png("a.png"), png("b.png")
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = run("compress", "a.png", "broken.png", "b.png", "-o", "out", "--json")
    first, second, third = json.loads(result.out)
    assert result.code == 1
    assert set(first) == {
        "input", "output", "output_bytes", "bytes", "width", "height", "bpp", "bits_per_dim", "ratio", "quality",
        "model", "digest", "seconds", "notices", "damage", "psnr", "ssimulacra2", "stored", "left_out",
    }  # fmt: skip
    assert first["bytes"] == Path("out/a.vq").stat().st_size
    assert (first["model"], first["quality"], first["notices"]) == ("photo", 3, [])
    assert first["digest"] == b"photo-00".hex()
    assert set(second) == {"input", "output", "error"}
    assert third["output"] == str(Path("out/b.vq"))
    assert sorted(os.listdir("out")) == ["a.vq", "b.vq"]
    error, last = result.err.splitlines()
    assert error.startswith("vqcodec: error: broken.png: ")
    assert last.startswith("vqcodec: 2 done, 0 skipped, 1 failed; ")


def test_notices_go_to_standard_error(run: Run) -> None:
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save("deep.png")
    result = run("compress", "deep.png")
    assert result.code == 0
    assert result.err.startswith("vqcodec: note: deep.png: ")
    assert result.out.startswith("deep.png -> deep.vq")


def test_notices_of_several_pictures_are_summed_up(run: Run) -> None:
    os.mkdir("in")
    exif = Image.Exif()
    exif[0x010F] = "maker"
    for name in "abc":
        Image.new("RGB", (8, 8)).save(f"in/{name}.jpg", exif=exif)
    for name, value in (("d", 40_000), ("e", 50_000)):
        Image.fromarray(np.array([[0, value]], np.float32)).save(f"in/{name}.tif")
    Image.new("CMYK", (8, 8)).save("in/f.jpg")
    result = run("compress", "in", "-o", "out", "--json")
    noted = [line for line in result.err.splitlines() if ": note: " in line]
    first = os.path.join("in", "a.jpg")
    assert noted[0] == (f"vqcodec: note: 3 pictures: EXIF was left out; --keep-metadata keeps it (the first: {first})")
    assert noted[1].startswith("vqcodec: note: 2 pictures: ")
    assert noted[1].endswith(f", or with other figures (the first: {os.path.join('in', 'd.tif')})")
    assert noted[2].startswith(f"vqcodec: note: {os.path.join('in', 'f.jpg')}: ")
    assert len(noted) == 3
    records = json.loads(result.out)
    assert [len(record["notices"]) for record in records] == [1] * 6
    assert records[0]["notices"] == ["EXIF was left out; --keep-metadata keeps it"]
    assert run("compress", "in/a.jpg", "-o", "a.vq").err == (
        "vqcodec: note: in/a.jpg: EXIF was left out; --keep-metadata keeps it\n"
    )
    kept = run("compress", "in/a.jpg", "-o", "b.vq", "--keep-metadata")
    assert "left out" not in kept.err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_control_characters_in_file_names_are_escaped(run: Run) -> None:
    name = "a\x1b[31m\nb.png"
    png(name)
    result = run("compress", name)
    assert result.code == 0
    assert result.out.startswith("a\\x1b[31m\\nb.png -> ")
    assert printable("caf\u00e9\udcff") == "caf\u00e9\\udcff"
    assert named("a\n", "a\\n: broken") == "a\\n: broken"
    assert named("a.png", "x/a.png: broken") == "x/a.png: broken"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_broken_name_is_not_fatal(run: Run) -> None:
    result = run("compress", os.fsdecode(b"\xff.png"))
    assert result.code == 1
    assert result.err.count("\n") == 1


# The quality that was reached


def test_the_psnr_of_the_decoded_picture(run: Run) -> None:
    png("a.png", (100, 100))
    command = ["compress", "a.png", "-o", "a.vq", "-q", "1", "--manifest", "m.jsonl"]
    (record,) = json.loads(run(*command, "--json").out)
    run("decompress", "a.vq", "-o", "b.png")
    expected = psnr(read_picture("a.png").pixels, read_picture("b.png").pixels)
    assert record["psnr"] == pytest.approx(expected)
    assert json.loads(Path("m.jsonl").read_text())["psnr"] == record["psnr"]
    assert f"  PSNR {expected:.2f} dB\n" in run("compress", "a.png", "--force", "-q", "1").out
    assert json.loads(run("decompress", "a.vq", "--force", "--json").out)[0]["psnr"] is None
    assert "dB" not in run("decompress", "a.vq", "--force").out


def test_the_psnr_of_a_picture_that_comes_back_exactly_is_valid_json(run: Run) -> None:
    Image.new("RGB", (9, 9)).save("a.png")

    def refused(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    result = run("compress", "a.png", "-o", "a.vq", "--manifest", "m.jsonl", "--json")
    for text in (result.out, Path("m.jsonl").read_text()):
        assert '"psnr": null' in text
        json.loads(text, parse_constant=refused)
    assert run("compress", "a.png", "--force").out.endswith("  exact\n")


# Files that would be larger


def small_png(name: str) -> int:
    """A PNG that is smaller than the stand-in's file of it; its bytes."""
    Image.new("L", (2, 2)).save(name)
    return Path(name).stat().st_size


def test_a_larger_result_is_noted(run: Run) -> None:
    before = small_png("a.png")
    result = run("compress", "a.png")
    after = Path("a.vq").stat().st_size
    assert after > before
    assert result.err == (
        f"vqcodec: note: a.png: the .vq file is larger than the input ({after} and {before} bytes); --skip-larger "
        "leaves such files out\n"
    )
    assert "larger" not in run("compress", png("b.png", (100, 100))).err
    assert "--skip-larger" not in run("compress", "a.png", "-o", "-").err


def test_a_larger_result_is_left_out(run: Run) -> None:
    os.mkdir("in")
    small_png("in/a.png"), png("in/b.png", (100, 100))
    result = run("compress", "in", "-o", "out", "--skip-larger")
    assert result.code == 0
    assert os.listdir("out") == ["b.vq"]
    assert result.out.splitlines()[0].startswith(f"{Path('in/a.png')} -> left out  ")
    assert "was not written" in result.err
    assert "vqcodec: 1 done, 0 skipped, 0 failed, 1 left out as larger; " in result.err
    left_out, done = json.loads(run("compress", "in", "-o", "out", "--force", "--skip-larger", "--json").out)
    assert (left_out["left_out"], left_out["output_bytes"], done["left_out"]) == (True, 0, False)
    assert left_out["bytes"] > 0


def test_an_earlier_result_is_kept_and_named_if_the_new_one_is_left_out(run: Run) -> None:
    small_png("a.png")
    Path("a.vq").write_bytes(b"earlier")
    result = run("compress", "a.png", "--force", "--skip-larger")
    assert result.err.endswith("; a.vq is an earlier one and was kept\n")
    assert Path("a.vq").read_bytes() == b"earlier"


@pytest.mark.parametrize("names", [("-", "-o", "a.vq"), ("a.png", "-o", "-")])
def test_nothing_is_left_out_of_standard_streams(run: Run, names: tuple[str, ...]) -> None:
    small_png("a.png")
    result = run("compress", *names, "--skip-larger")
    assert (result.code, result.err.count("\n")) == (2, 1)


def test_a_manifest_knows_what_was_left_out(run: Run) -> None:
    os.mkdir("in")
    small_png("in/a.png"), png("in/b.png", (100, 100))
    command = ("compress", "in", "-o", "out", "--manifest", "m.jsonl")
    run(*command, "--skip-larger")
    assert [json.loads(line)["left_out"] for line in Path("m.jsonl").read_text().splitlines()] == [True, False]
    assert "vqcodec: 0 done, 2 skipped, 0 failed" in run(*command, "--skip-larger").err
    small_png("in/a.png"), os.utime("in/a.png", (1, 1))
    assert "vqcodec: 0 done, 1 skipped, 0 failed, 1 left out as larger" in run(*command, "--skip-larger").err
    assert "vqcodec: 2 done, 0 skipped, 0 failed; " in run(*command).err  # with other options it is written
    assert sorted(os.listdir("out")) == ["a.vq", "b.vq"]


# Models and qualities


def test_the_model_of_a_file_is_found(run: Run) -> None:
    png("a.png")
    assert json.loads(run("compress", "a.png", "--model", "paper", "--json").out)[0]["model"] == "paper"
    assert json.loads(run("decompress", "a.vq", "-o", "b.png", "--json").out)[0]["model"] == "paper"
    assert run("decompress", "a.vq", "-o", "c.png", "--model", "photo").code == 1


def test_a_model_in_a_folder(run: Run) -> None:
    png("a.png")
    assert run("compress", "a.png", "--model", "models/mine").code == 0
    result = run("decompress", "a.vq", "-o", "b.png")
    assert result.code == 1
    assert "is not installed" in result.err
    result = run("decompress", "a.vq", "-o", "b.png", "--model", "models/mine", "--json")
    assert json.loads(result.out)[0]["model"] == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ["-q", "4"], ["-q", "0"], ["-q", "best"], ["--level", "1"],
        ["--effort", "4"], ["--effort", "-1"], ["--effort", "most"],
        ["--target-bpp", "0"], ["--target-bpp", "nan"], ["--target-psnr", "-30"], ["--target-psnr", "inf"],
        ["--target-size", "0"], ["--target-size", "5 apples"], ["--target-psnr", "91"],
        ["--target-ssimulacra2", "101"], ["--target-ssimulacra2", "nan"], ["--target-ssimulacra2", "high"],
    ],
)  # fmt: skip
def test_usage_errors(run: Run, arguments: list[str]) -> None:
    result = run("compress", png("a.png"), *arguments)
    assert (result.code, result.out) == (2, "")
    assert not Path("a.vq").exists()


@pytest.mark.parametrize("quality", ["0", "-1", "4", "99"])
def test_a_quality_that_the_model_does_not_have_names_those_that_it_has(run: Run, quality: str) -> None:
    assert run("compress", png("a.png"), "-q", quality).err == (
        f"vqcodec: error: the qualities are 1 to 3, not {quality}\n"
    )


# Mistaken words


@pytest.mark.parametrize(
    ("name", "command"),
    [("a.png", "compress"), ("a.vq", "decompress"), ("pictures", "compress"), ("files", "decompress")],
)
def test_a_file_in_the_place_of_a_command(run: Run, name: str, command: str) -> None:
    os.mkdir("pictures"), os.mkdir("files")
    png("a.png"), run("compress", "a.png")
    run("compress", "a.png", "-o", "files/")
    result = run(name)
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"vqcodec: error: {name} is a file or folder, not a command; did you mean: vqcodec {command} {name}\n"
    )
    assert "No such command 'b.png'" in run("b.png").err


@pytest.mark.parametrize("name", ["-dash.png", "-q.png", "-o.png", "--long.png"])
def test_a_file_in_the_place_of_an_option(run: Run, name: str) -> None:
    png(name), png("a.png")
    for arguments in ([name], ["a.png", name]):
        result = run("compress", *arguments)
        if name == "-o.png" and len(arguments) == 2:  # the option -o with a value
            assert (result.code, os.path.exists(".png")) == (0, True)
            continue
        assert (result.code, result.out) == (2, "")
        assert result.err == f"vqcodec: error: {name} was taken for an option; write ./{name}, or -- before it\n"
    assert run("compress", "--", name).code == 0
    assert Path(name).with_suffix(".vq").is_file()
    assert "No such option" in run("compress", "--longer.png").err


def test_the_usage_of_inspect(run: Run) -> None:
    assert run("inspect", "--help").out.startswith("Usage: vqcodec inspect [OPTIONS] [PICTURE]\n")


# Effort and targets

QUALITY_OR_TARGET = [
    ["-q", "2"], ["--target-bpp", "0.5"], ["--target-size", "9k"], ["--target-psnr", "30"],
    ["--target-ssimulacra2", "70"],
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(QUALITY_OR_TARGET, 2)))
def test_a_quality_and_the_targets_exclude_one_another(run: Run, first: list[str], second: list[str]) -> None:
    result = run("compress", png("a.png"), png("b.png"), *second, *first)
    assert (result.code, result.out) == (2, "")
    targets = "--target-bpp, --target-size, --target-psnr and --target-ssimulacra2"
    assert result.err == f"vqcodec: error: give one of -q, --lossless, {targets}\n"
    assert sorted(os.listdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("target", ["--target-bpp", "--target-size", "--target-psnr"])
def test_an_invalid_target_is_one_error_for_all_pictures(run: Run, target: str) -> None:
    result = run("compress", png("a.png"), png("b.png"), target, "0")
    assert (result.code, result.err.count("\n"), sorted(os.listdir())) == (2, 1, ["a.png", "b.png"])


def test_a_score_above_100_is_one_error_that_says_what_is_usual(run: Run) -> None:
    result = run("compress", png("a.png"), png("b.png"), "--target-ssimulacra2", "120")
    assert (result.code, sorted(os.listdir())) == (2, ["a.png", "b.png"])
    assert result.err == (
        "vqcodec: error: SSIMULACRA2 is a number of at most 100, not 120; usual values are 30 (low quality), "
        "50 (medium), 70 (high) and 90 (visually lossless)\n"
    )


def head(name: str) -> dict[str, Any]:
    """The arguments that the stand-in received."""
    found: dict[str, Any] = json.loads(Path(name).read_bytes().split(b"\n", 1)[0])
    return found


@pytest.mark.parametrize("target", [[], ["--target-psnr", "30"]])
def test_the_effort_reaches_the_codec(run: Run, target: list[str]) -> None:
    assert run("compress", png("a.png"), *target).code == 0
    assert head("a.vq")["effort"] == DEFAULT_EFFORT
    for effort in range(len(ROUNDS)):
        assert run("compress", "a.png", "--force", "--effort", str(effort), *target).code == 0
        assert head("a.vq")["effort"] == effort
    assert run("compress", "a.png", "--force", "--effort", str(len(ROUNDS)), *target).code == 2
    assert f"0 to {len(ROUNDS) - 1}; default {DEFAULT_EFFORT}" in " ".join(run("compress", "--help").out.split())


def test_a_target_is_for_each_of_several_pictures(run: Run) -> None:
    png("a.png", (24, 16)), png("b.png", (100, 50))
    for target, kind, values in (
        (["--target-bpp", "0.5"], "bytes", (24 * 16 / 16, 100 * 50 / 16)),
        (["--target-size", "2 KiB"], "bytes", (2048, 2048)),
        (["--target-psnr", "31.5"], "psnr", (31.5, 31.5)),
        (["--target-ssimulacra2", "70"], "ssimulacra2", (70, 70)),
        (["--target-ssimulacra2", "-2.5"], "ssimulacra2", (-2.5, -2.5)),
    ):
        assert run("compress", "a.png", "b.png", "-o", "out", "--force", *target).code == 0
        for name, value in zip("ab", values, strict=True):
            assert (head(f"out/{name}.vq")["kind"], head(f"out/{name}.vq")["value"]) == (kind, value)


def test_a_target_that_one_picture_cannot_meet_does_not_stop_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    png("a.png"), png("b.png", (100, 50))

    def for_large_ones(codec: FakeCodec, picture: Picture, *_: object, measure: bool) -> Encoded:
        if picture.width < 50:
            raise UsageError("the target cannot be met")
        return Encoded(codec.compress(picture))

    monkeypatch.setattr(sys.modules["vqcodec.codec.rate_control"], "compress_to", for_large_ones)
    result = run("compress", "a.png", "b.png", "-o", "out", "--target-size", "99")
    assert result.code == 1
    assert result.err.startswith(
        "vqcodec: error: a.png: the target cannot be met\nvqcodec: 1 done, 0 skipped, 1 failed; "
    )
    assert os.listdir("out") == ["b.vq"]


def test_the_line_of_a_file_with_a_target(run: Run) -> None:
    result = run("compress", png("a.png", (100, 100)), "--target-psnr", "30")
    size = Path("a.vq").stat().st_size
    figures = f"a.png -> a.vq  {size:,} bytes  {size / 1250:.2f} bpp  {30000 / size:.1f}x  q1  PSNR "
    assert result.out.startswith(figures)


def test_the_score_is_told_if_it_is_the_target(run: Run) -> None:
    command = ["compress", png("a.png", (100, 100)), png("b.png", (50, 50)), "--force", "--target-ssimulacra2", "70"]
    result = run(*command)
    assert re.search(r"^a\.png -> a\.vq  .*  q1  SSIMULACRA2 70\.25  PSNR \d\d\.\d\d dB$", result.out, re.MULTILINE)
    assert re.search(r", mean SSIMULACRA2 70\.25, mean PSNR \d\d\.\d\d dB\n", result.err)
    records = json.loads(run(*command, "-o", "out", "--json", "--manifest", "m.jsonl").out)
    assert [record["ssimulacra2"] for record in records] == [70.25, 70.25]
    assert [json.loads(line)["ssimulacra2"] for line in Path("m.jsonl").read_text().splitlines()] == [70.25, 70.25]
    result = run("compress", "a.png", "--force", "--target-psnr", "30", "--json")
    assert json.loads(result.out)[0]["ssimulacra2"] is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1), ("50000", 50_000), ("50k", 50_000), ("50K", 50_000), ("50kB", 50_000), ("50 kb", 50_000),
        ("1.5M", 1_500_000), ("2G", 2_000_000_000), ("1KiB", 1024), ("0.5 MiB", 524_288), ("1GiB", 1 << 30),
        ("12b", 12), (" 7 ", 7), ("0.001k", 1), ("9.99", 9), ("999999999999999999", 10**18),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == pytest.approx(size, rel=1e-15, abs=0)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "k", "B", "-1", "+1", "0", "0.9", "0k", "0.0001k", "1e3", "1,5M", "1_000", "1m", "1T", "1i", "1iB",
        "1kk", "k1", "1.k", ".5k", "1 0", "0x10", "nan", "inf", "١", "1k1", "9" * 400, "9" * 5000 + "G",
    ],
    ids=lambda text: text[:9],
)  # fmt: skip
def test_invalid_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("200M", 200_000_000), ("1.5G", 1_500_000_000), (" 2k ", 2000)])
def test_counts(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "0.4", "M", "1 M", "1MB", "1e6", "nan", "9999999999G"])
def test_invalid_counts(text: str) -> None:
    with pytest.raises(UsageError, match="not a count"):
        parse_count(text)


def test_max_pixels_sets_the_limit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    png("a.png")  # 384 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow refuses a picture of twice this
    limited = run("compress", "a.png", "--max-pixels", "383")
    assert limited.code == 1
    assert "--max-pixels" in limited.err
    assert run("compress", "a.png", "--max-pixels", "384").code == 0
    for command in (["decompress", "a.vq", "-o", "b.png"], ["verify", "--deep", "a.vq"]):
        assert run(*command, "--max-pixels", "383").code == 1
        assert run(*command, "--max-pixels", "384").code == 0


def test_an_unknown_model_is_one_error_for_all_pictures(run: Run) -> None:
    result = run("compress", png("a.png"), png("b.png"), "--model", "nobody")
    assert result.code == 1
    assert result.err == "vqcodec: error: there is no model nobody\n"


def test_models(run: Run) -> None:
    paper, photo = json.loads(run("models", "--json").out)
    assert (paper["default"], photo["default"]) == (False, True)
    assert photo["qualities"] == 3
    assert photo["codebooks"] == [[512, 8]]
    assert photo["bytes"] == 2_000_000
    text = run("models").out
    assert "photo (default)" in text
    assert "2.0 MB" in text


def test_a_model_is_exported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(name: str, folder: Path, *, force: bool) -> object:
        if folder.exists() and not force:
            raise OutputError(f"{folder} exists")
        folder.mkdir(exist_ok=True)
        return SimpleNamespace(name=name, digest=b"12345678", path=folder, size=7)

    monkeypatch.setattr(sys.modules["vqcodec.model.store"], "export_model", export, raising=False)
    assert run("models", "--export", "photo").out == "photo 3132333435363738 -> photo\n"
    assert Path("photo").is_dir()
    assert run("models", "--export", "photo").code == 1
    assert run("models", "--export", "photo", "--force").code == 0
    found = json.loads(run("models", "--export", "photo", "-o", "b", "--json").out)
    assert found == {"name": "photo", "digest": "3132333435363738", "folder": "b", "bytes": 7}
    assert run("models", "-o", "c").code == 2


def test_info(run: Run) -> None:
    run("compress", png("a.png"), "-q", "1")
    size = Path("a.vq").stat().st_size
    found = json.loads(run("info", "a.vq", "--json").out)
    assert (found["width"], found["height"], found["quality"], found["model"]) == (24, 16, 1, "photo")
    assert found["total_bytes"] == size
    assert found["bpp"] == pytest.approx(8 * size / (24 * 16))
    assert found["file"] == "a.vq"
    text = run("info", "-", stdin=Path("a.vq").read_bytes()).out
    assert "24 x 16 pixels, RGB" in text
    assert "photo (digest" in text
    assert f"{size:,} bytes" in text


@pytest.mark.parametrize("command", [["info"], ["decompress"]])
def test_bad_files(run: Run, command: list[str]) -> None:
    Path("a.vq").write_bytes(b"garbage")
    os.mkdir("folder.vq")
    for name, reason in (("a.vq", "damaged"), ("missing.vq", "no such file"), ("folder.vq", "")):
        result = run(*command, name)
        assert result.code in (1, 2)
        assert result.err.startswith("vqcodec: error: ")
        assert name in result.err
        assert reason in result.err.lower()
        assert result.err.count("\n") == 1


# Demo


def test_demo(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "bench").mkdir(parents=True)
    model = fake_model("photo", 3, package)
    picture = read_picture(png("a.png", (200, 180)))
    (package / "bench" / "demo.vq").write_bytes(FakeCodec(model).compress(picture))
    monkeypatch.setattr("importlib.resources.files", lambda name: package)
    result = run("demo", "-o", "out")
    assert result.code == 0
    names = [f"demo-q{q}.{kind}" for q in (1, 2, 3) for kind in ("png", "vq")]
    assert sorted(os.listdir("out")) == sorted(["demo.png", *names])
    for quality in (1, 2, 3):
        assert f"{Path(f'out/demo-q{quality}.vq').stat().st_size:,}" in result.out
    assert run("demo", "-o", "out").code == 1
    assert run("demo", "-o", "out", "--force").code == 0
    assert run("demo", "-o", "a.png").code == 1


# The process


def test_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeCodec, "compress", interrupt)
    result = run("compress", png("a.png"))
    assert (result.code, result.out, result.err) == (130, "", "")
    assert os.listdir() == ["a.png"]


def test_out_of_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(FakeCodec, "compress", fail)
    result = run("compress", png("a.png"))
    assert (result.code, result.err) == (1, "vqcodec: error: a.png: there is not enough memory\n")


def test_progress_is_shown_in_a_terminal_and_leaves_it_clean(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from vqcodec.cli.terminal import Bar

    monkeypatch.setattr(sys, "stderr", Stream(terminal=True))
    monkeypatch.setenv("TERM", "xterm")
    with Bar() as bar:
        bar.describe("working")
        bar.part(1, 2)(0.5)
        with bar.paused():
            print("line")
    assert isinstance(sys.stderr, Stream)
    assert "75%" in sys.stderr.data.decode()


def vqcodec(*args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    root = Path(cli.__file__).parents[2]
    code = "from vqcodec.cli.main import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run([sys.executable, "-c", code, *args], env=environment, timeout=60, **options)


@pytest.mark.parametrize("command", [[], ["compress"], ["bench"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    root = Path(cli.__file__).parents[2]
    code = (
        "import sys, vqcodec.cli.main\n"
        "try: vqcodec.cli.main.main()\n"
        "finally: print(*{'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.startswith(b"Usage: vqcodec")
    assert done.stderr == b"\n"


@pytest.mark.parametrize(("given", "used"), [(None, "1"), ("7", "7")])
def test_numpy_uses_one_thread_unless_the_user_wants_more(
    run: Run, monkeypatch: pytest.MonkeyPatch, given: str | None, used: str
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    assert run("models").code == 0
    assert os.environ["OPENBLAS_NUM_THREADS"] == used


def test_version(run: Run) -> None:
    import vqcodec

    models = "".join(f"{name} {DIGESTS[name].hex()}\n" for name in ("paper", "photo"))
    reasons = sorted({f"no native code: {reason}\n" for reason in (missing(), networks.missing()) if reason})
    codes = f"range coder: {implementation()}\nnetworks: {networks.implementation()}\n"
    assert run("--version").out == f"vqcodec {vqcodec.__version__}\n{models}{codes}{''.join(reasons)}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output() -> None:
    with open("/dev/full", "wb") as full:
        done = vqcodec("--help", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.startswith(b"vqcodec: error: standard output: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="pipes differ")
def test_a_closed_pipe_prints_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = vqcodec("--help", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""
