"""Contenders x pictures x qualities -> rows, from the cache or measured in parallel processes.

Rows are in the order contender, picture, quality, regardless of the order in which the processes finish.
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
from vqcodec.bench.match import Match
from vqcodec.bench.results import Anatomy, Row, Shown, View
from vqcodec.bench.worker import MEDIA, Setup, Task, lossless, prepare
from vqcodec.errors import VqError
from vqcodec.files.pool import Lost, in_processes

__all__ = ["Bench", "Progress", "Source", "sources"]

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Source:
    """A picture to measure. `content` is the SHA-256 of its file, or None if the file cannot be read."""

    image: str  # Row.image
    path: Path
    content: str | None


def sources(paths: Iterable[Path]) -> list[Source]:
    """The pictures, each file once. They are named by file name, or by path if several files have the same name."""
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
    """A point to measure: a picture at a quality, or for a target."""

    source: Source
    quality: float
    match: Match | None = None


class Bench:
    """A benchmark run: its contenders, its pictures and the cache of measurements."""

    def __init__(
        self, contenders: Sequence[Contender], pictures: Sequence[Source], cache: Cache, jobs: int, threads: int
    ) -> None:
        """jobs: number of worker processes; 0: work in this process. threads: number of threads for each process."""
        self.contenders = contenders
        self.pictures = pictures
        self.cache = cache
        self.jobs, self.threads = jobs, threads

    def rows(self, match: Match | None, progress: Progress | None = None) -> list[Row]:
        """A row for each contender, picture and quality. With `match`: contender and picture."""
        found: list[Row] = []
        for index, contender in enumerate(self.contenders):
            if match is None:
                points = [Point(source, quality) for source in self.pictures for quality in contender.qualities]
            else:
                points = [Point(source, contender.default, match) for source in self.pictures]
            found += self._measured(contender, points, _part(progress, index, len(self.contenders)))
        return found

    def anatomy(self, rows: Sequence[Row], match: Match | None, progress: Progress | None = None) -> list[Anatomy]:
        """The anatomy of every .vq file behind `rows`, which the method `rows` returned for the same `match`."""
        found: list[Anatomy] = []
        models = [contender for contender in self.contenders if contender.model is not None]
        for index, contender in enumerate(models):
            tasks = []
            for source, row in self._without_error(contender, rows):
                point = Point(source, contender.default if match else row.quality, match)
                tasks.append(Task("dissect", row.image, source.path, self._key(contender, point), row.quality))
            for answer in self._answers(contender, tasks, _part(progress, index, len(models))):
                if isinstance(answer, Lost):
                    raise VqError(answer.reason)
                assert isinstance(answer, Anatomy)
                found.append(answer)
        return found

    def views(
        self, rows: Sequence[Row], match: Match | None, count: int, progress: Progress | None = None
    ) -> dict[str, View]:
        """For up to `count` pictures, evenly spread over the run, the decoded picture of each contender at one size.

        The size is that of the first model's file at its default quality. A contender that cannot match it is shown at
        the quality with the nearest size. With `match` each contender's file for that target is shown instead. Raises
        `VqError`.
        """
        first = next((c for c in self.contenders if c.model is not None), self.contenders[0])
        total = len(self.pictures)
        selected = {self.pictures[index * total // min(count, total)].image for index in range(min(count, total))}
        wanted: dict[str, float] = {}  # bits per pixel
        for source, row in self._without_error(first, rows):
            if source.image not in selected:
                continue
            if match is not None or row.quality == first.default or source.image not in wanted:
                wanted[source.image] = match.value if match is not None and match.by_rate else row.bpp
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
        match: Match | None,
        *,
        exact: bool,
        progress: Progress | None,
    ) -> list[tuple[Point, Row]]:
        """For each picture, the point whose size is nearest to the target in `wanted` (bpp), and its row.

        exact: use only the existing rows. Otherwise the size is matched where the contender supports that.
        """
        found: dict[str, tuple[Point, Row]] = {}
        for source, row in self._without_error(contender, rows):
            point = Point(source, contender.default if match else row.quality, match)
            if source.image in wanted:
                best = found.get(source.image)
                distance = abs(math.log(row.bpp / wanted[source.image]))
                if best is None or distance < abs(math.log(best[1].bpp / wanted[source.image])):
                    found[source.image] = (point, row)
        if match is None and contender.matches and not exact:
            points = [
                Point(s, contender.default, Match("bpp", wanted[s.image])) for s in self.pictures if s.image in wanted
            ]
            for point, row in zip(points, self._measured(contender, points, progress), strict=True):
                if row.error is None:
                    found[point.source.image] = (point, row)
        return list(found.values())

    def _without_error(self, contender: Contender, rows: Sequence[Row]) -> list[tuple[Source, Row]]:
        """The contender's rows without an error, each with its picture."""
        by_name = {source.image: source for source in self.pictures}
        return [(by_name[row.image], row) for row in rows if row.codec == contender.label and row.error is None]

    def _measured(self, contender: Contender, points: Sequence[Point], progress: Progress | None) -> list[Row]:
        """The rows of all points, from the cache or newly measured, in the order of the points."""
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
            tasks.append(Task("measure", point.source.image, point.source.path, key, point.quality, point.match))
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
        """Run the tasks in worker processes. Returns the answers in the order of the tasks."""
        found: dict[int, Row | Anatomy | bytes | Lost] = {}
        setup = Setup(contender, self.cache.folder, self.threads)
        # closing: if this process is interrupted, the workers must stop at once
        with closing(in_processes(prepare, setup, tasks, min(self.jobs, len(tasks)), self.threads)) as answers:
            for index, answer in answers:
                found[index] = answer
                if progress:
                    progress(len(found) / len(tasks))
        if progress:
            progress(1.0)
        return [found[index] for index in range(len(tasks))]

    def _key(self, contender: Contender, point: Point) -> str:
        """The name of a point's cache entry: a hash of everything that its figures depend on, including the times."""
        name = contender.digest or contender.label
        return digest(
            {
                "picture": point.source.content or str(point.source.path),
                "codec": [name, contender.settings, contender.effort, contender.versions],
                "point": point.quality if point.match is None else [point.match.measure, point.match.value],
                "versions": versions(),
                "machine": [platform.node(), platform.machine(), platform.python_version(), self.jobs, self.threads],
            }
        )


def _view(source: Source, bpp: float, shown: dict[str, Shown]) -> View:
    """The view of a picture. Raises `VqError` if its file can no longer be read."""
    from vqcodec.picture.read import read_picture

    try:
        picture = read_picture(source.path)
    except VqError as error:  # the file was readable when it was measured
        raise VqError(f"{source.path} changed while it was measured ({error})") from None
    return View(source.image, picture.width, picture.height, bpp, lossless(picture), MEDIA, shown)


def _part(progress: Progress | None, index: int, count: int) -> Progress | None:
    """The progress of one of `count` equal parts of the work."""
    if progress is None:
        return None
    return lambda fraction: progress((index + fraction) / count)
