"""Likelihood benchmark: VQ-VAE, VAE, VIMCO, Glow and PixelCNN in bits per dimension on the same pictures.

    python -m benchmarks.likelihood --data FOLDER [FOLDER ...] [--models all] [--minutes 30] --out RUN [--json FILE]

Trains each model for the same time, evaluates it on test pictures, and writes RUN/table.md, RUN/results.json and
pictures. Interrupted trainings are resumed, and finished ones are not repeated. The folders contain CIFAR-10 or MNIST;
data.py describes the file formats.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.likelihood import codecs, table
from benchmarks.likelihood.data import Dataset, read
from benchmarks.likelihood.density import FULL, TINY, Budget, Report
from benchmarks.likelihood.evaluation import Figure, draw, evaluate
from benchmarks.likelihood.models import MODELS
from benchmarks.likelihood.table import BETA, Row
from benchmarks.likelihood.vae import VAE
from vqcodec.errors import UsageError, VqError
from vqcodec.output import write_atomic
from vqcodec.train.distributed import pick_device
from vqcodec.train.loop import Status

CODECS = "codecs"  # the name of the lossless codecs in --models


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark. Returns the exit code: 2 after a `VqError`, else 0."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.likelihood", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*MODELS, CODECS]
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--models", default="all", help=f"comma-separated list of {','.join(known)} (default: all)")
    parser.add_argument("--minutes", type=float, default=30.0, help="training time of each model (default: 30)")
    parser.add_argument("--steps", type=int, default=0, help="training steps, instead of --minutes")
    parser.add_argument("--beta", type=float, default=1.0, help="weight of the VAEs' KL term in training (default: 1)")
    parser.add_argument("--test", type=int, default=2000, help="use at most this many test pictures (default: 2000)")
    parser.add_argument("--tiny", action="store_true", help="small networks, for a quick test run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="checkpoints, pictures and results")
    parser.add_argument("--json", type=Path, help="results file into which the new results are merged")
    parser.add_argument("--page", type=Path, help="Markdown page into which the table of that file is inserted")
    settings = parser.parse_args(arguments)
    try:
        wanted = known if settings.models == "all" else settings.models.split(",")
        unknown = sorted(set(wanted) - set(known))
        if unknown:
            raise UsageError(f"there is no model {unknown[0]!r}; choose from {', '.join(known)}")
        if settings.test < 1 or settings.beta < 0:
            raise UsageError("--test must be at least 1, and --beta at least 0")
        rows: list[Row] = []
        for dataset in [read(folder) for folder in settings.data]:
            for name in wanted:
                rows += rows_of(name, dataset, settings)
                keep(rows, settings)
        for each in table.terminal(table.in_order(rows)):
            Console().print(each)
    except VqError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def rows_of(name: str, dataset: Dataset, settings: argparse.Namespace) -> list[Row]:
    """The rows of a model, or of all codecs. Empty if the model is not meant for these pictures."""
    count = min(settings.test, len(dataset.test))
    about = {"data": dataset.name, "part": dataset.part, "trained_on": dataset.counts[0], "tested_on": count}
    if name == CODECS:
        x, _ = dataset.test.first(count)
        figures = {form: codecs.bits_per_dim(form, x) for form in codecs.available()}
        return [
            Row(model=form, title=codecs.TITLES[form], bits={way: Figure(bits) for way, bits in ways.items()}, **about)
            for form, ways in figures.items()
        ]
    if not MODELS[name].suits(dataset):
        return []
    kind, title = MODELS[name].kind, MODELS[name].title
    if settings.beta != 1 and issubclass(kind, VAE):  # counts as a separate model
        name, title = f"{name}{BETA}{settings.beta:g}", f"{title}, β = {settings.beta:g}"
    folder = settings.out / dataset.name.lower() / name
    size, minutes = "tiny" if settings.tiny else "full", 0.0 if settings.steps else settings.minutes
    about |= {"model": name, "title": title, "size": size, "asked": [minutes, settings.steps]}
    for row in table.load(folder / "row.json"):
        if all(getattr(row, key) == value for key, value in about.items()):
            return [row]
    torch.manual_seed(settings.seed)
    model = kind(dataset, TINY if settings.tiny else FULL)
    if isinstance(model, VAE):
        model.beta = settings.beta
    steps, seconds = model.fit(dataset, folder, Budget(minutes, settings.steps, settings.seed), reporter(folder))
    row = Row(
        bits=evaluate(model, dataset, count),
        parameters=sum(each.numel() for each in model.parameters() if each.requires_grad),
        minutes=round(seconds / 60, 2),
        steps=steps,
        on=processor(),
        software=f"torch {torch.__version__}",
        **about,
    )
    draw(model, dataset, folder)
    table.save(folder / "row.json", [row])
    return [row]


def processor() -> str:
    """The name of the device that models are trained on."""
    device = pick_device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' * (threads != 1)}"


def reporter(folder: Path) -> Report:
    """A function that prints the progress of a training."""

    def report(status: Status) -> None:
        figures = "  ".join(f"{key} {value:.4g}" for key, value in status.figures.items())
        done = f"{status.progress:4.0%}  {status.seconds / 60:.1f} min  step {status.step}"
        print(f"{folder.parent.name} {folder.name}  {done}  {figures}", flush=True)

    return report


def keep(rows: list[Row], settings: argparse.Namespace) -> None:
    """Write the results so far, merged with those of earlier commands."""
    settings.out.mkdir(parents=True, exist_ok=True)
    here = settings.out / "results.json"
    for path in filter(None, (here, settings.json)):
        table.save(path, table.merged(table.load(path), rows))
    write_atomic(settings.out / "table.md", table.markdown(table.load(here)).encode(), force=True)
    if settings.page:
        all_rows = table.load(settings.json or here)
        page = table.in_page(settings.page.read_text(encoding="utf-8"), all_rows)
        write_atomic(settings.page, page.encode(), force=True)


if __name__ == "__main__":
    sys.exit(main())
