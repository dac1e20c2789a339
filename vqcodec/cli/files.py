"""The commands `compress` and `decompress`: many files, sequentially, in worker processes or on a Ray cluster.

In: files and folders. Out: files, and for each of them a line on standard output; with --json, one JSON array at the
end. A file that fails does not stop the others. With a manifest, each result is also recorded there, and files that
the manifest lists as done are skipped. `reporter` prints what happened.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TextIO

import typer

from vqcodec.cli.options import Effort, Force, Json, MaxPixels, ModelName, Quality, Threads, parse_region, parse_size
from vqcodec.cli.reporter import Reporter
from vqcodec.cli.terminal import Bar
from vqcodec.codec.encode_options import EncodeOptions
from vqcodec.errors import UsageError, VqError
from vqcodec.files.batch import Where, outcomes
from vqcodec.files.manifest import Manifest
from vqcodec.files.plan import Naming, Plan, check, plan, without_existing
from vqcodec.files.work import Compressor, Decompressor
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
KeepSuffix = Annotated[
    bool, typer.Option("--keep-suffix", help="Add the suffix of the result instead of replacing the old one.")
]
KeepTimes = Annotated[bool, typer.Option("--keep-times", help="Give each result the modification time of its input.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Leave out inputs whose result exists already.")]


@dataclass(frozen=True)
class Run:
    """Where and how the jobs of a command run."""

    where: Where
    manifest: str | None
    skip_existing: bool
    as_json: bool


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
    target_ssimulacra2: Annotated[
        float | None,
        typer.Option(
            "--target-ssimulacra2",
            help="Smallest file with at least this SSIMULACRA2: 30 is low quality, 50 medium, 70 high, 90 visually "
            "lossless.",
        ),
    ] = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Store every pixel without loss, in the place of a quality.")
    ] = False,
    keep_metadata: Annotated[
        bool, typer.Option("--keep-metadata", help="Keep EXIF, XMP and the colour profile, but not the GPS location.")
    ] = False,
    keep_location: Annotated[
        bool, typer.Option("--keep-location", help="With --keep-metadata: keep the GPS location too.")
    ] = False,
    keep_hidden_colours: Annotated[
        bool, typer.Option("--keep-hidden-colours", help="Keep the colours where the picture is fully transparent.")
    ] = False,
    recursive: Recursive = False,
    keep_suffix: KeepSuffix = False,
    keep_times: KeepTimes = False,
    skip_existing: SkipExisting = False,
    skip_larger: Annotated[
        bool, typer.Option("--skip-larger", help="Write no .vq file that is larger than its input; a note says so.")
    ] = False,
    jobs: Jobs = None,
    manifest: ManifestFile = None,
    ray: Ray = None,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compress pictures to .vq files.

    Without -o, each result is written next to its input. For several inputs or a folder, OUT is a folder, created if
    needed. Parts of a picture that codes cannot hold for their bits, such as text and drawings, are stored without
    loss; with --lossless all of it is. A target is met within 2 % of the size, 0.05 dB or 0.5 points of SSIMULACRA2 by
    trying several encodings; give only one of -q, --lossless and the targets. A picture whose largest file is smaller
    than the size, or whose smallest file is better than the PSNR or the SSIMULACRA2, gets that file, with a note. To
    continue an interrupted run, repeat the command with --skip-existing, or with the same --manifest.
    """
    keep = Keep(keep_metadata, keep_location, keep_hidden_colours)
    targets = (target_bpp, target_size, target_psnr, target_ssimulacra2)
    options = EncodeOptions(quality, effort, *targets, keep, lossless)
    worker = Compressor(model, options, force, max_pixels, skip_larger)
    planned = plan(inputs, out, Naming(".vq", recursive, keep_suffix, keep_times))
    if skip_larger and any(job.source is None or job.target is None for job in planned.jobs):
        raise UsageError("--skip-larger cannot be used with standard input or output")
    _run_jobs(worker, planned, Run(Where(jobs, ray), manifest, skip_existing, as_json))


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
    keep_suffix: KeepSuffix = False,
    keep_times: KeepTimes = False,
    skip_existing: SkipExisting = False,
    jobs: Jobs = None,
    manifest: ManifestFile = None,
    ray: Ray = None,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    model: ModelName = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decompress .vq files to pictures.

    The output is PNG; for a single input, the suffix of OUT selects the format. Without -o, each result is written
    next to its input. For several inputs or a folder, OUT is a folder, created if needed. The model is found from the
    file; --model is needed only for a model that is not installed. To continue an interrupted run, repeat the command
    with --skip-existing, or with the same --manifest.
    """
    region = None if crop is None else parse_region(crop)
    worker = Decompressor(model, force, region, salvage, max_pixels)
    planned = plan(inputs, out, Naming(".png", recursive, keep_suffix, keep_times))
    _run_jobs(worker, planned, Run(Where(jobs, ray), manifest, skip_existing, as_json))


def _run_jobs(worker: Compressor | Decompressor, planned: Plan, run: Run) -> None:
    """Run all jobs that are not done yet, print the results and set the exit code.

    A job that fails does not stop the others. Raises `VqError` for what concerns all jobs, and `typer.Exit` at the
    end if any job failed or any file was damaged.
    """
    streams = any(job.source is None or job.target is None for job in planned.jobs)
    if streams and (run.manifest is not None or not run.where.alone):
        raise UsageError("--jobs, --manifest and --ray cannot be used with standard input or output")
    if worker.force and run.skip_existing:
        raise UsageError("--force replaces existing files and --skip-existing leaves them; give one of both")
    out: TextIO = sys.stderr if any(job.target is None for job in planned.jobs) else sys.stdout
    reporter = Reporter(out, planned, run.as_json)
    with ExitStack() as stack:
        jobs, log = list(planned.jobs), None
        if run.manifest is not None:
            worker.open()
            log = stack.enter_context(Manifest(Path(run.manifest), worker.settings()))
            jobs = log.left(jobs)
        if run.skip_existing:
            jobs = without_existing(jobs)
        refused: dict[int, VqError] = {}
        for index, job in enumerate(jobs):  # check all jobs before any slow work
            try:
                check(job, worker.force, worker.bad_input)
            except VqError as error:
                refused[index] = error
        if log is None and len(refused) < len(jobs):
            worker.open()
        stack.enter_context(reporter.started(len(jobs), run.manifest))
        bar = stack.enter_context(Bar())
        if run.where.ray is not None:  # Ray prints messages about dead workers there, among the results
            stack.enter_context(redirect_stdout(sys.stderr))
        found = stack.enter_context(closing(outcomes(worker, jobs, refused, run.where, bar.part)))
        for index, outcome in found:
            if log is not None:
                log.add(jobs[index], outcome)
            with bar.paused():
                reporter.report(index, jobs[index], outcome)
    reporter.finish()
    if reporter.totals.failed:
        raise typer.Exit(1 if len(planned.jobs) > 1 else reporter.exit_code)
    if reporter.damaged:
        raise typer.Exit(SALVAGED)
