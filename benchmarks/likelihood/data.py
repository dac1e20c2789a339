"""CIFAR-10 or MNIST, in their usual file formats -> training, held-out and test pictures.

In: a folder. Out: a `Dataset`. Batches are functions of a seed, so that a training can be resumed.

CIFAR-10: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin` (the "binary version" of its page, unpacked).
MNIST: `train-images-idx3-ubyte` and the three other files, also as `.gz`. Either: an `.npz` file with the arrays
`train_images`, `test_images` and optionally `train_labels`, `test_labels`.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.errors import UsageError
from vqcodec.train.data import Pictures

Images = npt.NDArray[np.uint8]

CIFAR_SIDE, CIFAR_RECORD = 32, 1 + 3 * 32 * 32
HELD_OUT = 256  # training pictures that are kept for validation during a training
WHOLE = {"CIFAR-10": (50_000, 10_000), "MNIST": (60_000, 10_000)}
NONE = -1  # label of an unlabelled picture


class Split(Pictures):
    """Pictures of one size with their labels. mirrored: batches flip pictures horizontally at random."""

    def __init__(self, images: Images, labels: npt.NDArray[np.int64], mirrored: bool) -> None:
        """images: [N, H, W, C], uint8, with C = 1 or 3. labels: [N]."""
        colours = np.broadcast_to(images, (*images.shape[:3], 3))
        super().__init__(list(colours), [""] * len(images), [str(label) for label in labels], augment="none")
        self.channels, self.side = images.shape[3], images.shape[1]
        self.labels = torch.from_numpy(labels)
        self.mirrored = mirrored

    def batch(self, count: int, seed: Sequence[int], first: int = 0) -> tuple[Tensor, Tensor]:
        """Random pictures [count, C, H, W], uint8, and labels [count]: entries from `first` on of a larger batch."""
        pictures, sources = self.crops_and_sources(count, self.side, seed, first)
        return pictures[:, : self.channels].contiguous(), self.labels[torch.tensor(sources)]

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """The first pictures [count, C, H, W], uint8, and their labels [count]."""
        pictures = torch.from_numpy(np.stack(self.pixels[:count])).permute(0, 3, 1, 2)
        return pictures[:, : self.channels].contiguous(), self.labels[:count]

    def _crop(self, pixels: Images, side: int, rng: np.random.Generator) -> Images:
        return pixels[:, ::-1] if self.mirrored and rng.random() < 0.5 else pixels


@dataclass(frozen=True)
class Dataset:
    """Pictures for training, for validation during the training, and for the figures of the table."""

    name: str
    train: Split
    held_out: Split
    test: Split

    @property
    def dims(self) -> int:
        """The number of samples in a picture: C * H * W."""
        return self.train.channels * self.train.side**2

    @property
    def counts(self) -> tuple[int, int]:
        """The numbers of training pictures, including those held out, and of test pictures."""
        return len(self.train) + len(self.held_out), len(self.test)

    @property
    def part(self) -> str:
        """Whether this is the whole published set, a part of it, or another set."""
        whole = WHOLE.get(self.name)
        return "the whole set" if self.counts == whole else "a part of it" if whole else "own pictures"


def read(folder: Path) -> Dataset:
    """Read the data set in a folder. Raises `UsageError` if it is missing or incomplete."""
    cifar = [*sorted(folder.rglob("data_batch_*.bin"))]
    archives = sorted(folder.glob("*.npz"))
    digits = sorted(folder.rglob("train-images*ubyte*"))
    if cifar:
        train = [_records(path) for path in cifar]
        images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
        return _dataset("CIFAR-10", (images, labels), _records(cifar[0].with_name("test_batch.bin")))
    if digits:
        parts = [_digits(digits[0].parent, kind) for kind in ("train", "t10k")]
        return _dataset("MNIST", *parts)
    if archives:
        return _archive(archives[0])
    wanted = "CIFAR-10 (data_batch_1.bin ...), MNIST (train-images-idx3-ubyte ...) or an .npz file"
    raise UsageError(f"{folder}: no pictures to train on; use a folder with {wanted}")


def _dataset(
    name: str, train: tuple[Images, npt.NDArray[np.int64]], test: tuple[Images, npt.NDArray[np.int64]]
) -> Dataset:
    images, labels = train
    if len(images) < 2 or not len(test[0]):
        raise UsageError(f"{name}: {len(images)} pictures for training and {len(test[0])} for testing are too few")
    kept = min(HELD_OUT, len(images) // 2)
    mirrored = images.shape[3] == 3  # a mirrored digit is not a valid digit
    return Dataset(
        name,
        Split(images[:-kept], labels[:-kept], mirrored),
        Split(images[-kept:], labels[-kept:], False),
        Split(*test, False),
    )


def _records(path: Path) -> tuple[Images, npt.NDArray[np.int64]]:
    """CIFAR-10's binary format: per record a byte for the label, then 1,024 bytes each of red, green and blue."""
    data = np.frombuffer(_read(path), np.uint8)
    if len(data) == 0 or len(data) % CIFAR_RECORD:
        raise UsageError(f"{path}: {len(data)} bytes are not a whole number of CIFAR-10 records; download it again")
    records = data.reshape(-1, CIFAR_RECORD)
    planes = records[:, 1:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int64)


def _digits(folder: Path, kind: str) -> tuple[Images, npt.NDArray[np.int64]]:
    images, labels = (_idx(folder, f"{kind}-{what}") for what in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    if images.ndim != 3 or len(images) != len(labels):
        raise UsageError(f"{folder}: {len(images)} pictures but {len(labels)} labels of {kind}")
    return images[:, :, :, None], labels.astype(np.int64)


def _idx(folder: Path, name: str) -> Images:
    """MNIST's idx format: 0, 0, 8 (uint8), the number of dimensions, each dimension in 32 bits, then the values."""
    path = folder / name
    data = gzip.decompress(_read(folder / f"{name}.gz")) if not path.exists() else _read(path)
    dims = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    shape = struct.unpack_from(f">{dims}I", data, 4) if len(data) >= 4 + 4 * dims else ()
    if not shape or len(data) != 4 + 4 * dims + int(np.prod(shape)):
        raise UsageError(f"{path}: not an idx file, or incomplete; download it again")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape)


def _archive(path: Path) -> Dataset:
    try:
        with np.load(path) as found:
            arrays = {name: found[name] for name in found}
        parts = []
        for kind in ("train", "test"):
            images = arrays[f"{kind}_images"]
            images = images if images.ndim == 4 else images[:, :, :, None]
            labels = arrays.get(f"{kind}_labels", np.full(len(images), NONE)).astype(np.int64)
            if images.dtype != np.uint8 or images.shape[1] != images.shape[2] or images.shape[3] not in (1, 3):
                raise ValueError(f"{kind}_images must be square, uint8, and grey or RGB")
            if images.shape[1] % 4 or len(labels) != len(images):
                raise ValueError(f"{kind}: the sides must be multiples of 4, with one label for each picture")
            parts.append((images, labels))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UsageError(f"{path}: cannot be used ({error})") from None
    names = {(32, 3): "CIFAR-10", (28, 1): "MNIST"}
    return _dataset(names.get(parts[0][0].shape[2:], path.stem), *parts)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
