"""Trained networks and their prior -> the folder of a model, and back: whole, checked and rounded as it is stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from conftest import CONV, PATCH, random_prior, synthetic

from vqcodec.codec.codec import Codec
from vqcodec.errors import ModelError, OutputError
from vqcodec.model.store import Model, open_model
from vqcodec.picture.picture import Picture
from vqcodec.train.networks.vqvae import VQVAE
from vqcodec.train.networks.weights import open_network, round_weights, save_model


@pytest.fixture
def copied(conv_model: Model, tmp_path: Path) -> Path:
    """A folder with a copy of the conv model."""
    return Path(shutil.copytree(conv_model.path, tmp_path / "copy"))


def test_saving_again_gives_the_same_digest(conv_model: Model, tmp_path: Path) -> None:
    network = open_network(conv_model)
    prior = random_prior(CONV.vqvae, CONV.prior, quantizer=network.quantizer).integers()
    again = save_model(tmp_path / "again", CONV, network, prior)
    assert again.digest == conv_model.digest


def test_the_network_is_ready_to_use(model: Model) -> None:
    network = open_network(model)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert all(t.dtype == torch.float32 for t in network.state_dict().values())


def test_rounded_weights_are_those_that_are_stored(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VQVAE(CONV.vqvae)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    round_weights(network)
    stored = open_network(save_model(tmp_path / "m", CONV, network, random_prior(CONV.vqvae, CONV.prior).integers()))
    changed = 0
    for name, tensor in network.state_dict().items():
        if "sums" not in name:
            assert torch.equal(tensor, stored.state_dict()[name]), name
        changed += not torch.equal(tensor, before[name])
    assert changed > 5


def test_a_prior_that_breaks_the_bound_is_not_saved(conv_model: Model, tmp_path: Path) -> None:
    prior = random_prior(CONV.vqvae, CONV.prior).integers()
    prior["head.0.bias"][0, 0] = 1 << 24
    with pytest.raises(ModelError, match="beyond the 2\\^24"):
        save_model(tmp_path / "m", CONV, open_network(conv_model), prior)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("quality", [0, 1])
@pytest.mark.parametrize("g", range(3))
def test_a_prior_with_too_few_codes_is_not_saved(patch_model: Model, tmp_path: Path, g: int, quality: int) -> None:
    network, prior = open_network(patch_model), random_prior(PATCH.vqvae, PATCH.prior).integers()
    counts = network.quantizer.get_buffer(f"counts{g}")
    counts[quality] = torch.tensor([1.0] * 4 + [0.0] * (counts.shape[1] - 4))

    def cut(rows: int) -> dict[str, torch.Tensor]:
        mine = f"codes.{g}.{quality}."
        return {key: t[:rows].contiguous() if key.startswith(mine) else t for key, t in prior.items()}

    with pytest.raises(ModelError, match=f"lacks codes of codebook {g + 1} at quality {quality + 1}"):
        save_model(tmp_path / "m", PATCH, network, cut(3))
    assert list(tmp_path.iterdir()) == []
    pixels = synthetic(40, 40)
    for rows in (4, 5):  # the prior may have more codes than are in use
        codec = Codec(save_model(tmp_path / "m", PATCH, network, cut(rows)))
        back = codec.decompress(codec.compress(Picture(pixels, "RGB"), quality + 1))
        assert back.pixels.shape == pixels.shape


def test_a_prior_that_lacks_a_table_is_not_saved(conv_model: Model, tmp_path: Path) -> None:
    prior = random_prior(CONV.vqvae, CONV.prior).integers()
    del prior["codes.0.0.embedding"]
    with pytest.raises(ModelError, match=r"lacks the tensor codes\.0\.0\.embedding"):
        save_model(tmp_path / "m", CONV, open_network(conv_model), prior)
    assert list(tmp_path.iterdir()) == []


def test_saving_over_a_model_replaces_it_or_leaves_it(copied: Path, conv_model: Model) -> None:
    good = random_prior(CONV.vqvae, CONV.prior, seed=1).integers()
    assert save_model(copied, CONV, open_network(conv_model), good).digest != conv_model.digest
    kept = open_model(copied).digest
    good.pop("state.bias")
    with pytest.raises(ModelError, match=r"state\.bias"):
        save_model(copied, CONV, open_network(conv_model), good)
    assert open_model(copied).digest == kept


def test_a_place_that_cannot_be_written_is_an_output_error(conv_model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_model(
            tmp_path / "file" / "m", CONV, open_network(conv_model), random_prior(CONV.vqvae, CONV.prior).integers()
        )


def test_a_model_may_be_saved_into_the_current_folder(
    conv_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    network = open_network(conv_model)
    prior = random_prior(CONV.vqvae, CONV.prior, quantizer=network.quantizer).integers()
    assert save_model(Path("."), CONV, network, prior).digest == conv_model.digest
