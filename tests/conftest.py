"""What several test modules share: synthetic pictures, hand-made integer priors, and a tiny model of each family."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

# Before numpy and torch are loaded: such small products gain nothing from threads, which wait for a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

from vqcodec.coding import native as native_coding
from vqcodec.coding import payloads
from vqcodec.coding.formats import BLOCK_TAPS, ENTRY_TAPS
from vqcodec.coding.integer_prior import IntegerPrior, Layout
from vqcodec.model.config import ModelConfig, PriorConfig, VQVAEConfig, to_json
from vqcodec.model.store import Model, open_model
from vqcodec.nn import native

if TYPE_CHECKING:  # the tests of what works without torch also use this module
    from vqcodec.train.networks.pixelcnn import GatedPixelCNN
    from vqcodec.train.networks.quantizer import VectorQuantizer

HERE = Path(__file__).parent
HAS_TORCH = find_spec("torch") is not None
# What needs torch: marked `torch`, and left out where torch is not installed.
NEED_TORCH = ("api/test_torch_module.py", "benchmarks/test_likelihood.py", "cli/test_train_command.py", "train/")
NEED_NO_TORCH = ("train/test_requirement.py",)
TRAINED = {"brief_model"}  # fixtures that train


def needs_torch(path: Path) -> bool:
    """Whether a test module, or all in a folder, needs torch."""
    name = path.relative_to(HERE).as_posix()
    return name.startswith(NEED_TORCH) and name not in NEED_NO_TORCH


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if HAS_TORCH or collection_path.is_dir() or not collection_path.is_relative_to(HERE):
        return None
    return needs_torch(collection_path) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if needs_torch(item.path) or TRAINED & set(getattr(item, "fixturenames", ())):
            item.add_marker("torch")
        if not HAS_TORCH and item.get_closest_marker("torch"):
            item.add_marker(pytest.mark.skip(reason="torch is not installed"))


def pytest_report_header() -> str:
    return "" if HAS_TORCH else "torch is not installed: tests that need it are left out"


settings.register_profile("vqcodec", deadline=None)  # a busy machine is no fault of the software
settings.load_profile("vqcodec")

Samples = npt.NDArray[np.uint8]
Tensors = dict[str, npt.NDArray[np.generic]]

PATCH = ModelConfig(
    "tiny-patch",
    VQVAEConfig("patch", 8, 8, 6, 1, 1, ((8, 1), (6, 2), (16, 4)), (0.8, 0.1), commitment=1.0),
    PriorConfig(channels=8, blocks=3, head_channels=6),
    unit=4,
    default_quality=2,
)
FILTERED = dataclasses.replace(PATCH, name="tiny-filtered", vqvae=dataclasses.replace(PATCH.vqvae, postfilter=3))
FINE = ModelConfig(
    "tiny-fine",
    VQVAEConfig("patch", 8, 8, 6, 1, 1, ((64, 1), (64, 1), (64, 2), (64, 4), (32, 8)), (48.0, 16.0, 6.0)),
    PriorConfig(channels=8, blocks=2, head_channels=6),
    unit=4,
    default_quality=2,
)
SHARED = dataclasses.replace(
    FINE, name="tiny-shared", vqvae=dataclasses.replace(FINE.vqvae, rate_shares=((0.5, 0.3, 0.8, 0.7, 1.0),) * 3)
)
CONV = ModelConfig(
    "tiny-conv",
    VQVAEConfig("conv", 4, 8, 6, 1, 1, ((32, 6),)),
    PriorConfig(channels=8, blocks=2, head_channels=6),
    unit=8,
)
FINE_FILTERED = dataclasses.replace(FINE, vqvae=dataclasses.replace(FINE.vqvae, postfilter=3))
LABELLED = dataclasses.replace(CONV, prior=dataclasses.replace(CONV.prior, labels=3))
TINY = {"patch": PATCH, "filtered": FILTERED, "fine": FINE, "shared": SHARED, "conv": CONV, "labelled": LABELLED,
        "fine-filtered": FINE_FILTERED}  # fmt: skip


def synthetic(height: int, width: int, seed: int = 0) -> Samples:
    """A picture [H, W, 3] with gradients, an edge, a disc and a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] + rng.uniform(-20, 20, (2, 1, 1))
    waves = [np.sin(y * a + x * b + c) for a, b, c in rng.uniform(-0.2, 0.2, (3, 3))]
    picture = 120 + 60 * np.stack(waves, 2)
    picture[np.hypot(y - height / 2, x - width / 2) < max(height, width) / 4] += rng.uniform(-80, 80, 3)
    picture[x > y + 10] += rng.uniform(-60, 60, 3)
    return (picture + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)


def numbers(salt: int, shape: tuple[int, ...], low: int, high: int) -> npt.NDArray[np.int64]:
    """Integers low..high that look random, by a formula that no library can change."""
    index = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(1000003 * salt + 17)
    for _ in range(2):
        index = (index * np.uint64(0x9E3779B1) + np.uint64(12345)) & np.uint64(0xFFFFFFFF)
        index ^= index >> np.uint64(15)
    return (index % np.uint64(high - low + 1)).astype(np.int64).reshape(shape) + low


def formula_tensors(layout: Layout) -> Tensors:
    """Tensors of an integer prior whose weights come from `numbers`; its counts are neither flat nor spiky."""
    tensors: Tensors = {}
    salt = 0

    def product(name: str, inputs: int, outputs: int, shift: int, conditions: int | None) -> None:
        nonlocal salt
        salt += 1
        lead = () if conditions is None else (conditions,)
        half = 1 << (shift - 1)
        tensors[f"{name}.weight"] = numbers(salt, (outputs, inputs), -60, 60).astype(np.int8)
        bias = numbers(salt + 500, (*lead, outputs), -20 << shift, 20 << shift) + half
        tensors[f"{name}.bias"] = bias.astype(np.int32)
        tensors[f"{name}.shift"] = np.full(outputs, shift, np.int8)

    def label(name: str, outputs: int, shift: int) -> None:
        if layout.labels:
            biases = numbers(salt + 900, (layout.labels, outputs), -30 << shift, 30 << shift)
            tensors[f"{name}.label"] = biases.astype(np.int32)

    channels, head, qualities = layout.channels, layout.head_channels, layout.qualities
    for index in range(layout.blocks):
        name, taps = (f"block.{index - 1}", BLOCK_TAPS) if index else ("entry", ENTRY_TAPS)
        product(f"{name}.gate", len(taps) * channels, 2 * channels, 8, qualities)
        label(f"{name}.gate", 2 * channels, 8)
        product(f"{name}.project", channels, channels, 5, qualities)
    product("state", channels, channels, 6, qualities)
    label("state", channels, 6)
    for g, size in enumerate(layout.sizes):
        product(f"head.{g}", channels, head, 6, qualities)
        for quality in range(qualities):
            name = f"codes.{g}.{quality}"
            product(f"{name}.out", head, size, 7, None)
            tensors[f"{name}.embedding"] = numbers(salt + 1300, (size, channels), -90, 90).astype(np.int8)
            if g < len(layout.sizes) - 1:
                tensors[f"{name}.state"] = numbers(salt + 1700, (size, channels), -40, 40).astype(np.int8)
    return tensors


def formula_codes(sizes: tuple[int, ...], height: int, width: int, salt: int = 1) -> npt.NDArray[np.int32]:
    """Codes [G, H, W] by a formula."""
    grids = [numbers(salt + 31 * g, (height, width), 0, size - 1) for g, size in enumerate(sizes)]
    return np.stack(grids).astype(np.int32)


SMALL = Layout(sizes=(5, 3, 16), qualities=2, channels=6, head_channels=5, blocks=3)


@pytest.fixture(scope="session")
def small_prior() -> IntegerPrior:
    """The hand-made prior of the layout `SMALL`, at the first quality."""
    return IntegerPrior(formula_tensors(SMALL), SMALL, 0)


@pytest.fixture(params=["native", "constriction", "python"], scope="class")
def payload_code(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each implementation of payloads that is installed, for the tests of a class or for one test. Its name."""
    named = {"constriction": "numpy with constriction", "python": "numpy with Python's range coder"}
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "native":
            if native_coding.missing():
                pytest.skip(f"native code is missing: {native_coding.missing()}")
            assert payloads.implementation().startswith("native (")
        else:
            if request.param == "python":
                patch.setattr(payloads, "constriction", None)
            elif payloads.constriction is None:
                pytest.skip("constriction is not installed")
            patch.setattr(native_coding, "_native", None)
            patch.setattr(native_coding, "_missing", "switched off")
            assert payloads.implementation() == named[request.param]
        yield request.param


def random_prior(
    config: VQVAEConfig, prior: PriorConfig, seed: int = 0, quantizer: VectorQuantizer | None = None
) -> GatedPixelCNN:
    """A float prior with seeded random weights, of which every part matters, and with the frequencies of `quantizer`.

    Without those the sizes of files would not follow lambda.
    """
    import torch

    from vqcodec.train.networks.pixelcnn import GatedPixelCNN
    from vqcodec.train.networks.quantizer import VectorQuantizer

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        network = GatedPixelCNN(config, prior)
        network.describe_codes(quantizer or VectorQuantizer(config))
        for name, parameter in network.named_parameters():
            if name.endswith((".free", ".label", ".bias")) and "net." not in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.5)
    return network.eval()


def plain_kernels() -> npt.NDArray[np.float32]:
    """Three kernels that suit most pictures: contrast, sharpness, and colours that follow the green [3, 3, 3, 5, 5]."""
    kernels = np.zeros((3, 3, 3, 5, 5), np.float32)
    for channel in range(3):
        kernels[0, channel, channel, 2, 2] = 1
        kernels[1, channel, channel, 1:4, 1:4] = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
        kernels[2, channel, 1, :, 2] = [0, -1, 2, -1, 0] if channel != 1 else 0
    return kernels


STORED = Path(__file__).parent / "data" / "models"  # of `build_model`; `python tests/tiny_models.py` writes them


def make_model(config: ModelConfig, folder: Path) -> Model:
    """A model of random weights in `folder`: a copy of a stored one, or if none has this configuration, a new one."""
    for stored in sorted(STORED.iterdir()):
        found = open_model(stored).config
        if (found.vqvae, found.prior) == (config.vqvae, config.prior):
            shutil.copytree(stored, folder, dirs_exist_ok=True)
            (folder / "config.json").write_text(to_json(config), encoding="utf-8", newline="\n")
            return open_model(folder)
    return build_model(config, folder)


def build_model(config: ModelConfig, folder: Path) -> Model:
    """A model of seeded random weights around a PCA and k-means start on synthetic pictures, saved in `folder`."""
    import torch

    from vqcodec.train.networks.vqvae import VQVAE, start_from_pca
    from vqcodec.train.networks.weights import save_model

    pictures = np.stack([synthetic(64, 64, seed) for seed in range(12)])
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        network = VQVAE(config.vqvae)
        if config.vqvae.stem == "patch":
            start_from_pca(network, x)
            for half in (network.encoder, network.decoder):  # the branches start at zero; here they must matter
                half.out.weight.normal_(0, 0.2)
        for name, parameter in network.named_parameters():
            if name.endswith("film"):
                parameter.normal_(0, 0.3)
        if network.postfilter:
            network.postfilter.kernels.copy_(torch.from_numpy(plain_kernels()))
        for quality in range(config.vqvae.qualities):
            latents = network.encoder(x, torch.full((len(x),), quality))
            network.quantizer.start_from(latents.permute(0, 2, 3, 1).flatten(0, 2), quality)
    prior = random_prior(config.vqvae, config.prior, quantizer=network.quantizer)
    return save_model(folder, config, network, prior.integers())


@pytest.fixture
def codes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block is stored without loss unless a test asks for it. Tiny models are so bad that most blocks would be."""
    monkeypatch.setattr("vqcodec.codec.stored.MOST_BPP", -1.0)


@pytest.fixture(scope="session")
def patch_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Stride 8, three small codebooks, two qualities, units of 4 x 4 positions."""
    return make_model(PATCH, tmp_path_factory.mktemp("models") / "patch")


@pytest.fixture(scope="session")
def filtered_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """As the patch model, with a post-filter that suits most pictures."""
    return make_model(FILTERED, tmp_path_factory.mktemp("models") / "filtered")


@pytest.fixture(scope="session")
def fine_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """As the patch model, with so many codes and such lambdas that the choice of a code is a close call."""
    return make_model(FINE, tmp_path_factory.mktemp("models") / "fine")


@pytest.fixture(scope="session")
def shared_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """As the fine model, with a lambda that follows texture and what the prior leaves."""
    return make_model(SHARED, tmp_path_factory.mktemp("models") / "shared")


@pytest.fixture(scope="session")
def conv_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Stride 4, one codebook of 32 codes, one quality, units of 8 x 8 positions."""
    return make_model(CONV, tmp_path_factory.mktemp("models") / "conv")


@pytest.fixture(scope="session")
def few_pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder of six pictures to train on, as `Project` takes it."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(6):
        Image.fromarray(synthetic(70, 90, seed)).save(folder / f"{seed}.png")
    return [folder]


@pytest.fixture(scope="session")
def brief_model(few_pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The fine model's configuration after a few steps of the first two stages, on crops of 64 pixels."""
    from training import silent

    from vqcodec.train.loop import Schedule
    from vqcodec.train.project import Project

    folder = tmp_path_factory.mktemp("brief")
    project = Project(folder / "run", few_pictures, silent)
    project.train_vqvae(FINE, Schedule(steps=3), 4, 64)
    project.train_prior(Schedule(steps=3), 2, 64)
    return project.export(folder / "model")


NETWORKS = {level.name: level for level in native.levels()}


@pytest.fixture(params=["numpy", *NETWORKS])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What networks that are made during the test use: numpy, or an instruction set of native code."""
    monkeypatch.setattr(native, "active", lambda: NETWORKS.get(request.param))
    return str(request.param)


@pytest.fixture(params=["patch", "conv"])
def model(request: pytest.FixtureRequest) -> Model:
    """Each of the two tiny models."""
    found: Model = request.getfixturevalue(f"{request.param}_model")
    return found


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """bundle(photo=model, ...): copies of these models are the bundled ones. Returns their folder."""
    from vqcodec.api import functions as api
    from vqcodec.model import store

    def install(**models: Model) -> Path:
        folder = tmp_path / "bundled"
        for name, model in models.items():
            shutil.copytree(model.path, folder / name)
        monkeypatch.setattr(store, "_MODELS", folder)
        forget()
        return folder

    def forget() -> None:
        store._open_bundled.cache_clear()
        api.forget()

    yield install
    forget()


class Recorder:
    """A coder that writes nothing and keeps the counts it is given, per unit, in the order of coding."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, npt.NDArray[np.int32], npt.NDArray[np.float32]]] = []

    def code(self, unit: int, symbols: npt.NDArray[np.int32], counts: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        self.calls.append((unit, symbols.copy(), counts.copy()))
        return symbols
