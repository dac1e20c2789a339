"""Removing qualities of a model: the remaining ones do not change."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import PATCH, make_model, synthetic
from safetensors.torch import load_file

from vqcodec.cli.options import parse_qualities
from vqcodec.codec.codec import Codec
from vqcodec.codec.content import Content
from vqcodec.errors import UsageError
from vqcodec.model.config import ModelConfig
from vqcodec.model.store import Model
from vqcodec.picture.picture import Picture
from vqcodec.train.networks.weights import open_network, save_model
from vqcodec.train.qualities import at_qualities, in_proportion, keep_qualities

LAMBDAS = (60.0, 25.0, 12.0, 4.0)


def config() -> ModelConfig:
    vqvae = dataclasses.replace(PATCH.vqvae, lambdas=LAMBDAS, structure=(0.1, 0.2, 0.3, 0.4))
    return dataclasses.replace(PATCH, vqvae=vqvae, default_quality=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(config(), tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("wanted", [(2, 3, 4), (1, 3), (1, 2, 3, 4)])
def test_remaining_qualities_do_not_change(whole: Model, tmp_path: Path, wanted: tuple[int, ...]) -> None:
    prior = load_file(whole.path / "prior.safetensors")
    kept = save_model(tmp_path / "kept", *keep_qualities(whole.config, open_network(whole), prior, wanted))
    assert kept.config.vqvae.lambdas == tuple(LAMBDAS[quality - 1] for quality in wanted)
    assert kept.config.vqvae.structure == tuple(quality / 10 for quality in wanted)
    assert wanted[kept.config.default_quality - 1] == 3
    assert kept.size < whole.size or len(wanted) == 4
    before, after, source = Codec(whole), Codec(kept), Picture(synthetic(60, 70), "RGB")
    for index, quality in enumerate(wanted, 1):
        codes = before.to_codes(source.pixels, quality)
        assert np.array_equal(after.to_codes(source.pixels, index), codes)
        assert np.array_equal(after.to_pixels(codes, index), before.to_pixels(codes, quality))
        sizes = [len(codec.pack(source, Content.of(codes), q)) for codec, q in ((before, quality), (after, index))]
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize("wanted", [(), (3,), (3, 2), (2, 2, 3), (0, 3), (3, 5), (1, 2, 4)])
def test_invalid_selections_are_refused(whole: Model, wanted: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"keep at least 2|must be kept"):
        keep_qualities(whole.config, open_network(whole), load_file(whole.path / "prior.safetensors"), wanted)


def test_lists_of_qualities() -> None:
    assert parse_qualities("2-5") == (2, 3, 4, 5)
    assert parse_qualities("1, 3,7-8") == (1, 3, 7, 8)
    for text in ("", "a", "2-", "1;2", "-3", "1,,2"):
        with pytest.raises(UsageError, match="is not a list of qualities"):
            parse_qualities(text)


def test_qualities_correspond_in_proportion() -> None:
    assert in_proportion(8, 7) == [0, 1, 2, 3, 3, 4, 5, 6]
    assert in_proportion(4, 4) == [0, 1, 2, 3]
    assert in_proportion(2, 8) == [0, 7]
    assert in_proportion(1, 8) == [0]


def test_a_network_to_begin_with_may_have_other_qualities(whole: Model) -> None:
    before = open_network(whole)
    config = dataclasses.replace(whole.config.vqvae, lambdas=(60.0, 40.0, 25.0, 12.0, 6.0, 4.0), structure=())
    rows = in_proportion(6, 4)
    found = at_qualities(before, config, rows)
    for quality, row in enumerate(rows):
        assert np.array_equal(found.quantizer.vectors(0)[quality], before.quantizer.vectors(0)[row])
    with pytest.raises(UsageError, match="another shape"):
        at_qualities(before, dataclasses.replace(config, width=16), rows)
