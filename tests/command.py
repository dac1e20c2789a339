"""The command line in this process, through its real entry point, with streams of the test's own."""

from __future__ import annotations

import io
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from vqcodec.cli import main as cli


class Stream(io.TextIOWrapper):
    """A text stream over bytes that may pass for a terminal."""

    def __init__(self, data: bytes = b"", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8", write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def data(self) -> bytes:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


@dataclass(frozen=True)
class Result:
    code: int
    data: bytes  # standard output
    err: str

    @property
    def out(self) -> str:
        return self.data.decode()


def vqcodec_in_process(
    monkeypatch: pytest.MonkeyPatch, *args: str | Path, stdin: bytes = b"", terminal: bool = False
) -> Result:
    """Run `vqcodec ARGS`. terminal: whether standard input and output pass for one."""
    streams = Stream(stdin, terminal), Stream(terminal=terminal), Stream()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["vqcodec", *map(str, args)])
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as caught:
            cli.main()
        for number, handler in handlers.items():  # what the command installs is for its own process
            signal.signal(number, handler)
    code = caught.value.code
    err = streams[2].data.decode()
    assert "Traceback" not in err
    return Result(code if isinstance(code, int) else 0, streams[1].data, err)
