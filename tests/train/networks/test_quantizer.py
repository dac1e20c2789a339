"""The product vector quantiser: choice of codes, gradients, and updates of the codebooks."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqcodec.model.config import VQVAEConfig
from vqcodec.train.networks import codebooks
from vqcodec.train.networks import quantizer as module
from vqcodec.train.networks.quantizer import VectorQuantizer

CONFIG = VQVAEConfig("conv", 4, 8, 4, 1, 1, ((7, 2), (5, 3)), (0.0, 0.6, 2.5), rate_shares=((0.9, 0.4),) * 3)
DIMS = (2, 3)
PLAIN = dataclasses.replace(CONFIG, codebooks=((16, 4),), lambdas=(0.0,), rate_shares=())


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(5)


def make(config: VQVAEConfig = CONFIG) -> VectorQuantizer:
    """A quantiser with codes of different frequencies."""
    quantizer = VectorQuantizer(config)
    with torch.no_grad():
        for g in range(len(config.codebooks)):
            counts = quantizer.get_buffer(f"counts{g}")
            counts.copy_(torch.rand_like(counts) ** 3 + 1e-2)
            if quantizer.ema:
                quantizer.get_buffer(f"sums{g}").copy_(quantizer.vectors(g) * counts[:, :, None])
    return quantizer.eval()


def brute_force(quantizer: VectorQuantizer, z: Tensor, quality: int) -> Tensor:
    """Codes [B, G, H, W] by the definition: for every position the code of least |z - e|^2 + lambda * bits.

    Lambda is multiplied by the codebook's share of the bits that the prior leaves.
    """
    batch, _, height, width = z.shape
    codes = torch.zeros(batch, len(DIMS), height, width, dtype=torch.long)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                start = 0
                for g, dim in enumerate(DIMS):
                    part = z[b, start : start + dim, i, j].double()
                    start += dim
                    counts = quantizer.get_buffer(f"counts{g}")[quality].double()
                    bits = -(counts / counts.sum()).log2()
                    lam = CONFIG.lambdas[quality] * CONFIG.rate_shares[quality][g]
                    vectors = quantizer.vectors(g)[quality].double()
                    codes[b, g, i, j] = ((part - vectors).square().sum(1) + lam * bits).argmin()
    return codes


@pytest.mark.parametrize("quality", [0, 1, 2])
def test_the_code_of_least_cost_is_chosen(quality: int) -> None:
    quantizer, z = make(), torch.randn(2, 5, 4, 6)
    expected = brute_force(quantizer, z, quality)
    assert torch.equal(quantizer.quantize(z, quality), expected)
    assert torch.equal(quantizer(z, torch.tensor([quality] * 2)).codes, expected)


def test_the_rate_term_changes_the_choice() -> None:
    quantizer, z = make(), torch.randn(2, 5, 8, 8)
    for g in range(2):  # the same codebooks at all qualities
        quantizer.vectors(g)[1:] = quantizer.vectors(g)[:1]
        quantizer.get_buffer(f"counts{g}")[1:] = quantizer.get_buffer(f"counts{g}")[:1].clone()

    def mean_bits(quality: int) -> float:
        codes = quantizer.quantize(z, quality)
        return sum(quantizer.bits(g)[quality][codes[:, g]].mean().item() for g in range(2))

    assert mean_bits(2) < mean_bits(1) < mean_bits(0)


def test_every_picture_of_a_batch_has_its_own_quality() -> None:
    quantizer, z = make(), torch.randn(3, 5, 4, 4)
    together = quantizer(z, torch.tensor([2, 0, 1]))
    for row, quality in enumerate([2, 0, 1]):
        assert torch.equal(together.codes[row], quantizer.quantize(z[row : row + 1], quality)[0])
        torch.testing.assert_close(
            together.latents[row], quantizer.dequantize(together.codes[row : row + 1], quality)[0]
        )
    assert not torch.equal(quantizer.dequantize(together.codes, 0), quantizer.dequantize(together.codes, 1))


def test_decoding_gives_the_chosen_vectors_in_place() -> None:
    quantizer = make()
    codes = torch.stack([torch.randint(7, (1, 3, 4)), torch.randint(5, (1, 3, 4))], 1)
    latents = quantizer.dequantize(codes, 1)
    assert latents.shape == (1, 5, 3, 4)
    for i in range(3):
        for j in range(4):
            chosen = [quantizer.vectors(g)[1, codes[0, g, i, j]] for g in range(2)]
            assert torch.equal(latents[0, :, i, j], torch.cat(chosen))


def test_the_gradient_passes_straight_through() -> None:
    quantizer, z = make().train(), torch.randn(2, 5, 3, 3, requires_grad=True)
    weight = torch.randn(2, 5, 3, 3)
    (quantizer(z, torch.tensor([0, 2])).latents * weight).sum().backward()
    assert torch.equal(z.grad, weight)


def test_the_losses_are_squared_distances_per_position() -> None:
    config = dataclasses.replace(PLAIN, codebook_learning="gradient")
    quantizer, z = make(config), torch.randn(2, 4, 3, 5, requires_grad=True)
    out = quantizer(z, torch.tensor([0, 0]))
    distance = (z - quantizer.dequantize(out.codes, 0)).square().sum(1).mean((1, 2))
    torch.testing.assert_close(out.commitment_loss, distance)
    torch.testing.assert_close(out.codebook_loss, distance)

    out.commitment_loss.sum().backward(retain_graph=True)
    assert z.grad is not None
    assert z.grad.abs().sum() > 0
    assert quantizer.vectors(0).grad is None, "the commitment must not move the codebook"
    z.grad = None
    out.codebook_loss.sum().backward()
    assert z.grad is None, "the codebook loss must not move the encoder"
    used = out.codes.unique()
    moved = quantizer.vectors(0).grad[0].abs().sum(1).nonzero()[:, 0]
    assert torch.equal(moved, used)


def test_codebooks_that_learn_by_moving_averages_take_no_gradient() -> None:
    quantizer = make()
    assert list(quantizer.parameters()) == []
    out = quantizer(torch.randn(2, 5, 3, 3, requires_grad=True), torch.tensor([0, 1]))
    assert torch.equal(out.codebook_loss, torch.zeros(2))


def test_one_step_of_the_moving_averages() -> None:
    quantizer, z = make().train(), torch.randn(2, 5, 6, 6)
    before = {name: value.clone() for name, value in quantizer.named_buffers()}
    codes = quantizer(z, torch.tensor([1, 1])).codes
    quantizer.learn()
    start = 0
    for g, dim in enumerate(DIMS):
        part = z[:, start : start + dim].permute(0, 2, 3, 1).reshape(-1, dim)
        start += dim
        index = codes[:, g].flatten()
        for k in range(CONFIG.codebooks[g][0]):
            mine = part[index == k]
            fresh = 1 - codebooks.DECAY
            count = codebooks.DECAY * before[f"counts{g}"][1, k] + fresh * len(mine)
            total = codebooks.DECAY * before[f"sums{g}"][1, k] + fresh * mine.sum(0)
            torch.testing.assert_close(quantizer.get_buffer(f"counts{g}")[1, k], count)
            torch.testing.assert_close(quantizer.vectors(g)[1, k], total / count)


def test_moving_averages_end_at_the_mean_of_their_latents() -> None:
    quantizer = VectorQuantizer(dataclasses.replace(PLAIN, codebooks=((4, 2),))).train()
    centres = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    groups = centres[:, None] + torch.randn(4, 25, 2) * 0.3
    start = centres + 0.8
    quantizer.vectors(0)[0] = start
    quantizer.get_buffer("sums0")[0] = start
    z = groups.reshape(1, 10, 10, 2).permute(0, 3, 1, 2)
    for _ in range(round(3 / (1 - codebooks.DECAY))):
        quantizer(z, torch.tensor([0]))
        quantizer.learn()
    torch.testing.assert_close(quantizer.vectors(0)[0], groups.mean(1), atol=0.01, rtol=0)


def test_nothing_learns_in_eval_mode() -> None:
    quantizer = make()
    before = {name: value.clone() for name, value in quantizer.named_buffers()}
    out = quantizer(torch.randn(2, 5, 4, 4), torch.tensor([1, 2]))
    quantizer.learn()
    assert all(torch.equal(value, before[name]) for name, value in quantizer.named_buffers())
    assert torch.equal(out.rate, torch.zeros(2))


def test_learning_touches_only_the_qualities_of_the_batch() -> None:
    quantizer = make().train()
    before = [quantizer.vectors(g).clone() for g in range(2)]
    quantizer(torch.randn(2, 5, 4, 4), torch.tensor([1, 1]))
    quantizer.learn()
    for g in range(2):
        torch.testing.assert_close(quantizer.vectors(g)[[0, 2]], before[g][[0, 2]])
        assert not torch.equal(quantizer.vectors(g)[1], before[g][1])


@pytest.mark.parametrize("restart", [True, False])
def test_dead_codes_restart_at_latents_of_the_batch(monkeypatch: pytest.MonkeyPatch, restart: bool) -> None:
    monkeypatch.setattr(codebooks, "DECAY", 0.5)
    config = dataclasses.replace(PLAIN, codebooks=((8, 2),), restart_dead_codes=restart)
    quantizer = VectorQuantizer(config).train()
    quantizer.vectors(0)[0] = torch.full((8, 2), 1000.0) + torch.arange(8)[:, None]
    quantizer.vectors(0)[0, 0] = 0.0
    quantizer.get_buffer("sums0").copy_(quantizer.vectors(0))
    z = torch.randn(1, 2, 8, 8)
    for _ in range(12):
        codes = quantizer(z, torch.tensor([0])).codes
        quantizer.learn()
    far = (quantizer.vectors(0)[0].norm(dim=1) > 100).sum().item()
    assert far == (0 if restart else 7)
    assert (len(codes.unique()) > 4) == restart


def test_the_soft_rate_is_an_expected_number_of_bits() -> None:
    quantizer, z = make(), torch.randn(1, 5, 6, 6) * 30
    bits = [quantizer.prices(g)[1].clone() for g in range(2)]
    codes = quantizer.quantize(z, 1)
    soft = quantizer.train()(z, torch.tensor([1])).rate
    # Far from all decision boundaries, the expected bits are those of the chosen codes.
    hard = sum(bits[g][codes[:, g]].mean().item() for g in range(2))
    assert soft.shape == (1,)
    assert soft.item() == pytest.approx(hard, rel=0.05)
    near = torch.randn(1, 5, 6, 6, requires_grad=True)
    quantizer.train()(near, torch.tensor([1])).rate.sum().backward()
    assert near.grad.abs().sum() > 0, "the encoder must feel the rate"


def plain_soft_rate(part: Tensor, vectors: Tensor, bits: Tensor, lam: Tensor) -> Tensor:
    """Expected bits by the definition, which autograd differentiates: [B]."""
    cost = (part[:, :, None] - vectors[:, None]).square().sum(3) + (lam[:, None] * bits)[:, None]
    share = torch.softmax(-cost / (module.RATE_TEMPERATURE * lam)[:, None, None], 2)
    return (share * bits[:, None]).sum(2).mean(1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 20),
    dim=st.integers(1, 5),
    lam=st.floats(0.01, 20),
    spread=st.floats(0.1, 5),
)
def test_the_gradient_of_the_soft_rate_is_that_of_its_formula(
    seed: int, size: int, dim: int, lam: float, spread: float
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.double) * spread

    vectors, bits = drawn(2, size, dim), drawn(2, size).abs() * 4
    lambdas = lam * (0.1 + torch.rand(2, generator=generator, dtype=torch.double))
    first = drawn(2, 6, dim).requires_grad_()
    second = first.detach().clone().requires_grad_()
    cost = VectorQuantizer._cost(first.detach(), vectors, bits, lambdas)
    rates = module._soft_rate(first, cost, vectors, bits, lambdas), plain_soft_rate(second, vectors, bits, lambdas)
    torch.testing.assert_close(*rates)
    for rate in rates:
        (rate * torch.tensor([1.0, -2.5])).sum().backward()
    torch.testing.assert_close(first.grad, second.grad)


def test_the_soft_rate_is_exact_while_products_are_in_bf16() -> None:
    """Its gradient is a sum of large vectors with weights that cancel: rounded to 8 bits, it would be noise."""
    vectors = torch.linspace(-200, 200, 256)[None, :, None]
    bits = torch.rand(1, 256) * 3 + 5
    lam = torch.full((1,), 3.0)
    part = torch.rand(1, 500, 1) * 300 - 150
    cost = VectorQuantizer._cost(part, vectors, bits, lam)
    rates, gradients = [], []
    for enabled in (False, True):
        z = part.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            rate = module._soft_rate(z, cost, vectors, bits, lam)
        rate.sum().backward()
        rates.append(rate.detach())
        gradients.append(z.grad)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*rates)
    assert torch.equal(*gradients)


def test_a_picture_without_a_rate_term_does_not_affect_the_rate_of_others() -> None:
    quantizer = make().train()
    z = torch.randn(2, 5, 4, 4, requires_grad=True)
    (quantizer(z, torch.tensor([0, 1])).rate * quantizer.lambdas[:2]).sum().backward()
    assert torch.equal(z.grad[0], torch.zeros(5, 4, 4))
    assert z.grad[1].abs().sum() > 0


# Pruning and adoption.


def rarely_used(quantizer: VectorQuantizer) -> list[dict[int, Tensor]]:
    """Make some codes rarely used. Returns the codes that pruning keeps, sorted by use, per codebook and quality."""
    shares = [
        {1: [0.0, 3.0, 1e-7, 5.0, 0.5, 0.0, 4.0], 2: [0.0, 0.0, 9.0, 0.0, 1e-9, 0.0, 0.0]},
        {1: [2.0, 1.0, 3.0, 4.0, 2.0], 2: [1e-4, 5.0, 0.0, 0.0, 5.0]},
    ]
    kept: list[dict[int, Tensor]] = []
    for g, by_quality in enumerate(shares):
        kept.append({})
        for quality, share in by_quality.items():
            counts = torch.tensor(share)
            quantizer.get_buffer(f"counts{g}")[quality] = counts
            quantizer.get_buffer(f"sums{g}")[quality] = quantizer.vectors(g)[quality] * counts[:, None]
            order = sorted(range(len(share)), key=share.__getitem__, reverse=True)  # stable, as pruning is
            kept[g][quality] = torch.tensor([k for k in order if share[k] > 1e-5])
    return kept


def test_pruning_keeps_the_codes_in_use_in_the_order_of_their_use() -> None:
    quantizer = make()
    kept = rarely_used(quantizer)
    before = {name: value.clone() for name, value in quantizer.named_buffers()}
    quantizer.prune()
    for g, by_quality in enumerate(kept):
        for quality, order in by_quality.items():
            count = len(order)
            assert quantizer.live(g)[quality] == count
            vectors, counts = quantizer.vectors(g)[quality], quantizer.get_buffer(f"counts{g}")[quality]
            sums = quantizer.get_buffer(f"sums{g}")[quality]
            assert torch.equal(vectors[:count], before[f"vectors{g}"][quality, order])
            assert torch.equal(counts[:count], before[f"counts{g}"][quality, order])
            torch.testing.assert_close(sums[:count], before[f"sums{g}"][quality, order])
            assert not vectors[count:].any()
            assert not counts[count:].any()
            assert not sums[count:].any()
    assert [quantizer.live(g).tolist() for g in range(2)] == [[7, 4, 1], [5, 5, 3]]


def test_pruning_leaves_qualities_without_a_rate_term_alone() -> None:
    quantizer = make()
    rarely_used(quantizer)
    for g in range(2):
        quantizer.get_buffer(f"counts{g}")[0, 1:] = 0
    before = {name: value[0].clone() for name, value in quantizer.named_buffers()}
    quantizer.prune()
    assert all(torch.equal(value[0], before[name]) for name, value in quantizer.named_buffers())
    assert [quantizer.live(g)[0].item() for g in range(2)] == [7, 5]


def test_pruning_again_changes_nothing() -> None:
    quantizer = make()
    rarely_used(quantizer)
    quantizer.prune()
    before = {name: value.clone() for name, value in quantizer.named_buffers()}
    quantizer.prune()
    assert all(torch.equal(value, before[name]) for name, value in quantizer.named_buffers())


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_latents_whose_codes_were_kept_come_back_as_before(learning: str) -> None:
    config = dataclasses.replace(CONFIG, codebook_learning=learning)
    quantizer = make(config)
    for g in range(2):  # one code in use that is far from being dropped, and one that is
        quantizer.get_buffer(f"counts{g}")[1:, 2] = 1e-9
    z = torch.randn(2, 5, 12, 12) * 2
    for quality in (1, 2):
        codes = quantizer.quantize(z, quality)
        kept = (codes != 2).all(1, keepdim=True)
        assert kept.float().mean() > 0.3
        before = quantizer.dequantize(codes, quality)
        pruned = make(config)
        pruned.load_state_dict(quantizer.state_dict())
        pruned.prune()
        assert pruned.live(0)[quality] == 6
        found = pruned.quantize(z, quality)
        assert not torch.equal(found, codes), "the codes have other names now"
        after = pruned.dequantize(found, quality)
        assert torch.equal(torch.where(kept, after, 0.0), torch.where(kept, before, 0.0))


@pytest.mark.parametrize("size", [0.0, 1.0, 1e3, 1e6])
def test_pruned_codes_are_never_chosen(size: float) -> None:
    """Not even where their vectors, which are zeros, would be by far the nearest."""
    quantizer = make()
    rarely_used(quantizer)
    quantizer.prune()
    z = torch.randn(1, 5, 20, 20) * size
    for quality in (1, 2):
        for codes in (quantizer.quantize(z, quality), quantizer(z, torch.tensor([quality])).codes):
            for g in range(2):
                assert codes[:, g].max() < quantizer.live(g)[quality]
        assert torch.equal(codes, quantizer.quantize(z, quality))


def far_away(quantizer: VectorQuantizer, quality: int) -> tuple[Tensor, Tensor]:
    """One training step on latents [1, 5, 4, 4], one of which is far from every code. Returns all and that one."""
    z = torch.randn(1, 5, 4, 4) * 0.1
    z[0, :, 2, 1] = torch.tensor([40.0, -30.0, 25.0, 50.0, -60.0])
    quantizer.train()(z, torch.tensor([quality]))
    quantizer.learn()
    quantizer.eval()
    return z, z[0, :, 2, 1]


def test_a_misfit_becomes_a_code() -> None:
    quantizer = make()
    rarely_used(quantizer)
    z, latent = far_away(quantizer, 2)
    quantizer.prune()
    missed = quantizer.dequantize(quantizer.quantize(z, 2), 2)[0, :, 2, 1]
    before = [quantizer.live(g).clone() for g in range(2)]
    quantizer.prune(adopt=True)
    assert (missed - latent).norm() > 20
    assert torch.equal(quantizer.dequantize(quantizer.quantize(z, 2), 2)[0, :, 2, 1], latent)
    assert [(quantizer.live(g) - before[g]).tolist() for g in range(2)] == [[0, 0, 1], [0, 0, 1]]
    for g in range(2):  # sums and vectors are consistent, so the next training step does not move the vectors by itself
        vectors, counts = quantizer.vectors(g), quantizer.get_buffer(f"counts{g}")[:, :, None]
        torch.testing.assert_close(quantizer.get_buffer(f"sums{g}")[2], (vectors * counts)[2])
    quantizer.prune(adopt=True)
    assert quantizer.live(0)[2] == before[0][2] + 1, "a misfit is adopted only once"
    for _ in range(2):  # rare, but not so rare that pruning removes it at once
        quantizer.prune()
    assert quantizer.live(0)[2] == before[0][2] + 1


def test_a_full_codebook_and_one_without_misfits_adopt_nothing() -> None:
    quantizer = make()
    z, _ = far_away(quantizer, 2)
    quantizer.prune(adopt=True)
    assert [quantizer.live(g)[2].item() for g in range(2)] == [7, 5]
    quantizer = make()
    rarely_used(quantizer)
    quantizer.train()(quantizer.dequantize(quantizer.quantize(z, 1), 1), torch.tensor([1]))
    quantizer.learn()
    quantizer.prune(adopt=True)
    assert [quantizer.live(g)[1].item() for g in range(2)] == [4, 5]


def test_codes_are_live_up_to_the_last_one_in_use() -> None:
    """An unused code before a used one stays live too."""
    quantizer = make()
    counts = quantizer.get_buffer("counts0")
    counts[1] = torch.tensor([1.0, 0, 0, 2, 0, 0, 0])
    counts[2] = 0
    counts[2, 0] = 1
    assert quantizer.live(0).tolist() == [7, 4, 1]


def test_scaling_lambda_is_another_lambda() -> None:
    quantizer, z = make(), torch.randn(2, 5, 8, 8)
    scaled = [quantizer.quantize(z, 1, scale) for scale in (0.5, 1.0, 4.0)]
    quantizer.lambdas[1] *= 4
    assert torch.equal(quantizer.quantize(z, 1), scaled[2])
    quantizer.lambdas[1] /= 8
    assert torch.equal(quantizer.quantize(z, 1), scaled[0])
    assert not torch.equal(scaled[0], scaled[2])


def test_given_bits_take_the_place_of_the_frequencies() -> None:
    quantizer, z = make(), torch.randn(2, 5, 3, 4)
    rarely_used(quantizer)
    quantizer.prune()
    live = [int(quantizer.live(g)[1]) for g in range(2)]
    as_ever = [quantizer.prices(g)[1].expand(2, 12, -1) for g in range(2)]
    assert torch.equal(quantizer.quantize(z, 1, 2.0, given=as_ever), quantizer.quantize(z, 1, 2.0))
    # A code that costs 0 bits at one position is chosen there, however far, if lambda is large.
    bits = [torch.full((2, 12, size), 20.0) for size in live]
    wanted = torch.stack([torch.randint(size, (2, 12)) for size in live], 1)
    for g in range(2):
        bits[g].scatter_(2, wanted[:, g, :, None], 0.0)
    assert torch.equal(quantizer.quantize(z, 1, 1e4, given=bits).flatten(2), wanted)


def test_codes_of_several_qualities_decode_as_those_of_one() -> None:
    quantizer = VectorQuantizer(CONFIG)
    codes = torch.stack([torch.randint(size, (3, 4, 5)) for size, _ in CONFIG.codebooks], 1)
    found = quantizer.dequantize_each(codes.to(torch.int16), torch.tensor([2, 0, 1]))
    for row, quality in enumerate((2, 0, 1)):
        torch.testing.assert_close(found[row], quantizer.dequantize(codes[row : row + 1], quality)[0], atol=0, rtol=0)


def test_kmeans_lowers_the_distortion_and_counts_the_use() -> None:
    quantizer = VectorQuantizer(PLAIN).eval()
    latents = torch.randn(2000, 4) * torch.tensor([5.0, 2.0, 1.0, 0.5])
    z = latents.T[None, :, :, None]

    def distortion() -> float:
        return (z - quantizer.dequantize(quantizer.quantize(z, 0), 0)).square().sum(1).mean().item()

    quantizer.vectors(0)[0] = latents[:16]
    sampled = distortion()
    quantizer.start_from(latents, 0, mass=500.0)
    assert distortion() < 0.8 * sampled
    use = torch.bincount(quantizer.quantize(z, 0).flatten(), minlength=16).float()
    counts = quantizer.get_buffer("counts0")[0]
    assert counts.sum().item() == pytest.approx(500)
    torch.testing.assert_close(counts / 500, use / 2000, atol=0.01, rtol=0)
    torch.testing.assert_close(quantizer.get_buffer("sums0")[0], quantizer.vectors(0)[0] * counts[:, None])


def test_kmeans_with_a_rate_term_spends_fewer_bits() -> None:
    entropies = []
    for lam in (0.0, 0.5, 3.0):
        quantizer = VectorQuantizer(dataclasses.replace(PLAIN, lambdas=(lam,)))
        torch.manual_seed(1)
        quantizer.start_from(torch.randn(2000, 4), 0)
        entropies.append(quantizer.perplexity()[0, 0].log2().item())
    assert entropies[0] > entropies[1] > entropies[2]


@pytest.mark.parametrize("lam", [0.5, 8.0, 60.0])
def test_codes_of_one_dimension_start_at_the_optimal_spacing(lam: float) -> None:
    """Distortion + lambda * bits of a Gaussian is that of the best uniform quantiser (Gish & Pierce 1968)."""
    quantizer = VectorQuantizer(VQVAEConfig("patch", 8, 8, 6, 1, 1, ((256, 1),), (lam,)))
    deviation = 20.0
    latents = torch.randn(20000, 1) * deviation
    quantizer.start_from(latents, 0)
    z = latents.T[None, :, :, None]
    distortion = (z - quantizer.dequantize(quantizer.quantize(z, 0), 0)).square().mean().item()
    cost = distortion + lam * quantizer.perplexity()[0, 0].log2().item()
    step = math.sqrt(6 * lam / math.log(2))
    entropy = math.log2(deviation * math.sqrt(2 * math.pi * math.e))
    assert cost < 1.01 * (step**2 / 12 + lam * (entropy - math.log2(step)))


def test_few_codes_of_one_dimension_still_reach_all_latents() -> None:
    quantizer = VectorQuantizer(VQVAEConfig("patch", 8, 8, 6, 1, 1, ((16, 1),), (0.01,)))
    latents = torch.linspace(-50, 70, 1000)[:, None]
    quantizer.start_from(latents, 0)
    z = latents.T[None, :, :, None]
    errors = (z - quantizer.dequantize(quantizer.quantize(z, 0), 0)).abs()
    assert errors.max() < 120 / 14


def test_kmeans_of_fewer_latents_than_codes() -> None:
    quantizer = VectorQuantizer(PLAIN).eval()
    latents = torch.randn(5, 4)
    quantizer.start_from(latents, 0)
    z = latents.T[None, :, :, None]
    torch.testing.assert_close(quantizer.dequantize(quantizer.quantize(z, 0), 0), z)


def test_bits_are_capped_for_codes_that_were_never_used() -> None:
    quantizer = VectorQuantizer(PLAIN)
    counts = quantizer.get_buffer("counts0")
    counts.zero_()
    counts[0, 3] = 10
    bits = quantizer.bits(0)[0]
    assert bits[3] == 0
    assert (bits[[i for i in range(16) if i != 3]] == module.MAX_BITS).all()
    assert quantizer.perplexity().tolist() == [[1.0]]


def test_perplexity_of_equal_use_is_the_number_of_codes() -> None:
    assert VectorQuantizer(CONFIG).perplexity().tolist() == [pytest.approx([7, 5])] * 3
