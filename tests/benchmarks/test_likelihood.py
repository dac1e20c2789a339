"""benchmarks/likelihood: the mathematics of each model, the data formats, and the whole benchmark on small pictures."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from training import silent

from benchmarks.likelihood import codecs, table
from benchmarks.likelihood.__main__ import main
from benchmarks.likelihood.data import Dataset, Split, read
from benchmarks.likelihood.density import TINY, Budget
from benchmarks.likelihood.evaluation import evaluate
from benchmarks.likelihood.glow import ActNorm, Glow
from benchmarks.likelihood.likelihoods import (
    bits_of_density,
    bits_of_probability,
    dequantized,
    discretized_logistic,
    gaussian,
    importance_weighted,
)
from benchmarks.likelihood.models import MODELS
from benchmarks.likelihood.pixelcnn import PixelCNN
from benchmarks.likelihood.vae import divergence
from benchmarks.likelihood.vimco import drawn, log_probability, surrogate
from benchmarks.likelihood.vqvae import VQVAEDensity
from vqcodec.errors import UsageError

ROOT = Path(__file__).parents[2]
EVERY = torch.arange(256).view(256, 1, 1, 1)  # each value a pixel can have


def blocky(count: int, side: int, channels: int, seed: int = 0) -> np.ndarray:
    """Pictures [count, side, side, channels] with a few flat areas and a little noise, easy to learn."""
    rng = np.random.default_rng(seed)
    flat = rng.integers(0, 256, (count, 4, 4, channels)).repeat(side // 4, 1).repeat(side // 4, 2)
    return np.clip(flat + rng.normal(0, 3, flat.shape), 0, 255).astype(np.uint8)


def small_dataset(side: int, channels: int) -> Dataset:
    splits = [Split(blocky(n, side, channels, n), np.arange(n) % 10, mirrored=False) for n in (80, 8, 12)]
    return Dataset("small", *splits)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestLikelihoods:
    @given(st.floats(-1.5, 1.5), st.floats(-9, 3))
    def test_the_discretized_logistic_adds_up_to_one(self, mean, log_scale):
        logs = discretized_logistic(EVERY, torch.full((1, 1, 1), mean), torch.full((1, 1, 1), log_scale))
        assert logs.double().exp().sum().item() == pytest.approx(1, abs=1e-4)

    def test_a_probability_is_the_integral_of_the_logistic_density_over_a_cell(self):
        mean, log_scale = torch.tensor(0.1), torch.tensor(-2.0)
        cell = torch.linspace(99.5, 100.5, 10_001).double() * 2 / 255 - 1
        density = torch.sigmoid((cell - mean) / log_scale.exp()).diff().sum()
        found = discretized_logistic(torch.full((1, 1, 1, 1), 100), mean, log_scale).exp()
        assert found.item() == pytest.approx(density.item(), rel=1e-4)

    def test_a_flat_density_over_the_unit_interval_takes_the_eight_bits_of_a_byte(self):
        assert bits_of_density(torch.zeros(1), 28 * 28).item() == 8
        assert bits_of_probability(torch.tensor([-784 * np.log(256)]), 784).item() == pytest.approx(8)

    def test_the_bits_of_a_density_are_at_least_those_of_its_integral_over_the_cells(self):
        x, mean, deviation = torch.full((20_000, 1, 1, 1), 100), torch.tensor(0.4), 0.002
        density = bits_of_density(gaussian(dequantized(x, noise()), mean, deviation), 1)
        normal = torch.distributions.Normal(mean.double(), deviation)
        cell = normal.cdf(torch.tensor(101 / 256)) - normal.cdf(torch.tensor(100 / 256))
        assert density.mean().item() > bits_of_probability(cell.log(), 1).item()
        wide = bits_of_density(gaussian(dequantized(x, noise()), mean, 0.5), 1)  # flat within a cell: no difference
        whole = torch.distributions.Normal(0.4, 0.5).log_prob(torch.tensor(100.5 / 256)) - np.log(256)
        assert wide.mean().item() == pytest.approx(bits_of_probability(whole, 1).item(), abs=1e-3)

    def test_importance_weighting_never_makes_a_bound_worse(self):
        logs = torch.randn(64, 1000, generator=noise()) * 5
        assert (importance_weighted(logs) >= logs.mean(0)).all()
        assert torch.equal(importance_weighted(logs[:1]), logs[0])

    def test_importance_weighting_approaches_the_exact_likelihood(self):
        # z ~ N(0, 1), x | z ~ N(z, 1): p(x) = N(0, 2). q is deliberately not the posterior.
        x, many = torch.tensor([0.7, -1.3]), 20_000
        q = torch.distributions.Normal(0.3 * x, 1.1)
        normal = torch.distributions.Normal
        torch.manual_seed(0)
        z = q.sample((many,))
        logs = normal(z, 1.0).log_prob(x) + normal(0.0, 1.0).log_prob(z) - q.log_prob(z)
        assert importance_weighted(logs).tolist() == pytest.approx(normal(0.0, 2**0.5).log_prob(x).tolist(), abs=0.01)


class TestVAE:
    def test_the_divergence_is_that_of_two_normal_distributions(self):
        mean, log_deviation = torch.randn(5, 3, 2, generator=noise()), torch.randn(5, 3, 2, generator=noise(1))
        normal = torch.distributions.Normal
        known = torch.distributions.kl_divergence(normal(mean, log_deviation.exp()), normal(0.0, 1.0))
        assert torch.allclose(divergence(mean, log_deviation), known.flatten(1).sum(1), rtol=1e-5)

    def test_more_samples_improve_the_bound_and_beta_weights_the_kl_term(self):
        model = MODELS["vae"].kind(small_dataset(28, 1), TINY)
        x, label = small_dataset(28, 1).test.first(12)
        with torch.no_grad():
            bits = model.bits(x, label, noise())
            model.beta = 0.0
            assert model.loss(x, label, noise()).mean() < bits["ELBO"].mean()
        assert bits["4 samples"].mean() <= bits["ELBO"].mean()


class TestVIMCO:
    def test_the_gradient_is_unbiased(self):
        """The expectation is computed exactly, over all pairs of samples of a latent with three values."""
        logits = torch.tensor([0.3, -0.5, 0.9], dtype=torch.double, requires_grad=True)
        joint = torch.tensor([-1.0, -3.0, -2.2], dtype=torch.double)  # log p(x, z)

        def terms():
            log_q = logits.log_softmax(0)
            for pair in itertools.product(range(3), repeat=2):
                chosen = log_q[list(pair)]
                yield chosen.sum().exp(), (joint[list(pair)] - chosen)[:, None], chosen[:, None]

        bound = sum(chance * importance_weighted(weights)[0] for chance, weights, _ in terms())
        (exact,) = torch.autograd.grad(bound, logits)
        estimate = sum(chance.detach() * surrogate(weights, chances)[0] for chance, weights, chances in terms())
        (found,) = torch.autograd.grad(estimate, logits)
        assert torch.allclose(found, exact, atol=1e-12)
        assert estimate.item() == pytest.approx(bound.item())

    def test_samples_of_equal_weight_have_no_gradient(self):
        """The baseline is the geometric mean of the other weights; with another one, the gradient would not vanish."""
        chances = torch.zeros(4, 2, requires_grad=True)
        surrogate(torch.full((4, 2), -70.0), chances).sum().backward()
        assert chances.grad is not None
        assert chances.grad.abs().max().item() < 1e-4

    def test_codes_are_drawn_with_their_probabilities(self):
        log_q = torch.tensor([0.7, 0.2, 0.1]).log().expand(1, 1, 50_000, 3)
        codes = drawn(log_q, 1, noise())[0]
        assert codes.flatten().bincount().div(50_000).tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.01)
        assert log_probability(log_q, codes)[0].item() == pytest.approx(log_q[0, 0, 0][codes].sum().item(), rel=1e-4)


class TestGlow:
    @pytest.mark.parametrize(("side", "channels"), [(32, 3), (28, 1), (8, 3)])
    def test_the_inverse_gives_the_picture_back(self, side, channels):
        dataset = small_dataset(side, channels)
        model = perturbed(Glow(dataset, TINY), dataset)
        x = dequantized(dataset.test.first(12)[0], noise())
        with torch.no_grad():
            z, _ = model(x)
            assert sum(part[0].numel() for part in z) == dataset.dims
            assert (model.inverse(z) - x).abs().max().item() < 1e-4

    @pytest.mark.parametrize(("side", "channels"), [(8, 1), (4, 3)])
    def test_the_determinant_is_that_of_autograd(self, side, channels):
        dataset = small_dataset(side, channels)
        model = perturbed(Glow(dataset, TINY), dataset).double()
        x = dequantized(dataset.test.first(2)[0], noise()).double()

        def flat(picture):
            return torch.cat([part.flatten() for part in model(picture.view(1, channels, side, side))[0]])

        for picture, log_det in zip(x, model(x)[1], strict=True):
            jacobian = torch.autograd.functional.jacobian(flat, picture.flatten())
            assert log_det.item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-6)

    def test_actnorm_is_initialised_to_normalise_the_activations(self):
        norm = ActNorm(3)
        norm.waiting = True
        h = torch.randn(50, 3, 4, 4, generator=noise()) * torch.tensor([1.0, 5.0, 0.1])[:, None, None] + 2
        out, _ = norm(h)
        assert out.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
        assert out.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-4)
        assert torch.allclose(norm(h + 1)[0], out + norm.log_scale.exp(), atol=1e-4)  # initialised only once


def perturbed(model: Glow, dataset: Dataset) -> Glow:
    """The model with random weights added, because couplings are initialised to the identity."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    x, label = dataset.train.first(32)
    with torch.no_grad():
        model.start(x, label)
    return model.eval()


class TestVQVAE:
    def test_the_bound_is_the_codes_and_the_pixels_given_the_codes(self, tmp_path):
        dataset = small_dataset(28, 1)
        model = VQVAEDensity(dataset, TINY)
        model.fit(dataset, tmp_path, Budget(steps=4), silent)
        bits = {way: each.mean for way, each in evaluate(model, dataset, 12).items()}
        codes = bits["uniform prior"] - bits["of these, pixels given the codes"]
        assert codes == pytest.approx(2 * 3 * 49 / 784, abs=1e-3)  # 2 codebooks of 8 codes at 7 x 7 positions


class TestPixelCNN:
    def test_file_sizes_match_the_likelihood(self, tmp_path):
        dataset = small_dataset(28, 1)
        model = PixelCNN(dataset, TINY)
        model.fit(dataset, tmp_path, Budget(steps=20), silent)
        x, label = dataset.test.first(6)
        with torch.no_grad():
            bits = model.bits(x, label, noise())
        over = (bits["a file each"] - bits["exact"]) * dataset.dims  # in bits
        assert over.min().item() >= 0
        assert over.max().item() <= 48  # the end of the stream, and the rounding of the counts


class TestData:
    def test_cifar_10_in_its_binary_form(self, tmp_path):
        images = blocky(6, 32, 3)
        records = [bytes([n]) + image.transpose(2, 0, 1).tobytes() for n, image in enumerate(images)]
        for name, some in (("data_batch_1", records[:2]), ("data_batch_2", records[2:4]), ("test_batch", records[4:])):
            (tmp_path / f"{name}.bin").write_bytes(b"".join(some))
        dataset = read(tmp_path)
        assert (dataset.name, dataset.counts, dataset.part) == ("CIFAR-10", (4, 2), "a part of it")
        x, label = dataset.test.first(2)
        assert np.array_equal(x.permute(0, 2, 3, 1).numpy(), images[4:])
        assert label.tolist() == [4, 5]
        (tmp_path / "test_batch.bin").write_bytes(records[0][:-1])
        with pytest.raises(UsageError, match="not a whole number of CIFAR-10 records"):
            read(tmp_path)

    @pytest.mark.parametrize("zipped", [False, True])
    def test_mnist_in_its_own_form(self, tmp_path, zipped):
        images = blocky(5, 28, 1)[..., 0]
        for kind, some in (("train", slice(0, 3)), ("t10k", slice(3, 5))):
            parts = {
                "images-idx3-ubyte": struct.pack(">2xBB3I", 8, 3, len(images[some]), 28, 28) + images[some].tobytes(),
                "labels-idx1-ubyte": struct.pack(">2xBBI", 8, 1, len(images[some])) + bytes(range(5))[some],
            }
            for name, data in parts.items():
                path = tmp_path / f"{kind}-{name}{'.gz' if zipped else ''}"
                path.write_bytes(gzip.compress(data) if zipped else data)
        dataset = read(tmp_path)
        x, label = dataset.test.first(2)
        assert (dataset.name, dataset.dims) == ("MNIST", 784)
        assert np.array_equal(x[:, 0].numpy(), images[3:])
        assert label.tolist() == [3, 4]
        for path in tmp_path.glob("t10k-images*"):
            path.write_bytes(gzip.compress(images.tobytes()) if zipped else images.tobytes())
        with pytest.raises(UsageError, match="not an idx file"):
            read(tmp_path)

    @pytest.mark.parametrize(
        "arrays",
        [
            {},
            {"train_images": blocky(4, 28, 1)},
            {"train_images": blocky(4, 28, 1), "test_images": blocky(4, 28, 1).astype(float)},
            {"train_images": blocky(4, 28, 1), "test_images": blocky(4, 28, 1)[:, :20]},
            {"train_images": blocky(4, 28, 1), "test_images": blocky(4, 28, 1), "test_labels": np.arange(3)},
        ],
    )
    def test_invalid_archives_are_rejected(self, tmp_path, arrays):
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(UsageError):
            read(tmp_path)

    def test_batches_depend_on_the_seed_alone_and_only_coloured_pictures_are_mirrored(self):
        for channels, mirrored in ((3, True), (1, False)):
            split = Split(blocky(9, 8, channels), np.arange(9), mirrored)
            x, label = split.batch(40, [1, 2])
            assert torch.equal(x[10:], split.batch(30, [1, 2], 10)[0])
            original = torch.from_numpy(np.stack(split.pixels)).permute(0, 3, 1, 2)[label, :channels]
            same = (x == original).flatten(1).all(1)
            assert (x[~same].flip(3) == original[~same]).all()
            assert bool(same.all()) is not mirrored


class TestTable:
    def test_all_models_on_small_digits_and_a_second_run(self, tmp_path, capsys):
        digits = blocky(330, 28, 1)[..., 0]
        labels = np.arange(330) % 10
        arrays = {"train_images": digits[:300], "test_images": digits[300:]}
        np.savez(tmp_path / "digits.npz", **arrays, train_labels=labels[:300], test_labels=labels[300:])
        command = ["--data", str(tmp_path), "--tiny", "--steps", "8", "--test", "9", "--out", str(tmp_path / "run")]
        assert main([*command, "--json", str(tmp_path / "all.json")]) == 0
        rows = table.load(tmp_path / "all.json")
        assert [row.model for row in rows if row.parameters] == list(MODELS)
        for row in rows:
            assert all(0 < bits < 40 for bits, _ in row.bits.values()), row
            assert row.data == "MNIST"
        for name in MODELS:
            with Image.open(tmp_path / "run" / "mnist" / name / "samples.png") as image:
                assert min(image.size) > 28
        assert (tmp_path / "run" / "mnist" / "manifold-vae" / "manifold-of-3.png").exists()
        written = (tmp_path / "run" / "table.md").read_text()
        assert written == table.markdown(rows)
        assert "9" in table.caption(rows)

        assert main([*command, "--models", "vae,glow", "--beta", "4", "--json", str(tmp_path / "beta.json")]) == 0
        beta, glow = table.load(tmp_path / "beta.json")
        assert (beta.model, beta.title, glow) == ("vae-beta4", "VAE, β = 4", next(r for r in rows if r.model == "glow"))
        assert beta.bits != rows[0].bits

        capsys.readouterr()
        assert main([*command, "--models", "glow,codecs", "--json", str(tmp_path / "all.json")]) == 0
        assert "step" not in capsys.readouterr().out.partition("┏")[0]  # nothing was trained again
        assert table.load(tmp_path / "all.json") == rows

    def test_the_readme_contains_the_table_of_the_stored_results(self):
        page = (ROOT / "benchmarks" / "likelihood" / "README.md").read_text(encoding="utf-8")
        rows = table.load(ROOT / "benchmarks" / "results" / "likelihood.json")
        assert len(rows) > 4
        assert table.in_page(page, rows) == page
        assert table.in_page(page, rows[1:]) != page
        with pytest.raises(UsageError, match="no marks for the table"):
            table.in_page("without marks", rows)

    def test_a_model_learns(self, tmp_path):
        dataset = small_dataset(28, 1)
        for name in ("vae", "vimco", "vqvae", "glow", "pixelcnn"):
            found = []
            for steps in (2, 60):
                torch.manual_seed(0)
                model = MODELS[name].kind(dataset, TINY)
                model.fit(dataset, tmp_path / f"{name}{steps}", Budget(steps=steps), silent)
                found.append(min(figure.mean for figure in evaluate(model, dataset, 12).values()))
            assert found[1] < found[0] - 0.1, name

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["--models", "vae,gan"], "no model 'gan'"),
            (["--test", "0"], "at least 1"),
            (["--beta", "-1"], "--beta at least 0"),
            (["--data", "nowhere"], "no pictures to train on"),
        ],
    )
    def test_usage_errors_are_one_line(self, tmp_path, capsys, arguments, reason):
        np.savez(tmp_path / "x.npz", train_images=blocky(4, 28, 1), test_images=blocky(4, 28, 1))
        assert main(["--data", str(tmp_path), "--out", str(tmp_path / "run"), *arguments]) == 2
        message = capsys.readouterr().err
        assert reason in message
        assert message.count("\n") == 1

    def test_invalid_results_files_are_rejected(self, tmp_path):
        for text in ("{", "[]", '{"rows": [{}]}', json.dumps({"rows": [{"bits": {}, "unknown": 1}]})):
            (tmp_path / "x.json").write_text(text)
            with pytest.raises(UsageError):
                table.load(tmp_path / "x.json")

    def test_codecs_are_lossless_and_single_files_are_larger(self):
        x = torch.from_numpy(blocky(7, 32, 3)).permute(0, 3, 1, 2)
        assert "PNG" in codecs.available()
        for form in codecs.available():
            figures = codecs.bits_per_dim(form, x)
            assert 1 < figures["all in one file"] < figures["a file each"] < 10
