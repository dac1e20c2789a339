"""Jobs -> outcomes on a Ray cluster: Ray Data with one model for each actor.

The jobs go out in chunks, so that this process never holds more than a chunk of rows, and outcomes come back in any
order. All nodes need vqcodec, the same model, and the files under the same names. Ray starts actors anew that died, and
gives them their blocks again; pictures whose block was lost for good are tried once more, each in a block of its own.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import platform
import signal
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from vqcodec.errors import ModelError, UsageError, VqError
from vqcodec.files.outcome import Outcome, attempt, failed
from vqcodec.files.plan import Job
from vqcodec.files.pool import THREADS, Lost
from vqcodec.files.work import Compressor, Decompressor, Record

__all__ = ["on_cluster"]

CHUNK = 20_000  # jobs
BLOCK = 8  # jobs: so many outcomes come back together
LOCAL = "local"
_PATIENCE = 120  # seconds, for the first answer of a cluster
_LOST = "the processes that worked on it ended; perhaps there is not enough memory"


def on_cluster(
    address: str, worker: Compressor | Decompressor, jobs: Iterable[Job], actors: int | None
) -> Generator[tuple[int, Outcome | Lost], None, None]:
    """(index, outcome) of every job as it comes back; `actors` None is one for each processor of the cluster.

    The worker has been opened. Raises `UsageError` where there is no Ray or no such cluster, `VqError` where its nodes
    cannot do the work, and `ModelError` where they have another model.
    """
    with _connected(address) as processors:
        count = actors or processors
        numbered = enumerate(jobs)
        while chunk := dict(islice(numbered, CHUNK)):
            for most in (BLOCK, 1):
                rows = [{"index": index, "job": _packed(job)} for index, job in chunk.items()]
                blocks = -(-len(rows) // max(1, min(most, len(rows) // (4 * count))))
                with closing(_passed(rows, blocks, worker, min(count, blocks))) as answers:
                    for index, text in answers:
                        job = chunk.pop(index, None)
                        if job is not None:
                            yield index, _unpacked(text, job)
                if not chunk:
                    break
            yield from ((index, Lost(_LOST)) for index in chunk)


class Actor:
    """A process on a node: the model is loaded once."""

    def __init__(self, worker: Compressor | Decompressor, settings: Mapping[str, Any]) -> None:
        self.worker = worker
        self.fault: str | None = None  # that of this node: it ends the run, where an exception would be tried again
        try:
            worker.open()
            if worker.settings() != settings:
                raise ModelError("the model is not that of the machine where the command was given")
        except VqError as error:
            self.fault = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.fault is not None:
            return {"index": row["index"], "outcome": json.dumps({"fault": f"{platform.node()}: {self.fault}"})}
        source, target, make_folder, ours = json.loads(row["job"])
        job = Job(Path(source), Path(target), make_folder, ours, accept_identical=True)
        try:
            outcome = attempt(self.worker, job, lambda done: None)
        except Exception as error:
            outcome = failed(VqError(f"unexpected {type(error).__name__}: {error}"))
        return {"index": row["index"], "outcome": json.dumps(dataclasses.asdict(outcome))}


def _packed(job: Job) -> str:
    """As JSON in ASCII, which holds any name; absolute, since a worker has a folder of its own."""
    assert job.source is not None
    assert job.target is not None
    return json.dumps([os.path.abspath(job.source), os.path.abspath(job.target), job.make_folder, job.ours])


def _unpacked(text: str, job: Job) -> Outcome:
    found = json.loads(text)
    if "fault" in found:
        raise ModelError(found["fault"])
    if found["record"] is not None:
        record = found["record"] | {"input": job.input, "output": job.output}
        record |= {name: tuple(record[name]) for name in ("notices", "damage")}
        found["record"] = Record(**record)
    found["seen"] = None if found["seen"] is None else tuple(found["seen"])
    return Outcome(**found)


def _passed(
    rows: list[dict[str, Any]], blocks: int, worker: Compressor | Decompressor, actors: int
) -> Generator[tuple[int, str], None, None]:
    """(index, outcome as text) of the rows, without those whose block was lost."""
    import ray.data

    compute = ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2 if blocks < len(rows) else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the last two, which Ray 2.64 will no longer take
        data = ray.data.from_items(rows, override_num_blocks=blocks).map(
            Actor,
            fn_constructor_args=(worker, worker.settings()),
            compute=compute,
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=1,  # a picture that kills whoever works on it must not do so for ever
        )
    try:
        for batch in data.iter_batches(batch_size=None, prefetch_batches=0):
            yield from zip(batch["index"].tolist(), batch["outcome"].tolist(), strict=True)
    except Exception as error:  # of many kinds
        raise VqError(f"the cluster failed ({_reason(error)}); with --manifest the same command goes on") from None


@contextmanager
def _connected(address: str) -> Iterator[int]:
    """The number of processors of the cluster, while there is a connection. Raises `UsageError` or `VqError`."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters comes back as an error
    if address != LOCAL:  # which needs a while to come up
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # or it would look for an absent cluster for minutes
    try:
        import ray
        import ray.data
    except ImportError:
        raise UsageError("--ray needs Ray: pip install 'vqcodec[ray]'") from None
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    options: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    try:
        try:
            ray.init(
                address,
                runtime_env={"env_vars": dict.fromkeys(THREADS, "1")},
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **options,
            )
        except Exception as error:  # of many kinds
            raise UsageError(f"--ray {address}: there is no such cluster ({_reason(error)})") from None
        for number, handler in handlers.items():  # Ray has put its own in their place
            signal.signal(number, handler)
        _quiet()
        yield _probed(address)
    finally:
        ray.shutdown()


def _quiet() -> None:
    """What goes wrong with pictures is told by outcomes; and pictures must not end the run."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _probed(address: str) -> int:
    """The number of processors; VqError if a node cannot run vqcodec."""
    import ray

    try:
        ray.get(ray.remote(num_cpus=0)(_hello).remote(), timeout=_PATIENCE)
        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    except Exception as error:
        raise VqError(f"--ray {address}: its nodes cannot run vqcodec ({_reason(error)})") from None


def _hello() -> str:
    return __name__


def _reason(error: Exception) -> str:
    """The last line of what Ray says, which is the cause: the first ones are about its own machinery."""
    return str(error).strip().rpartition("\n")[2].strip() or type(error).__name__
