"""Models in folders: saving is atomic, models are found by name and digest, and damaged ones are refused."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import CONV, make_model, synthetic
from safetensors.numpy import load_file, save_file

from vqcodec.codec.codec import Codec
from vqcodec.errors import ModelError, OutputError, UnknownModel
from vqcodec.model.store import Model, added, bundled, export_model, find, open_model
from vqcodec.nn.weights import open_network
from vqcodec.picture.picture import Picture


@pytest.fixture
def copied(conv_model: Model, tmp_path: Path) -> Path:
    """A folder with a copy of the conv model."""
    return Path(shutil.copytree(conv_model.path, tmp_path / "copy"))


@pytest.fixture
def package(conv_model: Model, patch_model: Model, bundle: Callable[..., Path]) -> Path:
    """The two tiny models are the bundled ones, as "aaa" and "photo"."""
    folder = bundle(aaa=conv_model, photo=patch_model)
    (folder / "notes").mkdir()  # not a model
    return folder


def test_a_saved_model_opens_as_it_was(model: Model) -> None:
    opened = open_model(model.path)
    assert (opened.config, opened.digest) == (model.config, model.digest)
    assert opened.name == model.config.name
    assert len(opened.digest) == 8
    assert opened.size == sum(file.stat().st_size for file in model.path.iterdir())
    assert sorted(file.name for file in model.path.iterdir()) == [
        "config.json", "prior.safetensors", "weights.safetensors"
    ]  # fmt: skip
    assert not list(model.path.parent.glob("*.partial"))


def test_networks_are_stored_in_half_precision_and_codebooks_in_full(model: Model) -> None:
    for name, tensor in load_file(model.path / "weights.safetensors").items():
        assert tensor.dtype == (np.float32 if name.startswith("quantizer.") else np.float16)
        assert "sums" not in name


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "prior.safetensors"])
def test_one_bit_makes_another_model(copied: Path, conv_model: Model, name: str) -> None:
    file = copied / name
    data = bytearray(file.read_bytes())
    at = data.index(b'"tiny-conv"') + 3 if name == "config.json" else len(data) - 1
    data[at] ^= 1
    file.write_bytes(data)
    assert open_model(copied).digest != conv_model.digest


def test_line_ends_and_layout_of_the_configuration_do_not_matter(copied: Path, conv_model: Model) -> None:
    file = copied / "config.json"
    text = file.read_text()
    for changed in (text.replace("\n", "\r\n"), text.replace("  ", "\t"), text.rstrip()):
        file.write_bytes(changed.encode())
        assert open_model(copied).digest == conv_model.digest


def test_bytes_moved_from_one_file_to_the_next_make_another_model(copied: Path, conv_model: Model) -> None:
    """The digest covers the lengths, not only the bytes one after another."""
    weights, prior = copied / "weights.safetensors", copied / "prior.safetensors"
    data = weights.read_bytes()
    prior.write_bytes(data[-10:] + prior.read_bytes())
    weights.write_bytes(data[:-10])
    assert open_model(copied).digest != conv_model.digest


# Names and digests.


def test_bundled_models_are_found_by_name_and_digest(package: Path, conv_model: Model, patch_model: Model) -> None:
    assert bundled() == ("photo", "aaa")
    assert open_model().digest == open_model("photo").digest == patch_model.digest
    assert open_model("aaa").digest == conv_model.digest
    assert find(conv_model.digest).path == package / "aaa"
    assert find(patch_model.digest).path == package / "photo"


def test_an_unknown_digest_is_named(package: Path) -> None:
    with pytest.raises(UnknownModel, match="0102030405060708"):
        find(bytes(range(1, 9)))


@pytest.mark.parametrize("name", ["nothing", "photo2", "../photo", "", "notes"])
def test_an_unknown_name_is_refused(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModel, match="photo, aaa"):
        open_model(name)


# Models outside the package.


@pytest.fixture
def elsewhere(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for models outside the package. VQCODEC_MODELS lists it, after a folder that does not exist."""
    folder = tmp_path / "more models"
    folder.mkdir()
    monkeypatch.setenv("VQCODEC_MODELS", os.pathsep.join([str(tmp_path / "none"), "", str(folder)]))
    return folder


@pytest.fixture(scope="module")
def third_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(dataclasses.replace(CONV, name="third"), tmp_path_factory.mktemp("third"))


def test_added_models_are_found_by_name_and_digest(elsewhere: Path, third_model: Model, package: Path) -> None:
    with pytest.raises(UnknownModel):
        find(third_model.digest)
    shutil.copytree(third_model.path, elsewhere / "third")
    shutil.copytree(third_model.path, elsewhere / "photo")  # that name is taken
    (elsewhere / "broken").mkdir()
    (elsewhere / "broken" / "config.json").write_text("{")
    assert list(added()) == ["broken", "third"]
    assert find(third_model.digest).path == open_model("third").path == elsewhere / "third"
    assert open_model("photo").path == package / "photo"


def test_an_exported_model_is_the_model(package: Path, elsewhere: Path, patch_model: Model) -> None:
    (package / "photo" / "README.md").write_text("a card")
    folder = elsewhere / "a" / "b"
    exported = export_model("photo", folder, force=False)
    assert exported.digest == patch_model.digest
    assert exported.path == folder
    assert (folder / "README.md").read_text() == "a card"
    assert len(list(folder.iterdir())) == 4
    with pytest.raises(OutputError, match="exists; give --force"):
        export_model("photo", folder, force=False)
    with pytest.raises(OutputError, match="exists; give --force"):
        export_model("aaa", folder, force=False)
    assert export_model("photo", folder, force=True).digest == patch_model.digest


def test_exporting_to_a_path_that_is_not_a_folder_is_refused(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot create the folder"):
        export_model("photo", tmp_path / "file", force=True)
    with pytest.raises(UnknownModel, match="photo, aaa"):
        export_model("nothing", tmp_path / "out", force=True)
    assert not (tmp_path / "out").exists()


# Damaged models are refused.


@pytest.mark.parametrize("name", ["weights.safetensors", "prior.safetensors"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(ModelError, match=name):
        open_model(copied)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "prior.safetensors"])
def test_a_huge_file_is_not_read(copied: Path, name: str) -> None:
    with (copied / name).open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(ModelError, match="larger than"):
        open_model(copied)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"{}"])
def test_a_broken_configuration_is_refused(copied: Path, content: bytes) -> None:
    (copied / "config.json").write_bytes(content)
    with pytest.raises(ModelError):
        open_model(copied)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 100, bytes(8), b"\x02" + bytes(7) + b"{}"])
def test_broken_tensors_are_refused(copied: Path, content: bytes) -> None:
    for name in ("weights.safetensors", "prior.safetensors"):
        (copied / name).write_bytes(content)
    model = open_model(copied)
    with pytest.raises(ModelError):
        open_network(model)
    with pytest.raises(ModelError):
        model.prior(0)


def rewrite(folder: Path, name: str, change: Mapping[str, npt.NDArray[np.generic] | None]) -> Model:
    file = folder / name
    tensors = {**load_file(file), **change}
    save_file({key: value for key, value in tensors.items() if value is not None}, file)
    return open_model(folder)


def test_missing_foreign_and_misshapen_weights_are_refused(copied: Path) -> None:
    name = "weights.safetensors"
    bias = load_file(copied / name)["encoder.out.bias"]
    for key, tensor in [("encoder.out.bias", None), ("foreign", bias), ("encoder.out.bias", bias[:-1])]:
        with pytest.raises(ModelError, match=key):
            open_network(rewrite(copied, name, {key: tensor}))
        open_network(rewrite(copied, name, {"encoder.out.bias": bias, "foreign": None}))


def test_a_prior_of_other_types_is_refused(copied: Path) -> None:
    tensors = load_file(copied / "prior.safetensors")
    for kind in (np.float32, np.float16, np.int16):
        model = rewrite(copied, "prior.safetensors", {"state.weight": tensors["state.weight"].astype(kind)})
        with pytest.raises(ModelError):
            model.prior(0)


def test_a_prior_that_breaks_the_bound_is_refused(copied: Path) -> None:
    bias = load_file(copied / "prior.safetensors")["state.bias"].copy()
    bias[0, 0] = 1 << 24
    with pytest.raises(ModelError, match="beyond the 2\\^24"):
        rewrite(copied, "prior.safetensors", {"state.bias": bias}).prior(0)


def test_a_prior_of_other_weights_is_refused_before_it_is_used(patch_model: Model, tmp_path: Path) -> None:
    """In a folder assembled by hand, the quantiser may choose codes for which the prior has no row."""
    folder = Path(shutil.copytree(patch_model.path, tmp_path / "copy"))
    tensors = load_file(folder / "prior.safetensors")
    cut = {key: t[:2].copy() for key, t in tensors.items() if key.startswith("codes.2.1.")}
    model = rewrite(folder, "prior.safetensors", cut)
    model.prior(1)
    flat = {"codes.2.1.embedding": np.array(1, np.int8)}
    misshapen = rewrite(Path(shutil.copytree(folder, tmp_path / "flat")), "prior.safetensors", flat)
    with pytest.raises(ModelError, match="lacks codes of codebook 3 at quality 2"):
        open_network(misshapen)
    for work in (lambda c: c.compress(Picture(synthetic(16, 16), "RGB"), 2), lambda c: c.network):
        with pytest.raises(ModelError, match="lacks codes of codebook 3 at quality 2"):
            work(Codec(model))


def test_each_quality_has_its_own_prior(patch_model: Model) -> None:
    codes = np.zeros((3, 2, 2), np.int32)
    first, second = (patch_model.prior(quality).evaluate(codes)[0] for quality in range(2))
    assert not np.array_equal(first, second)
    with pytest.raises(ModelError, match="quality 3"):
        patch_model.prior(2)
