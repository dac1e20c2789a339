"""What the package brings along and what it can reach: no network, no code in data, known files of known content."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vqcodec
from vqcodec.model.store import bundled, open_model

PACKAGE = Path(vqcodec.__file__).parent
MODELS = PACKAGE / "model" / "bundled"
MODULES = sorted(PACKAGE.rglob("*.py"))

NETWORK = {
    "aiohttp", "asyncio", "ftplib", "gdown", "http", "httpx", "huggingface_hub", "imaplib", "nntplib", "poplib",
    "requests", "smtplib", "socket", "socketserver", "ssl", "telnetlib", "urllib", "urllib3", "webbrowser", "wget",
    "xmlrpc",
}  # fmt: skip
CODE_IN_DATA = {"cloudpickle", "code", "codeop", "dill", "joblib", "marshal", "pickle", "runpy", "shelve", "yaml"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
# Of modules that are used for something else: what runs code that is found in data, or asks the network.
METHODS = {
    "torch": {"load", "save", "hub", "compile"},
    "np": {"load", "save", "savez", "fromfile", "memmap", "loads"},
    "numpy": {"load", "save", "savez", "fromfile", "memmap", "loads"},
    "os": {"system", "popen", "startfile"},
}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """(top-level module, line) of every import, at any depth of the code, by statement or by name."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0], node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            yield (str(name.value).partition(".")[0] if isinstance(name, ast.Constant) else "?"), node.lineno


def identity(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_no_module_imports_what_reaches_the_network_or_runs_code_from_data(path: Path) -> None:
    for name, line in imported(path):
        assert name not in NETWORK, f"{identity(path)}:{line} imports {name}"
        assert name not in CODE_IN_DATA, f"{identity(path)}:{line} imports {name}"
        assert name != "?", f"{identity(path)}:{line} imports what a variable says"


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_no_module_runs_text_or_loads_objects(path: Path) -> None:
    for node in ast.walk(tree(path)):
        where = f"{identity(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in RUNS_TEXT, f"{where} calls {node.func.id}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.attr not in METHODS.get(node.value.id, ()), f"{where} uses {ast.unparse(node)}"
        if isinstance(node, ast.keyword) and node.arg == "shell":
            raise AssertionError(f"{where} runs a shell")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            raise AssertionError(f"{where} may load a pickle")


def test_dependencies_are_those_that_are_declared() -> None:
    """What the package imports comes with it, with Python, or is named in pyproject.toml."""
    declared = {"constriction", "numpy", "PIL", "rich", "safetensors", "scipy", "threadpoolctl", "typer"}
    # The extras "bench", "formats", "ray" and "train".
    optional = {"pillow_heif", "pillow_jxl", "pyjpegli", "pyvips", "ray", "tifffile", "torch"}
    found = {name for path in MODULES for name, _ in imported(path)} - set(sys.stdlib_module_names) - {"vqcodec", "?"}
    assert found <= declared | optional
    assert declared <= found
    project = PACKAGE.parent / "pyproject.toml"
    if project.is_file():
        text = project.read_text(encoding="utf-8").partition("\ndependencies")[2].partition("]")[0]
        named = {re.match(r'\s*"([\w-]+)', line)[1] for line in text.splitlines() if line.strip().startswith('"')}  # type: ignore[index]
        assert named == {name.lower().replace("pil", "pillow") for name in declared}


# Every way into the network goes through one of these; a process that takes one of them is ended at once.
GUARD = """
import os, sys
def guard(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.")):
        sys.stderr.write(f"NETWORK {event} {arguments}\\n")
        sys.stderr.flush()
        os._exit(99)
sys.addaudithook(guard)
"""
WORK = """
import json, sys
from vqcodec.cli.main import main
for line in json.loads(sys.argv[1]):
    sys.argv = ["vqcodec", *line]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (line, end.code)
"""


def guarded(code: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(PACKAGE.parent),
        "XDG_CACHE_HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", GUARD + code, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_commands_do_not_touch_the_network(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    Image.fromarray(samples).save(tmp_path / "a.png")
    commands = [
        ["compress", "a.png"],
        ["verify", "--deep", "a.vq"],
        ["decompress", "a.vq", "-o", "b.png"],
        ["info", "a.vq"],
        ["compare", "a.png", "a.vq", "--html", "c.html"],
        ["models"],
        ["tokenize", "a.png", "-o", "t.safetensors"],
        ["bench", "a.png", "--jobs", "0", "--codec", "photo", "--codec", "jpeg:50", "--no-cache", "--html", "a.html"],
    ]
    done = guarded(WORK, json.dumps(commands), folder=tmp_path)
    assert "NETWORK" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    links = re.findall(r"""(?:src|href|url)\\s*[=(]\\s*["']?(https?:|//)""", page)
    assert links == []


def test_the_guard_notices_the_network(tmp_path: Path) -> None:
    done = guarded("import socket; socket.socket()", folder=tmp_path)
    assert done.returncode == 99


# The files of the package

FILES = {"README.md", "config.json", "prior.safetensors", "weights.safetensors"}


def test_the_package_holds_no_other_kinds_of_files_than_these() -> None:
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    native = {path for path in files if path.suffix in (".c", ".h", ".so", ".pyd")}
    kinds = {path.suffix for path in files if path not in native}
    assert kinds - {""} <= {".py", ".md", ".json", ".safetensors", ".vq", ".js", ".css", ".html", ".typed"}
    assert {path.parent.name for path in native} <= {"coding", "nn"}
    assert all(path.name.startswith("_native") for path in native)
    assert {entry.name for entry in MODELS.iterdir()} == set(bundled())
    for name in bundled():
        assert {entry.name for entry in (MODELS / name).iterdir()} == FILES


def test_native_code_includes_no_headers_but_those_of_the_language_and_of_python() -> None:
    """Nothing of the operating system: no files, no network, no processes."""
    language = {"float.h", "limits.h", "math.h", "stdbool.h", "stddef.h", "stdint.h", "stdlib.h", "string.h"}
    processors = {"arm_neon.h", "immintrin.h", "intrin.h"}
    for path in [*PACKAGE.rglob("*.c"), *PACKAGE.rglob("*.h")]:
        found = set(re.findall(r"^[ \t]*#[ \t]*include[ \t]*<([^>]+)>", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert found <= {"Python.h"} | language | processors, identity(path)


def test_all_weights_together_stay_below_16_megabytes() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) <= 16 * 2**20


@pytest.mark.parametrize("name", bundled())
def test_the_files_of_a_model_are_those_of_its_card(name: str) -> None:
    """The digest is computed from the files each time; the card says what it was when the model was made."""
    card = (MODELS / name / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| Digest \| `([0-9a-f]{16})` \|$", card, re.MULTILINE) == [open_model(name).digest.hex()]


@pytest.mark.parametrize("name", bundled())
def test_weights_are_safetensors_with_nothing_but_tensors(name: str) -> None:
    """The header is JSON that describes every byte that follows: no room for anything else."""
    for file in ("prior.safetensors", "weights.safetensors"):
        data = (MODELS / name / file).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        spans = sorted(entry["data_offsets"] for entry in header.values())
        assert [start for start, _ in spans] == [0, *(end for _, end in spans)][:-1]
        assert spans[-1][1] == len(data) - 8 - length
        assert {entry["dtype"] for entry in header.values()} <= {"F16", "F32", "I8", "I32", "I64", "U8", "BOOL"}
