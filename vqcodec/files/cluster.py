"""Jobs -> outcomes on a Ray cluster: Ray Data, with one loaded model per actor.

Jobs are submitted in chunks to bound the memory of this process. Outcomes arrive in any order. All nodes need vqcodec,
the same model, and the files under the same paths. Ray restarts actors that died and retries their blocks. Pictures
whose block failed for good are tried once more, each in its own block.
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
BLOCK = 8  # jobs per block: their outcomes arrive together
LOCAL = "local"
_TIMEOUT = 120  # seconds, for the first answer of a cluster
_LOST = "its worker processes died; perhaps there is not enough memory"


def on_cluster(
    address: str, worker: Compressor | Decompressor, jobs: Iterable[Job], actors: int | None
) -> Generator[tuple[int, Outcome | Lost], None, None]:
    """(index, outcome) of every job as it finishes. `actors`: their number; None is one per CPU of the cluster.

    `worker` must be open. Raises `UsageError` if Ray is not installed or the cluster cannot be reached, `VqError` if
    its nodes cannot run vqcodec or the cluster fails, and `ModelError` if they have a different model.
    """
    with _connection(address) as cpus:
        count = actors or cpus
        numbered = enumerate(jobs)
        while chunk := dict(islice(numbered, CHUNK)):
            for block_size in (BLOCK, 1):
                rows = [{"index": index, "job": _job_to_json(job)} for index, job in chunk.items()]
                blocks = -(-len(rows) // max(1, min(block_size, len(rows) // (4 * count))))
                with closing(_run_rows(rows, blocks, worker, min(count, blocks))) as answers:
                    for index, text in answers:
                        job = chunk.pop(index, None)
                        if job is not None:
                            yield index, _outcome_from_json(text, job)
                if not chunk:
                    break
            yield from ((index, Lost(_LOST)) for index in chunk)


class Actor:
    """A worker process on a node. It loads the model once."""

    def __init__(self, worker: Compressor | Decompressor, settings: Mapping[str, Any]) -> None:
        self.worker = worker
        self.fault: str | None = None  # reported with each row and ends the run; Ray would retry an exception
        try:
            worker.open()
            if worker.settings() != settings:
                raise ModelError("its model differs from that of the machine where the command runs")
        except VqError as error:
            self.fault = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.fault is not None:
            return {"index": row["index"], "outcome": json.dumps({"fault": f"{platform.node()}: {self.fault}"})}
        source, target, make_folder, ours, keep_times = json.loads(row["job"])
        job = Job(Path(source), Path(target), make_folder, ours, accept_identical=True, keep_times=keep_times)
        try:
            outcome = attempt(self.worker, job, lambda done: None)
        except Exception as error:
            outcome = failed(VqError(f"unexpected {type(error).__name__}: {error}"))
        return {"index": row["index"], "outcome": json.dumps(dataclasses.asdict(outcome))}


def _job_to_json(job: Job) -> str:
    """Job -> JSON in ASCII, which can hold any file name. Paths are absolute: workers have another current folder."""
    assert job.source is not None
    assert job.target is not None
    paths = os.path.abspath(job.source), os.path.abspath(job.target)
    return json.dumps([*paths, job.make_folder, job.ours, job.keep_times])


def _outcome_from_json(text: str, job: Job) -> Outcome:
    """JSON from an actor -> the outcome of `job`. Raises `ModelError` if the node reported a fault."""
    found = json.loads(text)
    if "fault" in found:
        raise ModelError(found["fault"])
    if found["record"] is not None:
        record = found["record"] | {"input": job.input, "output": job.output}
        record |= {name: tuple(record[name]) for name in ("notices", "damage")}
        found["record"] = Record(**record)
    found["seen"] = None if found["seen"] is None else tuple(found["seen"])
    return Outcome(**found)


def _run_rows(
    rows: list[dict[str, Any]], blocks: int, worker: Compressor | Decompressor, actors: int
) -> Generator[tuple[int, str], None, None]:
    """(index, outcome as JSON) of the rows, except those whose block failed. Raises `VqError`."""
    import ray.data

    compute = ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2 if blocks < len(rows) else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # for the last two arguments, which Ray 2.64 will remove
        data = ray.data.from_items(rows, override_num_blocks=blocks).map(
            Actor,
            fn_constructor_args=(worker, worker.settings()),
            compute=compute,
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=1,  # limits the retries of a picture that kills its worker
        )
    try:
        for batch in data.iter_batches(batch_size=None, prefetch_batches=0):
            yield from zip(batch["index"].tolist(), batch["outcome"].tolist(), strict=True)
    except Exception as error:  # Ray raises many types
        raise VqError(
            f"the cluster failed ({_reason(error)}); with --manifest, repeat the command to continue"
        ) from None


@contextmanager
def _connection(address: str) -> Iterator[int]:
    """Connect to a cluster; yields its number of CPUs. Raises `UsageError` or `VqError`."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # relevant failures are raised as errors
    if address != LOCAL:  # a local cluster needs time to start
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # else Ray tries for minutes to reach a missing cluster
    try:
        import ray
        import ray.data
    except ImportError:
        raise UsageError("--ray needs Ray: pip install 'vqcodec[ray]'") from None
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports to the makers of Ray
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
        except Exception as error:  # Ray raises many types
            raise UsageError(f"--ray {address}: cannot connect to the cluster ({_reason(error)})") from None
        for number, handler in handlers.items():  # Ray has replaced them
            signal.signal(number, handler)
        _configure_ray_data()
        yield _count_cpus(address)
    finally:
        ray.shutdown()


def _configure_ray_data() -> None:
    """Make Ray Data silent, and tolerant of failed blocks: outcomes report what failed."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _count_cpus(address: str) -> int:
    """The number of CPUs of the cluster. Raises `VqError` if a node cannot run vqcodec."""
    import ray

    try:
        ray.get(ray.remote(num_cpus=0)(_import_on_node).remote(), timeout=_TIMEOUT)
        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    except Exception as error:
        raise VqError(f"--ray {address}: its nodes cannot run vqcodec ({_reason(error)})") from None


def _import_on_node() -> str:
    """Run on a node: unpickling it there imports vqcodec."""
    return __name__


def _reason(error: Exception) -> str:
    """The last line of an error of Ray, which states the cause; the lines before it describe Ray's internals."""
    return str(error).strip().rpartition("\n")[2].strip() or type(error).__name__
