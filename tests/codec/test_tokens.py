"""Codes as data: `tokenize` writes the codes of the codec, they decode to the picture, and damage is an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import Result, vqcodec_in_process
from conftest import synthetic
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import vqcodec
from vqcodec.codec.codec import Codec
from vqcodec.codec.content import read_codes
from vqcodec.codec.tokens import (
    PictureTokens,
    Tokens,
    file_name,
    pack_tokens,
    read_tokens,
    render,
    vocabulary,
    write_tokens,
)
from vqcodec.errors import BadFile, DamagedFile, UnknownModel, UnsupportedFile, UsageError
from vqcodec.format.container import unpack
from vqcodec.model.store import Model
from vqcodec.picture.metadata import Metadata
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture

pytestmark = pytest.mark.usefixtures("codes_only")
Run = Callable[..., Result]
FILE = Path("t.safetensors")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Callable[..., Path], patch_model: Model) -> Run:
    """`vqcodec ARGS` in an empty folder, with a tiny model in place of the bundled ones."""
    bundle(photo=patch_model)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *args, **options: vqcodec_in_process(monkeypatch, *args, **options)


@pytest.fixture
def pictures(run: Run) -> None:
    """A folder with a coloured, a grey and a transparent picture."""
    os.mkdir("in")
    Image.fromarray(synthetic(40, 61)).save("in/a.b.png")
    Image.fromarray(synthetic(33, 20, 1)).convert("L").save("in/grey.bmp")
    clear = Image.fromarray(synthetic(9, 9, 2))
    clear.putalpha(99)
    clear.save("in/clear.png")


def tokens_of(model: Model, *names: str) -> Tokens:
    """Codes from a formula, including the largest ones, for a picture of 20 x 13 pixels under each name."""
    sizes = vocabulary(model)[0]
    stride = model.config.vqvae.stride
    grid = np.arange(-(-13 // stride) * -(-20 // stride)).reshape(-(-13 // stride), -1)
    codes = np.stack([(size - 1 - grid) % size for size in sizes])
    return Tokens.of(model, [PictureTokens(name, 20, 13, "RGB", 1, codes) for name in names])


@pytest.mark.usefixtures("pictures")
def test_tokens_decode_to_the_pictures(run: Run, patch_model: Model) -> None:
    done = run("tokenize", "in", "-o", FILE)
    assert done.code == 0
    assert done.err == "vqcodec: note: in/clear.png: the transparency is left out\n".replace("/", os.sep)
    tokens = read_tokens(FILE)
    assert (tokens.model, tokens.digest) == (patch_model.name, patch_model.digest.hex())
    found = [(p.name, p.width, p.height, p.mode, p.quality, p.codes.dtype) for p in tokens.pictures]
    assert found == [
        ("a.b.png", 61, 40, "RGB", 2, np.uint8), ("clear.png", 9, 9, "RGB", 2, np.uint8),
        ("grey.bmp", 20, 33, "L", 2, np.uint8),
    ]  # fmt: skip
    assert run("detokenize", FILE, "-o", "new/out").code == 0
    assert sorted(os.listdir("new/out")) == ["a.b.png", "clear.png", "grey.png"]
    codec = Codec(patch_model)
    for name in ("a.b.png", "grey.bmp"):
        whole = codec.decompress(codec.compress(read_picture(f"in/{name}")))  # the same codes as `compress` takes
        back = read_picture(Path("new/out") / file_name(name))
        assert back.mode == whole.mode
        assert np.array_equal(back.pixels, whole.pixels)
    assert run("detokenize", FILE, "-o", "new/out").code == 1  # they are there already
    assert run("detokenize", FILE, "-o", "new/out", "--force").code == 0


@pytest.mark.usefixtures("pictures")
def test_quality_and_effort_are_those_of_the_encoder(run: Run, fine_model: Model) -> None:
    pixels, codec = read_picture("in/a.b.png").pixels, Codec(fine_model)
    found = []
    for effort in (0, 2):
        run("tokenize", "in/a.b.png", "-o", FILE, "-f", "-q", "3", "--effort", str(effort), "--model", fine_model.path)
        found.append(read_tokens(FILE).pictures[0].codes)
        assert np.array_equal(found[-1], codec.to_codes(pixels, 3, effort=effort))
    assert not np.array_equal(*found)


@pytest.mark.usefixtures("pictures")
def test_any_program_can_read_it_as_the_readme_says(run: Run, patch_model: Model) -> None:
    records = json.loads(run("tokenize", "in", "-o", FILE, "-q", "1", "--json").out)
    arrays = load_file(FILE)
    with safe_open(FILE, framework="numpy") as file:
        head = json.loads(file.metadata()["vqcodec.tokens"])
    assert set(head) == {"version", "model", "digest", "stride", "vocabulary", "wide", "pictures", "crc32"}
    for record, entry in zip(records, head["pictures"], strict=True):
        codes = arrays[record["tensor"]]
        assert (entry["name"], entry["quality"]) == (Path(record["input"]).name, 1)
        assert list(codes.shape) == record["codes"] == [3, -(-entry["height"] // 8), -(-entry["width"] // 8)]
        assert all(grid.max() < size for grid, size in zip(codes, head["vocabulary"][0], strict=True))


def test_wide_codes_are_16_bits(patch_model: Model, tmp_path: Path) -> None:
    tokens = replace(tokens_of(patch_model, "a"), wide=True, vocabulary=((300, 300, 300),))
    codes = tokens.pictures[0].codes + 280
    tokens = replace(tokens, pictures=(replace(tokens.pictures[0], codes=codes),))
    write_tokens(tmp_path / FILE, tokens)
    found = read_tokens(tmp_path / FILE).pictures[0].codes
    assert found.dtype == np.uint16
    assert np.array_equal(found, codes)


def test_the_vocabulary_is_what_the_prior_has_rows_for(model: Model) -> None:
    for quality, sizes in enumerate(vocabulary(model)):
        assert sizes == tuple(model.prior_tensors[f"codes.{g}.{quality}.embedding"].shape[0] for g in range(len(sizes)))


WITHOUT_TORCH = """
import sys
for name in ("torch", "torch.nn", "safetensors.torch"):
    sys.modules[name] = None  # any import of it fails from here on
from vqcodec.cli.main import main
main()
"""


def test_codes_of_vq_files_are_exported_unchanged_and_without_torch(patch_model: Model, tmp_path: Path) -> None:
    codec = Codec(patch_model)
    alpha = np.full((30, 50), 7, np.uint8)
    metadata = Metadata(xmp=b"<x/>")
    data = {q: codec.compress(Picture(synthetic(30, 50, q), "RGB", alpha, (), metadata), q) for q in (1, 2)}
    for quality, each in data.items():
        (tmp_path / f"q{quality}.vq").write_bytes(each)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "tokenize", ".", "-o", FILE, "--model", patch_model.path],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path(vqcodec.__file__).parents[1])},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [done.stderr.count(f"the {what} is left out") for what in ("transparency", "XMP")] == [2, 2]
    for picture, (quality, each) in zip(read_tokens(tmp_path / FILE).pictures, data.items(), strict=True):
        assert (picture.name, picture.quality) == (f"q{quality}.vq", quality)
        assert np.array_equal(picture.codes, read_codes(unpack(each), patch_model))


@pytest.mark.usefixtures("pictures")
def test_a_failed_picture_does_not_stop_the_others(run: Run, conv_model: Model) -> None:
    Path("in/b.png").write_bytes(b"no picture")
    Path("in/other.vq").write_bytes(Codec(conv_model).compress(Picture(synthetic(8, 8), "RGB")))
    done = run("tokenize", "in", "in/other.vq", "-o", FILE)
    assert done.code == 1
    faults = [line for line in done.err.splitlines() if "error" in line]
    assert [name in line for name, line in zip(("b.png", "other.vq"), faults, strict=True)] == [True, True]
    assert len(read_tokens(FILE).pictures) == 3


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["in", "-o", "-"], 2),
        (["-", "-o", "x"], 2),
        (["empty", "-o", "x"], 2),
        (["in/a.b.png", "in/a.b.png", "-o", "x"], 2),  # they would have one name
        (["in/a.b.png", "-o", "in/a.b.png", "--force"], 2),
        (["in/a.b.png", "-o", "x", "-q", "3"], 2),
        (["a.vq", "-o", "x", "-q", "1"], 2),
        (["in/a.b.png", "-o", "there"], 1),
        (["in/missing.png", "-o", "x"], 1),
        (["in/a.b.png", "-o", "x", "--max-pixels", "100"], 1),
    ],
)
def test_refused_arguments_leave_no_file(run: Run, arguments: list[str], code: int) -> None:
    os.mkdir("empty")
    Path("there").write_bytes(b"")
    before = sorted(os.listdir())
    done = run("tokenize", *arguments)
    assert done.code == code
    assert done.out == ""  # also before any picture is coded
    assert sorted(os.listdir()) == before


def test_every_flipped_byte_is_noticed(patch_model: Model, tmp_path: Path) -> None:
    tokens = tokens_of(patch_model, "a.png", "b.png")
    data = pack_tokens(tokens)
    assert pack_tokens(tokens) == data
    path = tmp_path / FILE
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(BadFile):
            read_tokens(path)
    for length in (0, 7, 8, 100, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(BadFile):
            read_tokens(path)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../a"}, {"name": "/a"}, {"name": ".."}, {"name": ""}, {"name": "a\0"}, {"name": "b.jpg"},
        {"width": 0}, {"width": 10**9}, {"height": 99}, {"quality": 0}, {"quality": 3},
        {"codes": np.full((3, 2, 3), 200)}, {"codes": np.full((3, 2, 3), -1)},
        {"codes": np.zeros((2, 2, 3), int)}, {"codes": np.zeros((3, 2, 3))},
    ],
    ids=str,
)  # fmt: skip
def test_inconsistent_tokens_are_neither_written_nor_read(
    patch_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    tokens = tokens_of(patch_model, "a.png", "b.png")
    wrong = replace(tokens, pictures=(replace(tokens.pictures[0], **change), tokens.pictures[1]))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot be written"):
        pack_tokens(wrong)
    with monkeypatch.context() as patch:  # what a program without checks would write
        patch.setattr("vqcodec.codec.tokens._check", lambda _: None)
        (tmp_path / FILE).write_bytes(pack_tokens(wrong))
    if np.asarray(change.get("codes", 0)).dtype != float:  # those become codes when they are written
        with pytest.raises(DamagedFile):
            read_tokens(tmp_path / FILE)


def test_other_files_are_refused(patch_model: Model, tmp_path: Path) -> None:
    for name in ("missing", "."):
        with pytest.raises(BadFile):
            read_tokens(tmp_path / name)
    save_file({"0": np.zeros((3, 2, 2), np.uint8)}, tmp_path / FILE)
    with pytest.raises(BadFile, match="not a file of tokens"):
        read_tokens(tmp_path / FILE)
    save_file({}, tmp_path / FILE, metadata={"vqcodec.tokens": '{"version": 2, "news": 1}'})
    with pytest.raises(UnsupportedFile, match="upgrade"):
        read_tokens(tmp_path / FILE)
    for text in ("", "[", "[]", "{}", "1" * 9999, "[" * 99999):
        save_file({}, tmp_path / FILE, metadata={"vqcodec.tokens": text})
        with pytest.raises(DamagedFile):
            read_tokens(tmp_path / FILE)


def test_only_the_model_of_the_tokens_decodes_them(patch_model: Model, conv_model: Model, run: Run) -> None:
    codec = Codec(patch_model)
    tokens = tokens_of(patch_model, "a.png")
    assert render(codec, tokens, tokens.pictures[0]).pixels.shape == (13, 20, 3)
    with pytest.raises(UnknownModel, match="another model"):
        render(Codec(conv_model), tokens, tokens.pictures[0])
    sizes = tuple(tuple(size + 1 for size in row) for row in tokens.vocabulary)  # more codes than the model has
    with pytest.raises(DamagedFile, match="do not fit"):
        render(codec, replace(tokens, vocabulary=sizes), tokens.pictures[0])
    write_tokens(FILE, replace(tokens, digest="0" * 16))
    assert "0000000000000000" in run("detokenize", FILE, "-o", "out").err
    write_tokens(FILE, tokens, force=True)
    assert run("detokenize", FILE, "-o", "out", "--max-pixels", "100").code == 1
    assert run("detokenize", FILE, "-o", "out", "--model", conv_model.path).code == 1
    assert os.listdir("out") == []
