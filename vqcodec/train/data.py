"""Folders and tar shards of images -> batches of crops.

In: paths of folders and of .tar shards (the WebDataset layout: plain tars of image files). Out: uint8 crops
[B, 3, S, S], and the picture that each crop comes from. For a prior with labels, the folder of a picture is its class.

All pictures are decoded once and kept in memory, so they must fit there (3 bytes per pixel).
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vqcodec.errors import BadPicture, UsageError
from vqcodec.picture.read import read_picture
from vqcodec.train.graphics import draw, vivid

__all__ = ["Augment", "Pictures", "class_names", "load_pictures"]

Pixels = npt.NDArray[np.uint8]
Augment = Literal["photo", "none"]
VALIDATION_SHARE = 24  # one source photograph in this many is kept for validation
SCALES = (0.5, 1.0)  # range of the random downscale
SCALED_SHARE = 0.3  # share of the crops that are downscaled
DRAWN_SHARE = 0.06  # share of the crops that are drawn graphics
VIVID_SHARE = 0.06  # share of the crops with amplified colours


class Pictures:
    """Pictures in memory and random crops of them. `crops` is a pure function of the seed, so that runs can resume.

    `augment` "photo" flips, transposes and scales crops, replaces a few by drawn graphics, and amplifies the colours of
    a few. "none" leaves crops unchanged.
    """

    def __init__(
        self, pixels: Sequence[Pixels], names: Sequence[str], folders: Sequence[str] = (), augment: Augment = "photo"
    ) -> None:
        self.pixels = list(pixels)  # each [H, W, 3]
        self.names = list(names)
        self.folders = list(folders)  # the folder of each picture: its class, for a prior with labels
        self.augment = augment

    def __len__(self) -> int:
        return len(self.pixels)

    def crops(self, count: int, side: int, seed: Sequence[int], first: int = 0) -> torch.Tensor:
        """Random crops [count, 3, side, side], uint8: random positions, flips, transpositions and downscaling.

        A few are drawn graphics or have amplified colours, so that the codes can represent such pictures too. `first`:
        the index of the first crop, if these are a part of a larger batch.
        """
        return self.crops_and_sources(count, side, seed, first)[0]

    def crops_and_sources(
        self, count: int, side: int, seed: Sequence[int], first: int = 0
    ) -> tuple[torch.Tensor, list[int]]:
        """The same crops as `crops`, and for each the index of its picture, or -1 for a drawn graphic."""
        batch = np.empty((count, side, side, 3), np.uint8)
        sources = [-1] * count
        for index, row in enumerate(batch):
            # Each crop has its own generator, so that part of a batch can be made alone. The last seed number starts at
            # 1, because numpy treats a seed that ends with 0 like the same seed without the 0.
            rng = np.random.default_rng([*seed, 1 + first + index])
            kind = 1.0 if self.augment == "none" else rng.random()
            if kind < DRAWN_SHARE:
                row[:] = draw(side, rng)
            else:
                sources[index] = int(rng.integers(len(self.pixels)))
                row[:] = self._crop(self.pixels[sources[index]], side, rng)
            if DRAWN_SHARE <= kind < DRAWN_SHARE + VIVID_SHARE:
                row[:] = vivid(row, rng)
        return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous(), sources

    def grid(self, side: int) -> torch.Tensor:
        """The central crop of every picture that is large enough: [N, 3, side, side], uint8. Raises `UsageError`."""
        rows = []
        for index in self.roomy(side):
            pixels = self.pixels[index]
            top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
            rows.append(pixels[top : top + side, left : left + side])
        if not rows:
            raise UsageError(f"no validation picture has {side} pixels in both directions; use a smaller crop")
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous()

    def roomy(self, side: int) -> list[int]:
        """Indices of the pictures that are large enough for a crop, in the order of `grid`."""
        return [index for index, pixels in enumerate(self.pixels) if min(pixels.shape[:2]) >= side]

    def _crop(self, pixels: Pixels, side: int, rng: np.random.Generator) -> Pixels:
        if self.augment == "none":
            top, left = (rng.integers(length - side + 1) for length in pixels.shape[:2])
            return pixels[top : top + side, left : left + side]
        scale = 1.0
        if rng.random() < SCALED_SHARE:
            scale = max(rng.uniform(*SCALES), side / min(pixels.shape[:2]))
        window = min(round(side / scale), *pixels.shape[:2])
        top = rng.integers(pixels.shape[0] - window + 1)
        left = rng.integers(pixels.shape[1] - window + 1)
        crop = pixels[top : top + window, left : left + window]
        if window != side:
            crop = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.LANCZOS))
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if rng.random() < 0.25:  # less often than left-right, because most photographs have an upright orientation
            crop = crop[::-1]
        if rng.random() < 0.25:
            crop = crop.transpose(1, 0, 2)
        return crop


def load_pictures(
    paths: Sequence[Path],
    side: int,
    progress: Callable[[int], None] | None = None,
    augment: Augment = "photo",
) -> tuple[Pictures, Pictures]:
    """Load (training, validation) pictures from folders and shards, without those below `side` x `side` pixels.

    All crops of one photograph go to the same set: a file `<source>_<y>_<x>.ext` belongs to <source>. Raises
    `UsageError` if there are too few usable pictures, or a path cannot be read.
    """
    found: dict[bool, list[tuple[str, str, Pixels]]] = {False: [], True: []}
    small = 0
    for name, folder, data in _files(paths):
        try:
            pixels = read_picture(io.BytesIO(data)).pixels
        except BadPicture:
            continue
        if min(pixels.shape[:2]) < side:
            small += 1
            continue
        source = re.sub(r"_\d+_\d+$", "", Path(name).stem)
        found[zlib.crc32(source.encode()) % VALIDATION_SHARE == 0].append((name, folder, pixels))
        if progress:
            progress(len(found[False]) + len(found[True]))
    training, validation = found[False], found[True]
    if not validation and len(training) > 1:  # a small data set: use the last picture for validation
        validation = [training.pop()]
    if not training or not validation:
        raise UsageError(
            f"found {len(training)} pictures of at least {side}x{side} pixels to train on ({small} are smaller); "
            "at least two are needed: give more or larger ones, or a smaller --crop"
        )
    return _pictures(training, augment), _pictures(validation, augment)


def class_names(pictures: Sequence[Pictures], count: int) -> list[str]:
    """The names of the classes in the order of their labels: the sorted names of the pictures' folders.

    The order is numeric if all names are numbers. Raises `UsageError` if there are not exactly `count` folders.
    """
    names = sorted({folder for each in pictures for folder in each.folders})
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    if len(names) != count:
        some = ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
        raise UsageError(
            f"the model has {count} labels, but the pictures lie in {len(names)} folders ({some}); "
            "give each class its own folder, or change prior.labels in the configuration"
        )
    return names


def _pictures(entries: list[tuple[str, str, Pixels]], augment: Augment) -> Pictures:
    names, folders, pixels = zip(*entries, strict=True)
    return Pictures(pixels, names, folders, augment)


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, str, bytes]]:
    """Name, folder name and content of every file in the folders and shards."""
    for path in paths:
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                if file.suffix == ".tar":
                    yield from _members(file)
                else:
                    yield file.name, file.parent.absolute().name, file.read_bytes()
        elif path.is_file():
            yield from _members(path)
        else:
            raise UsageError(f"{path}: no such folder or shard")


def _members(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name, folder name and content of every file in a shard."""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if stream:
                    yield member.name, PurePosixPath(member.name).parent.name, stream.read()
    except (tarfile.TarError, OSError) as error:
        raise UsageError(f"{path}: not a readable tar shard ({str(error).splitlines()[0]})") from None
