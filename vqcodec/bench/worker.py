"""Worker process of a run: executes tasks for one contender. In: a `Task`. Out: a row, an anatomy or a picture.

If a picture cannot be read or a codec fails, the row holds the error. The run continues.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vqcodec.bench.anatomy import dissect
from vqcodec.bench.cache import Cache
from vqcodec.bench.lineup import Contender
from vqcodec.bench.match import Match
from vqcodec.bench.measure import measure
from vqcodec.bench.peers import Peer
from vqcodec.bench.results import Anatomy, Row
from vqcodec.errors import VqError

if TYPE_CHECKING:
    from vqcodec.picture.picture import Picture

__all__ = ["MEDIA", "Setup", "Task", "lossless", "prepare"]

MEDIA = "image/webp"


@dataclass(frozen=True)
class Setup:
    """The data with which a worker process starts."""

    contender: Contender
    folder: Path  # of the cache
    threads: int


@dataclass(frozen=True)
class Task:
    """One operation on one picture. `key` is the name of the cache entry that holds the encoded picture."""

    kind: Literal["measure", "dissect", "show"]
    image: str
    path: Path
    key: str
    quality: float
    match: Match | None = None  # a target, instead of the quality


def prepare(setup: Setup) -> Callable[[Task], Row | Anatomy | bytes]:
    """A function that executes tasks. It returns a row, an anatomy, or the decoded picture as a lossless image file."""
    return _Worker(setup).do


def lossless(picture: Picture) -> bytes:
    """Encode a picture without its alpha as a lossless image file of the type `MEDIA`."""
    from vqcodec.picture.write import to_image

    stream = io.BytesIO()
    to_image(replace(picture, alpha=None)).save(stream, "WEBP", lossless=True, quality=50, method=3)
    return stream.getvalue()


class _Worker:
    """Executes tasks. Keeps the codec and the last picture in memory."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.cache = Cache(setup.folder)
        self.peer: Peer | None = None
        self.warm = False
        self.last: tuple[Path, Picture] | None = None

    def do(self, task: Task) -> Row | Anatomy | bytes:
        if task.kind == "measure":
            return self.measured(task)
        data = self.cache.file(task.key).read_bytes()
        if task.kind == "show":
            return lossless(self.opened().decompress(data))
        model = self.opened().model
        assert model is not None, "only .vq files are dissected"
        return replace(dissect(data, model), image=task.image, codec=self.setup.contender.label, quality=task.quality)

    def measured(self, task: Task) -> Row:
        contender = self.setup.contender
        try:
            picture = self.picture(task.path)
            peer = self.opened()
            if not self.warm:  # one-off costs must not count in any row
                peer.decompress(peer.compress(picture, contender.default))
                self.warm = True
            row, _ = measure(
                peer, picture, task.quality, self.cache.file(task.key), task.match, lossless=contender.lossless
            )
        except VqError as error:
            return self.failed(task, str(error))
        except MemoryError:
            return self.failed(task, "not enough memory")
        row = replace(row, image=task.image, codec=contender.label, digest=contender.digest)
        self.cache.store(task.key, row)
        return row

    def failed(self, task: Task, error: str) -> Row:
        contender = self.setup.contender
        return Row(task.image, contender.label, task.quality, contender.digest, error=error)

    def opened(self) -> Peer:
        if self.peer is None:
            self.peer = self.setup.contender.open(self.setup.threads)
        return self.peer

    def picture(self, path: Path) -> Picture:
        from vqcodec.picture.read import read_picture

        if self.last is None or self.last[0] != path:
            self.last = (path, read_picture(path))
        return self.last[1]
