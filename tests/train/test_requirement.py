"""What needs torch says so in one line where torch is missing, and says what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command import vqcodec_in_process

import vqcodec
from vqcodec.errors import UsageError
from vqcodec.train.requirement import require_torch

COMMANDS = {
    "vqvae": ("data", "--run", "run", "--init", "photo", "--steps", "1"),
    "prior": ("data", "--run", "run", "--steps", "1"),
    "decoder": ("data", "--run", "run", "--steps", "1"),
    "postfilter": ("data", "--run", "run"),
    "export": ("--run", "run", "--out", "mine"),
}


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder to work in, and no torch, whether it is installed or not."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("command", COMMANDS)
def test_training_without_torch_is_one_clear_line(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = vqcodec_in_process(monkeypatch, "train", command, *COMMANDS[command])
    line = "vqcodec: error: vqcodec train needs torch: pip install 'vqcodec[train]'\n"
    assert (result.code, result.out, result.err) == (2, "", line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("command", COMMANDS)
def test_help_on_training_needs_no_torch(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = vqcodec_in_process(monkeypatch, "train", command, "--help")
    assert (result.code, result.err) == (0, "")
    assert "--run" in result.out


@pytest.mark.usefixtures("no_torch")
def test_the_torch_module_without_torch_is_a_clear_error() -> None:
    with pytest.raises(UsageError, match=r"^vqcodec.torch_model needs torch: pip install 'vqcodec\[train\]'$"):
        vqcodec.torch_model()


def test_nothing_is_raised_where_torch_is_installed() -> None:
    pytest.importorskip("torch")
    require_torch("this")
