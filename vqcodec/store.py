"""Named models: a folder with config.json, weights.safetensors (floats) and prior.safetensors (integers).

In: a model's name, its folder, or the digest that a file carries. Out: a `Model` whose parts are loaded when they are
asked for. Names and digests are looked up in the package, then in the folders that the environment variable
VQCODEC_MODELS lists, each of which holds folders of models. The digest is the first 8 bytes of the SHA-256 over the
three files; one changed bit makes another model.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqcodec.coding.integer_prior import IntegerPrior, Layout
from vqcodec.config import ModelConfig, VQVAEConfig, from_json, to_json
from vqcodec.errors import ModelError, OutputError, UnknownModel
from vqcodec.output import check_destination, make_folder, write_atomic

if TYPE_CHECKING:  # importing torch takes a second, and reading codes does not need it
    from torch import Tensor
    from torch.overrides import TorchFunctionMode

    from vqcodec.nn.vqvae import VQVAE

__all__ = [
    "DEFAULT_MODEL", "Model", "added", "bundled", "export_model", "find", "load_network", "model_folder",
    "open_model", "save_model", "save_network",
]  # fmt: skip

DEFAULT_MODEL = "photo"
MODELS_PATH = "VQCODEC_MODELS"  # the environment variable
DIGEST_BYTES = 8
MAX_FILE = 1 << 28  # bytes of a model's file
MAX_CONFIG = 1 << 20  # JSON takes far more memory once it is read
_MODELS = Path(__file__).parent / "models"
_CONFIG, _WEIGHTS, _PRIOR, _CARD = "config.json", "weights.safetensors", "prior.safetensors", "README.md"


@dataclass(frozen=True)
class Model:
    """A model in a folder."""

    path: Path
    config: ModelConfig
    digest: bytes  # 8 bytes

    @property
    def name(self) -> str:
        """What the model calls itself."""
        return self.config.name

    @property
    def size(self) -> int:
        """Bytes on disk, without the model card."""
        return sum((self.path / name).stat().st_size for name in (_CONFIG, _WEIGHTS, _PRIOR))

    @cached_property
    def prior_tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """The integers of the prior, at all qualities."""
        from safetensors.numpy import load

        data = _read(self.path / _PRIOR)
        try:
            return load(data)
        except Exception as error:  # types that numpy lacks and sizes beyond its integers fail in many ways
            raise ModelError(f"{self.path / _PRIOR}: not usable as a prior ({error or type(error).__name__})") from None

    def prior(self, quality: int, label: int | None = None) -> IntegerPrior:
        """The prior at one quality (0-based). Raises `ModelError` where its weights break a bound."""
        vqvae, prior = self.config.vqvae, self.config.prior
        sizes = tuple(size for size, _ in vqvae.codebooks)
        layout = Layout(sizes, vqvae.qualities, prior.channels, prior.head_channels, prior.blocks, prior.labels)
        return IntegerPrior(self.prior_tensors, layout, quality, label)

    def network(self) -> VQVAE:
        """The autoencoder with its weights, in float32, ready to use."""
        network = load_network(self.path, self.config.vqvae)
        _refuse_unknown_codes(network, self.prior_tensors)
        return network


def load_network(folder: Path, config: VQVAEConfig) -> VQVAE:
    """The autoencoder in a model's folder, which needs no prior for that. Raises `ModelError`."""
    import torch
    from safetensors.torch import load

    from vqcodec.nn.vqvae import VQVAE

    path = folder / _WEIGHTS
    data = _read(path)
    try:
        tensors = {name: t.to(torch.float32) for name, t in load(data).items()}
    except Exception as error:  # as for a prior
        raise ModelError(f"{path}: not usable as weights ({error or type(error).__name__})") from None
    # Shapes alone: a configuration of a few bytes can declare networks of any size.
    with torch.device("meta"), _without_random_numbers():
        plan = VQVAE(config)
    state = plan.state_dict()
    shapes = {name: state[name].shape for name in _shipped(plan)}
    if set(tensors) != set(shapes):
        wrong = sorted(set(tensors) ^ set(shapes))[0]
        raise ModelError(f"{path}: the tensor {wrong} is missing or foreign")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name]:
            raise ModelError(f"{path}: {name} is {tuple(tensor.shape)}, not {tuple(shapes[name])}")
        if not tensor.sum().isfinite():  # one pass; NaN and infinity do not vanish in a sum
            raise ModelError(f"{path}: {name} has values that are not finite")
    network = VQVAE(config).float()  # whatever default dtype a program has set
    network.load_state_dict(tensors, strict=False)
    return network.eval().requires_grad_(False)


def _without_random_numbers() -> TorchFunctionMode:
    """Leave out what draws numbers: on the meta device it would import a compiler, which takes seconds."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.Tensor.normal_:
                return args[0]
            return function(*args, **(kwargs or {}))

    return Mode()


def bundled() -> tuple[str, ...]:
    """Names of the models inside the package, the default one first."""
    names = sorted(path.parent.name for path in _MODELS.glob(f"*/{_CONFIG}"))
    return tuple(sorted(names, key=lambda name: name != DEFAULT_MODEL))


def added() -> dict[str, Path]:
    """Names and folders of the models below the folders in VQCODEC_MODELS, which are separated as those in PATH."""
    found: dict[str, Path] = {}
    for folder in filter(None, os.environ.get(MODELS_PATH, "").split(os.pathsep)):
        for path in sorted(Path(folder).glob(f"*/{_CONFIG}")):
            found.setdefault(path.parent.name, path.parent)
    ours = bundled()
    return {name: path for name, path in found.items() if name not in ours}


def open_model(name: str | Path = DEFAULT_MODEL) -> Model:
    """A model by its name, or the model in a folder. Raises `UnknownModel` or `ModelError`."""
    if name in bundled():
        return _open_bundled(str(name))
    return _open(model_folder(name))


def model_folder(name: str | Path) -> Path:
    """The folder of a model with a name, or the folder itself. Raises `UnknownModel` where there is no model."""
    if name in bundled():
        return _MODELS / name
    others = added()
    if str(name) in others:
        return others[str(name)]
    if (Path(name) / _CONFIG).is_file():
        return Path(name)
    known = ", ".join([f"a folder with a {_CONFIG}", *bundled(), *others])
    raise UnknownModel(f"there is no model {str(name)!r}; give one of: {known}")


def find(digest: bytes) -> Model:
    """The model with that digest. Raises `UnknownModel`."""
    for name in (*bundled(), *added()):
        try:
            model = open_model(name)
        except ModelError:
            if name in bundled():
                raise
            continue  # a broken model beside the right one
        if model.digest == digest:
            return model
    raise UnknownModel(
        f"the file was written with a model (digest {digest.hex()}) that is not here; get its folder from where the "
        f"file was made (vqcodec models --export NAME), then give --model FOLDER or put it below {MODELS_PATH}"
    )


def export_model(name: str, folder: Path, *, force: bool) -> Model:
    """Copy a model and its card into `folder`, made if absent: all that is needed to decode its files for ever.

    Raises `UnknownModel`, `ModelError` where the model is damaged, or `OutputError`.
    """
    model = open_model(name)
    names = [_WEIGHTS, _PRIOR, _CARD, _CONFIG]  # the last one makes it a model
    files = {name: _read(model.path / name) for name in names if name != _CARD or (model.path / name).is_file()}
    for name in files:
        if folder.is_dir():
            check_destination(folder / name, force=force)
    make_folder(folder)
    for name, data in files.items():
        write_atomic(folder / name, data, force=force)
    return _open(folder)


def save_model(folder: Path, config: ModelConfig, network: VQVAE, prior: dict[str, Tensor]) -> Model:
    """Write a model's files into `folder`, made if absent; `prior` as `GatedPixelCNN.integers` gives it.

    Networks are stored in half precision. Raises `ModelError` when the prior breaks a bound: then nothing is kept.
    """
    from safetensors.torch import save

    folder = folder.absolute()
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_network(partial, config, network)
        (partial / _PRIOR).write_bytes(save(prior))
        model = _open(partial)
        for quality in range(config.vqvae.qualities):
            for label in [None, *range(config.prior.labels)]:
                model.prior(quality, label)
        _refuse_unknown_codes(network, prior)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (_WEIGHTS, _PRIOR, _CONFIG):
            (partial / name).replace(folder / name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write the model ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _open(folder)


def save_network(folder: Path, config: ModelConfig, network: VQVAE) -> None:
    """Write networks and configuration alone into `folder`: no model yet, but what another training can go on from."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_network(folder, config, network)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write the networks ({error.strerror or error})") from None


def _write_network(folder: Path, config: ModelConfig, network: VQVAE) -> None:
    import torch
    from safetensors.torch import save

    (folder / _CONFIG).write_text(to_json(config), encoding="utf-8", newline="\n")
    state = network.state_dict()
    weights = {
        name: state[name].to(torch.float32 if name.startswith("quantizer.") else torch.float16).contiguous()
        for name in _shipped(network)
    }
    (folder / _WEIGHTS).write_bytes(save(weights))


def round_weights(network: VQVAE) -> None:
    """Round the networks to the half precision they are stored in, so that what is measured is what ships."""
    import torch

    with torch.no_grad():
        for name in _shipped(network):
            if not name.startswith("quantizer."):
                tensor = network.state_dict()[name]
                tensor.copy_(tensor.to(torch.float16))


def _refuse_unknown_codes(network: VQVAE, prior: Mapping[str, Tensor | npt.NDArray[np.generic]]) -> None:
    """Raise `ModelError` where the quantiser may choose a code that the prior has no row for."""
    for g in range(len(network.config.codebooks)):
        for quality, live in enumerate(network.quantizer.live(g).tolist()):
            table = prior.get(f"codes.{g}.{quality}.embedding")
            if table is None or table.ndim == 0 or live > table.shape[0]:
                raise ModelError(f"the prior does not know all codes of codebook {g + 1} at quality {quality + 1}")
            if live == 0:
                raise ModelError(f"codebook {g + 1} has no code at quality {quality + 1}")


def _shipped(network: VQVAE) -> list[str]:
    """Names of the tensors that use of the model needs: all but the sums of the moving averages."""
    return [name for name in network.state_dict() if not name.startswith("quantizer.sums")]


@cache  # what is inside the package does not change, and hashing it takes a moment
def _open_bundled(name: str) -> Model:
    return _open(_MODELS / name)


def _open(path: Path) -> Model:
    config_text = _read(path / _CONFIG, MAX_CONFIG).decode("utf-8", "replace")
    config = from_json(ModelConfig, config_text)
    digest = hashlib.sha256()
    # The configuration counts in its canonical form: line ends may change in a checkout.
    for part in (to_json(config).encode(), _read(path / _WEIGHTS), _read(path / _PRIOR)):
        digest.update(struct.pack("<Q", len(part)) + part)
    return Model(path, config, digest.digest()[:DIGEST_BYTES])


def _read(path: Path, most: int = MAX_FILE) -> bytes:
    try:
        if path.stat().st_size > most:
            raise ModelError(f"{path}: larger than the {most >> 20} MiB that this file of a model may have")
        if not path.is_file():  # what a device or a pipe gives may have no end
            raise ModelError(f"{path}: not a file")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror or error})") from None
