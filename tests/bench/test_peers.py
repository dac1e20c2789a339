"""Codecs of the benchmark: encoding and decoding, target sizes, missing plugins, and the line-up."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic

from vqcodec.bench import lineup
from vqcodec.bench.lineup import Wanted, line_up
from vqcodec.bench.peers import PEERS, ModelPeer, PillowPeer, peer
from vqcodec.errors import UnknownModel, UsageError, VqError
from vqcodec.model.store import Model
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture

PICTURE = Picture(synthetic(120, 160), "RGB")


def installed(name: str) -> PillowPeer:
    found = peer(name)
    assert found is not None
    reason = found.missing()
    if reason is not None:
        pytest.skip(reason)
    return found


@pytest.mark.parametrize("name", [entry.name for entry in PEERS])
def test_size_and_psnr_increase_with_the_quality(name: str) -> None:
    codec = installed(name)
    files = [codec.compress(PICTURE, quality) for quality in codec.qualities]
    qualities = [psnr(PICTURE.pixels, codec.decompress(data).pixels) for data in files]
    assert [len(data) for data in files] == sorted({len(data) for data in files})
    assert qualities == sorted(qualities)
    assert codec.compress(PICTURE, codec.qualities[0]) == files[0]
    assert all(codec.versions().values())


@pytest.mark.parametrize("name", [entry.name for entry in PEERS])
def test_a_target_size_is_met(name: str) -> None:
    codec = installed(name)
    size = len(codec.compress(PICTURE, codec.qualities[3]))
    data, quality, note = codec.compress_to(PICTURE, 1.01 * size)
    if note is None:
        assert 0.98 <= len(data) / (1.01 * size) <= 1.02
    else:
        assert codec.whole
        assert "no quality gives a nearer size" in note
        assert 0.8 <= len(data) / (1.01 * size) <= 1.2
    assert codec.compress(PICTURE, quality) == data


def test_a_target_size_out_of_range() -> None:
    jpeg = installed("jpeg")
    with pytest.raises(VqError, match=r"100 bytes cannot be met: the smallest file jpeg makes is [\d,]+ bytes"):
        jpeg.compress_to(PICTURE, 100)
    with pytest.raises(VqError, match="the largest file"):
        jpeg.compress_to(PICTURE, 1e6)


def test_a_note_reports_a_size_outside_the_tolerance() -> None:
    coarse = replace(installed("jpeg"), whole=True, span=(1, 4))
    sizes = [len(coarse.compress(PICTURE, quality)) for quality in (2, 3)]
    data, _, note = coarse.compress_to(PICTURE, math.sqrt(sizes[0] * sizes[1]) * 1.005)
    assert len(data) in sizes
    if abs(sizes[1] / sizes[0] - 1) > 0.05:
        assert note is not None


def test_fractional_jpeg_qualities_scale_the_same_tables() -> None:
    jpeg = installed("jpeg")
    whole, near = jpeg.options(30), jpeg.options(30 + 1e-9)
    assert set(whole) == {"optimize", "progressive", "quality"}
    assert set(near) == {"optimize", "progressive", "qtables"}
    for quality in (1, 10, 20, 40, 50, 75, 92):  # libjpeg rounds 5000 / quality where these do not need it
        assert jpeg.compress(PICTURE, quality) == jpeg.compress(PICTURE, quality + 1e-9)


def test_a_picture_with_transparency_is_rejected() -> None:
    with pytest.raises(VqError, match="without transparency"):
        installed("webp").compress(Picture(PICTURE.pixels, "RGB", np.zeros((120, 160), np.uint8)), 50)


def test_codec_failures_raise_vq_error() -> None:
    avif = installed("avif")
    with pytest.raises(VqError, match="avif cannot write this picture"):
        avif.compress(PICTURE, 300)
    with pytest.raises(VqError, match="avif cannot read its own file"):
        avif.decompress(b"nothing")


def test_a_missing_plugin_is_named() -> None:
    ghost = replace(PEERS[0], name="ghost", package="pillow-ghost", module="pillow_ghost_not_installed")
    assert ghost.missing() == "pillow-ghost is not installed; run: pip install 'vqcodec[bench]'"
    assert ghost.versions()["pillow-ghost"] == "unknown"
    assert replace(PEERS[0], format="GHOST").missing() == "this Pillow cannot write GHOST"


def test_a_model_is_a_codec_like_the_others(patch_model: Model) -> None:
    codec = ModelPeer(patch_model, effort=0)
    data = codec.compress(PICTURE, 1)
    assert codec.decompress(data).pixels.shape == PICTURE.pixels.shape
    assert ModelPeer(patch_model).model is patch_model


def test_a_size_beyond_the_largest_file_of_a_model_is_an_error(fine_model: Model) -> None:
    """A smaller file must not be compared as one of that size."""
    codec = ModelPeer(fine_model, effort=0)
    size = 1.01 * len(codec.compress(PICTURE, 2))
    assert len(codec.compress_to(PICTURE, size).data) <= size
    with pytest.raises(VqError, match=r"1,000,000 bytes cannot be met: the best that the model tiny-fine makes"):
        codec.compress_to(PICTURE, 1e6)


# The line-up


def test_all_models_at_their_defaults(bundle: object, patch_model: Model, conv_model: Model) -> None:
    bundle(photo=patch_model, paper=conv_model)  # type: ignore[operator]
    contenders, notices = line_up(Wanted())
    assert [(c.label, c.qualities) for c in contenders] == [("tiny-patch", (2,)), ("tiny-conv", (1,))]
    assert [c.matches for c in contenders] == [True, False]
    assert notices == []
    contenders, notices = line_up(Wanted(effort=2), matching=True)
    assert [(c.label, c.effort) for c in contenders] == [("tiny-patch", 2)]
    assert notices == ["tiny-conv is left out: it cannot encode to a given size"]


def test_beside_peers_a_model_is_measured_at_all_qualities(patch_model: Model) -> None:
    folder = str(patch_model.path)
    contenders, _ = line_up(Wanted(codecs=["webp:20,60.5", "jpeg"], models=[folder]))
    assert [c.label for c in contenders] == ["tiny-patch", "webp", "jpeg"]
    jpeg = peer("jpeg")
    assert jpeg is not None
    assert [c.qualities for c in contenders] == [(1, 2), (20, 60.5), jpeg.qualities]
    [model, _] = line_up(Wanted(models=[folder], anchor="webp"))[0]
    assert model.qualities == (1, 2)
    [model, _] = line_up(Wanted(codecs=[folder, "webp"], qualities=["1"]))[0]
    assert model.qualities == (1,)
    [model] = line_up(Wanted(codecs=[f"{folder}:1"], curves=True))[0]
    assert model.qualities == (1,)


def test_peers_that_are_missing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ghost = replace(PEERS[0], name="ghost", format="GHOST")
    monkeypatch.setattr(lineup, "PEERS", (PEERS[0], ghost))
    monkeypatch.setattr(lineup, "peer", {"ghost": ghost, "jpeg": PEERS[0]}.get)
    contenders, notices = line_up(Wanted(codecs=["ghost", "jpeg"]))
    assert [c.label for c in contenders] == ["jpeg"]
    assert notices == ["ghost is left out: this Pillow cannot write GHOST"]
    with pytest.raises(UsageError, match="nothing to measure: ghost is left out"):
        line_up(Wanted(codecs=["ghost"]))


@pytest.mark.parametrize(
    ("name", "error"),
    [("jpeg:0", UsageError), ("avif:1.5", UsageError), ("webp:fine", UsageError), ("gif", UnknownModel)],
)
def test_unknown_codecs_and_qualities_are_rejected(name: str, error: type[VqError]) -> None:
    with pytest.raises(error):
        line_up(Wanted(codecs=[name]))


def test_a_codec_given_twice_is_rejected() -> None:
    with pytest.raises(UsageError, match="given twice"):
        line_up(Wanted(codecs=["jpeg", "jpeg:20"]))


def test_models_with_the_same_name_get_unique_labels(patch_model: Model, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(patch_model.path, other)
    config = (other / "config.json").read_text().replace('"default_quality": 2', '"default_quality": 1')
    (other / "config.json").write_text(config)
    contenders, _ = line_up(Wanted(models=[str(patch_model.path), str(other)]))
    assert contenders[0].label == "tiny-patch"
    assert contenders[1].label == f"tiny-patch@{contenders[1].digest}"
