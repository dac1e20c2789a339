"""What holds for the package as a whole: imports go down only, codes need no torch, few modules print."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic

import vqcodec
from vqcodec.codec import Codec
from vqcodec.image import Picture
from vqcodec.store import Model

PACKAGE = Path(vqcodec.__file__).parent
# From what knows least to what knows most; a module imports only from earlier lines. "x/" is all modules in x.
ORDER = [
    "errors",
    "limits",
    "progress",
    "pool",
    "config",
    "metrics",
    "exif",
    "xmp",
    "metadata",
    "colours",
    "image",
    "alpha",
    "windows",
    "coding/formats",
    "coding/weights",
    "coding/exp_table",
    "coding/integer_prior",
    "coding/wavefront",
    "coding/rangecoder",
    "prices",
    "nn/codebooks",
    "nn/quantizer",
    "nn/postfilter",
    "nn/vqvae",
    "nn/tiled",
    "nn/pixelcnn",
    "magic",
    "chunks",
    "container",
    "output",
    "store",
    "refine",
    "postfilter",
    "describe",
    "codec",
    "partial",
    "search",
    "sample",
    "nn/module",
    "tokens",
    "inspect_model",
    "train/graphics",
    "train/data",
    "train/distributed",
    "train/optimizer",
    "train/loop",
    "train/events",
    "train/vqvae",
    "train/qualities",
    "train/warm_start",
    "train/prior",
    "train/decoder",
    "train/postfilter",
    "train/project",
    "bench/results",
    "bench/means",
    "bench/peers",
    "bench/cache",
    "bench/measure",
    "bench/lineup",
    "bench/anatomy",
    "bench/published",
    "bench/curves",
    "bench/worker",
    "bench/runner",
    "bench/environment",
    "bench/study",
    "bench/demo",
    "bench/tables",
    "bench/report",
    "bench/html_data",
    "bench/html",
    "api",
    "pillow_plugin",
    "registration",
    "options",
    "jobs",
    "terminal",
    "work",
    "outcome",
    "manifest",
    "cluster",
    "batch",
    "cli_bench",
    "cli_train",
    "cli_data",
    "cli_files",
    "cli_sample",
    "cli",
    "__main__",
]
PRINTERS = {"bench/report", "cli", "cli_bench", "cli_data", "cli_files", "cli_sample", "cli_train"}
STREAMS = PRINTERS | {"jobs", "terminal", "work"}  # a bar on stderr, and data through "-"


def modules() -> dict[str, ast.Module]:
    """The syntax trees of all modules, by their names below the package; "" is the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        found[name.removesuffix("__init__").rstrip("/")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(module below the package, line) of every import of a part of vqcodec, at any depth of the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [p if p.removeprefix("vqcodec.").replace(".", "/") in MODULES else str(node.module) for p in parts]
        else:
            continue
        for name in names:
            if name == "vqcodec" or name.startswith("vqcodec."):
                yield name.removeprefix("vqcodec").lstrip(".").replace(".", "/"), node.lineno


def test_every_module_has_its_place() -> None:
    packages = {"", "bench", "coding", "nn", "train"}
    assert sorted(set(MODULES) - packages) == sorted(ORDER)
    assert all(not MODULES[name].body for name in packages - {""}), "only the package itself exports names"


@pytest.mark.parametrize("name", ORDER)
def test_imports_go_down_only(name: str) -> None:
    for imported, line in imports(MODULES[name]):
        if imported == "":
            assert name.startswith("cli"), f"{name}:{line} imports the package that imports it"
        else:
            assert ORDER.index(imported) < ORDER.index(name), f"{name}:{line} imports {imported}"


def test_networks_and_training_are_no_part_of_reading_a_file() -> None:
    """At import, not inside functions: what codes and bytes need must load without torch."""
    for name in ["container", "store", "codec", *(m for m in ORDER if m.startswith("coding/"))]:
        for node in MODULES[name].body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                text = ast.unparse(node)
                assert "torch" not in text, f"{name}:{node.lineno} {text}"
                assert "vqcodec.nn" not in text, f"{name}:{node.lineno} {text}"


@pytest.mark.parametrize("name", ["coding/formats", "coding/exp_table", "coding/integer_prior"])
def test_the_integer_prior_uses_no_function_that_rounds(name: str) -> None:
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"exp", "exp2", "log", "log2", "sqrt", "tanh", "divide", "mean"}, node.lineno
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)), node.lineno


@pytest.mark.parametrize("name", ["", *ORDER])
def test_few_modules_print(name: str) -> None:
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            assert name in PRINTERS, f"{name}:{node.lineno} prints"
        if isinstance(node, ast.Attribute) and node.attr in {"stdout", "stderr", "__stdout__", "__stderr__"}:
            assert name in STREAMS, f"{name}:{node.lineno} uses a stream"


@pytest.mark.parametrize("name", [name for name in ["", *ORDER] if name != "cli"])
def test_what_is_exported_exists_and_modules_say_what_they_are(name: str) -> None:
    module = importlib.import_module(f"vqcodec.{name.replace('/', '.')}" if name else "vqcodec")
    exported = module.__all__
    assert len(set(exported)) == len(exported)
    missing = [entry for entry in exported if not hasattr(module, entry)]
    assert missing == []
    assert module.__doc__


@pytest.mark.parametrize("name", ORDER)
def test_no_pickle_and_no_wildcards(name: str) -> None:
    for node in ast.walk(MODULES[name]):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            text = ast.unparse(node)
            assert "pickle" not in text
            assert "*" not in text
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            assert node.attr not in {"load", "save"}, "both use pickle"


def run_python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints for the code, with the package on its path."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


HEAVY = "torch numpy PIL constriction safetensors rich scipy"


@pytest.mark.parametrize("statement", ["import vqcodec", "import vqcodec.container, vqcodec.errors, vqcodec.config"])
def test_importing_the_package_is_cheap(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(sorted(set('{HEAVY}'.split()) & set(sys.modules)))"
    assert run_python(code).strip() == "[]"


def test_help_does_not_load_torch() -> None:
    code = (
        "import sys\nfrom vqcodec import cli\nsys.argv = ['vqcodec', '--help']\n"
        "try:\n    cli.app()\nexcept SystemExit:\n    pass\n"
        f"print(sorted(set('{HEAVY}'.split()) & set(sys.modules)))"
    )
    assert run_python(code).splitlines()[-1] == "[]"


WITHOUT_TORCH = """
import hashlib, importlib, sys
for name in ("torch", "torch.nn", "safetensors.torch"):
    sys.modules[name] = None  # any import of it fails from here on
for name in ("formats", "exp_table", "integer_prior", "wavefront", "rangecoder"):
    importlib.import_module("vqcodec.coding." + name)
import numpy as np
from vqcodec import container, store
from vqcodec.codec import read_codes, split
from vqcodec.describe import describe
from vqcodec.coding.rangecoder import write_units
from pathlib import Path
folder, file = sys.argv[1:]
data = Path(file).read_bytes()
model = store.open_model(folder)
unpacked = container.unpack(data)
codes = read_codes(unpacked, model)
grids = [grid for row in split(codes, unpacked.unit) for grid in row]
assert tuple(write_units(model.prior(unpacked.quality), grids)) == unpacked.units
assert describe(data).total_bytes == len(data)
try:
    model.network()
except ImportError:
    print(hashlib.sha256(codes.tobytes()).hexdigest(), codes.dtype, *codes.shape)
"""


def test_a_file_is_read_to_its_codes_and_written_again_without_torch(model: Model, tmp_path: Path) -> None:
    codec, picture = Codec(model), Picture(synthetic(70, 90), "RGB")
    file = tmp_path / "picture.vq"
    file.write_bytes(codec.compress(picture))
    codes = codec.encode(picture.pixels, model.config.default_quality)
    assert codes.dtype == np.int32
    expected = [hashlib.sha256(codes.tobytes()).hexdigest(), "int32", *map(str, codes.shape)]
    assert run_python(WITHOUT_TORCH, str(model.path), str(file)).split() == expected


def test_the_public_interface() -> None:
    assert " ".join(sorted(vqcodec.__all__)) == (
        "BadFile BadPicture Limits ModelError OpenModel VqError __version__ "
        "decode decode_array decode_batch encode encode_batch info open_model torch_model"
    )


def test_the_errors_form_the_tree_that_their_module_draws() -> None:
    errors = importlib.import_module("vqcodec.errors")
    drawn: list[type] = []
    path: list[type] = []
    for line in inspect.cleandoc(errors.__doc__).splitlines()[1:]:  # Python 3.13 takes the indentation away
        word = next((word for word in line.split() if word in errors.__all__), None)
        if word is None:
            continue
        depth = (len(line) - len(line.lstrip(" │├└─"))) // 4
        kind = getattr(errors, word)
        path[depth:] = [kind]
        drawn.append(kind)
        assert kind.__bases__ == (path[depth - 1] if depth else Exception,), word
    assert {kind.__name__ for kind in drawn} == set(errors.__all__)
    assert {kind.__name__ for kind in drawn if kind.exit_code == 2} == {"UsageError"}
