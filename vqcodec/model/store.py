"""Named models: a folder with config.json, weights.safetensors (floats) and prior.safetensors (integers).

In: a model's name, its folder, or the digest in the header of a .vq file. Out: a `Model`, whose parts are loaded on
demand. Names and digests are looked up first in the package, then in the folders listed in the environment variable
VQCODEC_MODELS, which contain one folder per model. The digest is the first 8 bytes of the SHA-256 over the three files,
so a single changed bit makes a different model.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqcodec.coding.integer_prior import IntegerPrior, Layout
from vqcodec.errors import ModelError, UnknownModel
from vqcodec.model.config import ModelConfig, from_json, to_json
from vqcodec.output import check_destination, make_folder, write_atomic

__all__ = [
    "CONFIG", "DEFAULT_MODEL", "PRIOR", "WEIGHTS", "Model", "added", "bundled", "export_model", "find", "model_folder",
    "open_model", "read_file",
]  # fmt: skip

DEFAULT_MODEL = "photo"
MODELS_PATH = "VQCODEC_MODELS"  # the environment variable
DIGEST_BYTES = 8
MAX_FILE = 1 << 28  # bytes of any file of a model
MAX_CONFIG = 1 << 20  # bytes; parsed JSON takes far more memory than its text
_MODELS = Path(__file__).parent / "bundled"
CONFIG, WEIGHTS, PRIOR, _CARD = "config.json", "weights.safetensors", "prior.safetensors", "README.md"


@dataclass(frozen=True)
class Model:
    """A model in a folder. Its prior is loaded on first use."""

    path: Path
    config: ModelConfig
    digest: bytes  # 8 bytes

    @property
    def name(self) -> str:
        """The name in the model's configuration."""
        return self.config.name

    @property
    def size(self) -> int:
        """Size of the three files in bytes, without the model card."""
        return sum((self.path / name).stat().st_size for name in (CONFIG, WEIGHTS, PRIOR))

    @cached_property
    def prior_tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """The integer tensors of the prior, for all qualities. Raises `ModelError`."""
        from safetensors.numpy import load

        data = read_file(self.path / PRIOR)
        try:
            return load(data)
        except Exception as error:  # unsupported dtypes and huge sizes raise various exception types
            raise ModelError(f"{self.path / PRIOR}: not usable as a prior ({error or type(error).__name__})") from None

    def prior(self, quality: int, label: int | None = None) -> IntegerPrior:
        """The prior at one quality (0-based) and class label. Raises `ModelError` for unusable weights."""
        vqvae, prior = self.config.vqvae, self.config.prior
        sizes = tuple(size for size, _ in vqvae.codebooks)
        layout = Layout(sizes, vqvae.qualities, prior.channels, prior.head_channels, prior.blocks, prior.labels)
        return IntegerPrior(self.prior_tensors, layout, quality, label)


def bundled() -> tuple[str, ...]:
    """Names of the models that ship with the package, the default one first."""
    names = sorted(path.parent.name for path in _MODELS.glob(f"*/{CONFIG}"))
    return tuple(sorted(names, key=lambda name: name != DEFAULT_MODEL))


def added() -> dict[str, Path]:
    """Names and folders of the models in the folders of VQCODEC_MODELS, a list with the separator of PATH.

    Earlier folders take precedence. Names of bundled models are skipped.
    """
    found: dict[str, Path] = {}
    for folder in filter(None, os.environ.get(MODELS_PATH, "").split(os.pathsep)):
        for path in sorted(Path(folder).glob(f"*/{CONFIG}")):
            found.setdefault(path.parent.name, path.parent)
    ours = bundled()
    return {name: path for name, path in found.items() if name not in ours}


def open_model(name: str | Path = DEFAULT_MODEL) -> Model:
    """Open a model by its name, or the model in a folder. Raises `UnknownModel` or `ModelError`."""
    if name in bundled():
        return _open_bundled(str(name))
    return _open(model_folder(name))


def model_folder(name: str | Path) -> Path:
    """The folder of a named model, or the given folder itself. Raises `UnknownModel` if there is no model."""
    if name in bundled():
        return _MODELS / name
    others = added()
    if str(name) in others:
        return others[str(name)]
    if (Path(name) / CONFIG).is_file():
        return Path(name)
    known = ", ".join([f"a folder with a {CONFIG}", *bundled(), *others])
    raise UnknownModel(f"unknown model {str(name)!r}; choose one of: {known}")


def find(digest: bytes) -> Model:
    """The model with this digest. Raises `UnknownModel`, or `ModelError` if a bundled model is damaged."""
    for name in (*bundled(), *added()):
        try:
            model = open_model(name)
        except ModelError:
            if name in bundled():
                raise
            continue  # a broken model must not hide the right one
        if model.digest == digest:
            return model
    raise UnknownModel(
        f"the file needs the model with digest {digest.hex()}, which is not installed; export its folder where the "
        f"file was made (vqcodec models --export NAME), then give --model FOLDER or put it into a {MODELS_PATH} folder"
    )


def export_model(name: str, folder: Path, *, force: bool) -> Model:
    """Copy a model and its card into `folder`, which is created if necessary.

    The copy is all that is needed to decode the model's files at any later time. Raises `UnknownModel`, `ModelError` if
    the model is damaged, or `OutputError`.
    """
    model = open_model(name)
    names = [WEIGHTS, PRIOR, _CARD, CONFIG]  # config.json last: it marks the folder as a model
    files = {name: read_file(model.path / name) for name in names if name != _CARD or (model.path / name).is_file()}
    for name in files:
        if folder.is_dir():
            check_destination(folder / name, force=force)
    make_folder(folder)
    for name, data in files.items():
        write_atomic(folder / name, data, force=force)
    return _open(folder)


@cache  # bundled models do not change, and hashing them takes time
def _open_bundled(name: str) -> Model:
    return _open(_MODELS / name)


def _open(path: Path) -> Model:
    config_text = read_file(path / CONFIG, MAX_CONFIG).decode("utf-8", "replace")
    config = from_json(ModelConfig, config_text)
    digest = hashlib.sha256()
    # Hash the canonical form of the configuration, because line ends may change in a checkout.
    for part in (to_json(config).encode(), read_file(path / WEIGHTS), read_file(path / PRIOR)):
        digest.update(struct.pack("<Q", len(part)) + part)
    return Model(path, config, digest.digest()[:DIGEST_BYTES])


def read_file(path: Path, max_bytes: int = MAX_FILE) -> bytes:
    """Read a file of a model. Raises `ModelError` if it is unreadable, not a regular file, or larger than the limit."""
    try:
        if path.stat().st_size > max_bytes:
            raise ModelError(f"{path}: larger than the limit of {max_bytes >> 20} MiB for this file of a model")
        if not path.is_file():  # a device or a pipe may be endless
            raise ModelError(f"{path}: not a file")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror or error})") from None
