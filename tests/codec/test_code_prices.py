"""The prices of codes: equal to the costs by the counts of the prior, up to rounding."""

from __future__ import annotations

import math

import numpy as np
from conftest import SMALL, formula_codes

from vqcodec.codec.code_prices import LEVEL_BITS, bits_taken, levels_taken, prices
from vqcodec.coding.exp_table import EXP
from vqcodec.coding.formats import COUNT_BITS
from vqcodec.coding.integer_prior import IntegerPrior, Levels


def test_the_bits_taken_are_the_costs_by_the_counts_up_to_rounding(small_prior: IntegerPrior) -> None:
    codes = formula_codes(SMALL.sizes, 19, 17)
    found = bits_taken(prices(small_prior, codes), codes)
    assert (found.shape, found.dtype) == (codes.shape, np.float32)
    for bits, counts, row in zip(found, small_prior.evaluate(codes), codes, strict=True):
        chosen = np.take_along_axis(counts.astype(float), row.reshape(-1, 1), axis=1)[:, 0]
        expected = (np.log2(counts.sum(1, dtype=float)) - np.log2(chosen)).reshape(row.shape)
        for most, error in ((12, 0.01), (18, 0.2), (math.inf, 1.1)):
            np.testing.assert_allclose(bits[expected < most], expected[expected < most], atol=error)
    assert found.max() <= COUNT_BITS
    assert np.ptp(found) > 5


def test_the_prices_of_every_code_add_up_to_a_probability_of_1(small_prior: IntegerPrior) -> None:
    codes = formula_codes(SMALL.sizes, 6, 5)
    for g, each in enumerate(prices(small_prior, codes)):
        shares = np.zeros(codes.shape[1:])
        for code in range(small_prior.size(g)):
            changed = codes.copy()
            changed[g] = code
            shares += 2.0 ** -bits_taken([each], changed[g : g + 1])[0].astype(float)
        np.testing.assert_allclose(shares, 1, atol=0.01)


def test_codes_with_almost_no_probability() -> None:
    level = np.array([[0, 16, 16, 16], [255, 0, 255, 255]], np.uint8)
    total = np.array(EXP, np.uint64)[level].sum(1)
    found = [bits_taken([Levels(level, total)], np.full((1, 1, 2), code, np.int32))[0, 0] for code in range(4)]
    first = math.log2(1 + 3 / math.e)
    np.testing.assert_allclose(found, [[first, COUNT_BITS]] + [[first + math.log2(math.e), 0]] + [
        [first + math.log2(math.e), COUNT_BITS]
    ] * 2, atol=1e-4)  # fmt: skip


def test_differences_of_levels_are_differences_of_bits(small_prior: IntegerPrior) -> None:
    codes = formula_codes(SMALL.sizes, 5, 7)
    other = codes.copy()
    other[1] = (codes[1] + 1) % small_prior.size(1)
    found = prices(small_prior, codes)
    levels = levels_taken(found, other) - levels_taken(found, codes)
    assert levels[1].any()
    bits = bits_taken(found, other) - bits_taken(found, codes)
    below = np.maximum(bits_taken(found, other), bits_taken(found, codes)) < COUNT_BITS
    np.testing.assert_allclose(bits[below], (levels * LEVEL_BITS)[below], atol=1e-4)
