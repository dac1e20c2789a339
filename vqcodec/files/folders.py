"""Folders: which of their files a run takes, and a count of those that it does not take.

In: a folder. Out: the files of one kind in it. A picture is a file

- with the suffix of a picture format that Pillow can decode here, with its optional plugins where they are installed;
- or with a suffix that Pillow does not know, such as .jpg_large, and the first bytes of a common picture format.

All other files are counted by suffix, so that nothing is left out in silence. Hidden files (.NAME) and .vq files are
not counted.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from vqcodec.errors import UsageError

__all__ = ["SUFFIX", "looked_through", "not_taken", "picture_suffixes", "pictures_in", "vq_files_in"]

SUFFIX = ".vq"
# Formats that Pillow registers, but that are no pictures which it decodes: films, scientific data that need a handler,
# and drawings, which need another program.
_NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "VQ", "WMF"})
# Formats that are recognised by the first bytes, whatever the suffix. TIFF is not among them: raw photos begin so too.
_RECOGNISED = frozenset({"a JPEG", "a PNG", "a GIF", "a WebP", "a HEIC", "an AVIF"})
_MOST_KINDS = 8  # suffixes that are named
_MOST_SUFFIX = 20  # characters of a suffix; longer ones are parts of a name


def pictures_in(folder: Path, recursive: bool = False, others: Counter[str] | None = None) -> list[Path]:
    """The pictures in `folder`, or also below it. All other files are counted in `others`, by their suffix.

    Raises `UsageError` if there are none, or if a folder cannot be read.
    """
    others = Counter() if others is None else others
    before = others.copy()
    suffixes, known = picture_suffixes(), _known_suffixes()

    def is_picture(path: Path, suffix: str) -> bool:
        return suffix in suffixes or (suffix not in known and not suffix.endswith("~") and _begins_as_picture(path))

    found = []
    for path in looked_through(folder, recursive):
        suffix = path.suffix.lower()
        if suffix == SUFFIX:
            continue
        if is_picture(path, suffix):
            found.append(path)
        else:
            others[suffix if len(suffix) <= _MOST_SUFFIX else ""] += 1
    if not found:
        left = not_taken(others - before)
        where = f"the folder {folder}" + (" or below it" if recursive else "")
        raise UsageError(f"there are no pictures that can be read in {where}" + (f" ({left})" if left else ""))
    return found


def vq_files_in(folder: Path, recursive: bool = False) -> list[Path]:
    """The .vq files in `folder`, or also below it. Raises `UsageError` as `pictures_in`."""
    found = [path for path in looked_through(folder, recursive) if path.suffix.lower() == SUFFIX]
    if not found:
        raise UsageError(f"there are no {SUFFIX} files in the folder {folder}" + (" or below it" if recursive else ""))
    return found


def looked_through(folder: Path, recursive: bool) -> list[Path]:
    """All files in `folder`: those of each folder, sorted by name, then those of its subfolders if `recursive`.

    Links to folders are not followed, since they may form cycles. Names that begin with a dot are skipped, such as the
    ._NAME files of macOS. Raises `UsageError` if a folder cannot be read.
    """
    found: list[Path] = []
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                shown = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
                files = [entry.name for entry in shown if entry.is_file()]
                below = [entry.name for entry in shown if recursive and entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            raise UsageError(f"the folder {here} cannot be read: {error.strerror}") from None
        found += [here / name for name in files]
        waiting += [here / name for name in reversed(below)]
    return found


def picture_suffixes() -> frozenset[str]:
    """The suffixes of the picture formats that can be read here, in lower case."""
    from PIL import Image

    from vqcodec.picture.plugins import suffixes

    registered = Image.registered_extensions().items()
    formats = {suffix for suffix, kind in registered if kind in Image.OPEN and kind not in _NO_PICTURES}
    mpo = {".mpo"}  # a JPEG with several pictures, which Pillow opens as JPEG
    return frozenset(formats - _optional_suffixes() | suffixes() | mpo)


def not_taken(others: Counter[str]) -> str:
    """A line about files that are not taken: "not taken: 12 .heic (pip install ...), 3 .dng"; "" if there are none."""
    if not others:
        return ""
    from vqcodec.picture.plugins import EXTRA

    optional = _optional_suffixes()
    ordered = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    parts = []
    for suffix, count in ordered[:_MOST_KINDS]:
        hint = f" ({EXTRA})" if suffix in optional else ""
        parts.append(f"{count:,} {suffix or 'without a suffix'}{hint}")
    if rest := sum(count for _, count in ordered[_MOST_KINDS:]):
        parts.append(f"{rest:,} of other kinds")
    return "not taken: " + ", ".join(parts)


def _optional_suffixes() -> frozenset[str]:
    """The suffixes of all formats that need a plugin of Pillow, installed or not."""
    from vqcodec.picture.plugins import PLUGINS

    return frozenset(suffix for plugin in PLUGINS.values() for suffix in plugin.suffixes)


def _known_suffixes() -> frozenset[str]:
    """The suffixes that need no look at the first bytes, because their format is known."""
    from PIL import Image

    return frozenset({*Image.registered_extensions(), *_optional_suffixes()})


def _begins_as_picture(path: Path) -> bool:
    """Whether the file begins as a picture of a format in `_RECOGNISED` that can be read here."""
    from vqcodec.picture.kinds import START, kind_of
    from vqcodec.picture.plugins import missing

    try:
        with open(path, "rb") as file:
            kind = kind_of(file.read(START))
    except OSError:
        return False
    return kind is not None and kind.name in _RECOGNISED and not missing(kind)
