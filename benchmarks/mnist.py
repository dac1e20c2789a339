"""MNIST example: train a small VQ-VAE and a class-conditional prior, draw digits by label, and classify them.

    python benchmarks/mnist.py DATA/mnist --out RUN [--json FILE] [--figure PNG]

The digits of mnist.npz (28 x 28 pixels) are padded to 32 x 32 and written to a tar shard with a folder for each class.
Both training stages are the package's own, without its augmentation for photographs (rotation, colour). A small
classifier is trained separately. Its accuracy is measured on the test digits, on their reconstructions, and on samples,
which should be classified as the label that was asked for. An interrupted run can be resumed.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from vqcodec.codec.codec import Codec
from vqcodec.codec.sampling import Drawing, sample, sheet
from vqcodec.model.config import ModelConfig, PriorConfig, VQVAEConfig
from vqcodec.output import write_atomic
from vqcodec.picture.picture import grey_of
from vqcodec.picture.write import image_file
from vqcodec.train.loop import Schedule, Status
from vqcodec.train.project import Project

Samples = npt.NDArray[np.uint8]

SIDE = 32  # pixels; a multiple of the stride. MNIST has 28: two more at each edge
BATCH = 32
CLASSES = 10
SHOWN = 8  # samples of each class in the figure
CONFIG = ModelConfig(
    "mnist",
    VQVAEConfig("conv", 4, 64, 32, 2, 2, ((64, 32),), restart_dead_codes=True),
    PriorConfig(channels=64, blocks=6, head_channels=64, labels=CLASSES),
    unit=SIDE // 4,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that contains mnist.npz")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="training folder; the model is RUN/model"
    )
    parser.add_argument("--digits", type=int, default=30000, help="training digits for VQ-VAE and prior")
    parser.add_argument("--vqvae-steps", type=int, default=1500)
    parser.add_argument("--prior-steps", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=2, help="of the classifier, over the whole training set")
    parser.add_argument("--samples", type=int, default=100, help="number of samples of each class")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    settings = parser.parse_args()
    with np.load(settings.data / "mnist.npz") as found:
        images = {part: np.pad(found[f"{part}_images"], ((0, 0), (2, 2), (2, 2))) for part in ("train", "test")}
        labels = {part: found[f"{part}_labels"].astype(np.int64) for part in ("train", "test")}
    settings.out.mkdir(parents=True, exist_ok=True)
    shard = settings.out / "digits.tar"
    if not shard.exists():
        write_shard(shard, images["train"][: settings.digits], labels["train"])
    bits = train(settings.out, shard, settings.vqvae_steps, settings.prior_steps)
    classifier = train_classifier(images["train"], labels["train"], settings.epochs)

    model = Project(settings.out, [], print).export(settings.out / "model", "mnist")
    codec = Codec(model)
    drawn = [sample(codec, (SIDE, SIDE), Drawing(settings.samples, label=label)) for label in range(CLASSES)]
    hits = [accuracy(classifier, np.stack([grey_of(p.pixels) for p in row]), np.full(len(row), label))
            for label, row in enumerate(drawn)]  # fmt: skip
    figures = {
        "digits": settings.digits,
        "steps": [settings.vqvae_steps, settings.prior_steps],
        "bits per digit": bits,
        "accuracy": {
            "test digits": accuracy(classifier, images["test"], labels["test"]),
            "their reconstructions": accuracy(classifier, reconstructed(codec, images["test"]), labels["test"]),
            "samples": round(float(np.mean(hits)), 4),
            "samples of each label": hits,
        },
        "samples": CLASSES * settings.samples,
        "model bytes": model.size,
    }
    text = json.dumps(figures, indent=2) + "\n"
    print(text, end="")
    if settings.json:
        write_atomic(settings.json, text.encode(), force=True)
    if settings.figure:
        shown = sheet([picture for row in drawn for picture in row[:SHOWN]], SHOWN)
        grey = type(shown)(shown.pixels, "L")
        write_atomic(settings.figure, image_file(grey, "PNG"), force=True)


def write_shard(path: Path, images: Samples, labels: npt.NDArray[np.int64]) -> None:
    """Write digits [N, H, W] as PNG files to a tar shard, with a folder for each class."""
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for index, (image, label) in enumerate(zip(images, labels, strict=False)):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "PNG")
            member = tarfile.TarInfo(f"{label}/{index}.png")
            member.size = stream.tell()
            stream.seek(0)
            tar.addfile(member, stream)
    partial.rename(path)


def train(run: Path, shard: Path, vqvae_steps: int, prior_steps: int) -> dict[str, float]:
    """Train both stages. Returns the mean bits of a held-out digit, with and without its label."""

    def report(status: Status) -> None:
        figures = "  ".join(f"{name} {value:.4g}" for name, value in status.figures.items())
        print(f"{status.progress:4.0%}  {status.seconds:.0f} s  step {status.step}  {figures}", flush=True)

    project = Project(run, [shard], report, "none")
    project.train_vqvae(CONFIG, Schedule(steps=vqvae_steps, rate=2e-3), batch=BATCH, crop=SIDE)
    project.train_prior(Schedule(steps=prior_steps, rate=3e-3), batch=BATCH, crop=SIDE)
    with (run / "prior" / "log.csv").open(newline="") as file:
        last = {row["figure"]: float(row["value"]) for row in csv.DictReader(file)}
    positions = (SIDE // CONFIG.vqvae.stride) ** 2
    ways = {"label unknown": "val_exact_q1", "label known": "val_labelled_q1"}
    return {name: round(positions * last[figure], 1) for name, figure in ways.items()}


class Classifier(nn.Sequential):
    """Digits [B, 1, 32, 32] -> logits of the classes."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 24, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 16, CLASSES),
        )  # fmt: skip


def train_classifier(images: Samples, labels: npt.NDArray[np.int64], epochs: int) -> Classifier:
    """Train a classifier on digits [N, 32, 32], shifted at random by up to two pixels."""
    torch.manual_seed(0)
    classifier, batch = Classifier(), 100
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.Adam(classifier.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        if step % (steps // epochs) == 0:
            order = torch.randperm(len(images)).numpy()
            print(f"classifier: epoch {1 + step // (steps // epochs)} of {epochs}", flush=True)
        pick = order[step % (steps // epochs) * batch :][:batch]
        shift = tuple(torch.randint(-2, 3, (2,)).tolist())
        x = torch.roll(inputs(images[pick]), shift, (2, 3))
        loss = F.cross_entropy(classifier(x), torch.from_numpy(labels[pick]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


def inputs(images: Samples) -> Tensor:
    """Digits [N, H, W] -> [N, 1, H, W], 0 to 1."""
    return torch.from_numpy(images)[:, None].float() / 255


@torch.no_grad()
def accuracy(classifier: Classifier, images: Samples, labels: npt.NDArray[np.int64]) -> float:
    """The share of digits [N, H, W] that the classifier assigns to their labels."""
    predicted = [classifier(inputs(part)).argmax(1).numpy() for part in np.array_split(images, 1 + len(images) // 500)]
    return round(float((np.concatenate(predicted) == labels).mean()), 4)


def reconstructed(codec: Codec, images: Samples) -> Samples:
    """Encode digits [N, H, W] to codes and decode them: [N, H, W]."""
    network, parts = codec.network, []
    for part in np.array_split(images, 1 + len(images) // 100):
        y = network.to_pictures(network.to_codes(inputs(part).expand(-1, 3, -1, -1), 0), 0)
        parts.append((y.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.stack([grey_of(pixels) for pixels in np.concatenate(parts)])


if __name__ == "__main__":
    main()
