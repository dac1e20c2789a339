"""Configurations <-> JSON: unknown and missing keys are errors, and the JSON text is canonical."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from conftest import CONV, PATCH, SHARED

from vqcodec.errors import ModelError
from vqcodec.model.config import ModelConfig, PriorConfig, VQVAEConfig, from_json, to_json, with_expected_quality


@pytest.mark.parametrize("config", [PATCH, CONV, SHARED], ids=lambda config: config.name)
def test_a_round_trip_gives_the_same(config: ModelConfig) -> None:
    text = to_json(config)
    assert from_json(ModelConfig, text) == config
    assert to_json(from_json(ModelConfig, text)) == text
    assert hash(from_json(ModelConfig, text)) == hash(config)


def test_the_form_is_canonical() -> None:
    text = to_json(PATCH)
    shuffled = json.dumps(dict(reversed(json.loads(text).items())), indent=None)
    assert to_json(from_json(ModelConfig, shuffled)) == text
    assert text.endswith("}\n")
    assert text.isascii()
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_later_settings_without_effect_leave_earlier_digests_alone() -> None:
    assert "rate_shares" not in json.loads(to_json(PATCH))["vqvae"]
    assert "rate_shares" in json.loads(to_json(SHARED))["vqvae"]


def test_the_expected_quality_is_kept_beside_the_canonical_form() -> None:
    stated = dataclasses.replace(PATCH, expected_quality=tuple(50.5 + i for i in range(PATCH.vqvae.qualities)))
    assert to_json(stated) == to_json(PATCH)
    assert stated == PATCH
    assert from_json(ModelConfig, with_expected_quality(stated)).expected_quality == stated.expected_quality
    assert from_json(ModelConfig, to_json(stated)).expected_quality == ()


def test_settings_with_a_default_are_optional() -> None:
    parts = json.loads(to_json(PATCH))
    for key in ("unit", "default_quality", "format"):
        del parts[key]
    parts["prior"] = {}
    config = from_json(ModelConfig, json.dumps(parts))
    assert config == dataclasses.replace(PATCH, unit=64, default_quality=1, prior=PriorConfig())


def changed(path: str, value: Any) -> str:
    """The JSON of PATCH with one entry replaced, or removed where the value is ..."""
    parts = json.loads(to_json(PATCH))
    inner = parts
    *outer, last = path.split(".")
    for key in outer:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(parts)


@pytest.mark.parametrize("path", ["name", "vqvae", "prior", "vqvae.stem", "vqvae.codebooks", "vqvae.width"])
def test_a_missing_key_is_named(path: str) -> None:
    with pytest.raises(ModelError, match=f"lacks {path.split('.')[-1]}"):
        from_json(ModelConfig, changed(path, ...))


@pytest.mark.parametrize("path", ["colour", "vqvae.colour", "prior.colour"])
def test_an_unknown_key_is_named(path: str) -> None:
    with pytest.raises(ModelError, match="unknown keys: colour"):
        from_json(ModelConfig, changed(path, 1))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", 3),
        ("name", None),
        ("vqvae", []),
        ("vqvae", None),
        ("vqvae.stem", "linear"),
        ("vqvae.stem", ["conv"]),
        ("vqvae.stride", 5),
        ("vqvae.rate_shares", [[0.5, 0.5, 0.5]]),
        ("vqvae.rate_shares", [[0.5, 0.5], [0.5, 0.5]]),
        ("vqvae.rate_shares", [[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]),
        ("vqvae.structure", [0.5]),
        ("vqvae.structure", [0.5, 1.5]),
        ("vqvae.structure", [0.5, -0.1]),
        ("vqvae.stride", "8"),
        ("vqvae.stride", 8.0),
        ("vqvae.width", 0),
        ("vqvae.width", True),
        ("vqvae.width", 10**30),
        ("vqvae.residual_width", -1),
        ("vqvae.encoder_blocks", -1),
        ("vqvae.decoder_blocks", 65),
        ("vqvae.codebooks", []),
        ("vqvae.codebooks", 3),
        ("vqvae.codebooks", [[256]]),
        ("vqvae.codebooks", [[256, 1, 1]]),
        ("vqvae.codebooks", [[1, 1]]),
        ("vqvae.codebooks", [[4097, 1]]),
        ("vqvae.codebooks", [[2, 0]]),
        ("vqvae.codebooks", [[2, 1]] * 65),
        ("vqvae.codebooks", [["2", 1]]),
        ("vqvae.lambdas", []),
        ("vqvae.lambdas", [-0.1]),
        ("vqvae.lambdas", [float("nan")]),
        ("vqvae.lambdas", [float("inf")]),
        ("vqvae.lambdas", [True]),
        ("vqvae.lambdas", 0.5),
        ("vqvae.lambdas", [10**400]),
        ("vqvae.codebook_learning", "none"),
        ("vqvae.restart_dead_codes", 1),
        ("prior.channels", 0),
        ("prior.blocks", 0),
        ("prior.head_channels", 1025),
        ("prior.labels", -1),
        ("expected_quality", [50.0]),
        ("expected_quality", [50.0, 101.0]),
        ("expected_quality", [50.0, float("nan")]),
        ("unit", 0),
        ("unit", 1025),
        ("default_quality", 0),
        ("default_quality", 3),
        ("format", 2),
    ],
)
def test_a_wrong_value_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ModelError):
        from_json(ModelConfig, changed(path, value))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\x00", "[" * 100_000, '{"name": 1} x'])
def test_texts_that_are_not_a_configuration_are_refused(text: str) -> None:
    with pytest.raises(ModelError):
        from_json(ModelConfig, text)


def test_a_newer_format_is_named_in_the_error() -> None:
    with pytest.raises(ModelError, match="newer than this vqcodec"):
        from_json(ModelConfig, changed("format", 2))


def test_integers_are_accepted_as_floats() -> None:
    config = from_json(ModelConfig, changed("vqvae.lambdas", [1, 0]))
    assert config.vqvae.lambdas == (1.0, 0.0)
    assert all(type(value) is float for value in config.vqvae.lambdas)


def test_configurations_made_in_code_are_checked_too() -> None:
    with pytest.raises(ModelError, match="stride"):
        VQVAEConfig("conv", 2, 8, 4, 1, 1, ((4, 4),))
    with pytest.raises(ModelError, match="default_quality"):
        dataclasses.replace(PATCH, default_quality=5)


def test_derived_properties_of_a_configuration() -> None:
    assert (PATCH.vqvae.latent_dim, PATCH.vqvae.qualities) == (7, 2)
    assert PATCH.vqvae.naive_bits == pytest.approx(3 + 2.585 + 4, abs=1e-3)
    assert (CONV.vqvae.latent_dim, CONV.vqvae.qualities, CONV.vqvae.naive_bits) == (6, 1, 5)
