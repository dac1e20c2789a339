"""A model as a torch module: its strings and pictures are those of files, its likelihoods give their size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import synthetic

import vqcodec
from vqcodec.api.torch_module import CompressionModule
from vqcodec.codec.codec import Codec
from vqcodec.errors import DamagedFile, LimitExceeded, UsageError
from vqcodec.format.container import unpack
from vqcodec.model.store import Model

pytestmark = pytest.mark.usefixtures("codes_only")


@pytest.fixture(autouse=True)
def package(patch_model: Model, conv_model: Model, bundle: Callable[..., Path]) -> None:
    """The patch model is the default one; the conv model is called "paper"."""
    bundle(photo=patch_model, paper=conv_model)


def tensor(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def test_the_module_gives_the_payloads_and_the_picture_of_a_file(model: Model) -> None:
    pictures = [synthetic(70, 90, seed) for seed in range(3)]
    codec = Codec(model)
    for quality in range(1, model.config.vqvae.qualities + 1):
        module = CompressionModule(codec, quality)
        out = module.compress(tensor(*pictures))
        decoded = module.decompress(out["strings"], out["shape"])["x_hat"]
        assert decoded.shape == (3, 3, 70, 90)
        for index, picture in enumerate(pictures):
            data = vqcodec.encode(picture, quality, model.path, effort=0)
            assert tuple(strings[index] for strings in out["strings"]) == unpack(data).units
            samples = (decoded[index].permute(1, 2, 0) * 255).round().numpy()
            assert np.abs(samples - vqcodec.decode_array(data, model.path)).max() <= 1


def test_likelihoods_give_the_size_and_forward_gives_the_picture(fine_model: Model) -> None:
    module = CompressionModule(Codec(fine_model), 3)
    x = tensor(synthetic(120, 150), synthetic(120, 150, 1)).requires_grad_()
    out = module(x)
    strings, shape = module.compress(x).values()
    codes = out["likelihoods"]["codes"]
    assert codes.shape == (2, 5, 15, 19)
    assert 0 < codes.min() < codes.max() <= 1
    for index in range(2):
        bits = -codes[index].double().log2().sum().item()
        ends = 16 * len(strings)  # the last words of each string
        assert bits - 1 <= 8 * sum(len(unit[index]) for unit in strings) <= bits * 1.01 + ends
    assert torch.allclose(out["x_hat"].clamp(0, 1), module.decompress(strings, shape)["x_hat"], atol=1e-4)
    out["x_hat"].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_module_is_frozen(patch_model: Model) -> None:
    module = vqcodec.torch_model(quality=1)
    assert module.quality == 1
    assert vqcodec.torch_model("paper").quality == 1
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.train()
    module(tensor(synthetic(64, 64)))
    assert not any(part.training for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(UsageError):
        vqcodec.torch_model(quality=3)


def test_errors_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = vqcodec.torch_model()
    for x in (torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        for use in (module, module.compress):
            with pytest.raises(UsageError, match=r"floats in \[0, 1\]"):
                use(x)
    strings, shape = module.compress(torch.rand(2, 3, 40, 40)).values()
    for wrong in ([], [[]], strings[1:], [*strings[:-1], strings[-1][:1]]):
        with pytest.raises(DamagedFile, match="do not fit"):
            module.decompress(wrong, shape)
    with pytest.raises(LimitExceeded):
        module.decompress(strings, (2**14, 2**14))
