"""The optional native modules. Everything else about the package is in pyproject.toml.

A module is left out, with a warning, where it cannot be compiled: the same work is then done by numpy, with the same
results. VQCODEC_REQUIRE_NATIVE=1 makes that an error, as it must be where wheels for others are built.
"""

import atexit
import os
import platform
import shutil
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup

SOURCES = ("vqcodec/coding/_native.c", "vqcodec/nn/_native.c")
REQUIRED = os.environ.get("VQCODEC_REQUIRE_NATIVE", "") not in ("", "0")
# One build for all versions of CPython from 3.10 on. PyPy and free-threaded CPython have no such interface.
LIMITED = platform.python_implementation() == "CPython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
MSVC = sysconfig.get_platform().startswith("win")


def extension(source: str) -> Extension:
    """The module of a C file. Headers beside it belong to it."""
    return Extension(
        source.removesuffix(".c").replace("/", "."),
        [source],
        depends=sorted(path.as_posix() for path in Path(source).parent.glob("*.h")),
        define_macros=[("Py_LIMITED_API", "0x030A0000")] if LIMITED else [],
        extra_compile_args=["/O2", "/std:c11"] if MSVC else ["-O3", "-std=c11"],
        py_limited_api=LIMITED,
        optional=not REQUIRED,
    )


# In a folder of its own, a build takes nothing over from an older one: no module that has been removed since.
folder = tempfile.mkdtemp(prefix="vqcodec-build-")
atexit.register(shutil.rmtree, folder, ignore_errors=True)
setup(
    ext_modules=[extension(source) for source in SOURCES if Path(source).is_file()],
    options={
        "build": {"build_base": folder},
        "bdist_wheel": {"py_limited_api": "cp310"} if LIMITED else {},
    },
)
