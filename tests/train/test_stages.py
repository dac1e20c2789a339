"""Stages one and two of training on a few synthetic pictures: they learn, resume, and export a model."""

from __future__ import annotations

import csv
import dataclasses
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CONV, FINE, PATCH, synthetic
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from training import Interrupted, silent, stop_at

from vqcodec.codec.codec import Codec
from vqcodec.errors import ModelError, UsageError
from vqcodec.model.config import ModelConfig
from vqcodec.model.store import open_model
from vqcodec.picture.metrics import psnr
from vqcodec.picture.picture import Picture
from vqcodec.train import data as data_module
from vqcodec.train import loop
from vqcodec.train import vqvae as vqvae_module
from vqcodec.train.data import Pictures, load_pictures
from vqcodec.train.distributed import Part
from vqcodec.train.loop import Schedule, Status
from vqcodec.train.networks import codebooks
from vqcodec.train.networks.distortion import STRUCTURE, ms_ssim
from vqcodec.train.networks.precision import autocast
from vqcodec.train.networks.vqvae import VQVAE
from vqcodec.train.networks.weights import open_network
from vqcodec.train.prior import PriorStage, PriorTraining
from vqcodec.train.project import Project, read_config

CROP = 32


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder with pictures at two levels, and a tar shard; both also contain other files."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "pictures" / "below").mkdir(parents=True)
    for seed in range(8):
        place = folder / "pictures" / ("below" if seed % 2 else "")
        (place / f"p{seed}.png").write_bytes(png(synthetic(48, 60, seed)))
    (folder / "pictures" / "notes.txt").write_text("no picture")
    (folder / "pictures" / "small.png").write_bytes(png(synthetic(20, 90)))
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for name, content in [
            *((f"shot{n}_0_{n}.png", png(synthetic(40, 40, 100 + n))) for n in range(6)),
            ("labels.json", b"{}"),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return [folder / "pictures", folder / "shard.tar"]


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports and checkpoints at every step."""
    monkeypatch.setattr(loop, "REPORT_SECONDS", -1.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)


def weights(run: Path, stage: str) -> dict[str, Tensor]:
    return load_file(run / stage / "checkpoint.safetensors")


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    assert set(a) == set(b)
    return sorted(name for name in a if not torch.equal(a[name], b[name]))


def train_vqvae(
    folder: Path,
    data: list[Path],
    config: ModelConfig = CONV,
    steps: int = 6,
    report: Callable[[Status], None] = silent,
) -> Project:
    project = Project(folder, data, report)
    project.train_vqvae(config, Schedule(steps=steps, rate=3e-3), batch=4, crop=CROP)
    return project


@pytest.fixture(scope="module", params=[CONV, PATCH], ids=lambda config: config.name)
def trained(request: pytest.FixtureRequest, data: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two finished stages and every step in its log."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "REPORT_SECONDS", -1.0)
        project = train_vqvae(folder, data, request.param, steps=60)
        project.train_prior(Schedule(steps=60, rate=1e-2), batch=6, crop=CROP)
    return folder


def logged(run: Path, stage: str, figure: str) -> list[float]:
    with (run / stage / "log.csv").open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["figure"] == figure]


@pytest.mark.parametrize("config", [CONV, PATCH], ids=lambda config: config.name)
def test_the_loss_of_the_autoencoder_falls(tmp_path: Path, data: list[Path], config: ModelConfig) -> None:
    training, validation = load_pictures(data, CROP)
    settings = vqvae_module.VQVAETraining(config.vqvae, Schedule(steps=100, rate=2e-2), batch=4, crop=CROP)
    torch.manual_seed(0)
    stage = vqvae_module.VQVAEStage(settings, training, validation)

    def loss() -> float:
        """On the same crops each time, without learning."""
        stage.network.eval()
        with torch.no_grad():
            return float(np.mean([stage.loss(step, 0.0)[0].item() for step in range(1000, 1012)]))

    before = loss()
    loop.run(stage, tmp_path, settings.schedule, silent)
    assert loss() < 0.98 * before


def test_the_bits_of_the_prior_fall(trained: Path) -> None:
    bits = logged(trained, "prior", "bits")
    assert len(bits) == 60
    assert np.mean(bits[-20:]) < np.mean(bits[:20])
    assert len(logged(trained, "vqvae", "loss")) == 60


def test_validation_is_logged_for_every_quality(trained: Path) -> None:
    qualities = Project(trained, [], silent).config().vqvae.qualities
    for quality in range(1, qualities + 1):
        assert 5 < logged(trained, "vqvae", f"val_psnr_q{quality}")[-1] < 60
        assert 0 < logged(trained, "vqvae", f"val_bpp_q{quality}")[-1] < 24
        floats = logged(trained, "prior", f"val_float_q{quality}")[-1]
        exact = logged(trained, "prior", f"val_exact_q{quality}")[-1]
        assert exact == pytest.approx(floats, rel=0.1)


@pytest.mark.usefixtures("codes_only")
def test_the_export_is_a_model_that_codes_pictures(trained: Path, tmp_path: Path) -> None:
    project = Project(trained, [], silent)
    model = project.export(tmp_path / "out", "mine")
    assert open_model(tmp_path / "out").digest == model.digest
    assert (model.name, model.config.vqvae) == ("mine", project.config().vqvae)
    assert project.export(tmp_path / "again").name == project.config().name
    codec, pixels = Codec(model), synthetic(50, 70, 3)
    for quality in range(1, model.config.vqvae.qualities + 1):
        data = codec.compress(Picture(pixels, "RGB"), quality)
        assert len(data) < pixels.size / 20
        assert psnr(codec.decompress(data).pixels, pixels) > 10


def test_the_export_has_the_trained_weights(trained: Path, tmp_path: Path) -> None:
    project = Project(trained, [], silent)
    shipped = open_network(project.export(tmp_path / "out")).state_dict()
    network = project.network().state_dict()
    assert all(torch.equal(network[name], tensor) for name, tensor in shipped.items() if "sums" not in name)


@pytest.mark.usefixtures("codes_only")
def test_rarely_used_codes_are_pruned_before_the_prior_is_trained(tmp_path: Path, data: list[Path]) -> None:
    project = train_vqvae(tmp_path, data, PATCH, steps=1)
    uses = {"counts1": [0.0, 0, 0, 5, 0, 0], "counts2": [1e-9, 3, 0, 1, 0, 9] + [0.0] * 10}

    def use(key: str, value: Tensor) -> tuple[str, Tensor]:
        name = key.removeprefix("network.quantizer.")
        if name in uses:
            value[0] = torch.tensor(uses[name])
        return key, value

    rewritten(tmp_path / "vqvae" / "checkpoint.safetensors", use)
    project.train_prior(Schedule(steps=2), batch=2, crop=CROP)
    model = project.export(tmp_path / "out")
    tensors = load_file(model.path / "prior.safetensors")
    assert [len(tensors[f"codes.{g}.0.embedding"]) for g in (1, 2)] == [1, 3]
    assert model.prior(0).constant(1)
    assert not model.prior(1).constant(1)
    codec, pixels = Codec(model), synthetic(50, 70, 3)
    codes = codec.to_codes(pixels, 1)
    assert codes[1].max() == 0
    assert codes[2].max() <= 2
    back = codec.decompress(codec.compress(Picture(pixels, "RGB"), 1)).pixels
    assert np.array_equal(back, codec.render(codes, 1, (50, 70), "RGB"))


# Resuming.


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("case", ["conv", "patch", "gradient"])
def test_an_interrupted_run_gives_the_same_result(tmp_path: Path, data: list[Path], case: str) -> None:
    config = {
        "conv": CONV,
        "patch": PATCH,
        "gradient": dataclasses.replace(CONV, vqvae=dataclasses.replace(CONV.vqvae, codebook_learning="gradient")),
    }[case]
    seen: list[int] = []
    torch.manual_seed(0)
    train_vqvae(tmp_path / "whole", data, config)
    torch.manual_seed(0)
    with pytest.raises(Interrupted):
        train_vqvae(tmp_path / "parts", data, config, report=stop_at(3))
    torch.manual_seed(1)
    train_vqvae(tmp_path / "parts", data, config, report=lambda status: seen.append(status.step))
    assert seen == [4, 5, 6]
    assert differing(weights(tmp_path / "whole", "vqvae"), weights(tmp_path / "parts", "vqvae")) == []


@pytest.mark.usefixtures("every_step")
def test_codebooks_whose_price_of_a_bit_rises_are_initialised_again(tmp_path: Path, data: list[Path]) -> None:
    def priced(*shares: float) -> ModelConfig:
        return dataclasses.replace(FINE, vqvae=dataclasses.replace(FINE.vqvae, rate_shares=(shares,) * 3))

    def codes(run: Path, g: int, quality: int) -> Tensor:
        tensors = weights(run, "vqvae")
        return tensors[f"network.quantizer.vectors{g}"][quality][
            tensors[f"network.quantizer.counts{g}"][quality] > 0
        ].sort(0)[0]

    before, after = tmp_path / "before", tmp_path / "after"
    project = Project(before, data, silent)
    project.train_vqvae(priced(0.25, 0.5, 1, 1, 1), Schedule(steps=1), 4, CROP)
    project.export_networks(tmp_path / "networks")
    Project(after, data, silent).train_vqvae(
        priced(1, 0.04, 1, 1, 1), Schedule(steps=1), 4, CROP, tmp_path / "networks"
    )
    assert len(codes(after, 0, 0)) < 0.6 * len(codes(before, 0, 0))  # twice as far apart
    for quality in range(3):
        kept, now = codes(before, 1, quality), codes(after, 1, quality)
        gaps = torch.cdist(kept, now).amin(1)
        assert gaps.max() < 0.1 * kept.diff(dim=0).median()


@pytest.mark.usefixtures("every_step")
def test_restarts_of_dead_codes_resume_too(tmp_path: Path, data: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may depend only on the weights and its number, so random numbers must follow from the number."""
    monkeypatch.setattr(codebooks, "DECAY", 0.5)  # codes die fast
    vqvae = dataclasses.replace(CONV.vqvae, codebooks=((256, 6),), restart_dead_codes=True)
    config = dataclasses.replace(CONV, vqvae=vqvae)
    torch.manual_seed(0)
    train_vqvae(tmp_path / "whole", data, config, steps=12)
    torch.manual_seed(0)
    with pytest.raises(Interrupted):
        train_vqvae(tmp_path / "parts", data, config, steps=12, report=stop_at(4))
    train_vqvae(tmp_path / "parts", data, config, steps=12)
    assert differing(weights(tmp_path / "whole", "vqvae"), weights(tmp_path / "parts", "vqvae")) == []


@pytest.mark.parametrize("stage", ["vqvae", "prior"])
def test_the_seed_decides_everything(tmp_path: Path, data: list[Path], stage: str) -> None:
    runs = []
    for n in range(2):
        torch.manual_seed(n)  # the state of the generator must not matter
        project = train_vqvae(tmp_path / f"{n}", data, steps=2)
        if stage == "prior":
            checkpoint = Path("vqvae") / "checkpoint.safetensors"
            (tmp_path / "1" / checkpoint).write_bytes((tmp_path / "0" / checkpoint).read_bytes()) if n else None
            torch.manual_seed(n)
            project.train_prior(Schedule(steps=2), batch=2, crop=CROP)
        runs.append(weights(tmp_path / f"{n}", stage))
    assert differing(*runs) == []


@pytest.mark.usefixtures("every_step")
def test_an_interrupted_prior_gives_the_same_result(tmp_path: Path, data: list[Path]) -> None:
    train_vqvae(tmp_path / "whole", data, PATCH, steps=2)
    schedule = Schedule(steps=8, rate=1e-3)
    for path in ("config.json", "vqvae/checkpoint.safetensors"):
        target = tmp_path / "parts" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((tmp_path / "whole" / path).read_bytes())
    Project(tmp_path / "whole", data, silent).train_prior(schedule, 3, CROP)
    with pytest.raises(Interrupted):
        Project(tmp_path / "parts", data, stop_at(3)).train_prior(schedule, 3, CROP)
    Project(tmp_path / "parts", data, silent).train_prior(schedule, 3, CROP)
    assert differing(weights(tmp_path / "whole", "prior"), weights(tmp_path / "parts", "prior")) == []


def test_a_finished_run_is_not_changed(tmp_path: Path, data: list[Path]) -> None:
    train_vqvae(tmp_path, data, steps=3)
    before = (tmp_path / "vqvae" / "checkpoint.safetensors").read_bytes()
    told: list[Status] = []
    train_vqvae(tmp_path, data, steps=3, report=told.append)
    assert (tmp_path / "vqvae" / "checkpoint.safetensors").read_bytes() == before
    assert told == []


def test_a_longer_schedule_goes_on(tmp_path: Path, data: list[Path]) -> None:
    train_vqvae(tmp_path, data, steps=2)
    before = weights(tmp_path, "vqvae")
    told: list[Status] = []
    train_vqvae(tmp_path, data, steps=4, report=told.append)
    assert told[-1].step == 4
    assert differing(before, weights(tmp_path, "vqvae"))


def test_a_kill_while_saving_leaves_the_old_checkpoint(
    tmp_path: Path, data: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_vqvae(tmp_path, data, steps=2)
    before = (tmp_path / "vqvae" / "checkpoint.safetensors").read_bytes()

    def killed(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        Path(path).write_bytes(b"half of it")
        raise Interrupted

    monkeypatch.setattr(loop, "save_file", killed)
    with pytest.raises(Interrupted):
        train_vqvae(tmp_path, data, steps=4)
    assert (tmp_path / "vqvae" / "checkpoint.safetensors").read_bytes() == before


# Errors.


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x02" + bytes(7) + b"{}"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, data: list[Path], content: bytes) -> None:
    train_vqvae(tmp_path, data, steps=1)
    (tmp_path / "vqvae" / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(UsageError, match="does not fit this run"):
        train_vqvae(tmp_path, data, steps=2)
    with pytest.raises(ModelError, match="does not fit"):
        Project(tmp_path, data, silent).network()


def rewritten(path: Path, change: Callable[[str, Tensor], tuple[str, Tensor]]) -> None:
    """Rewrite a checkpoint, entry by entry."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(dict(change(*entry) for entry in load_file(path).items()), path, metadata)


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path: Path, data: list[Path]) -> None:
    train_vqvae(tmp_path, data, steps=1)
    path = tmp_path / "vqvae" / "checkpoint.safetensors"
    rewritten(path, lambda key, value: (key, value + 0))
    train_vqvae(tmp_path, data, steps=2)
    rewritten(path, lambda key, value: (key.replace("optimizer.", "adam."), value))
    with pytest.raises(UsageError, match="does not fit this run"):
        train_vqvae(tmp_path, data, steps=3)


def test_another_configuration_is_refused(tmp_path: Path, data: list[Path]) -> None:
    train_vqvae(tmp_path, data, CONV, steps=1)
    with pytest.raises(UsageError, match="another model"):
        train_vqvae(tmp_path, data, PATCH, steps=1)


def test_stages_in_the_wrong_order_are_refused(tmp_path: Path, data: list[Path]) -> None:
    project = Project(tmp_path, data, silent)
    with pytest.raises(UsageError, match="no training run"):
        project.train_prior(Schedule(steps=1), 1, CROP)
    train_vqvae(tmp_path, data, steps=1)
    with pytest.raises(UsageError, match="train that stage first"):
        project.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tiny_crops_are_refused(tmp_path: Path, data: list[Path]) -> None:
    with pytest.raises(UsageError, match="32 pixels"):
        Project(tmp_path, data, silent).train_vqvae(PATCH, Schedule(steps=1), 1, 31)


@pytest.mark.parametrize("fields", [{}, {"steps": 5, "minutes": 1.0}, {"steps": -1}, {"minutes": -1.0}])
def test_a_schedule_has_either_steps_or_minutes(fields: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Schedule(**fields)  # type: ignore[arg-type]


def test_configurations_come_from_files(tmp_path: Path, conv_model: object) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_config(tmp_path / "none.json")
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe")
    with pytest.raises((UsageError, ModelError)):
        read_config(tmp_path / "bad.json")
    assert read_config(conv_model.path / "config.json") == CONV  # type: ignore[attr-defined]


# The schedule and the loop.


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = Schedule(steps=1000, rate=1.0)
    rates = [schedule.learning_rate(step / 1000) for step in range(1001)]
    peak = int(np.argmax(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert (max(rates), peak) == (pytest.approx(1.0), 20)
    assert 0 < rates[-1] < 0.05
    assert 0 < rates[0] < 0.1


def test_a_run_by_minutes_ends_by_time_and_counts_earlier_runs() -> None:
    schedule = Schedule(minutes=2.0)
    assert schedule.progress(10**6, 60.0) == 0.5
    assert schedule.progress(0, 500.0) == 1.0


def test_the_gradient_is_clipped(tmp_path: Path) -> None:
    class Steep(loop.Stage):
        network = nn.Linear(1, 1)
        hidden = ()
        norms: list[float] = []  # noqa: RUF012

        def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
            loss = 1e6 * self.network.weight.sum()
            return loss, {"loss": loss.item()}

        def validate(self) -> dict[str, float]:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            self.norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
            return {}

    stage = Steep()
    loop.run(stage, tmp_path, Schedule(steps=1), silent)
    assert stage.norms == [pytest.approx(loop.CLIP, rel=1e-3)]


def test_the_loss_of_the_paper(tmp_path: Path, data: list[Path]) -> None:
    """Reconstruction over variance, plus codebook and beta * commitment per latent channel."""
    vqvae = dataclasses.replace(CONV.vqvae, codebook_learning="gradient")
    training, validation = load_pictures(data, CROP)
    settings = vqvae_module.VQVAETraining(vqvae, Schedule(steps=1), batch=3, crop=CROP)
    torch.manual_seed(0)
    stage = vqvae_module.VQVAEStage(settings, training, validation)
    loss, _ = stage.loss(0, 0.0)
    x = training.crops(3, CROP, [1, 1]).float() / 255
    with torch.no_grad(), autocast(stage.device):
        output = stage.network(x, torch.zeros(3, dtype=torch.long))
    quantized = output.quantized
    reconstruction = (output.reconstruction - x).square().mean() / stage.variance
    latent = (quantized.codebook_loss + 0.25 * quantized.commitment_loss).mean() / vqvae.latent_dim
    assert loss.item() == pytest.approx((reconstruction + latent).item(), rel=1e-4)


def test_the_loss_with_structure(tmp_path: Path, data: list[Path]) -> None:
    """At the quality with a structural term the loss is mixed; at the other one it is the squared error."""
    mixed = dataclasses.replace(PATCH.vqvae, structure=(0.0, 0.75), commitment=0.0)
    training, validation = load_pictures(data, CROP)
    losses = []
    for config in (mixed, dataclasses.replace(mixed, structure=())):
        settings = vqvae_module.VQVAETraining(config, Schedule(steps=1), batch=4, crop=CROP)
        torch.manual_seed(0)
        stage = vqvae_module.VQVAEStage(settings, training, validation)
        stage.network.eval()
        losses.append(stage.loss(0, 0.0)[0].item())
    quality = torch.from_numpy(np.random.default_rng([1, 1]).integers(2, size=4))
    x = training.crops(4, CROP, [1, 1]).float() / 255
    with torch.no_grad(), autocast(stage.device):
        y = stage.network(x, quality).reconstruction.float()
    error = (y - x).square().mean((1, 2, 3))
    weight = stage.network.quantizer.lambdas[quality].rsqrt()
    share = torch.tensor([0.0, 0.75])[quality]
    change = (weight * share * (STRUCTURE * (1 - ms_ssim(y, x)) - error)).mean()
    assert share.unique().numel() == 2
    assert losses[0] - losses[1] == pytest.approx(change.item(), rel=2e-2)
    with pytest.raises(UsageError, match="too small for structure"):
        vqvae_module.VQVAEStage(dataclasses.replace(settings, config=mixed, crop=8), training, validation)


def prior_stage(exact_from: float) -> PriorStage:
    torch.manual_seed(0)
    pictures = Pictures([synthetic(40, 40, n) for n in range(6)], ["x"] * 6)
    settings = PriorTraining(PATCH.prior, Schedule(steps=4), batch=6, crop=32, exact_from=exact_from)
    stage = PriorStage(settings, VQVAE(PATCH.vqvae), pictures, pictures)
    with torch.no_grad():
        for parameter in stage.network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return stage


def test_the_prior_is_trained_in_floats_and_then_in_integers() -> None:
    stage = prior_stage(exact_from=0.5)
    for step in range(4):
        crops = stage.training.crops(6, 32, [stage.settings.schedule.seed, 1 + step]).float() / 255
        with torch.no_grad(), autocast(torch.device("cpu")):
            grids = stage.vqvae.to_codes(crops.contiguous(memory_format=torch.channels_last), step % 2)
        with torch.no_grad():
            exact = stage.network.bits(grids, step % 2, exact=True).sum().item()
        assert stage.loss(step, 0.49)[0].item() != exact
        loss, figures = stage.loss(step, 0.5)
        assert loss.item() == figures["bits"] == exact


def test_the_prior_is_validated_on_whole_crops_at_all_qualities() -> None:
    stage = prior_stage(exact_from=0.5)
    assert [tuple(grids.shape) for grids in stage.held_out] == [(6, 3, 4, 4)] * 2
    with torch.no_grad():
        figures = stage.validate()
    assert sorted(figures) == ["exact_q1", "exact_q2", "float_q1", "float_q2"]
    with torch.no_grad():
        assert figures["exact_q2"] == pytest.approx(stage.network.bits(stage.held_out[1], 1, exact=True).sum().item())


# Data.


def test_folders_and_shards_are_read(data: list[Path]) -> None:
    told: list[int] = []
    training, validation = load_pictures(data, CROP, told.append)
    names = sorted(training.names + validation.names)
    assert names == sorted([f"p{seed}.png" for seed in range(8)] + [f"shot{n}_0_{n}.png" for n in range(6)])
    assert told == list(range(1, 15))
    assert len(validation) >= 1
    assert len(training) == len(training.pixels)


def test_all_crops_of_one_photograph_go_to_the_same_set(tmp_path: Path) -> None:
    for source in range(60):
        for part in range(2):
            (tmp_path / f"photo{source}_{part}_7.png").write_bytes(png(synthetic(16, 16, source)))
    training, validation = load_pictures([tmp_path], 16)
    sides = [{name.split("_")[0] for name in pictures.names} for pictures in (training, validation)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 60
    assert 0 < len(validation) < 20


def test_the_split_does_not_depend_on_other_pictures(tmp_path: Path) -> None:
    for n in range(80):
        (tmp_path / f"n{n}.png").write_bytes(png(synthetic(16, 16, 0)))
    _, validation = load_pictures([tmp_path], 16)
    for n in range(0, 80, 3):
        (tmp_path / f"n{n}.png").unlink()
    _, again = load_pictures([tmp_path], 16)
    assert set(again.names) == {name for name in validation.names if (tmp_path / name).exists()}


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pictures_are_refused(tmp_path: Path, count: int) -> None:
    (tmp_path / "small.png").write_bytes(png(synthetic(15, 40)))
    for n in range(count):
        (tmp_path / f"{n}.png").write_bytes(png(synthetic(16, 16, n)))
    with pytest.raises(UsageError, match="1 are smaller"):
        load_pictures([tmp_path], 16)


def test_missing_and_broken_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such"):
        load_pictures([tmp_path / "none"], 16)
    (tmp_path / "broken.tar").write_bytes(b"this is no tar" * 100)
    with pytest.raises(UsageError, match=r"broken\.tar"):
        load_pictures([tmp_path / "broken.tar"], 16)


def test_crops_depend_only_on_the_seed() -> None:
    pictures = Pictures([synthetic(40, 60, n) for n in range(3)], ["a", "b", "c"])
    first = pictures.crops(6, 24, [1, 2])
    assert first.shape == (6, 3, 24, 24)
    assert first.dtype == torch.uint8
    np.random.default_rng().random()
    assert torch.equal(pictures.crops(6, 24, [1, 2]), first)
    assert not torch.equal(pictures.crops(6, 24, [1, 3]), first)
    assert len({crop.numpy().tobytes() for crop in pictures.crops(40, 24, [5])}) > 30


def test_crops_as_large_as_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "DRAWN_SHARE", 0)
    monkeypatch.setattr(data_module, "VIVID_SHARE", 0)
    crops = Pictures([synthetic(24, 24)], ["a"]).crops(50, 24, [0])
    values = {tuple(sorted(crop.flatten().tolist())) for crop in crops}
    assert len(values) == 1, "flips and transpositions only"
    assert len({crop.numpy().tobytes() for crop in crops}) > 4


def test_the_grid_is_the_central_crop() -> None:
    wide, small = synthetic(30, 50), synthetic(10, 10)
    grid = Pictures([wide, small], ["a", "b"]).grid(20)
    assert np.array_equal(grid.permute(0, 2, 3, 1).numpy(), wide[None, 5:25, 15:35])
    with pytest.raises(UsageError, match="20 pixels"):
        Pictures([small], ["b"]).grid(20)
