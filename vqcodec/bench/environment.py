"""What a benchmark ran on and with: the part of its results without which the figures mean less."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vqcodec.bench.lineup import Contender
from vqcodec.files.pool import cores

__all__ = ["environment"]


def environment(contenders: Sequence[Contender], jobs: int, threads: int) -> dict[str, str]:
    """Names and versions, as text; neither a path nor a host's name is among them."""
    found = {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(cores()),
        "processes": str(max(1, jobs)),
        "threads in each": str(threads),
    }
    for name in ("numpy", "torch", "constriction"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    for contender in contenders:
        found.update(contender.versions)
    return found


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
