"""Named models: a folder with config.json, weights.safetensors (floats) and prior.safetensors (integers).

In: a model's name, its folder, or the digest that a file carries. Out: a `Model` whose parts are loaded when they are
asked for. Names and digests are looked up in the package, then in the folders that the environment variable
VQCODEC_MODELS lists, each of which holds folders of models. The digest is the first 8 bytes of the SHA-256 over the
three files; one changed bit makes another model.
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
MAX_FILE = 1 << 28  # bytes of a model's file
MAX_CONFIG = 1 << 20  # JSON takes far more memory once it is read
_MODELS = Path(__file__).parent / "bundled"
CONFIG, WEIGHTS, PRIOR, _CARD = "config.json", "weights.safetensors", "prior.safetensors", "README.md"


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
        return sum((self.path / name).stat().st_size for name in (CONFIG, WEIGHTS, PRIOR))

    @cached_property
    def prior_tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """The integers of the prior, at all qualities."""
        from safetensors.numpy import load

        data = read_file(self.path / PRIOR)
        try:
            return load(data)
        except Exception as error:  # types that numpy lacks and sizes beyond its integers fail in many ways
            raise ModelError(f"{self.path / PRIOR}: not usable as a prior ({error or type(error).__name__})") from None

    def prior(self, quality: int, label: int | None = None) -> IntegerPrior:
        """The prior at one quality (0-based). Raises `ModelError` where its weights break a bound."""
        vqvae, prior = self.config.vqvae, self.config.prior
        sizes = tuple(size for size, _ in vqvae.codebooks)
        layout = Layout(sizes, vqvae.qualities, prior.channels, prior.head_channels, prior.blocks, prior.labels)
        return IntegerPrior(self.prior_tensors, layout, quality, label)


def bundled() -> tuple[str, ...]:
    """Names of the models inside the package, the default one first."""
    names = sorted(path.parent.name for path in _MODELS.glob(f"*/{CONFIG}"))
    return tuple(sorted(names, key=lambda name: name != DEFAULT_MODEL))


def added() -> dict[str, Path]:
    """Names and folders of the models below the folders in VQCODEC_MODELS, which are separated as those in PATH."""
    found: dict[str, Path] = {}
    for folder in filter(None, os.environ.get(MODELS_PATH, "").split(os.pathsep)):
        for path in sorted(Path(folder).glob(f"*/{CONFIG}")):
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
    if (Path(name) / CONFIG).is_file():
        return Path(name)
    known = ", ".join([f"a folder with a {CONFIG}", *bundled(), *others])
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
    names = [WEIGHTS, PRIOR, _CARD, CONFIG]  # the last one makes it a model
    files = {name: read_file(model.path / name) for name in names if name != _CARD or (model.path / name).is_file()}
    for name in files:
        if folder.is_dir():
            check_destination(folder / name, force=force)
    make_folder(folder)
    for name, data in files.items():
        write_atomic(folder / name, data, force=force)
    return _open(folder)


@cache  # what is inside the package does not change, and hashing it takes a moment
def _open_bundled(name: str) -> Model:
    return _open(_MODELS / name)


def _open(path: Path) -> Model:
    config_text = read_file(path / CONFIG, MAX_CONFIG).decode("utf-8", "replace")
    config = from_json(ModelConfig, config_text)
    digest = hashlib.sha256()
    # The configuration counts in its canonical form: line ends may change in a checkout.
    for part in (to_json(config).encode(), read_file(path / WEIGHTS), read_file(path / PRIOR)):
        digest.update(struct.pack("<Q", len(part)) + part)
    return Model(path, config, digest.digest()[:DIGEST_BYTES])


def read_file(path: Path, most: int = MAX_FILE) -> bytes:
    try:
        if path.stat().st_size > most:
            raise ModelError(f"{path}: larger than the {most >> 20} MiB that this file of a model may have")
        if not path.is_file():  # what a device or a pipe gives may have no end
            raise ModelError(f"{path}: not a file")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror or error})") from None
