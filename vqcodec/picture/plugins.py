"""Plugins that teach Pillow more formats: HEIC and JPEG XL.

In: a `Kind`. Out: nothing; the format is registered with Pillow when the first file of its kind is opened. The packages
are optional (`pip install 'vqcodec[formats]'`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

from vqcodec.picture.failures import Refused
from vqcodec.picture.kinds import Kind

__all__ = ["EXTRA", "PLUGINS", "Plugin", "missing", "prepare", "suffixes"]

EXTRA = "pip install 'vqcodec[formats]'"


def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _register_jxl() -> None:
    import pillow_jxl  # noqa: F401 (the import registers the format)


class Plugin(NamedTuple):
    """A package that registers a format with Pillow."""

    package: str  # its name in the package index
    module: str  # its module
    register: Callable[[], None]  # imports the module and registers the format
    suffixes: tuple[str, ...]  # of the files that it reads


PLUGINS = {
    "heif": Plugin("pillow-heif", "pillow_heif", _register_heif, (".heic", ".heics", ".heif", ".heifs", ".hif")),
    "jxl": Plugin("pillow-jxl-plugin", "pillow_jxl", _register_jxl, (".jxl",)),
}


def missing(kind: Kind) -> bool:
    """Whether files of this kind cannot be read because a package is not installed; imports nothing."""
    return kind.plugin in PLUGINS and find_spec(PLUGINS[kind.plugin].module) is None


def suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of the formats whose plugins are installed; imports nothing."""
    return frozenset(
        suffix for plugin in PLUGINS.values() if find_spec(plugin.module) is not None for suffix in plugin.suffixes
    )


def prepare(kind: Kind) -> None:
    """Register the format of this kind with Pillow, if it needs a plugin. Repeated calls are harmless.

    Raises `Refused` if the package is not installed or does not work, or if this Pillow cannot read AVIF.
    """
    if kind.plugin == "avif":
        _require_avif()
    if kind.plugin not in PLUGINS:
        return
    plugin = PLUGINS[kind.plugin]
    try:
        plugin.register()
    except ModuleNotFoundError as error:
        raise Refused(f"{kind.name}, which needs {plugin.package}; run: {EXTRA}") from error
    except ImportError as error:
        raise Refused(f"{kind.name}; {plugin.package}, which reads it, does not work ({error})") from error


def _require_avif() -> None:
    from PIL import features

    if not features.check("avif"):  # Pillow reads it since version 11.3
        raise Refused("an AVIF, which this Pillow does not read; run: pip install -U pillow")
