"""The command `compare`: lines, JSON, page, standard input, exit codes. The model is a tiny one."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from command import Result, vqcodec_in_process
from conftest import synthetic
from PIL import Image

from vqcodec.codec.codec import Codec
from vqcodec.model.store import Model
from vqcodec.picture import butteraugli
from vqcodec.picture.measures import MEASURES, measured
from vqcodec.picture.picture import Picture

Run = Callable[..., Result]
PIXELS = synthetic(64, 96)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS).save("a.png")
    Image.fromarray(PIXELS).save("b.jpg", quality=50)
    Image.fromarray(PIXELS).save("same.bmp")
    return lambda *args, **options: vqcodec_in_process(monkeypatch, "compare", *args, **options)


@pytest.fixture
def vq(model: Model, run: Run) -> Path:
    Path("a.vq").write_bytes(Codec(model).compress(Picture(PIXELS, "RGB")))
    return Path("a.vq")


def samples(name: str) -> npt.NDArray[np.uint8]:
    return np.array(Image.open(name))


def test_a_line_for_each_file_and_each_measure(run: Run) -> None:
    done = run("a.png", "b.jpg")
    assert done.code == 0
    lines = done.out.splitlines()
    sizes = {name: os.stat(name).st_size for name in ("a.png", "b.jpg")}
    bpp = {name: 8 * size / (64 * 96) for name, size in sizes.items()}
    assert lines[0].split(None, 1) == [
        "A", f"a.png: 96 x 64 pixels, RGB, {sizes['a.png']:,} bytes, {bpp['a.png']:.3f} bpp",
    ]  # fmt: skip
    assert lines[1].split(None, 1)[0] == "B"
    assert lines[1].endswith(f"{sizes['b.jpg']:,} bytes, {bpp['b.jpg']:.3f} bpp")
    expected = measured(PIXELS, samples("b.jpg"))
    for measure, line in zip(MEASURES, lines[3:], strict=True):
        assert line.startswith(measure.title + "  ")
        text = line.removeprefix(measure.title).split()[0]
        value = expected[measure.name]
        assert text == ("-" if np.isnan(value) else f"{value:.{measure.digits}f}")


def test_json_has_all_digits_and_null_where_a_measure_is_not_defined(run: Run) -> None:
    done = run("a.png", "b.jpg", "--json")
    found = json.loads(done.out)
    expected = measured(PIXELS, samples("b.jpg"))
    assert found["measures"] == {name: None if np.isnan(value) else value for name, value in expected.items()}
    assert found["measures"]["ms_ssim"] is None, "sides below 176 pixels"
    assert (found["a"]["file"], found["a"]["width"], found["a"]["height"]) == ("a.png", 96, 64)
    assert (found["b"]["format"], found["b"]["bytes"]) == ("JPEG", os.stat("b.jpg").st_size)
    assert (found["identical"], found["grounds"]) == (False, [])


def test_identical_pictures(run: Run) -> None:
    done = run("a.png", "same.bmp")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "the pictures are identical"
    assert done.out.splitlines()[-2].split() == ["PSNR", "inf", "dB"]
    found = json.loads(run("a.png", "same.bmp", "--json").out)
    assert found["identical"]
    assert found["measures"]["psnr"] is None
    assert found["measures"]["ssimulacra2"] == pytest.approx(100)


def test_transparency_is_said(run: Run) -> None:
    clear = Image.fromarray(PIXELS)
    clear.putalpha(Image.new("L", clear.size, 128))
    clear.save("clear.png")
    done = run("a.png", "clear.png")
    assert "over black and over white" in done.out.splitlines()[-1]
    assert "RGB + alpha" in done.out
    assert json.loads(run("a.png", "clear.png", "--json").out)["grounds"] == ["black", "white"]


def test_a_vq_file_with_its_model_and_from_standard_input(run: Run, vq: Path, model: Model) -> None:
    decoded = Codec(model).decompress(vq.read_bytes()).pixels
    option = ("--model", model.path)
    found = json.loads(run("a.png", vq, *option, "--json").out)
    expected = measured(PIXELS, decoded)
    assert found["measures"]["psnr"] == pytest.approx(expected["psnr"])
    assert found["measures"]["ssimulacra2"] == pytest.approx(expected["ssimulacra2"])
    assert (found["b"]["format"], found["b"]["model"]) == ("VQ", model.name)
    assert found["b"]["quality"] == model.config.default_quality
    piped = json.loads(run("a.png", "-", *option, "--json", stdin=vq.read_bytes()).out)
    assert (piped["b"]["file"], piped["b"]["bytes"]) == ("-", len(vq.read_bytes()))
    assert piped["measures"] == found["measures"]
    piped = json.loads(run("-", vq, *option, "--json", stdin=Path("a.png").read_bytes()).out)
    assert piped["measures"] == found["measures"]
    unknown = run("a.png", vq)
    assert unknown.code == 1
    assert unknown.err.startswith("vqcodec: error: a.vq: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe(run: Run) -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(Path("b.jpg").read_bytes()))
    writer.start()
    found = json.loads(run("a.png", "pipe", "--json").out)
    writer.join()
    assert (found["b"]["file"], found["b"]["bytes"]) == ("pipe", os.stat("b.jpg").st_size)


def test_the_page(run: Run) -> None:
    done = run("a.png", "b.jpg", "--html", "page.html")
    assert done.code == 0
    assert done.out == run("a.png", "b.jpg").out
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count('"src":"data:image/webp;base64,') == 2
    assert run("a.png", "b.jpg", "--html", "-").out == page
    again = run("a.png", "b.jpg", "--html", "page.html")
    assert again.code == 1
    assert again.err == "vqcodec: error: page.html exists; give --force to replace it\n"
    assert again.out == ""
    assert run("a.png", "b.jpg", "--html", "page.html", "--force").code == 0


def test_butteraugli_that_is_missing_is_a_note(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = run("a.png", "b.jpg")
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert done.err.startswith("vqcodec: note: ")
    assert butteraugli.PROGRAM in done.err
    assert [line.split()[-1] for line in done.out.splitlines() if "Butteraugli" in line] == ["-", "-"]
    assert json.loads(run("a.png", "b.jpg", "--json").out)["measures"]["butteraugli_max"] is None


def test_notices_are_printed_as_by_compress(run: Run) -> None:
    Image.fromarray(np.full((64, 96), 40000, np.uint16)).save("deep.png")
    done = run("a.png", "deep.png", "--json")
    notices = [line for line in done.err.splitlines() if "deep.png" in line]
    assert notices
    assert notices[0].startswith("vqcodec: note: deep.png: ")
    assert [f"vqcodec: note: deep.png: {text}" for text in json.loads(done.out)["b"]["notices"]] == notices


def test_the_limit_on_pixels(run: Run) -> None:
    done = run("a.png", "b.jpg", "--max-pixels", "1000")
    assert done.code == 1
    assert "a.png" in done.err


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("a.png", "small.png"), 1, "a.png has 96 x 64 pixels and small.png has 48 x 32 pixels; "),
        (("a.png", "notes.txt"), 1, "notes.txt: not a picture"),
        (("none.png", "a.png"), 1, "none.png: "),
        (("a.png", "none.vq"), 1, "none.vq cannot be read"),
        (("a.png", "cut.vq"), 1, "cut.vq: "),
        (("a.png", "."), 1, ".: this is a folder"),
        (("-", "-"), 2, "only one of the two"),
        (("-", "/dev/stdin"), 2, "only one of the two"),
        (("a.png", "-"), 1, "standard input: not a picture"),
        (("a.png", "b.jpg", "--html", "-", "--json"), 2, "--json and --html -"),
        (("a.png", "b.jpg", "--html", "none/page.html"), 1, "cannot write none/page.html"),
        (("a.png", "b.jpg", "--model", "none"), 1, "none"),
    ],
)
def test_errors_are_one_line(run: Run, args: tuple[str, ...], code: int, text: str) -> None:
    Image.fromarray(PIXELS[::2, ::2]).save("small.png")
    Path("notes.txt").write_text("no picture")
    Path("cut.vq").write_bytes(b"\x89VQ\n\x01")
    done = run(*args, stdin=b"neither")
    assert done.code == code
    assert done.out == ""
    lines = done.err.splitlines()
    assert [line for line in lines if not line.startswith("vqcodec: note:")] == lines[-1:]
    assert lines[-1].startswith("vqcodec: error: ")
    assert text in lines[-1]


def test_help_says_which_is_the_reference(run: Run) -> None:
    text = " ".join(run("--help").out.split())
    assert "A is the reference" in text
    assert "Butteraugli and SSIMULACRA2 depend on which is which" in text


def test_a_picture_from_standard_input(run: Run) -> None:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "WEBP", lossless=True)
    assert run("a.png", "-", stdin=stream.getvalue()).out.splitlines()[-1] == "the pictures are identical"
