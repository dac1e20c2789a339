"""docs/reference.md equals the output of --help, and completion in a shell works.

`PYTHONPATH=tests python tests/cli/test_reference.py` writes docs/reference.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from command import vqcodec_in_process

from vqcodec.cli import main as cli

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "reference.md"
needs_file = pytest.mark.skipif(not FILE.exists(), reason="docs/reference.md is not part of the installed package")
INTRODUCTION = f"""# All commands of vqcodec

The output of `vqcodec COMMAND --help` for every command. `PYTHONPATH=tests python tests/cli/test_reference.py` writes
this file (typer {typer.__version__}), and tests compare it with the commands.
"""


def helps(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, Any, str]]:
    """(name, command, help) of a command, then of its subcommands."""
    with command.make_context(name.split()[-1], [], parent, resilient_parsing=True) as context:
        context.terminal_width = context.max_content_width = 100
        yield name, command, command.get_help(context)
        for below, each in getattr(command, "commands", {}).items():
            yield from helps(each, f"{name} {below}", context)


HELPS = list(helps(typer.main.get_command(cli.app), "vqcodec"))
COMMANDS = {name: command for name, command, _ in HELPS}


def reference() -> str:
    return "\n".join([INTRODUCTION, *(f"## {name}\n\n```\n{text.strip()}\n```\n" for name, _, text in HELPS)])


def sections() -> dict[str, str]:
    """The text of docs/reference.md by heading."""
    parts = FILE.read_text(encoding="utf-8").split("\n## ")[1:]
    return dict(part.split("\n", 1) for part in parts)


def squeezed(text: str) -> str:
    """The text without whitespace and paragraph marks: line breaks may fall within hyphenated words."""
    return "".join(text.replace("\b", "").split())


@needs_file
def test_the_reference_equals_help() -> None:
    """Exactly, if the installed version of typer is the one that wrote the file."""
    found = FILE.read_text(encoding="utf-8")
    if INTRODUCTION in found:
        assert found == reference(), "run: PYTHONPATH=tests python tests/cli/test_reference.py"
    assert list(sections()) == list(COMMANDS), "run: PYTHONPATH=tests python tests/cli/test_reference.py"


@needs_file
@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_every_option_and_no_other(name: str) -> None:
    """With any version of typer: versions format types and line breaks differently."""
    text = sections()[name]
    expected = {option for p in COMMANDS[name].params for option in p.opts if option.startswith("-")}
    listed = text.partition("\nOptions:")[2].partition("\n\n")[0]
    assert set(re.findall(r"(?m)(?<=^  |, )(--?[\w-]+)", listed)) == expected | {"-h", "--help"}
    for described in (COMMANDS[name], *COMMANDS[name].params):
        assert squeezed(described.help or "") in squeezed(text)


@pytest.mark.parametrize(
    ("shell", "word"),
    [
        ("bash", "COMPREPLY"),
        ("zsh", "compdef"),
        ("fish", "complete --command"),
        ("powershell", "Register-ArgumentCompleter"),
    ],
)
def test_the_script_for_a_shell(monkeypatch: pytest.MonkeyPatch, shell: str, word: str) -> None:
    done = vqcodec_in_process(monkeypatch, "completion", shell)
    assert done.code == 0
    assert word in done.out
    assert "_VQCODEC_COMPLETE" in done.out
    assert vqcodec_in_process(monkeypatch, "completion", "csh").code == 2


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("vqcodec tok", {"tokenize"}),
        ("vqcodec tokenize --m", {"--model", "--max-pixels"}),
        ("vqcodec train pr", {"prior"}),
    ],
)
def test_completion_answers_a_shell(words: str, found: set[str]) -> None:
    variables = {"_VQCODEC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", "from vqcodec.cli.main import main; main()"],
        env=os.environ | variables | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert set(done.stdout.split()) == found


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8", newline="\n")
