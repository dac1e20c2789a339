"""The environment of a benchmark: processor, cores, settings and library versions, for its results."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vqcodec.bench.lineup import Contender
from vqcodec.threads import cores

__all__ = ["computed_with", "environment", "installed"]


def environment(contenders: Sequence[Contender], jobs: int, threads: int) -> dict[str, str]:
    """Names, versions and settings as text. Contains no paths and no host name."""
    found = {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(cores()),
        "processes": str(max(1, jobs)),
        "threads in each": str(threads),
    }
    found.update(computed_with())
    for contender in contenders:
        found.update(contender.versions)
    return found


def computed_with() -> dict[str, str]:
    """What a model's figures depend on beside its own code: library versions, and native code or numpy."""
    from vqcodec.coding.payloads import implementation
    from vqcodec.nn import native

    code = {"range coder": implementation(), "networks": native.implementation()}
    return installed("numpy", "scipy", "constriction") | code


def installed(*names: str) -> dict[str, str]:
    """The versions of the packages of these names that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    """The name of the processor model, or "unknown"."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
