"""Contenders x pictures x qualities -> rows: what is not in the cache yet is measured, in parallel processes.

Rows come in the order contender, picture, quality, whatever the order in which they were done.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vqcodec.bench.cache import Cache, digest, versions
from vqcodec.bench.lineup import Contender
from vqcodec.bench.results import Anatomy, Row, Shown, View
from vqcodec.bench.worker import MEDIA, Setup, Task, lossless, prepare
from vqcodec.errors import VqError
from vqcodec.files.pool import Lost, in_processes

__all__ = ["Bench", "Progress", "Source", "sources"]

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Source:
    """A picture to measure with; `content` is the hash of its file, None if that cannot be read."""

    image: str  # its name in a row
    path: Path
    content: str | None


def sources(paths: Iterable[Path]) -> list[Source]:
    """Pictures by their files' names, or by their paths where two files have one name; each file once."""
    paths = list({os.path.realpath(path): path for path in paths}.values())
    names = [path.name for path in paths]
    found = []
    for path, name in zip(paths, names, strict=True):
        content = None
        with suppress(OSError):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(Source(name if names.count(name) == 1 else str(path), path, content))
    return found


@dataclass(frozen=True)
class Point:
    """What is to be measured: a quality, or the size that a picture is to have."""

    source: Source
    quality: float
    bpp: float | None = None


class Bench:
    """A run: its contenders, its pictures, and where what was found is kept."""

    def __init__(
        self, contenders: Sequence[Contender], pictures: Sequence[Source], cache: Cache, jobs: int, threads: int
    ) -> None:
        """`jobs`: processes at a time, 0: this one. `threads`: that each of them may use."""
        self.contenders = contenders
        self.pictures = pictures
        self.cache = cache
        self.jobs, self.threads = jobs, threads

    def rows(self, match: float | None, progress: Progress | None = None) -> list[Row]:
        """A row for each contender, picture and quality; or, with the bits per pixel to `match`, for each picture."""
        found: list[Row] = []
        for index, contender in enumerate(self.contenders):
            if match is None:
                points = [Point(source, quality) for source in self.pictures for quality in contender.qualities]
            else:
                points = [Point(source, contender.default, match) for source in self.pictures]
            found += self._measured(contender, points, _part(progress, index, len(self.contenders)))
        return found

    def anatomy(self, rows: Sequence[Row], match: float | None, progress: Progress | None = None) -> list[Anatomy]:
        """Where the bits of every .vq file among the rows (of `rows`, with the same `match`) go."""
        found: list[Anatomy] = []
        models = [contender for contender in self.contenders if contender.model is not None]
        for index, contender in enumerate(models):
            tasks = []
            for source, row in self._good(contender, rows):
                point = Point(source, contender.default if match else row.quality, match)
                tasks.append(Task("dissect", row.image, source.path, self._key(contender, point), row.quality))
            for answer in self._answers(contender, tasks, _part(progress, index, len(models))):
                if isinstance(answer, Lost):
                    raise VqError(answer.reason)
                assert isinstance(answer, Anatomy)
                found.append(answer)
        return found

    def views(
        self, rows: Sequence[Row], match: float | None, count: int, progress: Progress | None = None
    ) -> dict[str, View]:
        """What each contender made of a picture, at the size of the first model's file at its default quality.

        A contender that cannot match that size is shown at its nearest quality. At most `count` pictures, evenly
        spread over all.
        """
        first = next((c for c in self.contenders if c.model is not None), self.contenders[0])
        total = len(self.pictures)
        some = {self.pictures[index * total // min(count, total)].image for index in range(min(count, total))}
        wanted: dict[str, float] = {}  # bits per pixel
        for source, row in self._good(first, rows):
            if source.image not in some:
                continue
            if match is not None or row.quality == first.default or source.image not in wanted:
                wanted[source.image] = row.bpp if match is None else match
        shown: dict[str, dict[str, Shown]] = {source.image: {} for source in self.pictures}
        for index, contender in enumerate(self.contenders):
            part = _part(progress, index, len(self.contenders))
            chosen = self._nearest(contender, rows, wanted, match, exact=contender is first, progress=_part(part, 0, 2))
            tasks = [
                Task("show", row.image, point.source.path, self._key(contender, point), row.quality)
                for point, row in chosen
            ]
            answers = self._answers(contender, tasks, _part(part, 1, 2))
            for (_, row), answer in zip(chosen, answers, strict=True):
                if isinstance(answer, Lost):
                    raise VqError(f"{row.image}: {answer.reason}")
                assert isinstance(answer, bytes)
                shown[row.image][contender.label] = Shown(row, answer, MEDIA)
        return {
            source.image: _view(source, wanted[source.image], shown[source.image])
            for source in self.pictures
            if source.image in wanted and shown[source.image]
        }

    def _nearest(
        self,
        contender: Contender,
        rows: Sequence[Row],
        wanted: dict[str, float],
        match: float | None,
        *,
        exact: bool,
        progress: Progress | None,
    ) -> list[tuple[Point, Row]]:
        """For each picture the point, and its row, whose size is nearest to the wanted one."""
        found: dict[str, tuple[Point, Row]] = {}
        for source, row in self._good(contender, rows):
            point = Point(source, contender.default if match else row.quality, match)
            if source.image in wanted:
                best = found.get(source.image)
                distance = abs(math.log(row.bpp / wanted[source.image]))
                if best is None or distance < abs(math.log(best[1].bpp / wanted[source.image])):
                    found[source.image] = (point, row)
        if match is None and contender.matches and not exact:
            points = [Point(s, contender.default, wanted[s.image]) for s in self.pictures if s.image in wanted]
            for point, row in zip(points, self._measured(contender, points, progress), strict=True):
                if row.error is None:
                    found[point.source.image] = (point, row)
        return list(found.values())

    def _good(self, contender: Contender, rows: Sequence[Row]) -> list[tuple[Source, Row]]:
        """The contender's rows that have figures, each with its picture."""
        by_name = {source.image: source for source in self.pictures}
        return [(by_name[row.image], row) for row in rows if row.codec == contender.label and row.error is None]

    def _measured(self, contender: Contender, points: Sequence[Point], progress: Progress | None) -> list[Row]:
        """The rows of all points, from the cache or measured."""
        found: dict[int, Row] = {}
        for index, point in enumerate(points):
            row = None if point.source.content is None else self.cache.load(self._key(contender, point))
            if row is not None:
                found[index] = replace(row, image=point.source.image, codec=contender.label)
        rest = [index for index in range(len(points)) if index not in found]
        tasks = []
        for index in rest:
            point = points[index]
            key = self._key(contender, point)
            tasks.append(Task("measure", point.source.image, point.source.path, key, point.quality, point.bpp))
        answers = self._answers(contender, tasks, progress)
        for index, answer in zip(rest, answers, strict=True):
            if isinstance(answer, Lost):
                point = points[index]
                row = Row(point.source.image, contender.label, point.quality, contender.digest, error=answer.reason)
            else:
                assert isinstance(answer, Row)
                row = answer
            found[index] = row
        return [found[index] for index in range(len(points))]

    def _answers(
        self, contender: Contender, tasks: Sequence[Task], progress: Progress | None
    ) -> list[Row | Anatomy | bytes | Lost]:
        """The answers to all tasks, in their order."""
        found: dict[int, Row | Anatomy | bytes | Lost] = {}
        setup = Setup(contender, self.cache.folder, self.threads)
        # closing: an interrupt here must end the processes at once
        with closing(in_processes(prepare, setup, tasks, min(self.jobs, len(tasks)), self.threads)) as answers:
            for index, answer in answers:
                found[index] = answer
                if progress:
                    progress(len(found) / len(tasks))
        if progress:
            progress(1.0)
        return [found[index] for index in range(len(tasks))]

    def _key(self, contender: Contender, point: Point) -> str:
        """The name of a point's entry in the cache: whatever its figures, times included, depend on."""
        name = contender.digest or contender.label
        return digest(
            {
                "picture": point.source.content or str(point.source.path),
                "codec": [name, contender.settings, contender.effort, contender.versions],
                "point": point.quality if point.bpp is None else f"{point.bpp!r} bpp",
                "versions": versions(),
                "machine": [platform.node(), platform.machine(), platform.python_version(), self.jobs, self.threads],
            }
        )


def _view(source: Source, bpp: float, shown: dict[str, Shown]) -> View:
    from vqcodec.picture.read import read_picture

    try:
        picture = read_picture(source.path)
    except VqError as error:  # it could be read a moment ago
        raise VqError(f"{source.path} changed while it was measured ({error})") from None
    return View(source.image, picture.width, picture.height, bpp, lossless(picture), MEDIA, shown)


def _part(progress: Progress | None, index: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda fraction: progress((index + fraction) / count)
