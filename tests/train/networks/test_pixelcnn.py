"""The prior in floats: what each logit may depend on, conditioning, and that `exact` is the integers."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import random_prior
from torch import Tensor

from vqcodec.coding.exp_table import EXP
from vqcodec.coding.formats import COUNT_BITS, ENTRY_TAPS, LOGIT_EXPONENT
from vqcodec.coding.integer_prior import IntegerPrior, Layout
from vqcodec.model.config import PriorConfig, VQVAEConfig
from vqcodec.train.networks.pixelcnn import GatedPixelCNN
from vqcodec.train.networks.quantizer import VectorQuantizer

CONFIG = VQVAEConfig("patch", 8, 8, 4, 1, 1, ((5, 1), (3, 2), (6, 4)), (1.0, 0.2))
SINGLE = VQVAEConfig("conv", 4, 8, 4, 1, 1, ((9, 4),))
PRIOR = PriorConfig(channels=10, blocks=3, head_channels=7, labels=3)


def grids(config: VQVAEConfig, count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Random codes [count, G, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randint(size, (count, height, width), generator=generator) for size, _ in config.codebooks]
    return torch.stack(parts, 1)


def integer_prior(network: GatedPixelCNN, quality: int, label: int | None = None) -> IntegerPrior:
    config, prior = network.config, network.prior
    sizes = tuple(size for size, _ in config.codebooks)
    layout = Layout(sizes, config.qualities, prior.channels, prior.head_channels, prior.blocks, prior.labels)
    tensors = {name: tensor.numpy() for name, tensor in network.integers().items()}
    return IntegerPrior(tensors, layout, quality, label)


def counts_of(logits: Tensor) -> npt.NDArray[np.int64]:
    """Counts [N, K] of logits [N, K] in nats, computed in Python's integers."""
    steps = logits.detach().double() * 2**LOGIT_EXPONENT
    assert torch.equal(steps, steps.round())
    rows = []
    for row in steps.long().tolist():
        weights = [EXP[min(max(row) - value, 255)] for value in row]
        shift = COUNT_BITS - sum(weights).bit_length()
        rows.append([max(1, w << shift if shift >= 0 else w >> -shift) for w in weights])
    return np.array(rows)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("config", [CONFIG, SINGLE], ids=["product", "single"])
def test_no_logit_depends_on_its_own_code_or_a_later_one(config: VQVAEConfig, exact: bool) -> None:
    network, (height, width) = random_prior(config, PRIOR), (5, 6)
    books = len(config.codebooks)
    codes = grids(config, 1, height, width)
    places = [(g, i, j) for g in range(books) for i in range(height) for j in range(width)]
    variants = codes.repeat(len(places), 1, 1, 1)
    for n, (g, i, j) in enumerate(places):
        variants[n, g, i, j] = (variants[n, g, i, j] + 1) % config.codebooks[g][0]
    label = torch.tensor([1])
    with torch.no_grad():
        before = network(codes, 0, label, exact=exact)
        after = network(variants, 0, label.expand(len(places)), exact=exact)
    looks = set()
    for n, (g, i, j) in enumerate(places):
        for out in range(books):
            changed = (after[out][n] - before[out][0]).abs().amax(2) > 1e-6
            for row, column in changed.nonzero().tolist():
                if (row, column) == (i, j):
                    assert g < out, f"codebook {out} sees codebook {g} of its own position"
                else:
                    assert (i, j) < (row, column), f"{row, column} sees {i, j}, which comes later"
                    assert j + 2 * i < column + 2 * row, f"{row, column} sees {i, j} of its own wave"
                looks.add((out, g, i - row, j - column))
    # The logits do depend on all earlier neighbours and on the codebooks before.
    taps = {(out, g, *tap) for out in range(books) for g in range(books) for tap in ENTRY_TAPS}
    assert looks >= taps | {(out, g, 0, 0) for out in range(books) for g in range(out)}


@pytest.mark.parametrize("config", [CONFIG, SINGLE], ids=["product", "single"])
def test_exact_is_what_the_integers_compute(config: VQVAEConfig) -> None:
    network = random_prior(config, PRIOR, seed=4)
    codes = grids(config, 1, 7, 9, seed=2)
    for quality in range(config.qualities):
        for label in (None, 0, 2):
            condition = None if label is None else torch.tensor([label])
            with torch.no_grad():
                logits = network(codes, quality, condition, exact=True)
            found = integer_prior(network, quality, label).evaluate(codes[0].numpy().astype(np.int32))
            for g, values in enumerate(logits):
                assert np.array_equal(found[g], counts_of(values[0].flatten(0, 1)))
                assert len(np.unique(found[g])) > 20, "the counts are too uniform to show anything"


LIVE = ((3, 1, 6), (1, 2, 2))  # of the 5, 3 and 6 codes, at each quality; one is constant


def pruned_prior(live: tuple[tuple[int, ...], ...] = LIVE) -> GatedPixelCNN:
    """A random prior with only the first `live[quality][g]` codes in use."""
    network = random_prior(CONFIG, PRIOR, seed=6)
    for g, tables in enumerate(network.codes):
        tables.live.copy_(torch.tensor([row[g] for row in live]))
    return network


def live_grids(quality: int, height: int, width: int) -> Tensor:
    """Codes [1, G, H, W] that are all in use."""
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randint(n, (1, height, width), generator=generator) for n in LIVE[quality]], 1)


@pytest.mark.parametrize("quality", [0, 1])
def test_exact_is_what_the_integers_compute_after_pruning(quality: int) -> None:
    network, codes = pruned_prior(), live_grids(quality, 6, 7)
    prior = integer_prior(network, quality, 1)
    with torch.no_grad():
        logits = network(codes, quality, torch.tensor([1]), exact=True)
    found = prior.evaluate(codes[0].numpy().astype(np.int32))
    for g, values in enumerate(logits):
        assert values.shape == (1, 6, 7, LIVE[quality][g])
        assert np.array_equal(found[g], counts_of(values[0].flatten(0, 1)))
    assert [prior.constant(g) for g in range(3)] == [n == 1 for n in LIVE[quality]]
    # The stored tables have no rows for pruned codes.
    integers = network.integers()
    for g, size in enumerate(LIVE[quality]):
        names = ["embedding", "out.weight", "out.bias", "out.shift", *(["state"] if g < 2 else [])]
        assert [len(integers[f"codes.{g}.{quality}.{name}"]) for name in names] == [size] * len(names)


def test_a_codebook_with_one_code_costs_nothing() -> None:
    network = pruned_prior()
    for quality in range(2):
        bits = network.bits(live_grids(quality, 6, 7), quality, exact=True)
        assert [bool(b == 0) for b in bits] == [n == 1 for n in LIVE[quality]]


def test_pruned_codes_get_no_gradient() -> None:
    network = pruned_prior(((3, 2, 4), (3, 2, 4)))
    network.bits(torch.zeros(1, 3, 4, 4, dtype=torch.long), 0, exact=True).sum().backward()
    for tables, live in zip(network.codes, (3, 2, 4), strict=True):
        assert tables.free.grad[0, :live].abs().sum() > 0
        assert not tables.free.grad[0, live:].any()
        assert not tables.bias.grad[0, live:].any()


def test_the_prior_takes_the_codes_in_use_from_the_quantiser() -> None:
    torch.manual_seed(0)
    quantizer, network = VectorQuantizer(CONFIG), GatedPixelCNN(CONFIG, PRIOR)
    assert [tables.live.tolist() for tables in network.codes] == [[5, 5], [3, 3], [6, 6]]
    for g, (size, _) in enumerate(CONFIG.codebooks):
        for quality in range(2):
            quantizer.get_buffer(f"counts{g}")[quality, LIVE[quality][g] : size] = 0
    quantizer.prune()
    network.describe_codes(quantizer)
    assert [tables.live.tolist() for tables in network.codes] == [list(row) for row in zip(*LIVE, strict=True)]
    again = GatedPixelCNN(CONFIG, PRIOR)
    again.load_state_dict(network.state_dict())  # as a checkpoint is
    assert all(torch.equal(a.live, b.live) for a, b in zip(again.codes, network.codes, strict=True))
    codes = live_grids(1, 3, 3)
    with torch.no_grad():
        for tables in network.codes:
            tables.out.weight.zero_()
        logits = network(codes, 1)
    for g, values in enumerate(logits):
        torch.testing.assert_close(values.softmax(3)[0, 0, 0], torch.full((LIVE[1][g],), 1 / LIVE[1][g]))


def test_exact_stays_exact_with_weights_of_every_size() -> None:
    network = random_prior(CONFIG, PRIOR, seed=9)
    with torch.no_grad():
        for parameter in network.parameters():  # from 2^-10 to 2^2, per row
            parameter.mul_(2.0 ** torch.empty(len(parameter)).uniform_(-10, 2).view(-1, *[1] * (parameter.ndim - 1)))
    codes = grids(CONFIG, 1, 6, 6)
    with torch.no_grad():
        logits = network(codes, 1, exact=True)
    found = integer_prior(network, 1).evaluate(codes[0].numpy().astype(np.int32))
    assert all(np.array_equal(c, counts_of(v[0].flatten(0, 1))) for c, v in zip(found, logits, strict=True))


def test_exact_is_near_the_floats() -> None:
    network, codes = random_prior(CONFIG, PRIOR), grids(CONFIG, 4, 8, 8)
    with torch.no_grad():
        floats, exact = (torch.cat(network(codes, 0, exact=e), 3) for e in (False, True))
    assert 0 < (floats - exact).abs().mean() < 0.3 * floats.std()


def test_exact_lets_the_gradient_pass() -> None:
    network, codes = random_prior(CONFIG, PRIOR), grids(CONFIG, 2, 5, 5)
    network.bits(codes, 0, torch.tensor([0, 1]), exact=True).sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert silent == []


@pytest.mark.parametrize("exact", [False, True])
def test_quality_and_label_change_the_logits(exact: bool) -> None:
    network, codes = random_prior(CONFIG, PRIOR), grids(CONFIG, 1, 4, 4)
    # The features of the codes are the same at both qualities, so that only the conditioning can make a difference.
    with torch.no_grad():
        for tables in network.codes:
            for tensor in (tables.features, tables.free, tables.bias):
                tensor[1] = tensor[0]
        cases = [(q, label) for q in range(2) for label in (None, 0, 1, 2)]
        outputs = [
            torch.cat(network(codes, q, None if label is None else torch.tensor([label]), exact=exact), 3)
            for q, label in cases
        ]
    for a in range(len(cases)):
        for b in range(a):
            assert not torch.allclose(outputs[a], outputs[b]), f"{cases[a]} and {cases[b]} give the same"


def test_every_grid_of_a_batch_has_its_own_label() -> None:
    network, codes = random_prior(CONFIG, PRIOR), grids(CONFIG, 2, 4, 4)
    with torch.no_grad():
        both = network(codes, 0, torch.tensor([2, 0]), exact=True)
        alone = [network(codes[n : n + 1], 0, torch.tensor([label]), exact=True) for n, label in ((0, 2), (1, 0))]
    for g in range(3):
        assert torch.equal(both[g], torch.cat([alone[0][g], alone[1][g]]))


def test_without_labels_there_are_no_label_tensors() -> None:
    network = random_prior(SINGLE, dataclasses.replace(PRIOR, labels=0))
    assert not any("label" in name for name in network.integers())
    assert any("label" in name for name in random_prior(SINGLE, PRIOR).integers())


def test_bits_are_the_mean_cross_entropy_of_each_codebook() -> None:
    network, codes = random_prior(CONFIG, PRIOR), grids(CONFIG, 3, 4, 5)
    with torch.no_grad():
        bits, logits = network.bits(codes, 1, exact=True), network(codes, 1, exact=True)
    for g, values in enumerate(logits):
        share = values.log_softmax(3).gather(3, codes[:, g, :, :, None])
        assert bits[g].item() == pytest.approx(-share.mean().item() / np.log(2), rel=1e-5)


def test_the_prior_starts_at_the_zero_order_probabilities() -> None:
    torch.manual_seed(0)
    quantizer, network = VectorQuantizer(CONFIG), GatedPixelCNN(CONFIG, PRIOR)
    for g in range(3):
        counts = quantizer.get_buffer(f"counts{g}")
        counts.copy_(torch.rand_like(counts) + 0.01)
    network.describe_codes(quantizer)
    with torch.no_grad():
        for tables in network.codes:  # the tables' free weights aside
            tables.out.weight.zero_()
        logits = network(grids(CONFIG, 1, 3, 3), 1)
    for g, values in enumerate(logits):
        share = values.softmax(3)[0, 1, 1]
        torch.testing.assert_close(-share.log2(), quantizer.bits(g)[1], atol=1e-4, rtol=1e-4)


def test_the_integers_are_what_the_format_allows() -> None:
    for name, tensor in random_prior(CONFIG, PRIOR).integers().items():
        assert tensor.dtype == (torch.int32 if name.endswith((".bias", ".label")) else torch.int8), name
        assert tensor.is_contiguous()
        if tensor.dtype == torch.int8:
            assert tensor.min() >= -127
