"""Any input gives a result or a single clear `VqError`, quickly and with little memory."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import struct
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import vqcodec_in_process
from conftest import PATCH, synthetic
from hostile import FOLDER, Case, build, of_stand_in, stored
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

import vqcodec
from vqcodec.cli.options import parse_region, parse_size
from vqcodec.codec import partial
from vqcodec.codec.codec import Codec
from vqcodec.codec.content import Content, filled
from vqcodec.codec.describe import describe
from vqcodec.codec.partial import Region, decompress_region, salvage
from vqcodec.errors import DamagedFile, LimitExceeded, ModelError, NotAVqFile, UsageError, VqError
from vqcodec.files import work
from vqcodec.format.container import unpack
from vqcodec.limits import ANY_SIZE
from vqcodec.model.config import ModelConfig, VQVAEConfig, to_json
from vqcodec.model.store import MAX_CONFIG, Model, open_model
from vqcodec.nn.weights import open_network
from vqcodec.picture.alpha import unpack_alpha
from vqcodec.picture.picture import Picture

SECONDS, MEMORY = 1.0, 64 << 20  # limits of CPU time and of memory in bytes for a hostile file
CASES = stored()


def outcome(call: Callable[[], object]) -> VqError | None:
    """The error of a call. Fails if the call takes too long or too much memory, warns, or raises a longer message."""
    error: VqError | None = None
    tracemalloc.start()
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call()
    except VqError as caught:
        error = caught
        assert str(error).isprintable()
        assert 0 < len(str(error)) < 1010
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < SECONDS
    assert peak < MEMORY
    return error


def read(codec: Codec, case: Case, *, sound: bool) -> None:
    """Decode a whole file. `sound`: its checksums are valid, so only decoding can find a fault."""
    data = case.data
    for look in (lambda: unpack(data), lambda: describe(data), lambda: describe(data, partial=True)):
        error = outcome(look)
        assert error is None or not sound or "alpha" in str(error)
    error = outcome(lambda: codec.decompress(data))
    assert isinstance(error, case.error) or (error is None and case.error is VqError), error


def read_parts(codec: Codec, case: Case) -> None:
    outcome(lambda: salvage(codec, case.data))
    outcome(lambda: decompress_region(codec, case.data, Region(1, 1, 1, 1)))


# --- files ------------------------------------------------------------------------------------------


def test_the_folder_holds_every_file() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(CASES)


@pytest.fixture(scope="module")
def paper() -> Codec:
    codec = Codec(open_model("paper"))
    codec.to_pixels(np.zeros((1, 1, 1), np.int32), 1)  # load the networks now, because it takes time
    codec.prior(0)
    return codec


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_stored_file(name: str, paper: Codec) -> None:
    case = dataclasses.replace(CASES[name], data=(FOLDER / name).read_bytes())
    read(paper, case, sound=name.startswith("paper-"))
    if not name.startswith("paper-"):
        read_parts(paper, case)
        assert outcome(lambda: vqcodec.decode(case.data)) is not None


@pytest.fixture(scope="module")
def codec(patch_model: Model) -> Codec:
    return Codec(patch_model)


@pytest.fixture(scope="module")
def made(codec: Codec) -> dict[str, Case]:
    """Files of a tiny model, with several units."""
    pixels = synthetic(70, 50)
    content = Content.of(codec.to_codes(pixels, 1))
    file = unpack(codec.pack(Picture(pixels, "RGB", pixels[:, :, 0].copy()), content, 1))
    return of_stand_in(file, codec.model.config.vqvae.qualities, codec.model.config.vqvae.stride)


def test_files_of_a_stand_in_model(codec: Codec, made: dict[str, Case]) -> None:
    for case in made.values():
        read(codec, case, sound=True)
        read_parts(codec, case)


def test_the_command_line_reports_each_fault_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = vqcodec_in_process(monkeypatch, "verify", "--json", FOLDER)
    found = {Path(record["file"]).name: record["error"] for record in json.loads(result.out)}
    assert result.code == 1
    assert {name for name, error in found.items() if error is None} == {
        name for name, case in CASES.items() if outcome(lambda data=case.data: unpack(data, ANY_SIZE)) is None
    }
    assert len(result.err.splitlines()) == sum(error is not None for error in found.values())
    for name in ("limit-all-the-units-there-can-be.vq", "foreign-zip.vq", "damaged-cut.vq"):
        result = vqcodec_in_process(monkeypatch, "info", FOLDER / name)
        assert result.code == 1
        assert len(result.err.splitlines()) == 1


def test_alpha_chunks_other_than_the_samples_are_ignored(codec: Codec, made: dict[str, Case]) -> None:
    for name in ("alpha-bomb-of-many-texts", "alpha-bomb-of-a-profile", "alpha-with-an-animation"):
        picture = codec.decompress(made[name].data)
        assert picture.alpha is not None
        assert not picture.alpha.any()


@given(st.binary(max_size=100), st.integers(0, 100))
def test_any_bytes_as_alpha(data: bytes, at: int) -> None:
    good = unpack(CASES["paper-unit-of-zeros.vq"].data).alpha
    assert good is not None
    for hostile in (data, good[:at] + data, good[:at] + data + good[at + len(data) :]):
        outcome(lambda alpha=hostile: unpack_alpha(alpha, 33, 65))


def test_the_cost_of_a_region_depends_on_the_region_alone(paper: Codec) -> None:
    side, digest = 72, paper.model.digest  # 18,432 pixels each way: more than is decoded as a whole
    data = build((256 * side, 256 * side, 0, 64, side, side), (b"",) * side**2, digest=digest)
    assert isinstance(outcome(lambda: paper.decompress(data)), LimitExceeded)
    assert outcome(lambda: decompress_region(paper, data, Region(5000, 7000, 20, 10))) is None
    data = build((2**32 - 1, 2**32 - 1, 0, 64, 1, 1), digest=digest)
    for read in (paper.decompress, lambda data: salvage(paper, data)):
        assert isinstance(outcome(lambda read=read: read(data)), LimitExceeded)
    assert isinstance(outcome(lambda: decompress_region(paper, data, Region(0, 0, 1, 1))), DamagedFile)


# --- endless input ----------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """Some bytes, followed by endless zeros."""

    def __init__(self, start: bytes) -> None:
        self.start = start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken, self.start = self.start[: len(buffer)], self.start[len(buffer) :]
        buffer[:] = taken.ljust(len(buffer), b"\0")
        return len(buffer)


@pytest.mark.parametrize("name", ["foreign-zeros.vq", "unknown-model.vq", "damaged-units-that-are-not-there.vq"])
def test_an_endless_stream_is_read_up_to_its_declared_length(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    stream = io.TextIOWrapper(io.BufferedReader(Endless(CASES[name].data)))
    monkeypatch.setattr(sys, "stdin", stream)
    assert isinstance(outcome(lambda: unpack(work.read(None))), VqError)


def test_a_long_file_is_read_whole(tmp_path: Path) -> None:
    data = build(units=(np.random.default_rng(0).bytes(5 << 20),))
    (tmp_path / "a.vq").write_bytes(data)
    assert work.read(tmp_path / "a.vq") == data
    (tmp_path / "a.vq").write_bytes(data + bytes(1 << 20))
    assert len(work.read(tmp_path / "a.vq")) == len(data) + 1


# --- salvage with almost everything lost ------------------------------------------------------------


def nearest(codes: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """For every code and cell, the smallest distance to a sound cell with that code, by brute force."""
    rows, columns = np.indices(lost.shape)
    far = np.full((codes.max() + 1, *lost.shape), 10**6)
    for i, j in np.argwhere(~lost):
        distance = abs(rows - i) + abs(columns - j)
        far[codes[i, j]] = np.minimum(far[codes[i, j]], distance)
    return far


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_lost_codes_become_those_of_the_nearest_sound_cell(height: int, width: int, draw: st.DataObject) -> None:
    lost = np.array(draw.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width)))
    lost[draw.draw(st.integers(0, height * width - 1))] = False
    lost, codes = lost.reshape(height, width), np.arange(height * width, dtype=np.int32).reshape(height, width)
    spread = filled(codes[None], ~lost)[0]
    far = nearest(codes, lost)
    assert np.array_equal(np.take_along_axis(far, spread[None].astype(int), 0)[0], far.min(0))
    assert np.array_equal(spread[~lost], codes[~lost])


@pytest.mark.parametrize("shape", [(1, 50_000), (50_000, 1), (1000, 1000)])
def test_spreading_a_single_sound_cell_is_fast(shape: tuple[int, int]) -> None:
    codes, lost = np.zeros((1, *shape), np.int32), np.ones(shape, bool)
    codes[0, 0, 0], lost[0, 0] = 7, False
    start = time.process_time()
    assert (filled(codes, ~lost) == 7).all()
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_filling_lost_areas_takes_little_more_memory_than_the_picture(stride: int) -> None:
    height, width = 1000, 1100
    pixels = np.full((height, width, 3), (200, 100, 50), np.uint8)
    lost = np.ones((-(-height // stride), -(-width // stride)), bool)
    lost[0, :3] = False
    tracemalloc.start()
    partial._fill(pixels, lost, stride)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (pixels == (200, 100, 50)).all()
    assert peak < 2 * pixels.nbytes + 64 * 64 * stride**2 * 3 * 4 * 6


# --- models -----------------------------------------------------------------------------------------

DTYPES = ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "I16", "F16", "BF16", "I32", "F32", "F64", "I64", "C64")
FILLINGS = (b"\x7f", b"\x80", b"\xff", b"\0", b"\0\x7c", b"\0\0\x80\x7f", b"\0\0\xc0\x7f")  # infinities, NaN
FILES = ("config.json", "prior.safetensors", "weights.safetensors")


@pytest.fixture
def folder(patch_model: Model, tmp_path: Path) -> Path:
    return Path(shutil.copytree(patch_model.path, tmp_path / "model"))


@pytest.fixture(scope="module")
def place(patch_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like `folder`, but shared by all examples of a test; each example restores what it changed."""
    return Path(shutil.copytree(patch_model.path, tmp_path_factory.mktemp("hostile") / "model"))


def use(folder: Path) -> None:
    """Use every part of a model: all priors, compression and decompression."""
    codec = Codec(open_model(folder))
    for quality in range(codec.model.config.vqvae.qualities):
        codec.prior(quality)
    picture = Picture(synthetic(9, 17), "RGB")
    codec.decompress(codec.compress(picture, 1))


def refused(folder: Path) -> ModelError:
    error = outcome(lambda: use(folder))
    assert isinstance(error, ModelError), error
    return error


@st.composite
def hostile_tensors(draw: st.DrawFn, data: bytes) -> bytes:
    """A safetensors file with the description or the content of one tensor changed."""
    (length,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    name = draw(st.sampled_from(sorted(header)))
    entry = header[name]
    start, stop = entry["data_offsets"]
    sizes = st.one_of(st.integers(0, 9), st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64 - 1]))
    match draw(st.sampled_from(["name", "dtype", "shape", "transposed", "offsets", "empty", "content", "text"])):
        case "name":
            header[draw(st.text(max_size=20))] = header.pop(name)
        case "dtype":
            entry["dtype"] = draw(st.sampled_from(DTYPES))
        case "shape":
            entry["shape"] = draw(st.lists(sizes, max_size=4))
        case "transposed":
            entry["shape"] = entry["shape"][::-1]
        case "offsets":
            entry["data_offsets"] = draw(st.tuples(sizes, sizes))
        case "empty":  # the declared tensor takes no bytes
            del body[start:stop]
            for other in header.values():
                other["data_offsets"] = [at - (stop - start) if at >= stop else at for at in other["data_offsets"]]
            entry["shape"] = [*draw(st.lists(sizes, max_size=3)), 0]
        case "content":
            value = draw(st.sampled_from(FILLINGS))
            body[start:stop] = (value * (stop - start))[: stop - start]
        case "text":
            return data[:8] + draw(st.binary(max_size=60)) + data[8:]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(body)


@settings(max_examples=60)
@given(st.data())
def test_damaged_models_are_refused_or_work(place: Path, patch_model: Model, draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(FILES[1:]))
    good = (patch_model.path / name).read_bytes()
    if draw.draw(st.booleans()):
        hostile = draw.draw(hostile_tensors(good))
    else:
        at = draw.draw(st.integers(0, len(good)))
        hostile = good[:at] + draw.draw(st.binary(max_size=20)) + good[at + draw.draw(st.integers(0, 20)) :]
    (place / name).write_bytes(hostile)
    try:
        error = outcome(lambda: use(place))
    finally:
        (place / name).write_bytes(good)
    assert error is None or isinstance(error, ModelError), error


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(st.data(), st.one_of(st.sampled_from([0, 1, -1, 2**31, 10**30, 1e308, "", "a\nb", [], {}]), JSON))
def test_damaged_configurations_are_refused_or_work(
    place: Path, patch_model: Model, draw: st.DataObject, value: object
) -> None:
    config = json.loads((patch_model.path / FILES[0]).read_text())
    inner = draw.draw(st.sampled_from([config, config["vqvae"], config["prior"]]))
    inner[draw.draw(st.one_of(st.sampled_from(sorted(inner)), st.text(max_size=9)))] = value
    (place / FILES[0]).write_text(json.dumps(config))
    try:
        error = outcome(lambda: use(place))
    finally:
        shutil.copy(patch_model.path / FILES[0], place)
    assert error is None or isinstance(error, ModelError), error


def test_networks_are_not_allocated_before_their_weights_are_checked(folder: Path) -> None:
    """A configuration of a few hundred bytes can declare networks of terabytes."""

    def allocated(config: ModelConfig) -> tuple[int, VqError | None]:
        """Bytes allocated at a time while the networks are loaded, and the error."""
        (folder / FILES[0]).write_text(to_json(config))
        model = open_model(folder)
        tracemalloc.start()
        try:
            open_network(model)
            return tracemalloc.get_traced_memory()[1], None
        except ModelError as error:
            return tracemalloc.get_traced_memory()[1], error
        finally:
            tracemalloc.stop()

    sound, error = allocated(PATCH)
    assert error is None
    assert sound > 4000, "the measurement must include what a network allocates"
    vqvae = VQVAEConfig("patch", 8, 2048, 64, 1, 1, ((4096, 1024),) * 2, (1.0,) * 2)
    huge, error = allocated(dataclasses.replace(PATCH, vqvae=vqvae))
    assert isinstance(error, ModelError)
    assert huge < sound + (1 << 20)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["encoder.stem.weight", "decoder.scale", "quantizer.vectors0", "quantizer.counts1"])
def test_weights_that_are_not_finite_are_refused(folder: Path, name: str, value: float) -> None:
    tensors = load((folder / FILES[2]).read_bytes())
    tensors[name] = tensors[name].copy()
    tensors[name].flat[-1] = value
    (folder / FILES[2]).write_bytes(save(tensors))
    assert f"{name} has values that are not finite" in str(refused(folder))


def test_a_codebook_without_a_code_is_refused(folder: Path) -> None:
    tensors = load((folder / FILES[2]).read_bytes())
    tensors["quantizer.counts1"] = np.zeros_like(tensors["quantizer.counts1"])
    (folder / FILES[2]).write_bytes(save(tensors))
    assert "codebook 2 has no code at quality 1" in str(refused(folder))


def test_sizes_beyond_the_integers_of_libraries_are_refused(folder: Path) -> None:
    text = json.dumps({"a": {"dtype": "I8", "shape": [0, 2**64 - 1], "data_offsets": [0, 0]}}).encode()
    for name in FILES[1:]:
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text)
    model = open_model(folder)
    for part in (lambda: model.prior(0), lambda: open_network(model)):
        assert isinstance(outcome(part), ModelError)


@pytest.mark.parametrize("key", ["a\nb\x1b[2J", "\ud800", "x" * 5000])
def test_names_in_hostile_models_are_escaped_in_messages(folder: Path, key: str) -> None:
    config = json.loads((folder / FILES[0]).read_text())
    for change in ({"name": key}, {key: 1}, {"vqvae": config["vqvae"] | {"stem": key}}):
        (folder / FILES[0]).write_text(json.dumps(config | change))
        refused(folder)
    (folder / FILES[0]).write_text(json.dumps(config))
    if "\ud800" not in key:  # safetensors itself refuses this name
        tensors = load((folder / FILES[2]).read_bytes())
        (folder / FILES[2]).write_bytes(save({**tensors, key: np.zeros(1, np.float32)}))
        assert "missing or unexpected" in str(refused(folder))


def test_a_configuration_that_is_too_long_is_not_parsed(folder: Path) -> None:
    (folder / FILES[0]).write_text("[" + "[]," * (MAX_CONFIG // 2) + "[]]")
    assert "larger than" in str(refused(folder))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device without an end")
@pytest.mark.parametrize("name", FILES)
def test_a_model_file_that_is_a_device_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert isinstance(outcome(lambda: open_model(folder)), ModelError)


# --- texts ------------------------------------------------------------------------------------------


def test_long_texts_are_refused_as_sizes_quickly() -> None:
    for text in ("1" + " " * 100_000 + "x", "1." + "9" * 100_000 + "x", " " * 100_000):
        assert isinstance(outcome(lambda text=text: parse_size(text)), UsageError)


@pytest.mark.parametrize("space", ["\x1c", "\x1e", "\u2003", "\x85", "\n"])
def test_all_kinds_of_space_around_numbers(space: str) -> None:
    assert parse_region(",".join(f"{space}{number}{space}" for number in range(1, 5))) == (1, 2, 3, 4)
    assert parse_size(f"{space}5{space}k{space}") == 5000


def test_error_messages_are_one_line_of_limited_length() -> None:
    assert str(VqError("a\nb\x1b\ud800")) == "a\\nb\\x1b\\ud800"
    text = str(NotAVqFile("start" + "x" * 10_000 + "reason"))
    assert text.startswith("start")
    assert text.endswith("reason")
    assert len(text) < 1010
