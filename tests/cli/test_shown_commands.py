"""Every `vqcodec ...` line that README, docs and model cards show in a code block is accepted by the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from vqcodec.cli import main as cli

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/**/*.md")}
    | {*ROOT.glob("vqcodec/model/bundled/*/README.md")}
) if (ROOT / "pyproject.toml").is_file() else []  # fmt: skip
PAGES = [page for page in PAGES if page.name != "reference.md"]  # which has the usage lines of --help
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:[^`\n]*\| )?vqcodec [^`\n]+)`")
SYNTAX = re.compile(r"[\[\]…]|\.\.\.| \| (?!vqcodec)")  # usage lines, with options in brackets, are no commands


def commands(page: Path) -> list[list[str]]:
    """The arguments of each command that a page shows."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += INLINE.findall(text)
    found = []
    for line in lines:
        for part in re.split(r" && | \| |; ", line.split("  #")[0]):
            words = part.strip()
            words = re.sub(r"^\$ |^torchrun .*?-m -- |^OMP_NUM_THREADS=\d+ ", "", words)
            if words.startswith("vqcodec ") and not SYNTAX.search(words) and not words.split()[-1].startswith("--"):
                found.append(shlex.split(re.sub(r"\s*[<>].*", "", words))[1:])
    return found


SHOWN = [
    pytest.param(arguments, id=f"{page.relative_to(ROOT).as_posix()}: {' '.join(arguments)}")
    for page in PAGES
    for arguments in {" ".join(arguments): arguments for arguments in commands(page)}.values()
]


@pytest.mark.skipif(not PAGES, reason="the package without its project")
def test_there_are_commands_to_check() -> None:
    assert len(SHOWN) > 40


@pytest.mark.parametrize("arguments", SHOWN)
def test_a_shown_command_is_accepted(arguments: list[str]) -> None:
    """Parsed as when it is run, but not run. Placeholders such as N stand for a number."""
    placeholders = {"N": "3", "B": "0.3", "DB": "32", "S": "70", "X,Y,W,H": "0,0,8,8", "BPP": "0.3"}
    command: Any = typer.main.get_command(cli.app)
    rest = [placeholders.get(word, word) for word in arguments]
    while hasattr(command, "commands"):
        if not rest or rest[0] in ("--help", "--version", "-h"):
            return
        name, *rest = rest
        assert name in command.commands or name == "COMMAND", f"there is no command {name}"
        if name == "COMMAND":
            return
        command = command.commands[name]
    if "--help" in rest or "-h" in rest or not rest:
        return
    context = command.make_context(command.name, rest)
    assert context.params
