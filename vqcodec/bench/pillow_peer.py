"""Codecs that Pillow, or a plugin for it, writes and reads. In: a picture and a quality. Out: the bytes of a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from vqcodec.bench.listed_peer import ListedPeer, probe_picture

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PillowPeer", "package_versions"]

_NO_SUCH_TUNE = "no-such-tune"


@dataclass(frozen=True, kw_only=True)
class PillowPeer(ListedPeer):
    """A codec that Pillow, or a plugin for it, writes and reads."""

    options: Callable[[float], Mapping[str, Any]]  # quality -> options of Image.save
    library: str | None = None  # the underlying library, by Pillow's name
    plugin: str | None = None  # a plugin for Pillow, by its name in `picture/plugins.py`
    encoder_versions: Callable[[], dict[str, str]] | None = None  # of what the library itself encodes with
    threads_option: str | None = None  # option of Image.save for the number of threads
    tune: str | None = None  # of libaom: what the AVIF encoder optimises
    untuned: str | None = None  # the codec of the table that differs only in that it leaves `tune` to the library

    def missing(self) -> str | None:
        """Why this codec cannot be used on this machine, or None."""
        from vqcodec.picture.plugins import PLUGINS

        try:
            self.prepare()
        except ImportError:
            assert self.plugin is not None, "only plugins are imported"
            return f"{PLUGINS[self.plugin].package} is not installed; run: pip install 'vqcodec[bench]'"
        untuned = replace(self, tune=None)
        if not untuned._works():
            return f"this Pillow cannot write {self.format}"
        if self.tune is not None and not self._works():
            return f"the AVIF encoder of this Pillow does not know tune={self.tune}"
        if self.tune is not None and replace(self, tune=_NO_SUCH_TUNE)._works():
            return "the AVIF encoder of this Pillow ignores tune"
        return None

    def repeats(self) -> str | None:
        """The name of the same codec without `tune` if `tune` is what the library uses anyway, or None."""
        if self.tune is None:
            return None
        image, quality = probe_picture(), self.qualities[-1]
        same = self.encode(image, quality) == replace(self, tune=None).encode(image, quality)
        return self.untuned if same else None

    def versions(self) -> dict[str, str]:
        """Versions of Pillow, the library, what it encodes with and the plugin."""
        from PIL import features

        from vqcodec.picture.plugins import PLUGINS

        found = {"Pillow": version("pillow")}
        if self.library is not None:
            found[self.library] = str(features.version(self.library))
        if self.plugin is not None:
            found |= package_versions(PLUGINS[self.plugin].package)
        if self.encoder_versions is not None:
            with suppress(Exception):  # not every version of a library tells
                found |= self.encoder_versions()
        return found

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The bytes of a file. Raises what Pillow's writers raise."""
        options = dict(self.options(quality))
        if self.threads_option is not None:
            options[self.threads_option] = self.threads
        if self.tune is not None:
            options["advanced"] = {"tune": self.tune}
        stream = io.BytesIO()
        image.save(stream, self.format, **options)
        return stream.getvalue()

    def prepare(self) -> None:
        """Register the format of the plugin with Pillow. Raises `ImportError`."""
        from vqcodec.picture.plugins import PLUGINS

        if self.plugin is not None:
            PLUGINS[self.plugin].register()

    def _works(self) -> bool:
        try:
            self.encode(probe_picture(), self.qualities[0])
        except Exception:  # KeyError for an unknown format; a missing library raises various exceptions
            return False
        return True


def package_versions(*names: str) -> dict[str, str]:
    """Versions of packages, "unknown" for those that were not installed as packages."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
