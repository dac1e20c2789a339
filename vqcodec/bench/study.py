"""A whole benchmark: contenders and pictures -> `Results`, which holds everything that a report can show."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vqcodec.bench.cache import Cache, default_folder
from vqcodec.bench.curves import compare
from vqcodec.bench.environment import environment
from vqcodec.bench.lineup import Contender
from vqcodec.bench.lossless_peers import REFERENCE
from vqcodec.bench.match import Match
from vqcodec.bench.means import mean
from vqcodec.bench.results import Published, Results
from vqcodec.bench.runner import Bench, sources
from vqcodec.bench.sizes import compare_sizes
from vqcodec.errors import OutputError
from vqcodec.threads import cores, default_threads

__all__ = ["Options", "study"]


@dataclass(frozen=True)
class Options:
    """What to compute besides rows and means, and how."""

    anchor: str | None = None  # compare with this contender or published curve
    match: Match | None = None  # encode all pictures for this target, not at the contenders' qualities
    anatomy: bool = False  # also dissect the .vq files
    views: int = 0  # number of pictures in the viewer of the HTML page
    jobs: int | None = None  # worker processes; None: one for each core; 0: work in this process
    cached: bool = True  # use the measurements of earlier runs, and store new ones


def study(
    contenders: Sequence[Contender],
    paths: Sequence[Path],
    options: Options,
    published: Sequence[Published] = (),
    progress: Callable[[float], None] | None = None,
) -> Results:
    """Measure all contenders on all pictures. A measurement that fails gives a row with its error.

    `progress` is called with the fraction done, 0 to 1. Raises `VqError`.
    """
    most = len(paths) * max(len(contender.qualities) for contender in contenders)
    jobs = min(cores() if options.jobs is None else options.jobs, most)
    threads = default_threads(max(1, jobs))
    phases = 1 + options.anatomy + (options.views > 0)
    with _cache(options.cached) as cache:
        bench = Bench(contenders, sources(paths), cache, jobs, threads)
        rows = bench.rows(options.match, _phase(progress, 0, phases))
        anatomy = bench.anatomy(rows, options.match, _phase(progress, 1, phases)) if options.anatomy else []
        shown = _phase(progress, phases - 1, phases)
        views = bench.views(rows, options.match, options.views, shown) if options.views else {}
    anchored = options.anchor is not None and options.match is None
    return Results(
        rows=tuple(rows),
        means=tuple(mean(rows, matched=options.match is not None)),
        bd=tuple(compare(rows, published, options.anchor)) if anchored and options.anchor else (),
        sizes=tuple(compare_sizes(rows, REFERENCE)) if all(each.lossless for each in contenders) else (),
        published=tuple(published),
        anatomy=tuple(anatomy),
        environment=environment(contenders, jobs, threads),
        codecs={contender.label: contender.settings for contender in contenders},
        pictures=views,
        anchor=options.anchor,
        match=options.match,
    )


@contextmanager
def _cache(kept: bool) -> Iterator[Cache]:
    """The user's cache. If it cannot be written or `kept` is false, a temporary one. Raises `OutputError`."""
    if kept:
        try:
            cache = Cache(default_folder())
        except (OSError, RuntimeError):  # the home folder is read-only or unknown
            kept = False
        else:
            yield cache
            return
    try:
        with tempfile.TemporaryDirectory(prefix="vqcodec-bench-", ignore_cleanup_errors=True) as folder:
            yield Cache(Path(folder))
    except OSError as error:
        raise OutputError(f"cannot use a temporary folder ({error.strerror})") from None


def _phase(progress: Callable[[float], None] | None, index: int, count: int) -> Callable[[float], None] | None:
    """The progress of one of `count` equal phases of the work."""
    if progress is None:
        return None
    return lambda fraction: progress((index + fraction) / count)
