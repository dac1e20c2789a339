"""A Ray cluster of two nodes gives the same bytes, each picture exactly once, even if a worker dies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import vqcodec_in_process
from conftest import synthetic
from named_pipes import feed, kill_reader, needs_pipes
from PIL import Image

from vqcodec.cli import main as cli
from vqcodec.model.store import Model

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, needs_pipes]

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2]), "RAY_USAGE_STATS_ENABLED": "0"}
# Runs in a separate process: Ray leaves threads, signal handlers and warnings behind.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 80 << 20}
cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **node})
cluster.add_node(**node)
print("at", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
START = "import sys; sys.argv[0] = 'vqcodec'; from vqcodec.cli.main import main; main()"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a running cluster."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield next(line.split()[1] for line in process.stdout if line.startswith("at "))
        finally:
            process.stdin.close()
            process.wait(120)


def vqcodec(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START, *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=580, check=False)


def others() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if int(path.name) != os.getpid()]


def test_a_cluster_makes_the_same_files_if_a_worker_is_killed(
    address: str, patch_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(12):
        os.makedirs(f"in/{seed % 3}", exist_ok=True)
        Image.fromarray(synthetic(48, 64, seed)).save(f"in/{seed % 3}/{seed}.png")
    Path("in/0/3.png").write_bytes(b"broken")
    shutil.copy("in/0/0.png", "in.png")
    model = ("--model", os.path.relpath(patch_model.path))
    assert vqcodec_in_process(monkeypatch, "compress", "in", "in.png", "-r", "-o", "alone", *model).code == 1
    Path("in.png").unlink()
    pipe = Path("in.png").absolute()
    os.mkfifo(pipe)

    def kill_then_feed() -> None:
        kill_reader(pipe, others)
        feed(pipe, Path("in/0/0.png").read_bytes())

    thread = threading.Thread(target=kill_then_feed, daemon=True)
    thread.start()
    command = ["compress", "in", "in.png", "-r", "-o", "out", *model, "--manifest", "m.jsonl", "--ray", address]
    done = vqcodec(*command, "--json")
    thread.join(1)
    assert done.stderr.splitlines()[-1].startswith("vqcodec: 12 done, 0 skipped, 1 failed; ")
    printed = [line for line in done.stderr.splitlines() if line.startswith("vqcodec")]  # Ray prints a line too
    assert len(printed) == 2
    assert "3.png: not a picture" in printed[0]
    assert done.returncode == 1
    made = {path.relative_to("out"): path.read_bytes() for path in Path("out").rglob("*.vq")}
    assert made == {path.relative_to("alone"): path.read_bytes() for path in Path("alone").rglob("*.vq")}
    assert len(made) == 12
    records = json.loads(done.stdout)
    assert [record["input"] for record in records] == [*map(str, sorted(Path("in").rglob("*.png"), key=str)), "in.png"]
    lines = [json.loads(line) for line in Path("m.jsonl").read_text().splitlines()]
    assert sorted(line["output"] for line in lines) == sorted(os.path.abspath(record["output"]) for record in records)
    pipe.unlink()
    shutil.copy("in/0/0.png", "in.png")  # a different input file with the same result
    again = vqcodec_in_process(monkeypatch, *command[:-2], "--jobs", "1")  # without the cluster
    assert again.err.splitlines()[-1].startswith("vqcodec: 1 done, 11 skipped, 1 failed; ")
