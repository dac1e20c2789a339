"""Measured once -> known: the rows and files of earlier runs, so that an interrupted run goes on where it was.

An entry is two files in one folder, named by a hash over everything that the figures depend on: the row as JSON, and
the encoded picture. What was not used for two months is removed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vqcodec.bench.results import Row

__all__ = ["Cache", "default_folder", "digest", "versions"]

_KEPT = 60 * 86400.0  # seconds
# Parts of the package that no figure depends on: whoever changes them need not measure anew.
_APART = ("api/", "cli/", "files/", "train/", "output.py")
_OF_BENCH = ("bd_rate", "measure", "peers")  # the parts of this folder that some do depend on


def default_folder() -> Path:
    """Where this user's caches are: XDG_CACHE_HOME, or what the system has for that."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named) / "vqcodec" / "bench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "vqcodec" / "Cache" / "bench"
    home = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return home / "vqcodec" / "bench"


def digest(parts: Mapping[str, object]) -> str:
    """A name for an entry: the hash of whatever its figures depend on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


@cache
def versions() -> dict[str, str]:
    """What every figure depends on besides the codec: the code that makes it, to the byte, and its libraries."""
    source = hashlib.sha256()
    package = Path(__file__).parent.parent
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        counts = path.stem in _OF_BENCH if path.parent.name == "bench" else not name.startswith(_APART)
        if counts:
            source.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    found = {"vqcodec": source.hexdigest()[:16]}
    for name in ("numpy", "pillow", "torch", "constriction"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Cache:
    """The entries in a folder."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder where it is absent. Raises `OSError` where that cannot be done."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - _KEPT
        for path in folder.iterdir():
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def file(self, key: str) -> Path:
        """Where the encoded picture of an entry is, or belongs."""
        return self.folder / f"{key}.bin"

    def load(self, key: str) -> Row | None:
        """The row of an entry; None if there is none that can be used, with its file whole."""
        path = self.folder / f"{key}.json"
        try:
            entry = json.loads(path.read_text())
            row = Row(**entry["row"])
            if hashlib.sha256(self.file(key).read_bytes()).hexdigest() != entry["sha256"]:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        for used in (path, self.file(key)):
            with suppress(OSError):
                os.utime(used)
        return row

    def store(self, key: str, row: Row) -> None:
        """Keep a row whose file is already there. A full disk is no reason to fail: then it is not kept."""
        from vqcodec.errors import OutputError
        from vqcodec.output import write_atomic

        checksum = hashlib.sha256(self.file(key).read_bytes()).hexdigest()
        entry = {"row": dataclasses.asdict(row), "sha256": checksum}
        with suppress(OutputError):
            write_atomic(self.folder / f"{key}.json", json.dumps(entry).encode(), force=True)
