"""The group of all commands: the module of each, and errors that recognise file names in the place of a command.

The module of a command is imported when the command is run or described. That saves a tenth of a second at every start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, cast

import typer
from typer.core import TyperGroup

from vqcodec.errors import UsageError

__all__ = ["Commands"]

_ARGUMENTS = "vqcodec.arguments"  # key in the context's dictionary
# Of the parser, which is click or typer's copy of it.
_USAGE_ERROR = cast("type[Exception]", typer.BadParameter.__mro__[1])


# In the order of --help.
NAMES = (
    "compress", "decompress", "info", "verify", "models", "demo", "compare", "bench", "tokenize", "detokenize",
    "inspect", "sample", "completion", "train",
)  # fmt: skip


def _module(name: str) -> ModuleType:
    """The module that has a function, or a group of commands, of that name."""
    from importlib import import_module

    match name:
        case "compress" | "decompress":
            return import_module("vqcodec.cli.files")
        case "info" | "verify":
            return import_module("vqcodec.cli.info")
        case "tokenize" | "detokenize":
            return import_module("vqcodec.cli.tokens")
        case "models":
            return import_module("vqcodec.cli.models")
        case "demo":
            return import_module("vqcodec.cli.demo")
        case "compare":
            return import_module("vqcodec.cli.compare")
        case "bench":
            return import_module("vqcodec.cli.bench")
        case "inspect":
            return import_module("vqcodec.cli.inspect")
        case "sample":
            return import_module("vqcodec.cli.sample")
        case "completion":
            return import_module("vqcodec.cli.completion")
        case "train":
            return import_module("vqcodec.cli.train")
    raise KeyError(name)


class _OnDemand(Mapping[str, Any]):
    """The commands by name. Each is imported when it is first taken."""

    def __init__(self) -> None:
        self._taken: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._taken:
            found = getattr(_module(name), name)
            if not isinstance(found, typer.Typer):
                function, found = found, typer.Typer(add_completion=False, rich_markup_mode=None)
                found.command(name)(function)
            self._taken[name] = typer.main.get_command(found)
        return self._taken[name]

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


class Commands(TyperGroup):
    """The commands of the application. Raises `UsageError` with a hint for mistaken file names."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast("Any", _OnDemand())

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first argument names."""
        name = args[0]
        if self.get_command(ctx, name) is None and os.path.exists(name):
            wanted = f"vqcodec {_command_for(name)} {name}"
            raise UsageError(f"{name} is a file or folder, not a command; did you mean: {wanted}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. A file name that was taken for an option is named instead of the parser's error."""
        arguments = ctx.meta[_ARGUMENTS]
        try:
            return super().invoke(ctx)
        except _USAGE_ERROR:
            before = arguments[: arguments.index("--")] if "--" in arguments else arguments
            for name in before:
                if name.startswith("-") and len(name) > 1 and os.path.exists(name):
                    raise UsageError(f"{name} was taken for an option; write ./{name}, or -- before it") from None
            raise


def _command_for(name: str) -> str:
    """The command that is meant by a file name alone."""
    if os.path.isdir(name):
        try:
            vq_files = any(file.endswith(".vq") for file in os.listdir(name))
        except OSError:
            vq_files = False
        return "decompress" if vq_files else "compress"
    return "decompress" if name.lower().endswith(".vq") else "compress"
