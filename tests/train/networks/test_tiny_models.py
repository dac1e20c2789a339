"""The stored models that tests compress with are those that `build_model` makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import STORED, TINY, build_model
from safetensors.numpy import load_file

from vqcodec.model.store import open_model

pytest.importorskip("torch")


def test_all_are_stored() -> None:
    assert {path.name for path in STORED.iterdir()} == set(TINY)


@pytest.mark.parametrize("name", TINY)
def test_they_are_up_to_date(name: str, tmp_path: Path) -> None:
    """Up to rounding, which differs between machines: a k-means step may assign a latent to another code."""
    built, stored = build_model(TINY[name], tmp_path / name), open_model(STORED / name)
    assert built.config == stored.config
    for file in ("weights.safetensors", "prior.safetensors"):
        one, other = (load_file(model.path / file) for model in (built, stored))
        assert one.keys() == other.keys()
        for key, tensor in one.items():
            assert tensor.shape == other[key].shape, key
            near = np.isclose(tensor.astype(np.float64), other[key].astype(np.float64), rtol=1e-2, atol=1.1)
            assert near.mean() > 0.9, key
