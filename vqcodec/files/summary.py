"""The outcomes of a run -> a few lines about all of them: notices by kind, counts, bytes, mean SSIMULACRA2 and PSNR.

In: the outcome of each job as it finishes. Out: lines of text. Notices are of one kind if they differ in numbers only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from vqcodec.files.outcome import Outcome
from vqcodec.files.plan import Job

__all__ = ["Notices", "Totals"]

_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?")


@dataclass
class _Kind:
    """Notices of one kind."""

    label: str  # of the first picture
    text: str  # of its notice
    count: int = 0  # pictures
    alike: bool = True  # whether all notices have the same text


class Notices:
    """Notices of several pictures, counted by kind."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def add(self, job: Job, notice: str) -> None:
        """Count a notice of one picture."""
        name = _NUMBER.sub("0", notice.replace(job.output, "").replace(job.label, ""))
        kind = self._kinds.setdefault(name, _Kind(job.label, notice))
        kind.count += 1
        kind.alike = kind.alike and kind.text == notice

    def lines(self) -> list[tuple[str, str]]:
        """For each kind the name of the picture, or the number of pictures, and the text."""
        return [self._line(kind) for kind in self._kinds.values()]

    def _line(self, kind: _Kind) -> tuple[str, str]:
        if kind.count == 1:
            return kind.label, kind.text
        alike = "" if kind.alike else ", or with other figures"
        return f"{kind.count:,} pictures", f"{kind.text}{alike} (the first: {kind.label})"


@dataclass
class Totals:
    """Counts and sums over the outcomes of a run."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    left_out: int = 0  # not written, because they are larger than their inputs
    before: int = 0  # bytes of the inputs
    after: int = 0  # bytes of the outputs
    measured: int = 0  # pictures with a finite PSNR
    psnr: float = 0.0  # dB, the sum over those pictures
    scored: int = 0  # pictures for which SSIMULACRA2 was the target
    ssimulacra2: float = 0.0  # the sum over those pictures

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        if outcome.record is None:
            self.failed += 1
            return
        if outcome.record.left_out:
            self.left_out += 1
            return
        self.done += 1
        if outcome.seen is not None and outcome.seen[0]:  # not of a pipe
            self.before += outcome.seen[0]
            self.after += outcome.record.output_bytes
        if outcome.record.psnr is not None and isfinite(outcome.record.psnr):
            self.measured += 1
            self.psnr += outcome.record.psnr
        if outcome.record.ssimulacra2 is not None:
            self.scored += 1
            self.ssimulacra2 += outcome.record.ssimulacra2

    def line(self) -> str:
        """One line, such as "14 done, 0 skipped, 2 failed; 4,500,000 -> 300,000 bytes (15.0x smaller)"."""
        counts = f"{self.done:,} done, {self.skipped:,} skipped, {self.failed:,} failed"
        if self.left_out:
            counts += f", {self.left_out:,} left out as larger"
        if not (self.before and self.after):
            return counts
        smaller = self.after <= self.before
        ratio = self.before / self.after if smaller else self.after / self.before
        sizes = f"{self.before:,} -> {self.after:,} bytes ({ratio:.1f}x {'smaller' if smaller else 'larger'})"
        scores = f", mean SSIMULACRA2 {self.ssimulacra2 / self.scored:.2f}" if self.scored else ""
        mean = f", mean PSNR {self.psnr / self.measured:.2f} dB" if self.measured else ""
        return f"{counts}; {sizes}{scores}{mean}"
