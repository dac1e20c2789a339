"""What `compress` and `decompress` print: a line for each file, and in the end what holds for all of them.

In: the outcome of each job as it finishes. Out: results on standard output, or on standard error beside binary output;
notes, errors and the last line on standard error. The notices of several pictures are summed up when all are done.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vqcodec.cli.terminal import named, printable
from vqcodec.files.folders import not_taken
from vqcodec.files.outcome import Outcome
from vqcodec.files.plan import Job, Plan
from vqcodec.files.summary import Notices, Totals
from vqcodec.files.work import Record

__all__ = ["Reporter"]


class Reporter:
    """Prints the outcome of each job as it finishes, sums up the run, and collects records for --json.

    `out` is the stream of the results. Call `report` for each outcome within `started`, then `finish`.
    """

    def __init__(self, out: TextIO, planned: Plan, as_json: bool) -> None:
        self.out, self.planned, self.as_json = out, planned, as_json
        self.totals, self.notices = Totals(), Notices()
        self.exit_code = 0
        self.damaged = self.has_manifest = False
        self.records: dict[int, dict[str, Any]] = {}

    @contextmanager
    def started(self, left: int, manifest: str | None) -> Iterator[None]:
        """Within it, `left` jobs run. Notices are printed at its end; if it is interrupted, also how to go on."""
        self.has_manifest = manifest is not None
        self.totals.skipped = len(self.planned.jobs) - left
        try:
            yield
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
            self._print_notices()
            if self.planned.several:
                _print(f"interrupted; {self._advice()}")
            raise
        except BaseException:
            self._print_notices()
            raise
        self._print_notices()

    def report(self, index: int, job: Job, outcome: Outcome) -> None:
        """Print the outcome of a job, apart from its notices."""
        self.totals.add(outcome)
        if outcome.record is None:
            text = named(job.label, str(outcome.error))
            self.exit_code = outcome.exit_code
            _print(f"error: {text}")
            record: dict[str, Any] = {"input": job.input, "output": job.output, "error": text}
        else:
            self.damaged = self.damaged or bool(outcome.record.damage)
            self._print_result(job, outcome.record)
            record = outcome.record.to_json() if self.as_json else {}
        if self.as_json:
            self.records[index] = record

    def finish(self) -> None:
        """Print the records as JSON, the files that were not taken, and the last line."""
        if self.as_json:
            records = [self.records[index] for index in sorted(self.records)]
            print(json.dumps(records, indent=2), file=self.out, flush=True)
        if line := not_taken(self.planned.others):
            _print(line)
        if self.planned.several or self.has_manifest:
            _print(self.totals.line())

    def _print_result(self, job: Job, record: Record) -> None:
        """Print what was lost, and one line with the most important figures. Print or count the notices."""
        for notice in record.notices:
            if self.planned.several:
                self.notices.add(job, notice)
            else:
                _print(f"note: {named(job.label, notice)}")
        for loss in record.damage:
            _print(f"damaged: {named(job.label, loss)}")
        if not self.as_json:
            figures = f"{record.bytes:,} bytes  {record.bpp:.2f} bpp  {record.ratio:.1f}x  {_kind(record)}"
            if record.ssimulacra2 is not None:
                figures += f"  SSIMULACRA2 {record.ssimulacra2:.2f}"
            if record.psnr is not None:
                figures += f"  PSNR {record.psnr:.2f} dB" if math.isfinite(record.psnr) else "  exact"
            if record.output_bytes != record.bytes and not record.left_out:
                figures = f"{record.output_bytes:,} bytes  from {figures}"
            output = "left out" if record.left_out else record.output
            print(printable(f"{record.input} -> {output}  {figures}"), file=self.out, flush=True)

    def _print_notices(self) -> None:
        for name, text in self.notices.lines():
            _print(f"note: {named(name, text)}")

    def _advice(self) -> str:
        """How to go on with an interrupted run."""
        done = f"{self.totals.done + self.totals.skipped:,} of {len(self.planned.jobs):,} are done"
        if self.has_manifest:
            return f"{done}; the same command does the rest"
        return f"{done}; the same command with --skip-existing (and without --force) does the rest"


def _kind(record: Record) -> str:
    """The quality, and how much is stored without loss, as far as any is."""
    if record.stored == 1:
        return "lossless"
    return f"q{record.quality}" + (f"  {record.stored:.0%} stored" if record.stored else "")


def _print(text: str) -> None:
    print(f"vqcodec: {printable(text)}", file=sys.stderr, flush=True)
