"""Terminal handling: clean shutdown on signals, a progress bar, and text that is safe to print."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Bar", "fill_closed_streams", "named", "print_error", "printable", "unwind_when_ended"]


class Bar:
    """A progress bar on standard error, removed when it stops. It is shown only if standard error is a terminal."""

    def __init__(self, shown: bool = True) -> None:
        self._progress: Progress | None = None
        if shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            # No redirection: rich would print on the terminal what belongs in a file or a pipe.
            self._progress = Progress(
                console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._task = self._progress.add_task("", total=1.0)

    def __enter__(self) -> Bar:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    def part(self, index: int, count: int) -> Callable[[float], None]:
        """The function to call with the fraction done, 0 to 1, of part `index` of `count` equal parts."""

        def update(fraction: float) -> None:
            if self._progress:
                self._progress.update(self._task, completed=(index + fraction) / count)

        return update

    def describe(self, text: str) -> None:
        """Show `text` before the bar."""
        if self._progress:
            self._progress.update(self._task, description=text)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the bar while something else is printed."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()


def unwind_when_ended() -> None:
    """Make SIGTERM and SIGHUP (closed terminal) unwind the stack as Ctrl-C does: temporary files are removed."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the removal of temporary files
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP: keep that
            signal.signal(number, end)


def fill_closed_streams() -> None:
    """Replace standard streams that are closed (`>&-`), so that using standard input or output is an error.

    Otherwise the next file to be opened would get the descriptor of the stream, and with it whatever a library prints.
    """
    for name, mode, flags in (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)  # wrong direction for stdin and stdout: their use fails with EBADF
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def named(name: str, text: str) -> str:
    """`text` on one line, with the file name in front unless it already begins with the name or the path."""
    name, text = printable(name), printable(text)
    head, colon, _ = text.partition(": ")
    known = text.startswith(name) or (colon and head.endswith(name))
    return text if known else f"{name}: {text}"


def print_error(text: str) -> None:
    """Print an error as one line on standard error."""
    print(f"vqcodec: error: {printable(text)}", file=sys.stderr)


def printable(text: str) -> str:
    """`text` on one line, with control characters escaped: file names may contain them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
