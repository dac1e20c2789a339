"""The commands `compress` and `decompress`: many files, sequentially, in worker processes or on a Ray cluster.

In: files and folders. Out: files, and for each of them a line on standard output; with --json, one JSON array at the
end. A file that fails does not stop the others. With a manifest, each result is also recorded there, and files that
the manifest lists as done are skipped.
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

SALVAGED = 3  # exit code if parts of a damaged file were lost

Out = Annotated[
    str | None,
    typer.Option("--out", "-o", metavar="OUT", help="Output file (for one input) or folder; - is standard output."),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive", "-r", help="Include subfolders, mirrored under OUT. Links to folders are not followed."
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", metavar="N", min=0, help="Worker processes; default 1. 0: one per core."),
]
ManifestFile = Annotated[
    str | None,
    typer.Option(
        "--manifest", metavar="FILE", help="Record each result in FILE (JSON lines), and skip what it lists as done."
    ),
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS|local", help="Run on a Ray cluster; all nodes need access to the files."),
]


def compress(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN", help="Pictures, folders of pictures, or - for standard input.")
    ],
    out: Out = None,
    quality: Quality = None,
    effort: Effort = None,
    target_bpp: Annotated[
        float | None, typer.Option("--target-bpp", help="Best quality within this many bits per pixel.")
    ] = None,
    target_size: Annotated[
        int | None,
        typer.Option(
            "--target-size",
            metavar="BYTES",
            parser=parse_size,
            help="Best quality within this file size: 50000, 50k, 1.5M.",
        ),
    ] = None,
    target_psnr: Annotated[
        float | None, typer.Option("--target-psnr", help="Smallest file with at least this PSNR, in dB.")
    ] = None,
    keep_metadata: Annotated[
        bool, typer.Option("--keep-metadata", help="Keep EXIF, XMP and the colour profile, but not the GPS location.")
    ] = False,
    keep_location: Annotated[
        bool, typer.Option("--keep-location", help="With --keep-metadata: keep the GPS location too.")
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
    """Compress pictures to .vq files.

    Without -o, each result is written next to its input. For several inputs or a folder, OUT is a folder, created if
    needed. A target is met within 2 % of the size or 0.05 dB by trying several encodings; give only one of -q and the
    targets. To continue an interrupted run, repeat the command with the same --manifest.
    """
    keep = Keep(keep_metadata, keep_location)
    options = EncodeOptions(quality, effort, target_bpp, target_size, target_psnr, keep)
    worker = Compressor(model, options, force, max_pixels)
    _run_jobs(worker, plan(inputs, out, ".vq", recursive), Where(jobs, ray), manifest, as_json)


def decompress(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN", help=".vq files, folders of them, or - for standard input.")
    ],
    out: Out = None,
    crop: Annotated[
        str | None,
        typer.Option(
            "--crop", metavar="X,Y,W,H", help="Decode only this region: left, top, width and height in pixels."
        ),
    ] = None,
    salvage: Annotated[
        bool,
        typer.Option("--salvage", help="Decode what is intact of damaged files; exit code 3 if anything was lost."),
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
    """Decompress .vq files to pictures.

    The output is PNG; for a single input, the suffix of OUT selects the format. Without -o, each result is written
    next to its input. For several inputs or a folder, OUT is a folder, created if needed. The model is found from the
    file; --model is needed only for a model that is not installed. To continue an interrupted run, repeat the command
    with the same --manifest.
    """
    region = None if crop is None else parse_region(crop)
    worker = Decompressor(model, force, region, salvage, max_pixels)
    _run_jobs(worker, plan(inputs, out, ".png", recursive), Where(jobs, ray), manifest, as_json)


def _run_jobs(
    worker: Compressor | Decompressor, planned: Sequence[Job], where: Where, manifest: str | None, as_json: bool
) -> None:
    """Run all jobs that are not done yet, print the results and set the exit code.

    A job that fails does not stop the others. Raises `VqError` for what concerns all jobs, and `typer.Exit` at the
    end if any job failed or any file was damaged.
    """
    streams = any(job.source is None or job.target is None for job in planned)
    if streams and (manifest is not None or not where.alone):
        raise UsageError("--jobs, --manifest and --ray cannot be used with standard input or output")
    out: TextIO = sys.stderr if any(job.target is None for job in planned) else sys.stdout
    reporter = Reporter(None if as_json else out)
    with ExitStack() as stack:
        jobs, log = planned, None
        if manifest is not None:
            worker.open()
            log = stack.enter_context(Manifest(Path(manifest), worker.settings()))
            jobs = log.left(planned)
        refused: dict[int, VqError] = {}
        for index, job in enumerate(jobs):  # check all jobs before any slow work
            try:
                check(job, worker.force, worker.bad_input)
            except VqError as error:
                refused[index] = error
        if log is None and len(refused) < len(jobs):
            worker.open()
        bar = stack.enter_context(Bar())
        if where.ray is not None:  # Ray prints messages about dead workers there, among the results
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
    """Prints the outcome of each job as it finishes, counts outcomes, and collects records for --json."""

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
            self._print_result(job, outcome.record)
            record = dataclasses.asdict(outcome.record) if keep else {}
        if keep:
            self.records[index] = record

    def _print_result(self, job: Job, record: Record) -> None:
        """Print the notices of a job, and one line with its most important figures."""
        for notice in record.notices:
            print(f"vqcodec: note: {printable(named(job.label, notice))}", file=sys.stderr)
        for loss in record.damage:
            print(f"vqcodec: damaged: {printable(named(job.label, loss))}", file=sys.stderr)
        if self.out is not None:
            figures = f"{record.bytes:,} bytes  {record.bpp:.2f} bpp  {record.ratio:.1f}x  q{record.quality}"
            print(printable(f"{record.input} -> {record.output}  {figures}"), file=self.out, flush=True)
