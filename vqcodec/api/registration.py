"""Registration of the .vq format with Pillow: now if Pillow is imported, otherwise as soon as it is imported.

Pillow does not search for third-party plugins, so `import vqcodec` must register the format, whether Pillow is imported
before or after it. Importing Pillow for this would slow down every program that imports vqcodec, such as
`vqcodec --help`, by about 0.1 s. Instead, an import hook for `PIL.Image` registers the format.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["register_with_pillow"]

_PILLOW_MODULE = "PIL.Image"


def register_with_pillow() -> None:
    """Register .vq with Pillow now or as soon as it is imported."""
    if _PILLOW_MODULE in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    from vqcodec.api import pillow_plugin

    if hasattr(pillow_plugin, "register"):  # else the plugin is being imported; it registers itself at its end
        pillow_plugin.register()


class _Finder:
    """Import hook: finds `PIL.Image` as Python does, but with a loader that also registers the format.

    It stays in `sys.meta_path`: removing it would disturb other threads that iterate over the list at that moment.
    """

    def __init__(self) -> None:
        self._searching = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of `PIL.Image`; None for all other modules."""
        if name != _PILLOW_MODULE or self._searching:
            return None
        from importlib.util import find_spec

        self._searching = True
        try:
            spec = find_spec(name)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Loader(spec.loader))
        return spec


class _Loader:
    """Wraps the loader of `PIL.Image`; registers the format after the module is loaded."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        """Load the module with its own loader, then register the format."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register()
