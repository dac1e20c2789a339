"""What holds for the package as a whole: imports go down only, codes need no torch, few modules print."""

from __future__ import annotations

import ast
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
from PIL import Image

import vqcodec
from vqcodec.codec.codec import Codec
from vqcodec.model.store import Model
from vqcodec.picture.picture import Picture
from vqcodec.picture.read import read_picture

PACKAGE = Path(vqcodec.__file__).parent
# The folders from the lowest to the highest, and of each the modules that other folders may import. All other modules
# are private to their folder. A module imports from its own folder and from lower ones.
GROUND = ("errors", "limits", "output", "progress", "threads", "windows")
FOLDERS: dict[str, tuple[str, ...]] = {
    "picture": (
        "alone",
        "alpha",
        "butteraugli",
        "kinds",
        "lossless",
        "measures",
        "metadata",
        "metrics",
        "picture",
        "plugins",
        "read",
        "ssimulacra2",
        "write",
    ),
    "coding": ("filter_weights", "formats", "integer_prior", "native", "payloads", "wavefront"),
    "model": ("config", "store"),
    "format": ("chunks", "container", "header", "magic", "rates", "units", "varint"),
    "nn": ("distortion", "fold", "native", "networks", "postfilter", "quantizer", "tiled", "weights"),
    "codec": (
        "codec",
        "code_prices",
        "content",
        "describe",
        "encode_options",
        "partial",
        "rate_control",
        "sampling",
        "tokens",
    ),
    "train": (
        "decoder",
        "distributed",
        "events",
        "loop",
        "networks/vqvae",
        "networks/weights",
        "project",
        "requirement",
    ),
    "files": ("batch", "folders", "manifest", "outcome", "plan", "pool", "read_write", "summary", "work"),
    "bench": (
        "code_maps",
        "compare",
        "compare_html",
        "demo",
        "documents",
        "html",
        "lineup",
        "match",
        "peers",
        "published",
        "report",
        "results",
        "study",
    ),
    "api": ("functions", "registration"),
    "cli": ("main",),
}
FLOOR = dict.fromkeys(GROUND, 0) | {folder: floor for floor, folder in enumerate(FOLDERS, 1)} | {"__main__": 99}
PRINTERS = {
    "bench/report",
    "cli/main",
    "cli/bench",
    "cli/compare",
    "cli/demo",
    "cli/files",
    "cli/info",
    "cli/inspect",
    "cli/models",
    "cli/reporter",
    "cli/sample",
    "cli/terminal",
    "cli/tokens",
    "cli/train",
}
STREAMS = PRINTERS | {
    "files/plan",
    "files/read_write",
    "files/work",
    "picture/alone",
}  # a bar on stderr, and data through "-"


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


def folder_of(name: str) -> str:
    """The folder of a module; of one at the top of the package its own name."""
    return name.partition("/")[0]


def test_every_module_has_its_place() -> None:
    assert {folder_of(name) for name in MODULES if name} == set(FLOOR)
    assert all(f"{folder}/{name}" in MODULES for folder, names in FOLDERS.items() for name in names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_says_what_it_is_and_exports_nothing(folder: str) -> None:
    """`__init__.py` is a docstring that names the modules which other folders may import."""
    tree = MODULES[folder]
    text = ast.get_docstring(tree)
    assert text
    assert len(tree.body) == 1
    assert all(f"`{name}`" in text for name in FOLDERS[folder])


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down_only(name: str) -> None:
    here = folder_of(name)
    for imported, line in imports(MODULES[name]):
        there = folder_of(imported)
        if imported == "":
            assert here == "cli", f"{name}:{line} imports the package that imports it"
        elif name and there != here and {there, here} - set(GROUND):
            assert FLOOR[there] < FLOOR[here] or here == "__main__", (
                f"{name}:{line} imports {imported}, which is not below it"
            )
            allowed = there in GROUND or imported.partition("/")[2] in FOLDERS[there]
            assert allowed, f"{name}:{line} imports {imported}, which is private to its folder"


def test_no_modules_import_each_other() -> None:
    """Within a folder, too, imports form no circle."""
    below = {name: {found for found, _ in imports(tree)} - {""} for name, tree in MODULES.items()}
    while below:
        lowest = [name for name, needs in below.items() if not needs & set(below)]
        assert lowest, f"these import each other: {sorted(below)}"
        below = {name: needs for name, needs in below.items() if name not in lowest}


def test_networks_are_no_part_of_reading_a_file() -> None:
    """At import, not inside functions: codes and bytes need no networks."""
    for name in [m for m in MODULES if m.startswith(("coding/", "codec/", "format/", "model/", "picture/"))]:
        for node in MODULES[name].body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert "vqcodec.nn" not in ast.unparse(node), f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_torch_is_for_training_only(name: str) -> None:
    """Nor does any module outside it import one that imports torch, except inside functions that need it."""
    if name.startswith("train") or name == "api/torch_module":
        return
    for node in ast.walk(MODULES[name]):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            assert not any(each.split(".")[0] == "torch" or each == "safetensors.torch" for each in names), node.lineno


@pytest.mark.parametrize("name", ["coding/formats", "coding/exp_table", "coding/integer_prior"])
def test_the_integer_prior_uses_no_function_that_rounds(name: str) -> None:
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"exp", "exp2", "log", "log2", "sqrt", "tanh", "divide", "mean"}, node.lineno
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)), node.lineno


@pytest.mark.parametrize("name", sorted(MODULES))
def test_few_modules_print(name: str) -> None:
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            assert name in PRINTERS, f"{name}:{node.lineno} prints"
        if isinstance(node, ast.Attribute) and node.attr in {"stdout", "stderr", "__stdout__", "__stderr__"}:
            assert name in STREAMS, f"{name}:{node.lineno} uses a stream"


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"cli/main", "train/networks", *FOLDERS}))
def test_what_is_exported_exists_and_modules_say_what_they_are(name: str) -> None:
    if name.startswith(("train/", "api/torch_module")):
        pytest.importorskip("torch")
    module = importlib.import_module(f"vqcodec.{name.replace('/', '.')}" if name else "vqcodec")
    exported = module.__all__
    assert len(set(exported)) == len(exported)
    missing = [entry for entry in exported if not hasattr(module, entry)]
    assert missing == []
    assert module.__doc__


@pytest.mark.parametrize("name", sorted(MODULES))
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


@pytest.mark.parametrize(
    "statement", ["import vqcodec", "import vqcodec.format.container, vqcodec.errors, vqcodec.model.config"]
)
def test_importing_the_package_is_cheap(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(sorted(set('{HEAVY}'.split()) & set(sys.modules)))"
    assert run_python(code).strip() == "[]"


def test_help_does_not_load_torch() -> None:
    code = (
        "import sys\nfrom vqcodec.cli import main as cli\nsys.argv = ['vqcodec', '--help']\n"
        "try:\n    cli.app()\nexcept SystemExit:\n    pass\n"
        f"print(sorted(set('{HEAVY}'.split()) & set(sys.modules)))"
    )
    assert run_python(code).splitlines()[-1] == "[]"


WITHOUT_TORCH = """
import sys
for name in ("torch", "torch.nn", "safetensors.torch"):
    sys.modules[name] = None  # any import of it fails from here on
from vqcodec.cli.main import app
for line in sys.argv[1].splitlines():
    sys.argv = ["vqcodec", *line.split()]
    try:
        app(standalone_mode=False)
    except SystemExit as stop:
        assert not stop.code, line
"""


def test_all_but_training_works_without_torch(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, picture = Codec(model), Picture(synthetic(70, 90), "RGB")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture.pixels).save("a.png")
    commands = [
        "compress a.png -o a.vq", "compress a.png -o b.vq --effort 0", "decompress a.vq -o a2.png",
        "decompress a.vq -o crop.png --crop 5,6,20,30", "verify a.vq --deep", "info a.vq",
        "tokenize a.png -o t.safetensors", "detokenize t.safetensors -o out", "sample -o s.png --size 16x16",
        "inspect a.png -o x",
    ]  # fmt: skip
    commands = [each if each.startswith("info") else f"{each} --model {model.path}" for each in commands]
    run_python(WITHOUT_TORCH, "\n".join(commands))
    assert Path("a.vq").read_bytes() == codec.compress(picture)
    assert np.array_equal(read_picture(Path("a2.png")).pixels, codec.decompress(Path("a.vq").read_bytes()).pixels)


def test_the_public_interface() -> None:
    assert " ".join(sorted(vqcodec.__all__)) == (
        "BadFile BadPicture DamagedFile LimitExceeded Limits ModelError NotAVqFile OpenModel OutputError UnknownModel "
        "UnsupportedFile UsageError VqError __version__ "
        "decode decode_array decode_batch encode encode_batch info open_model torch_model"
    )
    assert set(importlib.import_module("vqcodec.errors").__all__) <= set(vqcodec.__all__)


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
