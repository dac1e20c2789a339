"""Many files: subfolders, worker processes that are killed, and manifests from which stopped runs continue."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Result, vqcodec_in_process
from conftest import synthetic
from named_pipes import family, feed, kill_reader, needs_pipes, opened
from PIL import Image
from stand_in import install, png

from vqcodec.cli import main as cli
from vqcodec.codec.encode_options import EncodeOptions
from vqcodec.errors import ModelError, VqError
from vqcodec.files import cluster
from vqcodec.files.plan import Job, seen, size_of
from vqcodec.files.pool import Lost, in_processes
from vqcodec.files.work import Compressor
from vqcodec.model.store import Model

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command line, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *args: vqcodec_in_process(monkeypatch, *args)


@pytest.fixture
def fake(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """As `run`, with a stand-in for the codec and a folder `in` with three pictures."""
    install(monkeypatch, tmp_path)
    os.mkdir("in")
    for seed, name in enumerate("abc"):
        png(f"in/{name}.png", seed=seed)
    return run


KEPT = ("compress", "in", "-o", "out", "--manifest", "m.jsonl")


def lines(path: str = "m.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def counts(result: Result) -> str:
    """The counts in the last line that a run prints."""
    return result.err.splitlines()[-1].partition(": ")[2].partition(";")[0]


def contents(folder: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*.*")}


# Folders


def test_subfolders_are_mirrored(fake: Run) -> None:
    for name in ("in/x/y/a.png", "in/x/b.jpg", "in/.hidden/a.png"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        png(name)
    if hasattr(os, "symlink"):
        os.symlink("..", "in/x/loop")
        os.symlink("../c.png", "in/x/link.png")  # a link to a file is a file
    result = fake("compress", "in", "-r", "-o", "out", "--json")
    wanted = ["a", "b", "c", "x/b", "x/link", "x/y/a"]
    assert [Path(record["output"]).as_posix() for record in json.loads(result.out)] == [f"out/{x}.vq" for x in wanted]
    assert sorted(contents("out")) == [f"{name}.vq" for name in wanted]
    assert fake("decompress", "out", "--recursive", "-o", "back").code == 0
    assert sorted(contents("back")) == [f"{name}.png" for name in wanted]
    assert fake("compress", "in", "-r").code == 0
    assert Path("in/x/y/a.vq").is_file()
    assert not Path("in/.hidden/a.vq").exists()


@pytest.mark.parametrize("options", [[], ["--manifest", "m.jsonl"], ["--jobs", "2"]])
def test_only_pictures_with_the_same_result_are_refused(fake: Run, options: list[str]) -> None:
    os.mkdir("in/x")
    png("in/x/a.png"), png("in/x/a.jpg"), png("in/x/b.png")
    if "--jobs" in options:  # worker processes have no stand-in, and nothing is left for them
        for name in ("in/a.png", "in/b.png", "in/c.png", "in/x/b.png"):
            os.remove(name)
    result = fake("compress", "in", "-r", "-o", "out", "--json", *options)
    first, second = (os.path.join("in", "x", name) for name in ("a.jpg", "a.png"))
    target = os.path.join("out", "x", "a.vq")
    advice = "--keep-suffix gives each a name of its own"
    assert result.code == 1
    assert [line for line in result.err.splitlines() if "error" in line] == [
        f"vqcodec: error: {first}: its result {target} would also be that of {second}; {advice}",
        f"vqcodec: error: {second}: its result {target} would also be that of {first}; {advice}",
    ]
    assert [Path(r["input"]).name for r in json.loads(result.out) if "error" in r] == ["a.jpg", "a.png"]
    if "--jobs" not in options:
        assert sorted(contents("out")) == ["a.vq", "b.vq", "c.vq", "x/b.vq"]
        assert counts(result) == "4 done, 0 skipped, 2 failed"
        assert fake("compress", "in", "-r", "-o", "out", "--keep-suffix", "--json").code == 0
        assert {"x/a.jpg.vq", "x/a.png.vq", "a.png.vq"} < set(contents("out"))


def test_a_clash_leaves_an_earlier_result_alone(fake: Run) -> None:
    fake(*KEPT)
    before = contents("out")
    png("in/a.jpg")
    for _ in range(2):
        result = fake(*KEPT, "--force")
        assert (result.code, counts(result), contents("out")) == (1, "0 done, 2 skipped, 2 failed", before)
    os.remove("in/a.jpg")
    assert counts(fake(*KEPT)) == "1 done, 2 skipped, 0 failed"


def test_an_empty_folder(fake: Run) -> None:
    os.makedirs("empty/below")
    assert "or below it" in fake("compress", "empty", "-r").err


def test_existing_results_are_skipped(fake: Run) -> None:
    os.mkdir("out")
    Path("out/b.vq").write_bytes(b"not ours")
    refused = fake("compress", "in", "-o", "out")
    assert (refused.code, counts(refused)) == (1, "2 done, 0 skipped, 1 failed")
    assert "--skip-existing" in refused.err
    assert "--force" in refused.err
    os.remove("out/c.vq")
    result = fake("compress", "in", "-o", "out", "--skip-existing")
    assert (result.code, counts(result)) == (0, "1 done, 2 skipped, 0 failed")
    assert Path("out/b.vq").read_bytes() == b"not ours"
    assert counts(fake("compress", "in", "-o", "out", "--skip-existing")) == "0 done, 3 skipped, 0 failed"
    assert fake("compress", "in", "-o", "out", "--skip-existing", "--force").code == 2
    assert "--skip-existing" in fake("compress", "in/a.png", "-o", "out/a.vq").err
    assert fake("compress", "in/a.png", "-o", "out/a.vq", "--skip-existing").code == 0


def test_existing_results_and_a_manifest(fake: Run) -> None:
    """The manifest decides about results that it knows; others are skipped."""
    os.mkdir("out")
    Path("out/b.vq").write_bytes(b"not ours")
    assert counts(fake(*KEPT, "--skip-existing")) == "2 done, 1 skipped, 0 failed"
    os.utime("in/a.png", (1, 1))
    assert counts(fake(*KEPT, "--skip-existing")) == "1 done, 2 skipped, 0 failed"
    assert Path("out/b.vq").read_bytes() == b"not ours"


def test_a_manifest_of_an_earlier_version_is_read(fake: Run) -> None:
    """Lines without the fields that were added later, and with the same digest of the options."""
    fake(*KEPT)
    older = [
        {key: value for key, value in line.items() if key not in ("output_bytes", "psnr", "ssimulacra2")}
        for line in lines()
    ]
    assert {line["options"] for line in older} == {"c3e75b26e380ae5b"}
    Path("m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in older))
    assert counts(fake(*KEPT)) == "0 done, 3 skipped, 0 failed"


def test_the_last_line_of_a_run(fake: Run) -> None:
    before = sum(path.stat().st_size for path in Path("in").iterdir())
    result = fake("compress", "in", "-o", "out")
    after = sum(map(len, contents("out").values()))
    sizes = f"{before:,} -> {after:,} bytes ({before / after:.1f}x smaller)"
    mean = re.fullmatch(rf"vqcodec: 3 done, 0 skipped, 0 failed; {re.escape(sizes)}, mean PSNR (.*) dB\n", result.err)
    assert mean
    records = json.loads(fake("compress", "in", "-o", "out", "--json", "-f").out)
    assert float(mean[1]) == pytest.approx(sum(record["psnr"] for record in records) / 3, abs=0.01)
    back = fake("decompress", "out", "-o", "back").err
    assert f"; {after:,} -> {sum(map(len, contents('back').values())):,} bytes (" in back


def test_a_run_that_was_interrupted_says_how_to_go_on(fake: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Compressor.work

    def interrupted(self: Compressor, job: Job, progress: Callable[[float], None]) -> Any:
        if job.source == Path("in/b.png"):
            raise KeyboardInterrupt
        return work(self, job, progress)

    monkeypatch.setattr(Compressor, "work", interrupted)
    result = fake("compress", "in", "-o", "out", "--force")
    assert result.code == 130
    advice = "the same command with --skip-existing (and without --force) does the rest"
    assert result.err.splitlines()[-1] == f"vqcodec: interrupted; 1 of 3 are done; {advice}"
    assert fake("compress", "in", "-o", "other", "--manifest", "m.jsonl").err.splitlines()[-1] == (
        "vqcodec: interrupted; 1 of 3 are done; the same command does the rest"
    )
    monkeypatch.setattr(Compressor, "work", work)
    assert counts(fake("compress", "in", "-o", "out", "--skip-existing")) == "2 done, 1 skipped, 0 failed"
    assert counts(fake("compress", "in", "-o", "other", "--manifest", "m.jsonl")) == "2 done, 1 skipped, 0 failed"


# Times and permissions


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize(
    ("given", "umask", "made"), [(0o600, 0o022, 0o600), (0o644, 0o022, 0o644), (0o640, 0o022, 0o640),
    (0o666, 0o077, 0o600), (0o400, 0o022, 0o600), (0o755, 0o022, 0o644)],
)  # fmt: skip
def test_results_are_as_private_as_their_inputs(fake: Run, given: int, umask: int, made: int) -> None:
    os.chmod("in/a.png", given)
    before = os.umask(umask)
    try:
        assert fake("compress", "in/a.png", "-o", "a.vq").code == 0
        assert fake("decompress", "a.vq", "-o", "a.png").code == 0
    finally:
        os.umask(before)
    assert [os.stat(name).st_mode & 0o777 for name in ("a.vq", "a.png")] == [made, made]


@pytest.mark.parametrize("options", [[], ["--manifest", "m.jsonl"]])
def test_times_are_kept_on_request(fake: Run, options: list[str]) -> None:
    time_ns = 1_000_000_000 * 10**9
    os.utime("in/a.png", ns=(time_ns, time_ns))
    assert fake("compress", "in", "-o", "out", "--keep-times", *options).code == 0
    assert os.stat("out/a.vq").st_mtime_ns == time_ns
    assert fake("decompress", "out", "-o", "back", "--keep-times").code == 0
    assert os.stat("back/a.png").st_mtime_ns == time_ns
    assert fake("decompress", "out", "-o", "fresh").code == 0
    assert os.stat("fresh/a.png").st_mtime_ns != time_ns


# The manifest


def test_a_line_for_each_picture(fake: Run) -> None:
    Path("in/b.png").write_bytes(b"broken")
    result = fake(*KEPT, "-q", "2")
    assert (result.code, counts(result)) == (1, "2 done, 0 skipped, 1 failed")
    first, second, third = lines()
    assert set(first) >= {"bpp", "width", "height", "model", "digest", "seconds", "notices", "options"}
    assert (first["input"], first["output"]) == (os.path.abspath("in/a.png"), os.path.abspath("out/a.vq"))
    assert (first["quality"], first["error"], third["error"]) == (2, None, None)
    assert first["bytes"] == first["output_size"] == Path("out/a.vq").stat().st_size
    assert first["input_size"] == Path("in/a.png").stat().st_size
    assert first["input_mtime_ns"] == Path("in/a.png").stat().st_mtime_ns
    assert "not a picture" in second["error"]
    assert (second["output_size"], second["options"]) == (None, first["options"])


def no_change() -> None:
    pass


def foreign_output() -> None:
    Path("out/b.vq").write_bytes(b"not ours")


@pytest.mark.parametrize(
    ("change", "arguments", "expected"),
    [
        (no_change, [], "0 done, 3 skipped, 0 failed"),
        (lambda: os.utime("in/b.png", (1, 1)), [], "1 done, 2 skipped, 0 failed"),
        (lambda: png("in/b.png", (30, 30), seed=9), [], "1 done, 2 skipped, 0 failed"),
        (lambda: os.remove("out/b.vq"), [], "1 done, 2 skipped, 0 failed"),
        (lambda: png("in/d.png"), [], "1 done, 3 skipped, 0 failed"),
        (no_change, ["-q", "3"], "0 done, 3 skipped, 0 failed"),  # the default, given explicitly
        (no_change, ["-q", "1"], "3 done, 0 skipped, 0 failed"),
        (no_change, ["--effort", "1"], "0 done, 3 skipped, 0 failed"),  # also the default
        (no_change, ["--effort", "2"], "3 done, 0 skipped, 0 failed"),
        (no_change, ["--target-size", "50k"], "3 done, 0 skipped, 0 failed"),
        (no_change, ["--target-ssimulacra2", "50"], "3 done, 0 skipped, 0 failed"),
        (no_change, ["--model", "paper"], "3 done, 0 skipped, 0 failed"),
        (no_change, ["--keep-metadata"], "3 done, 0 skipped, 0 failed"),
        (no_change, ["--keep-hidden-colours"], "3 done, 0 skipped, 0 failed"),
        (no_change, ["--keep-times"], "0 done, 3 skipped, 0 failed"),
        (foreign_output, ["--force"], "1 done, 2 skipped, 0 failed"),
    ],
)
def test_a_repeated_run_does_only_what_is_left(
    fake: Run, change: Callable[[], object], arguments: list[str], expected: str
) -> None:
    assert fake(*KEPT).code == 0
    change()
    result = fake(*KEPT, *arguments)
    assert (result.code, counts(result)) == (0, expected)
    assert fake("compress", "in", "-o", "fresh", *arguments).code == 0
    assert contents("out") == contents("fresh")
    assert counts(fake(*KEPT, *arguments)).startswith("0 done")
    latest = {line["output"]: line["output_size"] for line in lines()}
    assert latest == {os.path.abspath(f"out/{name}"): len(data) for name, data in contents("out").items()}


def test_decompress_continues_from_a_manifest(fake: Run) -> None:
    fake("compress", "in", "-o", "out")
    command = ("decompress", "out", "-o", "back", "--manifest", "m.jsonl")
    assert counts(fake(*command)) == "3 done, 0 skipped, 0 failed"
    os.remove("back/a.png")
    png("in/b.png", (10, 10)), fake("compress", "in/b.png", "-o", "out/b.vq", "--force")
    assert counts(fake(*command)) == "2 done, 1 skipped, 0 failed"
    with Image.open("back/b.png") as image:
        assert image.size == (10, 10)


def test_foreign_outputs_are_not_replaced(fake: Run) -> None:
    """An existing output is accepted only if its bytes are identical: a run that was killed may have left it."""
    fake("compress", "in", "-o", "other")
    os.mkdir("out")
    shutil.copy("other/a.vq", "out/a.vq")
    foreign_output()
    result = fake(*KEPT)
    assert (result.code, counts(result)) == (1, "2 done, 0 skipped, 1 failed")
    assert "--force" in result.err
    assert contents("out") == contents("other") | {"b.vq": b"not ours"}
    Path("in/a.png").write_bytes(b"broken")  # the manifest still lists a.vq as a result
    assert counts(fake(*KEPT)) == "0 done, 1 skipped, 2 failed"
    png("in/a.png", (9, 9)), os.remove("out/b.vq")
    assert counts(fake(*KEPT)) == "2 done, 1 skipped, 0 failed"
    foreign_output()  # replaces a result
    os.utime("in/b.png", (1, 1))
    assert counts(fake(*KEPT)) == "0 done, 2 skipped, 1 failed"
    assert Path("out/b.vq").read_bytes() == b"not ours"


def test_the_picture_of_an_incomplete_line_is_done_again(fake: Run) -> None:
    fake(*KEPT)
    whole = Path("m.jsonl").read_bytes()
    results = contents("out")
    start = whole[:-1].rindex(b"\n") + 1
    for end in (*range(start, start + 12), len(whole) - 1):
        Path("m.jsonl").write_bytes(whole[:end])
        assert counts(fake(*KEPT)) == "1 done, 2 skipped, 0 failed"
        assert [Path(line["input"]).name for line in lines()] == ["a.png", "b.png", "c.png"]
        assert contents("out") == results


@pytest.mark.parametrize(
    "text",
    [b"important", b"[1]\n", b"{}\n", b'{"input": "a", "output": "b", "error": null}\n', b"\x89PNG\r\n\x1a\n", b"\n"],
)
def test_a_file_that_is_not_a_manifest_is_not_changed(fake: Run, text: bytes) -> None:
    fake(*KEPT)
    for data in (text, Path("m.jsonl").read_bytes() + text):
        Path("m.jsonl").write_bytes(data)
        result = fake(*KEPT)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert "is not a manifest" in result.err
        assert Path("m.jsonl").read_bytes() == data


def test_invalid_manifest_paths(fake: Run) -> None:
    assert fake(*KEPT[:-1], "in").code == 1
    assert fake(*KEPT[:-1], "no/such/folder/m").code == 1
    assert fake("compress", "-", "--manifest", "m.jsonl").code == 2
    assert fake("compress", "in/a.png", "-o", "-", "--jobs", "2").code == 2
    assert not os.path.exists("out")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
def test_two_runs_cannot_share_a_manifest(fake: Run) -> None:
    import fcntl

    with open("m.jsonl", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = fake(*KEPT)
    assert (result.code, result.err) == (2, "vqcodec: error: m.jsonl is in use by another run\n")
    assert fake(*KEPT).code == 0


# Processes


def dying_worker(folder: str) -> Callable[[str], str]:
    """Kill the process at the task `bad`, and at the first attempt of `unlucky`.

    If the folder contains a file `start`, the process dies before its first task.
    """
    if (Path(folder) / "start").exists():
        os._exit(3)

    def work(task: str) -> str:
        with open(Path(folder) / task, "a") as file:
            file.write("x")
        if task == "bad" or (task == "unlucky" and (Path(folder) / task).read_text() == "x"):
            os._exit(9)
        return task

    return work


def test_a_task_is_tried_again_in_another_process(tmp_path: Path) -> None:
    tasks = ["a", "bad", "unlucky", "b", "c"]
    taken: list[str] = []
    found = dict(in_processes(dying_worker, str(tmp_path), (taken.append(t) or t for t in tasks), 2, 1, tries=2))
    assert isinstance(found[1], Lost)
    assert [found[index] for index in (0, 2, 3, 4)] == ["a", "unlucky", "b", "c"]
    assert [len((tmp_path / name).read_text()) for name in tasks] == [1, 2, 2, 1, 1]
    (tmp_path / "start").touch()
    with pytest.raises(VqError, match="worker processes cannot start"):
        list(in_processes(dying_worker, str(tmp_path), iter(tasks), 1, 1, tries=2))


def test_tasks_are_taken_lazily(tmp_path: Path) -> None:
    taken: list[str] = []
    found = in_processes(dying_worker, str(tmp_path), (taken.append(t) or t for t in "abcdefgh"), 1, 1)
    next(found)
    assert len(taken) == 2  # the next task is already running
    found.close()


def test_a_cluster_needs_ray(fake: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = fake("compress", "in", "-o", "out", "--ray", "local")
    assert (result.code, result.err) == (2, "vqcodec: error: --ray needs Ray: pip install 'vqcodec[ray]'\n")
    assert fake("compress", "in", "-o", "out", "--ray", "").code == 2
    assert not os.path.exists("out")


def test_an_actor_returns_outcomes(fake: Run) -> None:
    worker = Compressor(None, EncodeOptions(), force=False)
    worker.open()
    job = Job(Path("in/a.png"), Path("out/a.vq"), make_folder=True, keep_times=True)
    row = {"index": 7, "job": cluster._job_to_json(job)}
    answer = cluster.Actor(pickle.loads(pickle.dumps(worker)), worker.settings())(row)
    found = cluster._outcome_from_json(answer["outcome"], job)
    assert found.record is not None
    assert (answer["index"], found.record.output, found.record.notices) == (7, job.output, ())
    assert (found.seen, found.size) == (seen(job.source), size_of(job.target)) != (None, None)
    assert os.stat("out/a.vq").st_mtime_ns == os.stat("in/a.png").st_mtime_ns
    other = cluster.Actor(worker, worker.settings() | {"model": "another"})(row)
    with pytest.raises(ModelError, match="its model differs"):
        cluster._outcome_from_json(other["outcome"], job)


@needs_pipes
def test_processes_make_the_same_files_if_one_is_killed(run: Run, patch_model: Model) -> None:
    os.mkdir("in")
    for seed in range(4):
        Image.fromarray(synthetic(48, 64, seed)).save(f"in/{seed}.png")
    Path("in/2.png").write_bytes(b"broken")
    shutil.copy("in/0.png", "later.png")
    pipe = Path("pipe.png").absolute()
    os.mkfifo(pipe)
    model = ("--model", os.path.relpath(patch_model.path))
    alone = run("compress", "in", "later.png", *model, "-o", "alone", "--json")

    def kill_then_feed() -> None:
        kill_reader(pipe, lambda: [int(child.pid or 0) for child in multiprocessing.active_children()])
        feed(pipe, Path("later.png").read_bytes())

    thread = threading.Thread(target=kill_then_feed)
    thread.start()
    many = run("compress", "in", pipe, *model, "-o", "out", "--json", "--jobs", "2", "--manifest", "m.jsonl")
    thread.join()
    made = contents("out")
    assert made == {name.replace("later", "pipe"): data for name, data in contents("alone").items()}
    assert sorted(made) == ["0.vq", "1.vq", "3.vq", "pipe.vq"]
    assert (
        (many.code, counts(many)) == (alone.code, "4 done, 0 skipped, 1 failed") == (1, "4 done, 0 skipped, 1 failed")
    )
    assert sorted(Path(line["input"]).name for line in lines()) == ["0.png", "1.png", "2.png", "3.png", "pipe.png"]
    for one, other in zip(json.loads(alone.out)[:4], json.loads(many.out)[:4], strict=True):  # in order
        assert {**one, "output": "", "seconds": 0} == {**other, "output": "", "seconds": 0}


START = "import sys; sys.argv[0] = 'vqcodec'; from vqcodec.cli.main import main; main()"


@needs_pipes
@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_run_that_was_ended_can_be_continued(run: Run, patch_model: Model, how: signal.Signals, code: int) -> None:
    os.mkdir("in")
    for seed in range(4):
        Image.fromarray(synthetic(48, 64, seed)).save(f"in/{seed}.png")
    pipe = Path("pipe.png").absolute()
    os.mkfifo(pipe)
    command = ["compress", "in", str(pipe), "-o", "out", "--model", str(patch_model.path), "--manifest", "m.jsonl"]
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", START, *command, "--jobs", "2"], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        end = opened(pipe)  # one worker blocks on the pipe, the other one does the rest
        while not (Path("m.jsonl").exists() and Path("m.jsonl").read_bytes().count(b"\n") >= 2):
            time.sleep(0.02)
        process.send_signal(how)
        assert process.wait(60) == code
        assert "Traceback" not in process.communicate()[1]
        deadline = time.monotonic() + 60
        while (left := family(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == []
        os.close(end)
    finally:
        for pid in family(process.pid):
            os.kill(pid, signal.SIGKILL)
    done = [line["output"] for line in lines()]
    assert len(set(done)) == len(done) < 5
    if how != signal.SIGKILL:
        assert [name for name in os.listdir("out") if not name.endswith(".vq")] == []
    os.remove(pipe)
    shutil.copy("in/0.png", pipe)
    result = run(*command)
    assert counts(result) == f"{5 - len(done)} done, {len(done)} skipped, 0 failed"
    outputs = [line["output"] for line in lines()]
    assert len(outputs) == len(set(outputs)) == 5
    run("compress", "in", pipe, "-o", "alone", "--model", patch_model.path)
    assert {name: data for name, data in contents("out").items() if name.endswith(".vq")} == contents("alone")
