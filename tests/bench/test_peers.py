"""Codecs of the benchmark: encoding and decoding, target sizes, what is missing, programs, and the line-up."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic

from vqcodec.bench import lineup, package_peer, program_peer
from vqcodec.bench.lineup import Wanted, line_up
from vqcodec.bench.peers import PEERS, ListedPeer, ModelPeer, PackagePeer, PillowPeer, ProgramPeer, peer
from vqcodec.errors import UnknownModel, UsageError, VqError
from vqcodec.model.store import Model
from vqcodec.picture import plugins
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.picture.write import to_image

PICTURE = Picture(synthetic(120, 160), "RGB")


def installed(name: str) -> ListedPeer:
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
    assert isinstance(jpeg, PillowPeer)
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


def test_a_missing_plugin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def register() -> None:
        import pillow_ghost_not_installed  # noqa: F401

    plugin = plugins.Plugin("pillow-ghost", "pillow_ghost_not_installed", register, ())
    monkeypatch.setitem(plugins.PLUGINS, "ghost", plugin)
    ghost = replace(pillow("jpeg"), name="ghost", plugin="ghost")
    assert ghost.missing() == "pillow-ghost is not installed; run: pip install 'vqcodec[bench]'"
    assert ghost.versions()["pillow-ghost"] == "unknown"
    assert replace(pillow("jpeg"), format="GHOST").missing() == "this Pillow cannot write GHOST"


def pillow(name: str) -> PillowPeer:
    found = peer(name)
    assert isinstance(found, PillowPeer)
    return found


def test_every_row_is_told_from_the_others() -> None:
    names = [entry.name for entry in PEERS]
    assert len(set(names)) == len(names)
    assert len({(entry.format, entry.settings) for entry in PEERS}) == len(PEERS)
    for entry in PEERS:
        formats = {other.format for other in PEERS if other.family == entry.family}
        assert formats == {entry.format}
        assert entry.qualities == tuple(sorted(entry.qualities))
        low, high = entry.span
        assert low <= entry.qualities[0] < entry.qualities[-1] <= high
        if isinstance(entry, PillowPeer) and entry.untuned is not None:
            untuned = pillow(entry.untuned)
            assert untuned.options(30) == entry.options(30)
            assert entry.tune is not None


def test_the_default_anchor_is_the_first_of_the_table() -> None:
    assert PEERS[0].name == "jpeg"


# AVIF's tune


class FakeAvif(PillowPeer):
    """An AVIF encoder that knows some tunes; `DEFAULT` is what it uses where nothing is asked for."""

    KNOWN: tuple[str, ...] = ("iq", "ssim")
    DEFAULT = "iq"

    def encode(self, image: object, quality: float) -> bytes:
        if self.tune is not None and self.KNOWN and self.tune not in self.KNOWN:
            raise ValueError("Invalid codec-specific option")
        return f"{self.tune or self.DEFAULT} {quality}".encode()


class IgnorantAvif(FakeAvif):
    """An AVIF encoder that ignores the option."""

    KNOWN = ()

    def encode(self, image: object, quality: float) -> bytes:
        return f"{quality}".encode()


def fake(kind: type[FakeAvif], name: str) -> FakeAvif:
    known = {field: getattr(pillow(name), field) for field in PillowPeer.__dataclass_fields__}
    return kind(**known)


def test_a_tune_that_the_encoder_does_not_know_or_ignores_is_missing() -> None:
    assert fake(FakeAvif, "avif-ssim").missing() is None
    assert fake(FakeAvif, "avif-ssimulacra2").missing() == (
        "the AVIF encoder of this Pillow does not know tune=ssimulacra2"
    )
    assert fake(IgnorantAvif, "avif-iq").missing() == "the AVIF encoder of this Pillow ignores tune"
    assert fake(IgnorantAvif, "avif-4").missing() is None


def test_a_tune_that_the_library_uses_anyway_repeats_another_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: fake(FakeAvif, name) for name in ("avif-4", "avif-iq", "avif-ssimulacra2")}
    assert rows["avif-iq"].repeats() == "avif-4"
    assert rows["avif-4"].repeats() is None
    monkeypatch.setattr(FakeAvif, "DEFAULT", "ssim")
    assert rows["avif-iq"].repeats() is None
    monkeypatch.setattr(FakeAvif, "DEFAULT", "iq")
    monkeypatch.setattr(lineup, "PEERS", tuple(rows.values()))
    monkeypatch.setattr(lineup, "peer", rows.get)
    contenders, notices = line_up(Wanted(codecs=["avif-4:20"], peers=True))
    assert [c.label for c in contenders] == ["avif-4"]
    assert notices == [
        "avif-iq is left out: with the libraries here it makes the same files as avif-4",
        "avif-ssimulacra2 is left out: the AVIF encoder of this Pillow does not know tune=ssimulacra2",
    ]
    for wanted in (Wanted(codecs=["avif-iq:20", "avif-4"], peers=True), Wanted(peers=True, anchor="avif-iq")):
        contenders, _ = line_up(wanted)  # what was named is measured
        assert {"avif-iq", "avif-4"} <= {c.label for c in contenders}


def test_tunes_differ_where_the_encoder_has_them() -> None:
    names = [name for name in ("avif-4", "avif-iq", "avif-ssim", "avif-ssimulacra2") if not missing(name)]
    files = {name: pillow(name).compress(PICTURE, 50) for name in names if pillow(name).repeats() is None}
    assert len(set(files.values())) == len(files)


def missing(name: str) -> bool:
    found = peer(name)
    return found is None or found.missing() is not None


# Encoders in packages, and programs


def test_a_package_that_is_not_installed_or_does_not_work_is_named() -> None:
    def absent(image: object, quality: int) -> bytes:
        raise ModuleNotFoundError("no module")

    def broken(image: object, quality: int) -> bytes:
        raise OSError("cannot load library")

    entry = peer("jpegli")
    assert isinstance(entry, PackagePeer)
    ghost = replace(entry, packages=("ghost",), encoder=absent)
    assert ghost.missing() == "ghost is not installed; run: pip install 'vqcodec[bench]'"
    assert ghost.versions()["ghost"] == "unknown"
    assert replace(ghost, encoder=broken).missing() == "ghost does not work here (cannot load library)"


def test_a_libvips_without_mozjpeg_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = peer("mozjpeg")
    assert isinstance(entry, PackagePeer)
    monkeypatch.setattr(package_peer, "_vips", lambda image, quality, **options: b"ignores the options")
    assert entry.missing() == ("the installed libvips was built without mozjpeg; run: pip install 'vqcodec[bench]'")
    monkeypatch.setattr(package_peer, "_vips", lambda image, quality, **options: str(options).encode())
    assert entry.missing() is None


@pytest.mark.parametrize("name", ["mozjpeg", "jpegli"])
def test_a_grey_picture_becomes_a_jpeg(name: str) -> None:
    codec = installed(name)
    grey = Picture(np.repeat(PICTURE.pixels[:, :, :1], 3, axis=2), "L")
    after = codec.decompress(codec.compress(grey, 90))
    assert psnr(grey.pixels, after.pixels) > 35


Script = Callable[[str], ProgramPeer]

ENCODER = """
import sys
from PIL import Image
source, target, option, quality, quiet = sys.argv[1:]
assert (option, quiet) == ("-q", "--quiet")
Image.open(source).save(target, "JPEG", quality=int(quality))
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """A function that puts a Python script on the PATH as `cjpegli`."""
    if os.name == "nt":
        pytest.skip("a script is no program on Windows")
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(code: str) -> ProgramPeer:
        path = tmp_path / "cjpegli"
        path.write_text(f"#!{sys.executable}\n{code}")
        path.chmod(0o755)
        found = peer("cjpegli")
        assert isinstance(found, ProgramPeer)
        return found

    return put


def test_a_program_on_the_path_encodes(script: Script) -> None:
    codec = script(ENCODER)
    assert codec.missing() is None
    first = codec.versions()
    assert set(first) == {"Pillow", "cjpegli"}
    for picture in (PICTURE, Picture(PICTURE.pixels, "L")):
        expected = io.BytesIO()
        to_image(picture).save(expected, "JPEG", quality=60)
        data = codec.compress(picture, 60)
        assert data == expected.getvalue()
        assert codec.decompress(data).pixels.shape == PICTURE.pixels.shape
    size = 1.01 * len(codec.compress(PICTURE, 40))
    assert codec.compress_to(PICTURE, size).quality in (39, 40, 41)
    assert script(ENCODER + "\n").versions() != first  # another program may make other files
    contenders, _ = line_up(Wanted(codecs=["cjpegli:30,60"]))
    assert [c.qualities for c in contenders] == [(30, 60)]


def test_a_program_that_is_missing_or_fails_is_named(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = script("import sys\nsys.exit('a picture too many')")
    assert codec.missing() == "the program cjpegli fails: a picture too many"
    assert script("import sys\nsys.exit(7)").missing() == "the program cjpegli fails: exit code 7"
    assert script("pass").missing() == "the program cjpegli fails: No such file or directory"
    monkeypatch.setattr(program_peer, "_SECONDS", 0.0)
    assert script("import time\ntime.sleep(60)").missing() == "the program cjpegli was stopped after 0 s"
    (tmp_path / "cjpegli").unlink()
    reason = "there is no program cjpegli on the PATH"
    assert codec.missing() == f"{reason} (it comes with https://github.com/google/jpegli)"
    assert set(codec.versions()) == {"Pillow"}
    with pytest.raises(VqError, match=reason):
        codec.compress(PICTURE, 50)


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
    ghost = replace(pillow("jpeg"), name="ghost", format="GHOST")
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
