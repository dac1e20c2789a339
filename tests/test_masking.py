"""How much a bit may cost at each place: texture, measured in the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vqcodec.nn.masking import LIMIT, USUAL, block_deviations, rate_factors


def test_the_deviation_of_a_block_is_that_of_its_luma() -> None:
    pictures = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(3))
    luma = np.tensordot(pictures.numpy() * 255, [0.299, 0.587, 0.114], (1, 0))
    expected = [[[luma[b, i : i + 8, j : j + 8].std() for j in (0, 8, 16)] for i in (0, 8)] for b in (0, 1)]
    np.testing.assert_allclose(block_deviations(pictures, 8).numpy(), expected, rtol=1e-3)
    assert block_deviations(torch.full((1, 3, 8, 8), 0.7), 8).item() < 1e-2


def test_texture_around_a_place_raises_lambda_there() -> None:
    deviations = torch.full((1, 40, 40), USUAL - 1)
    torch.testing.assert_close(rate_factors(deviations, 0.3, 0.2), torch.ones(1, 40, 40))
    deviations[0, :20] = 4 * USUAL
    factors = rate_factors(deviations, 0.3, 0.0)[0]
    assert factors[0].min() > factors[39].max() == pytest.approx(1)
    assert torch.equal(factors[:, 0], factors[:, 1]), "the edge of the picture is not smooth"


def test_texture_anywhere_raises_lambda_everywhere() -> None:
    deviations = torch.full((2, 40, 40), USUAL - 1)
    deviations[1, :5] = 4 * USUAL
    factors = rate_factors(deviations, 0.0, 0.2)
    assert torch.equal(factors[0], torch.ones(40, 40))
    assert (factors[1] == factors[1, 0, 0]).all()
    assert factors[1, 0, 0] > 1


@pytest.mark.parametrize("deviation", [0.0, 127.5])
def test_factors_are_bounded(deviation: float) -> None:
    factors = rate_factors(torch.full((1, 3, 3), deviation), 1.0, 1.0)
    assert torch.all((factors - (LIMIT if deviation else 1 / LIMIT)).abs() < 1e-6)
