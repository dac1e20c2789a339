"""The prices of codes: equal to the costs by the counts of the prior, up to rounding."""

from __future__ import annotations

import math

import numpy as np
from conftest import SMALL, formula_codes

from vqcodec.codec.code_prices import _to_bits, bits_taken, prices
from vqcodec.coding.formats import COUNT_BITS
from vqcodec.coding.integer_prior import ROWS, IntegerPrior


def test_prices_are_the_costs_by_the_counts_up_to_rounding(small_prior: IntegerPrior) -> None:
    codes = formula_codes(SMALL.sizes, 19, 17)  # more cells than are priced at a time
    assert ROWS < 19 * 17
    for found, counts in zip(prices(small_prior, codes), small_prior.evaluate(codes), strict=True):
        expected = np.log2(counts.sum(1, dtype=float, keepdims=True)) - np.log2(counts.astype(float))
        assert (found.shape, found.dtype) == (counts.shape, np.float32)
        for most, error in ((12, 0.01), (18, 0.2), (math.inf, 1.1)):
            np.testing.assert_allclose(found[expected < most], expected[expected < most], atol=error)
        assert found.max() <= COUNT_BITS
    assert np.ptp(np.concatenate(prices(small_prior, codes), axis=1)) > 5


def test_prices_of_codes_with_almost_no_probability() -> None:
    logits = np.zeros((3, 4), np.float32)
    logits[0, 0], logits[1, 1] = 16, 16 * 1000
    _to_bits(logits)
    first = math.log2(math.e + 3)
    np.testing.assert_allclose(logits[0], [first - math.log2(math.e), first, first, first], rtol=1e-5)
    np.testing.assert_array_equal(logits[1], [COUNT_BITS, 0, COUNT_BITS, COUNT_BITS])
    np.testing.assert_array_equal(logits[2], 2)


def test_the_bits_taken_are_those_of_the_codes(small_prior: IntegerPrior) -> None:
    codes = formula_codes(SMALL.sizes, 5, 7)
    costs = prices(small_prior, codes)
    taken = bits_taken(costs, codes)
    assert taken.shape == codes.shape
    for i, j in np.ndindex(5, 7):
        assert taken[:, i, j].tolist() == [costs[g][7 * i + j, codes[g, i, j]] for g in range(len(codes))]
