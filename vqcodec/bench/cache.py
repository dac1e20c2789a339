"""Measurement cache: rows and encoded files of earlier runs, so that an interrupted run can resume.

An entry is two files in one folder: the row as JSON, and the encoded picture. Their name is a hash of everything that
the figures depend on. Entries that were not used for two months are deleted.
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
from pathlib import Path

from vqcodec.bench.environment import computed_with, installed
from vqcodec.bench.results import Row

__all__ = ["Cache", "default_folder", "digest", "versions"]

_KEPT = 60 * 86400.0  # seconds
# Parts of the package that no figure depends on. Changing them does not invalidate the cache.
_IRRELEVANT = ("api/", "cli/", "files/", "train/", "output.py")
# The modules of this folder that figures do depend on.
_RELEVANT_IN_BENCH = (
    *("bisection", "match", "measure"),
    *("listed_peer", "lossless_peers", "model_peer", "package_peer", "peers", "pillow_peer", "program_peer"),
)


def default_folder() -> Path:
    """The user's cache folder: below XDG_CACHE_HOME if that is set, else at the system's usual place."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named) / "vqcodec" / "bench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "vqcodec" / "Cache" / "bench"
    home = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return home / "vqcodec" / "bench"


def digest(parts: Mapping[str, object]) -> str:
    """The name of an entry: a hash of everything that its figures depend on (40 hexadecimal digits)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


@cache
def versions() -> dict[str, str]:
    """What every figure depends on besides the codec: a hash of the relevant source code, libraries, native code."""
    source = hashlib.sha256()
    package = Path(__file__).parent.parent
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        counts = path.stem in _RELEVANT_IN_BENCH if path.parent.name == "bench" else not name.startswith(_IRRELEVANT)
        if counts:
            source.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return {"vqcodec": source.hexdigest()[:16], **installed("pillow"), **computed_with()}


class Cache:
    """The cache entries in a folder."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if needed and delete old entries. Raises `OSError` if the folder cannot be created."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - _KEPT
        for path in folder.iterdir():
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def file(self, key: str) -> Path:
        """The path of an entry's encoded picture, whether or not it exists."""
        return self.folder / f"{key}.bin"

    def load(self, key: str) -> Row | None:
        """The row of an entry; None if the entry is missing or unreadable, or if its encoded picture is damaged."""
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
        """Store a row whose encoded picture is already in place. A failed write (disk full) is ignored."""
        from vqcodec.errors import OutputError
        from vqcodec.output import write_atomic

        checksum = hashlib.sha256(self.file(key).read_bytes()).hexdigest()
        entry = {"row": dataclasses.asdict(row), "sha256": checksum}
        with suppress(OutputError):
            write_atomic(self.folder / f"{key}.json", json.dumps(entry).encode(), force=True)
