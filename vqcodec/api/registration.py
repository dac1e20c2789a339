"""When to register .vq with Pillow: at once where Pillow is there, else when it is imported.

Pillow looks for no plugins of others, so importing vqcodec has to register the format, before or after Pillow is
imported. Importing Pillow for that would cost every program that uses vqcodec a tenth of a second or so that it may
not need, among them `vqcodec --help`. A finder of modules that knows one name, `PIL.Image`, waits for it instead.
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

_AWAITED = "PIL.Image"


def register_with_pillow() -> None:
    """Register .vq with Pillow now or as soon as it is imported."""
    if _AWAITED in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    from vqcodec.api import pillow_plugin

    if hasattr(pillow_plugin, "register"):  # else it is what imports Pillow, and will register itself
        pillow_plugin.register()


class _Finder:
    """Finds `PIL.Image` as Python would, with a loader that also registers. It stays in `sys.meta_path`.

    Taking it out would disturb other threads that go through the list at that moment.
    """

    def __init__(self) -> None:
        self._asking = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _AWAITED or self._asking:
            return None
        from importlib.util import find_spec

        self._asking = True
        try:
            spec = find_spec(name)
        finally:
            self._asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Loader(spec.loader))
        return spec


class _Loader:
    """The loader of a module, which registers once the module is there."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register()
