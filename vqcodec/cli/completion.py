"""The command `completion`: the script that lets a shell complete commands."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

__all__ = ["COMPLETE", "completion", "prepare_completion"]

COMPLETE = "_VQCODEC_COMPLETE"  # the environment variable in which a shell asks for completions

Shell = Literal["bash", "zsh", "fish", "powershell"]


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell.")],
) -> None:
    """Print the script that lets a shell complete commands.

    A line for the startup file of the shell:

    \b
    bash, zsh    source <(vqcodec completion bash), or zsh
    fish         vqcodec completion fish | source
    PowerShell   vqcodec completion powershell | Out-String | Invoke-Expression
    """
    from typer.completion import shell_complete

    prepare_completion()
    raise typer.Exit(shell_complete(context.find_root().command, {}, "vqcodec", COMPLETE, f"source_{shell}"))


def prepare_completion() -> None:
    """Let typer know the shells; it does so itself only where its own options for completion are in every help."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
