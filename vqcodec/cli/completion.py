"""The command `completion`: prints the script that makes a shell complete vqcodec commands."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

__all__ = ["COMPLETE", "completion", "prepare_completion"]

COMPLETE = "_VQCODEC_COMPLETE"  # environment variable with which a shell requests completions

Shell = Literal["bash", "zsh", "fish", "powershell"]


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell.")],
) -> None:
    """Print the script that makes a shell complete vqcodec commands.

    Add this line to the startup file of your shell:

    \b
    bash         source <(vqcodec completion bash)
    zsh          source <(vqcodec completion zsh)
    fish         vqcodec completion fish | source
    PowerShell   vqcodec completion powershell | Out-String | Invoke-Expression
    """
    from typer.completion import shell_complete

    prepare_completion()
    raise typer.Exit(shell_complete(context.find_root().command, {}, "vqcodec", COMPLETE, f"source_{shell}"))


def prepare_completion() -> None:
    """Register the supported shells with typer.

    Typer does this itself only if its own completion options are enabled, which would appear in every help text.
    """
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
