"""The command line of compress and decompress: many files, one after the other, in processes or on a cluster.

One that fails does not stop the others. What was done is a line each on standard output, or JSON in the end; a manifest
gets a line each as well, and what it says is done is left out.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from vqcodec.cli.options import Effort, Force, Json, MaxPixels, ModelName, Quality, parse_region, parse_size
from vqcodec.cli.terminal import Bar, named, printable
from vqcodec.codec.encode_options import EncodeOptions
from vqcodec.errors import UsageError, VqError
from vqcodec.files.batch import Where, outcomes
from vqcodec.files.manifest import Manifest
from vqcodec.files.outcome import Outcome
from vqcodec.files.plan import Job, check, plan
from vqcodec.files.work import Compressor, Decompressor, Record
from vqcodec.picture.metadata import Keep

__all__ = ["compress", "decompress"]

SALVAGED = 3  # the exit code

Out = Annotated[
    str | None,
    typer.Option("--out", "-o", metavar="OUT", help="File (one input) or folder; - is standard output."),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Also the folders below, mirrored under OUT; no links to folders.")
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", metavar="N", min=0, help="Processes; default 1. 0: one for each core."),
]
ManifestFile = Annotated[
    str | None,
    typer.Option("--manifest", metavar="FILE", help="Keep a line of JSON for each picture, and go on from there."),
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS|local", help="Work on a Ray cluster; all its nodes must see the files."),
]


def compress(
    inputs: Annotated[list[str], typer.Argument(metavar="IN", help="Pictures, a folder of them, or -.")],
    out: Out = None,
    quality: Quality = None,
    effort: Effort = None,
    target_bpp: Annotated[float | None, typer.Option("--target-bpp", help="At most so many bits per pixel.")] = None,
    target_size: Annotated[
        int | None, typer.Option("--target-size", metavar="BYTES", parser=parse_size, help="At most; 50000, 50k, 1.5M.")
    ] = None,
    target_psnr: Annotated[float | None, typer.Option("--target-psnr", help="At least so many dB.")] = None,
    keep_metadata: Annotated[
        bool, typer.Option("--keep-metadata", help="Keep EXIF, XMP and the colour profile, without the location.")
    ] = False,
    keep_location: Annotated[bool, typer.Option("--keep-location", help="Keep the location as well.")] = False,
    recursive: Recursive = False,
    jobs: Jobs = None,
    manifest: ManifestFile = None,
    ray: Ray = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compress pictures into .vq files.

    Without -o each result lies beside its input. For several inputs, or a folder, OUT is a folder, made if
    absent. A target is met within 2 % of the size, or 0.05 dB, by trying several encodings. The same command with
    the same --manifest does what is not done yet.
    """
    keep = Keep(keep_metadata, keep_location)
    options = EncodeOptions(quality, effort, target_bpp, target_size, target_psnr, keep)
    worker = Compressor(model, options, force, max_pixels)
    _do(worker, plan(inputs, out, ".vq", recursive), Where(jobs, ray), manifest, as_json)


def decompress(
    inputs: Annotated[list[str], typer.Argument(metavar="IN", help=".vq files, a folder of them, or -.")],
    out: Out = None,
    crop: Annotated[
        str | None, typer.Option("--crop", metavar="X,Y,W,H", help="Only these pixels of the picture; faster.")
    ] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Save what is left of damaged files; exit code 3 if any was.")
    ] = False,
    recursive: Recursive = False,
    jobs: Jobs = None,
    manifest: ManifestFile = None,
    ray: Ray = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decompress .vq files into pictures.

    They become PNG or, for one input, the format of OUT's suffix. Without -o each result lies beside its
    input. For several inputs, or a folder, OUT is a folder, made if absent. A file knows its model: --model
    is for one that did not come with vqcodec. The same command with the same --manifest does what is not done yet.
    """
    region = None if crop is None else parse_region(crop)
    worker = Decompressor(model, force, region, salvage, max_pixels)
    _do(worker, plan(inputs, out, ".png", recursive), Where(jobs, ray), manifest, as_json)


def _do(
    worker: Compressor | Decompressor, planned: Sequence[Job], where: Where, manifest: str | None, as_json: bool
) -> None:
    """Do all jobs that are not done yet; one that fails does not stop the others."""
    streams = any(job.source is None or job.target is None for job in planned)
    if streams and (manifest is not None or not where.alone):
        raise UsageError("--jobs, --manifest and --ray are for files, not for standard input or output")
    out: TextIO = sys.stderr if any(job.target is None for job in planned) else sys.stdout
    reporter = Reporter(None if as_json else out)
    with ExitStack() as stack:
        jobs, log = planned, None
        if manifest is not None:
            worker.open()
            log = stack.enter_context(Manifest(Path(manifest), worker.settings()))
            jobs = log.left(planned)
        refused: dict[int, VqError] = {}
        for index, job in enumerate(jobs):  # all of them, before any slow work
            try:
                check(job, worker.force, worker.bad_input)
            except VqError as error:
                refused[index] = error
        if log is None and len(refused) < len(jobs):
            worker.open()
        bar = stack.enter_context(Bar())
        if where.ray is not None:  # Ray would tell there, among the results, of workers that ended
            stack.enter_context(redirect_stdout(sys.stderr))
        found = stack.enter_context(closing(outcomes(worker, jobs, refused, where, bar.part)))
        for index, outcome in found:
            if log is not None:
                log.add(jobs[index], outcome)
            with bar.paused():
                reporter.report(index, jobs[index], outcome, as_json)
    if as_json:
        print(json.dumps([reporter.records[index] for index in sorted(reporter.records)], indent=2), file=out)
    if log is not None:
        counts = f"{reporter.done} done, {len(planned) - len(jobs)} skipped, {reporter.failures} failed"
        print(f"vqcodec: {manifest}: {counts}", file=sys.stderr)
    if reporter.failures:
        raise typer.Exit(1 if len(planned) > 1 else reporter.exit_code)
    if reporter.damaged:
        raise typer.Exit(SALVAGED)


class Reporter:
    """Says what became of the jobs, one after the other, and counts; keeps the records that are printed in the end."""

    def __init__(self, out: TextIO | None) -> None:
        self.out = out
        self.done = self.failures = self.exit_code = 0
        self.damaged = False
        self.records: dict[int, dict[str, Any]] = {}

    def report(self, index: int, job: Job, outcome: Outcome, keep: bool) -> None:
        if outcome.record is None:
            text = named(job.label, str(outcome.error))
            self.failures += 1
            self.exit_code = outcome.exit_code
            print(f"vqcodec: error: {printable(text)}", file=sys.stderr)
            record: dict[str, Any] = {"input": job.input, "output": job.output, "error": text}
        else:
            self.done += 1
            self.damaged = self.damaged or bool(outcome.record.damage)
            self._figures(job, outcome.record)
            record = dataclasses.asdict(outcome.record) if keep else {}
        if keep:
            self.records[index] = record

    def _figures(self, job: Job, record: Record) -> None:
        """Notices, and one line with the figures that matter most."""
        for notice in record.notices:
            print(f"vqcodec: note: {printable(named(job.label, notice))}", file=sys.stderr)
        for loss in record.damage:
            print(f"vqcodec: damaged: {printable(named(job.label, loss))}", file=sys.stderr)
        if self.out is not None:
            figures = f"{record.bytes:,} bytes  {record.bpp:.2f} bpp  {record.ratio:.1f}x  q{record.quality}"
            print(printable(f"{record.input} -> {record.output}  {figures}"), file=self.out, flush=True)
