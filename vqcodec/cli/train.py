"""The commands `train vqvae`, `prior`, `decoder`, `postfilter` and `export`: from pictures to a finished model.

All stages of a run share the folder --run; `decoder` and `postfilter` are optional. A command that was stopped resumes
from its last checkpoint when it is repeated. Under torchrun (`torchrun --nproc-per-node N -m -- vqcodec train ...`)
several processes share the work of each step. All of them need torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vqcodec.cli.options import parse_qualities
from vqcodec.cli.terminal import Bar, printable
from vqcodec.errors import UsageError
from vqcodec.output import check_destination
from vqcodec.train.requirement import require_torch

if TYPE_CHECKING:
    from vqcodec.model.config import ModelConfig
    from vqcodec.train.loop import Status

__all__ = ["train"]

train = typer.Typer(
    name="train",
    help="Train a model. Stages, in order: vqvae, prior, optionally decoder and postfilter, then export.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Data = Annotated[list[Path], typer.Argument(metavar="DATA", help="Folders of pictures, or .tar shards of pictures.")]
Run = Annotated[
    Path, typer.Option("--run", metavar="FOLDER", help="Folder of the run: configuration, checkpoints, logs.")
]
Minutes = Annotated[float, typer.Option("--minutes", min=0, help="Training time; alternatively give --steps.")]
Steps = Annotated[int, typer.Option("--steps", min=0, help="Training steps; alternatively give --minutes.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Pictures per step, over all processes together.")]
Accumulate = Annotated[
    int,
    typer.Option(
        "--accumulate", metavar="N", min=1, help="Accumulate gradients over N parts: less memory, same result."
    ),
]
Start = Annotated[
    str | None,
    typer.Option("--init", metavar="MODEL", help="Finished model to start from. Default: the model in --run."),
]
Crops = Annotated[int, typer.Option("--crops", min=1, help="Number of crops to search codes for, over all qualities.")]
Crop = Annotated[int, typer.Option("--crop", min=1, help="Side of the square training crops, in pixels.")]
Rate = Annotated[float, typer.Option("--lr", min=0, help="Peak learning rate.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed.")]
AugmentBy = Annotated[
    Literal["photo", "none"],
    typer.Option("--augment", help="photo: flip, scale and recolour the crops; none: use them unchanged."),
]
Tensorboard = Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard event files to --run.")]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the finished model, created if needed.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace an existing model.")]


@train.command()
def vqvae(
    data: Data,
    run: Run,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="MODEL|JSON",
            help="Configuration: that of a model, or a file like a model's config.json.",
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--init", metavar="MODEL", help="Model to start from: its name or folder.")
    ] = None,
    minutes: Minutes = 0,
    steps: Steps = 0,
    batch: Batch = 8,
    crop: Crop = 192,
    rate: Rate = 3e-4,
    seed: Seed = 1,
    augment: AugmentBy = "photo",
    accumulate: Accumulate = 1,
    tensorboard: Tensorboard = False,
) -> None:
    """Train the encoder, the decoder and the codebooks. A new --run FOLDER needs --config or --init."""
    require_torch("vqcodec train")
    from vqcodec.model.store import model_folder
    from vqcodec.train.distributed import joined
    from vqcodec.train.loop import Schedule
    from vqcodec.train.project import Project

    schedule = Schedule(steps, minutes, rate, seed, accumulate)
    with joined() as processes, Bar(processes.first) as bar:
        project = Project(run, data, _reporter(bar, run / "vqvae" if tensorboard else None), augment)
        source = config or (start if not (run / "config.json").exists() else None)
        model = project.config() if source is None else _read_config(source)
        folder = None if start is None else model_folder(start)
        project.train_vqvae(model, schedule, batch, crop, folder)
    if processes.first:
        print(f"Done. Next: vqcodec train prior DATA --run {printable(str(run))}")


@train.command()
def prior(
    data: Data,
    run: Run,
    start: Annotated[
        str | None, typer.Option("--init", metavar="MODEL", help="Model whose prior to start from.")
    ] = None,
    minutes: Minutes = 0,
    steps: Steps = 0,
    batch: Batch = 10,
    crop: Crop = 256,
    rate: Rate = 3e-4,
    seed: Seed = 1,
    augment: AugmentBy = "photo",
    accumulate: Accumulate = 1,
    tensorboard: Tensorboard = False,
) -> None:
    """Train the prior on the codes of the encoder in --run FOLDER.

    A prior with labels needs one folder of pictures per class. Labels count from 0, in the order of the folder names.
    """
    require_torch("vqcodec train")
    from vqcodec.model.store import open_model
    from vqcodec.train.distributed import joined
    from vqcodec.train.loop import Schedule
    from vqcodec.train.project import Project

    schedule = Schedule(steps, minutes, rate, seed, accumulate)
    with joined() as processes, Bar(processes.first) as bar:
        report = _reporter(bar, run / "prior" if tensorboard else None)
        model = None if start is None else open_model(start)
        classes = Project(run, data, report, augment).train_prior(schedule, batch, crop, model)
    if not processes.first:
        return
    if classes:
        print("Labels:", printable("  ".join(f"{label} {name}" for label, name in enumerate(classes))))
    print(f"Done. Next: vqcodec train export --run {printable(str(run))} --out FOLDER")


@train.command()
def decoder(
    data: Data,
    run: Run,
    start: Start = None,
    crops: Crops = 4096,
    minutes: Minutes = 0,
    steps: Steps = 0,
    batch: Batch = 8,
    crop: Crop = 256,
    rate: Rate = 3e-4,
    seed: Seed = 1,
    augment: AugmentBy = "photo",
    accumulate: Accumulate = 1,
    tensorboard: Tensorboard = False,
) -> None:
    """Fine-tune the decoder of a finished model.

    It is trained on the codes that the encoder's search finds. Encoder, codebooks and prior stay unchanged.
    """
    require_torch("vqcodec train")
    from vqcodec.model.store import open_model
    from vqcodec.train.distributed import joined
    from vqcodec.train.loop import Schedule
    from vqcodec.train.project import Project

    schedule = Schedule(steps, minutes, rate, seed, accumulate)
    with joined() as processes, Bar(processes.first) as bar:
        report = _reporter(bar, run / "decoder" if tensorboard else None)
        model = None if start is None else open_model(start)
        bar.describe("codes")
        Project(run, data, report, augment).train_decoder(schedule, batch, crop, crops, model, bar.part(0, 1))
    if processes.first:
        print(f"Done. Next: vqcodec train export --run {printable(str(run))} --out FOLDER")


@train.command()
def postfilter(
    data: Data,
    run: Run,
    start: Start = None,
    kernels: Annotated[
        int, typer.Option("--kernels", min=1, help="Number of kernels; each file stores one weight per kernel.")
    ] = 16,
    crops: Crops = 4096,
    crop: Crop = 256,
    seed: Seed = 1,
    augment: AugmentBy = "photo",
) -> None:
    """Fit the kernels of a post-filter.

    Each file weights the kernels to suit its picture. The kernels are fitted to the decoder from `train decoder`, if
    there is one, on the same codes. The codes are searched if they do not exist yet.
    """
    require_torch("vqcodec train")
    from vqcodec.model.store import open_model
    from vqcodec.train.decoder import CodesToSearch
    from vqcodec.train.distributed import joined
    from vqcodec.train.project import Project

    with joined() as processes, Bar(processes.first) as bar:
        model = None if start is None else open_model(start)
        bar.describe("codes, filters")
        project = Project(run, data, _reporter(bar), augment)
        share = project.train_postfilter(kernels, CodesToSearch(crop, crops, seed), model, bar.part(0, 1))
    if processes.first:
        print(f"{kernels} kernels remove {share:.1%} of the squared error of these crops.")
        print(f"Done. Next: vqcodec train export --run {printable(str(run))} --out FOLDER")


@train.command()
def export(
    run: Run,
    out: Out,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the model. Default: the name of the --out folder.")
    ] = None,
    qualities: Annotated[
        str | None,
        typer.Option("--qualities", metavar="LIST", help="Export only these, such as 2-8; renumbered from 1."),
    ] = None,
    networks: Annotated[
        bool, typer.Option("--networks", help="Export without the prior, for --init of another run.")
    ] = False,
    force: Force = False,
) -> None:
    """Write the trained model to a folder.

    Every command then accepts that folder as --model.
    """
    require_torch("vqcodec train")
    from vqcodec.train.project import Project

    chosen = None if qualities is None else parse_qualities(qualities)
    if networks and chosen is not None:
        raise UsageError("--networks exports all qualities; drop --qualities")
    if os.path.isdir(out):
        check_destination(out / "config.json", force=force)
    with Bar() as bar:
        project = Project(run, [], _reporter(bar))
        if networks:
            project.export_networks(out)
            print(f"Next: vqcodec train vqvae DATA --run FOLDER --init {printable(str(out))}")
            return
        model = project.export(out, name or out.resolve().name, chosen)
    print(f"The model {printable(model.name)}: digest {model.digest.hex()}, {model.size / 1e6:.1f} MB.")
    print(f"Use it: vqcodec compress PICTURE --model {printable(str(out))}")


def _read_config(source: str) -> ModelConfig:
    """The configuration in a JSON file, or that of a bundled model or a model's folder. Raises `UsageError`."""
    from vqcodec.model.store import bundled, model_folder
    from vqcodec.train.project import read_config

    if source in bundled() or os.path.isdir(source):
        return read_config(model_folder(source) / "config.json")
    if not os.path.exists(source):
        raise UsageError(f"--config {source}: neither a file, nor a folder, nor one of {', '.join(bundled())}")
    return read_config(Path(source))


def _reporter(bar: Bar, events: Path | None = None) -> Callable[[Status], None]:
    """A function that updates the bar, and prints a line for each validation and each warning.

    `events`: the folder for TensorBoard event files; None writes none.
    """
    from vqcodec.train.events import Events

    write = None if events is None else Events(events)

    def report(status: Status) -> None:
        figures = "  ".join(f"{key} {value:.4g}" for key, value in status.figures.items())
        bar.describe(f"step {status.step}")
        bar.part(0, 1)(status.progress)
        if write:
            write(status)
        for warning in status.warnings:
            with bar.paused():
                print(f"vqcodec: warning: {printable(warning)}", file=sys.stderr, flush=True)
        if any(key.startswith("val_") for key in status.figures):
            with bar.paused():
                head = f"{status.progress:4.0%}  {status.seconds / 60:.1f} min  step {status.step}"
                print(f"{head}  {figures}", file=sys.stderr, flush=True)

    return report
