"""Files decode to the same codes in every arithmetic environment.

Each environment is a separate process with, for example, another number of threads, other OpenBLAS kernels, numpy
without SIMD or without the native code, or denormals flushed to zero. It decodes the golden files to codes. Some
environments also decode them to pixels, and compress a picture that must decode to the same codes in this process.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HAS_TORCH
from golden import CODES, FOLDER, codes_digest, pictures
from hypothesis import given
from hypothesis import strategies as st

import vqcodec
from vqcodec.coding.formats import SUM_BOUND, WEIGHT_MAX
from vqcodec.coding.integer_prior import Product
from vqcodec.format.container import unpack
from vqcodec.model.store import bundled, find, open_model

X86 = platform.machine().lower() in ("x86_64", "amd64")

# Reads the files that its first argument lists. Prints the codes and properties of the environment as JSON.
READ = """
import ctypes, glob, json, os, sys
task = json.loads(sys.argv[1])
if task["torch"]:
    import torch
    torch.set_flush_denormal(task["flush"])  # for this thread, so it also affects numpy
    torch.set_default_dtype(getattr(torch, task["dtype"]))
else:
    sys.modules["torch"] = sys.modules["safetensors.torch"] = None  # any import of it fails from here on
from functools import cache
from pathlib import Path
import numpy as np
from vqcodec.format import container
from vqcodec.model import store
from vqcodec.codec.codec import Codec
from vqcodec.codec.content import read_part
from golden import content_digest
found = {"codes": {}, "compressed": {}}
opened = [store.open_model(path) for path in task["models"]]
codecs = {model.digest: Codec(model) for model in opened}
for name in task["files"]:
    data = Path(name).read_bytes()
    file = container.unpack(data)
    codec = codecs[file.model_digest]
    content, shape = read_part(file, codec.model, dict(enumerate(file.units)), codec.prior), (file.height, file.width)
    found["codes"][Path(name).stem] = content_digest(content, codec.model, shape)
    if task["out"]:
        weights = codec.weights(file.postfilter)
        pixels = codec.decode(content, file.quality + 1, shape, file.mode, weights=weights)
        np.save(Path(task["out"]) / (Path(name).stem + ".npy"), pixels)
if task["out"]:
    samples = np.load(task["picture"])
    from vqcodec.picture.picture import Picture
    for index, codec in enumerate(codecs.values()):
        file = Path(task["out"]) / f"{index}.vq"
        file.write_bytes(codec.compress(Picture(samples, "RGB")))
        content = codec.encode(samples, codec.quality(None))
        found["compressed"][str(file)] = content_digest(content, codec.model, samples.shape[:2])
cores = []
for library in glob.glob(os.path.join(os.path.dirname(np.__file__), os.pardir, "numpy.libs", "*openblas*")):
    for name in ("scipy_openblas_get_corename64_", "openblas_get_corename64_"):
        if hasattr(ctypes.CDLL(library), name):
            function = getattr(ctypes.CDLL(library), name)
            function.restype = ctypes.c_char_p
            cores.append(function().decode())
found["core"] = cores[0] if cores else None
found["tiny"] = bool(np.float32(1e-38) * np.float32(0.01))  # false where denormals are flushed to zero
print(json.dumps(found))
"""


def simd() -> str:
    """The SIMD extensions that numpy uses here in addition to its baseline."""
    core: Any = getattr(np, "_core", None) or np.core
    inner = core._multiarray_umath
    return " ".join(name for name in inner.__cpu_dispatch__ if inner.__cpu_features__[name])


def kernels() -> list[str]:
    """OpenBLAS kernels that this processor can run, the oldest first; Accelerate and MKL ignore the setting."""
    if not X86:
        return ["ARMV8", "NEOVERSEN1"] if sys.platform == "linux" else []
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        flags = ""
    return ["Prescott", *["Haswell"] * (" avx2 " in flags), *["SkylakeX"] * (" avx512bw " in flags)]


NUMPY = {"VQCODEC_NATIVE": "0"}  # the native code uses no BLAS, and nothing of numpy that has SIMD
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
ONE, MANY = (dict.fromkeys(THREADS, count) | {"OMP_WAIT_POLICY": "PASSIVE"} for count in ("1", "8"))
Environment = tuple[dict[str, str], dict[str, Any]]  # environment variables, and fields of the task
ENVIRONMENTS: dict[str, Environment] = {
    "as installed": (MANY | {"PYTHONHASHSEED": "1"}, {"out": True}),
    "one thread, no SIMD in numpy": (
        ONE | NUMPY | {"NPY_DISABLE_CPU_FEATURES": simd(), "PYTHONHASHSEED": "2"},
        {"out": True},
    ),
} | {f"kernel {name}": (MANY | NUMPY | {"OPENBLAS_CORETYPE": name}, {}) for name in kernels()}
if HAS_TORCH:  # another library in the same process that computes, and changes settings of the processor
    FLUSHED: Environment = (ONE, {"torch": True, "dtype": "float64", "flush": True, "out": True})
    ENVIRONMENTS |= {
        "beside torch in float64, denormals are zero": FLUSHED,
        "the same in numpy": (FLUSHED[0] | NUMPY, FLUSHED[1]),
    }
FILES = sorted(FOLDER.glob("*.vq"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], Path]]:
    """The JSON of each environment and the folder with its files; runs as many processes at once as there are cores."""
    picture = tmp_path_factory.mktemp("picture") / "picture.npy"
    np.save(picture, pictures()["alpha"].pixels)
    settings = [name for name in os.environ if name not in (*THREADS, "OPENBLAS_CORETYPE", "PYTHONHASHSEED")]
    places = (Path(vqcodec.__file__).parents[1], Path(__file__).parent)
    environment = {name: os.environ[name] for name in settings} | {"PYTHONPATH": os.pathsep.join(map(str, places))}

    def visit(item: tuple[str, Environment]) -> tuple[str, tuple[dict[str, Any], Path]]:
        name, (variables, wishes) = item
        out = tmp_path_factory.mktemp("out")
        task = {"torch": False, "flush": False, "dtype": "float32", "out": None, "picture": str(picture)} | wishes
        task |= {"files": [str(path) for path in FILES], "models": [str(open_model(name).path) for name in bundled()]}
        task["out"] = str(out) if task["out"] else None
        done = subprocess.run(
            [sys.executable, "-c", READ, json.dumps(task)],
            env=environment | variables, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}: {done.stderr}"
        return name, (json.loads(done.stdout), out)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(visit, ENVIRONMENTS.items()))


Results = dict[str, tuple[dict[str, Any], Path]]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_golden_files_are_read_to_the_same_codes(name: str, results: Results) -> None:
    assert results[name][0]["codes"] == json.loads(CODES.read_text())


@pytest.mark.parametrize("name", [name for name, (_, wishes) in ENVIRONMENTS.items() if wishes.get("out")])
def test_pixels_are_within_one_grey_level(name: str, results: Results) -> None:
    from vqcodec.picture.read import read_picture

    for path in FILES:
        decoded = np.load(results[name][1] / f"{path.stem}.npy")
        golden = read_picture(path.with_suffix(".png")).pixels
        assert np.abs(decoded.astype(int) - golden.astype(int)).max() <= 1, path.stem


@pytest.mark.parametrize("name", [name for name, (_, wishes) in ENVIRONMENTS.items() if wishes.get("out")])
def test_files_compressed_in_an_environment_decode_to_the_same_codes_here(name: str, results: Results) -> None:
    compressed = results[name][0]["compressed"]
    assert len(compressed) == len(bundled())
    for path, digest in compressed.items():
        data = Path(path).read_bytes()
        assert codes_digest(data, find(unpack(data).model_digest)) == digest


def test_the_settings_of_the_environments_have_an_effect(results: Results) -> None:
    """Otherwise the other tests would show nothing."""
    assert results["one thread, no SIMD in numpy"][0]["tiny"]
    if X86 and HAS_TORCH:
        assert not results["beside torch in float64, denormals are zero"][0]["tiny"]
    cores = {results[f"kernel {name}"][0]["core"] for name in kernels()}
    if cores - {None}:
        assert len(cores) == len(kernels())


# --- any order of summation ----------------------------------------------------------------


@cache
def at_the_bound(width: int, seed: int) -> tuple[Product, np.ndarray]:
    """A product whose sums come as close to the bound as allowed, and inputs [6, width] of the largest magnitude."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-WEIGHT_MAX, WEIGHT_MAX + 1, (width, 4))
    room = SUM_BOUND - 1 - np.abs(weight).sum(0) * WEIGHT_MAX
    bias = room * rng.choice([-1, 1], 4)
    scale = np.ldexp(np.float32(1), -rng.integers(0, 12, 4)).astype(np.float32)
    inputs = rng.choice([-WEIGHT_MAX, WEIGHT_MAX], (6, width))
    inputs[0] = np.where(weight[:, 0] < 0, -WEIGHT_MAX, WEIGHT_MAX) * np.sign(bias[0])
    assert room.min() >= 0
    product = Product(weight.astype(np.float32) * scale, bias.astype(np.float32) * scale)
    return product, inputs.astype(np.float32)


@given(width=st.sampled_from([1, 7, 96, 480, 960, 1040]), seed=st.integers(0, 20), data=st.data())
def test_any_order_of_summation_gives_the_same_integers(width: int, seed: int, data: st.DataObject) -> None:
    """Terms in any order, in partial sums of any length, with the bias added at any place."""
    product, inputs = at_the_bound(width, seed)
    # float64 is exact here: the integers have 25 bits, and a power of two as factor needs no mantissa bits.
    expected = np.floor(inputs.astype(np.float64) @ product.weight.astype(np.float64) + product.bias)
    assert np.array_equal(product(inputs), expected)
    order = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).permutation(width)
    cuts = sorted(data.draw(st.lists(st.integers(0, width), max_size=6)))
    parts = [inputs[:, part] @ product.weight[part] for part in np.split(order, cuts)]
    parts.insert(data.draw(st.integers(0, len(parts))), np.broadcast_to(product.bias, parts[0].shape))
    total = np.zeros_like(parts[0])
    for part in parts:
        total = total + part
    assert total.dtype == np.float32
    assert np.array_equal(np.floor(total), expected)


def test_beyond_the_bound_the_order_would_matter() -> None:
    """The bound is necessary: just beyond it, float32 sums depend on their order."""
    terms = np.array([SUM_BOUND, 1, 1], np.float32)
    assert (terms[0] + terms[1]) + terms[2] != terms[0] + (terms[1] + terms[2])
