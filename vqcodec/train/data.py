"""Folders and tar shards of images -> batches of crops.

In: paths of folders and of .tar shards (the WebDataset layout: plain tars of image files). Out: uint8 crops
[B, 3, S, S]. Everything is decoded once and kept in memory, so the pictures should fit there (3 bytes a pixel).
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from vqcodec.errors import BadPicture, UsageError
from vqcodec.image import read_picture
from vqcodec.train.graphics import draw, vivid

__all__ = ["Pictures", "load_pictures"]

Pixels = npt.NDArray[np.uint8]
VALIDATION_SHARE = 24  # one source photograph in this many is kept for validation
SCALES = (0.5, 1.0)  # range of the random downscale
SCALED_SHARE = 0.3  # of the crops are downscaled
DRAWN_SHARE = 0.06  # of the crops are drawn
VIVID_SHARE = 0.06  # of the crops get strong colours


class Pictures:
    """Pictures in memory, with random crops: `crops` is a pure function of the seed, so that runs can resume."""

    def __init__(self, pixels: Sequence[Pixels], names: Sequence[str]) -> None:
        self.pixels = list(pixels)  # each [H, W, 3]
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.pixels)

    def crops(self, count: int, side: int, seed: Sequence[int]) -> torch.Tensor:
        """Random crops [count, 3, side, side], uint8: position, flips, transposition, at times a downscale.

        A few are drawn, or get strong colours, so that no picture is beyond what the codes can say.
        """
        rng = np.random.default_rng(list(seed))
        batch = np.empty((count, side, side, 3), np.uint8)
        for row in batch:
            kind = rng.random()
            row[:] = draw(side, rng) if kind < DRAWN_SHARE else self._crop(side, rng)
            if DRAWN_SHARE <= kind < DRAWN_SHARE + VIVID_SHARE:
                row[:] = vivid(row, rng)
        return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()

    def grid(self, side: int) -> torch.Tensor:
        """The central crop of every picture that has room for one: [N, 3, side, side], uint8."""
        rows = []
        for pixels in self.pixels:
            top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
            if top >= 0 and left >= 0:
                rows.append(pixels[top : top + side, left : left + side])
        if not rows:
            raise UsageError(f"no validation picture has {side} pixels each way; use a smaller crop")
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous()

    def _crop(self, side: int, rng: np.random.Generator) -> Pixels:
        pixels = self.pixels[rng.integers(len(self.pixels))]
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
        if rng.random() < 0.25:  # most photographs have an up and a down
            crop = crop[::-1]
        if rng.random() < 0.25:
            crop = crop.transpose(1, 0, 2)
        return crop


def load_pictures(
    paths: Sequence[Path], side: int, progress: Callable[[int], None] | None = None
) -> tuple[Pictures, Pictures]:
    """(training, validation) pictures of folders and shards, smaller ones than `side` x `side` pixels left out.

    All crops of one photograph fall on the same side: a name `<source>_<y>_<x>.ext` belongs to <source>. Raises
    `UsageError` where nothing usable is found.
    """
    found: dict[bool, list[tuple[str, Pixels]]] = {False: [], True: []}
    small = 0
    for name, data in _files(paths):
        try:
            pixels = read_picture(io.BytesIO(data)).pixels
        except BadPicture:
            continue
        if min(pixels.shape[:2]) < side:
            small += 1
            continue
        source = re.sub(r"_\d+_\d+$", "", Path(name).stem)
        found[zlib.crc32(source.encode()) % VALIDATION_SHARE == 0].append((name, pixels))
        if progress:
            progress(len(found[False]) + len(found[True]))
    training, validation = found[False], found[True]
    if not validation and len(training) > 1:  # a small set of pictures: keep the last one
        validation = [training.pop()]
    if not training or not validation:
        raise UsageError(
            f"found {len(training)} pictures of {side}x{side} pixels or more to train on ({small} are smaller); "
            "at least two are needed"
        )
    return _pictures(training), _pictures(validation)


def _pictures(entries: list[tuple[str, Pixels]]) -> Pictures:
    return Pictures([pixels for _, pixels in entries], [name for name, _ in entries])


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                if file.suffix == ".tar":
                    yield from _members(file)
                else:
                    yield file.name, file.read_bytes()
        elif path.is_file():
            yield from _members(path)
        else:
            raise UsageError(f"{path}: no such folder or shard")


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if stream:
                    yield member.name, stream.read()
    except (tarfile.TarError, OSError) as error:
        raise UsageError(f"{path}: not a readable tar shard ({str(error).splitlines()[0]})") from None
