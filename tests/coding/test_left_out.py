"""Units some of whose positions carry no codes: to their neighbours, these are as positions outside of the unit are."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import SMALL, Recorder, formula_codes, formula_tensors, numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.coding import native, range_coder, wavefront
from vqcodec.coding.exp_table import EXP
from vqcodec.coding.formats import BLOCK_TAPS, ENTRY_TAPS
from vqcodec.coding.integer_prior import Codes, IntegerPrior, Layout, Mask
from vqcodec.coding.native import NativePrior
from vqcodec.coding.payloads import read_units, write_units
from vqcodec.coding.wavefront import sweep, traverse
from vqcodec.errors import DamagedFile, VqError

TENSORS = formula_tensors(SMALL)
PRIOR = IntegerPrior(TENSORS, SMALL, 0)
MASKED = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: (
        st.none().map(lambda _: (shape, None))
        | st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
            lambda values: (shape, np.array(values).reshape(shape))
        )
    )
)
UNITS = st.lists(MASKED, min_size=1, max_size=5)


def formula_mask(height: int, width: int, salt: int = 1) -> Mask:
    """A mask [H, W] by a formula: three of five positions carry codes."""
    mask: Mask = numbers(salt, (height, width), 0, 4) < 3
    return mask


def emptied(grids: list[Codes], masks: list[Mask | None]) -> list[Codes]:
    """The grids with 0 where no codes are."""
    return [
        grid if mask is None else np.where(mask, grid, 0).astype(np.int32)
        for grid, mask in zip(grids, masks, strict=True)
    ]


def same(grids: list[Codes], others: list[Codes]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(grids, others, strict=True))


# The reference: one position after the other, in integers, from the tensors.


class Reference:
    """The prior at quality 0 for one unit. Nothing here knows of waves, slabs or several positions at once."""

    def __init__(self, layout: Layout, codes: Codes, mask: Mask) -> None:
        self.layout, self.codes, self.mask = layout, codes, mask
        self.tensors = {name: tensor.astype(np.int64) for name, tensor in formula_tensors(layout).items()}
        self.features = cache(self._features)

    def product(self, name: str, x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        bias = self.tensors[f"{name}.bias"]
        total = self.tensors[f"{name}.weight"] @ x + (bias if bias.ndim == 1 else bias[0])
        return total >> self.tensors[f"{name}.shift"]

    def _features(self, layer: int, i: int, j: int) -> npt.NDArray[np.int64]:
        """What a neighbour sees of position (i, j): its embedding (layer 0), or what `layer` blocks made there."""
        if i < 0 or j < 0 or j >= self.mask.shape[1] or not self.mask[i, j]:
            return np.zeros(self.layout.channels, np.int64)
        if layer == 0:
            return sum(self.tensors[f"codes.{g}.0.embedding"][c] for g, c in enumerate(self.codes[:, i, j])).clip(
                -127, 127
            )
        name, taps = ("entry", ENTRY_TAPS) if layer == 1 else (f"block.{layer - 2}", BLOCK_TAPS)
        context = np.concatenate([self.features(layer - 1, i + di, j + dj) for di, dj in taps])
        u, v = np.split(self.product(f"{name}.gate", context), 2)
        gated = (u.clip(-64, 64) * (v + 32).clip(0, 64) + 32) >> 6
        out = self.product(f"{name}.project", gated).clip(-127, 127)
        return out if layer == 1 else (out + self.features(layer - 1, i, j)).clip(-127, 127)

    def counts(self, g: int, i: int, j: int) -> npt.NDArray[np.float32]:
        state = self.product("state", self.features(self.layout.blocks, i, j)).clip(-127, 127)
        for earlier in range(g):
            state = state + self.tensors[f"codes.{earlier}.0.state"][self.codes[earlier, i, j]]
        hidden = self.product(f"head.{g}", state.clip(-127, 127)).clip(0, 127)
        logits = self.product(f"codes.{g}.0.out", hidden)
        weights = [EXP[min(255, int(logits.max() - logit))] for logit in logits]
        shift = sum(weights).bit_length() - 22
        return np.array([max(1, weight >> shift if shift > 0 else weight << -shift) for weight in weights], np.float32)

    def payload(self) -> bytes:
        """By wave, codebook and row; the coder has tests of its own."""
        coder = range_coder.RangeEncoder()
        height, width = self.mask.shape
        for t in range(width + 2 * (height - 1)):
            for g, size in enumerate(self.layout.sizes):
                for i in range(height):
                    j = t - 2 * i
                    if size > 1 and 0 <= j < width and self.mask[i, j]:
                        coder.encode(self.codes[g, i, j].reshape(1), self.counts(g, i, j)[None])
        stream = coder.get_compressed().astype("<u4").tobytes()
        return stream[:-3] + stream[-3:].rstrip(b"\0") if stream else b""


@pytest.mark.usefixtures("payload_code")
class TestPayloads:
    """With each implementation."""

    @pytest.mark.parametrize("layout", [SMALL, Layout((1, 7, 4), 1, 5, 4, 1), Layout((6, 1), 1, 3, 7, 4)], ids=str)
    def test_the_bytes_of_the_reference(self, layout: Layout) -> None:
        prior = IntegerPrior(formula_tensors(layout), layout, 0)
        shapes = [(5, 6), (2, 14), (12, 2), (1, 1), (4, 9), (9, 9)]
        masks = [formula_mask(*shape, salt) for salt, shape in enumerate(shapes)]
        masks[3][:] = masks[4][:] = True
        masks[5][2:7, 1:8] = False
        grids = [formula_codes(layout.sizes, *shape, salt) for salt, shape in enumerate(shapes)]
        expected = [Reference(layout, grid, mask).payload() for grid, mask in zip(grids, masks, strict=True)]
        assert write_units(prior, grids, coded=masks) == expected
        assert same(read_units(prior, expected, shapes, coded=masks), emptied(grids, masks))

    @settings(max_examples=30, deadline=None)
    @given(units=UNITS, salt=st.integers(1, 999), batch=st.sampled_from([1, 2, 16]))
    def test_round_trip(self, units: list[tuple[tuple[int, int], Mask | None]], salt: int, batch: int) -> None:
        shapes, masks = [shape for shape, _ in units], [mask for _, mask in units]
        grids = [formula_codes(SMALL.sizes, *shape, salt + unit) for unit, shape in enumerate(shapes)]
        payloads = write_units(PRIOR, grids, batch=batch, coded=masks)
        assert payloads == [
            write_units(PRIOR, [grid], coded=[mask], prove=False)[0] for grid, mask in zip(grids, masks, strict=True)
        ]
        assert same(read_units(PRIOR, payloads, shapes, batch=batch, coded=masks), emptied(grids, masks))
        for payload, grid, mask in zip(payloads, grids, masks, strict=True):
            if mask is not None and mask.all():
                assert [payload] == write_units(PRIOR, [grid])
            assert (payload == b"") == (mask is not None and not mask.any())

    def test_all_positions_are_as_no_mask(self) -> None:
        grids = [formula_codes(SMALL.sizes, *shape) for shape in [(5, 7), (1, 1), (3, 2)]]
        masks = [np.ones(grid.shape[1:], bool) for grid in grids]
        plain = write_units(PRIOR, grids)
        assert write_units(PRIOR, grids, coded=masks) == plain
        assert write_units(PRIOR, grids, coded=[None, masks[1], None]) == plain
        assert write_units(PRIOR, grids, coded=[None] * 3) == plain

    def test_the_borders_of_a_unit_are_as_positions_that_are_left_out(self) -> None:
        """A unit in the corner of a larger one that is empty otherwise has the same bytes."""
        grid = formula_codes(SMALL.sizes, 4, 6)
        large, mask = formula_codes(SMALL.sizes, 9, 11, 5), np.zeros((9, 11), bool)
        large[:, 3:7, 2:8], mask[3:7, 2:8] = grid, True
        assert write_units(PRIOR, [large], coded=[mask]) == write_units(PRIOR, [grid])

    def test_what_stands_where_no_codes_are_has_no_effect(self) -> None:
        mask = formula_mask(6, 7)
        grid = formula_codes(SMALL.sizes, 6, 7).astype(np.int64)
        expected = write_units(PRIOR, [grid], coded=[mask])  # type: ignore[list-item]
        for value in (0, -1, 16, 1 << 40, -(1 << 62)):
            grid[:, ~mask] = value
            before = grid.copy()
            assert write_units(PRIOR, [grid], coded=[mask]) == expected  # type: ignore[list-item]
            assert np.array_equal(grid, before)
        grid[2][mask] = 16
        with pytest.raises(VqError, match="codebook 2 has 16 codes"):
            write_units(PRIOR, [grid], coded=[mask])  # type: ignore[list-item]

    def test_each_mask_makes_other_bytes(self) -> None:
        """A position that is left out is neither written nor without effect on its neighbours."""
        grid, mask = formula_codes(SMALL.sizes, 5, 5), np.ones((5, 5), bool)
        found = {write_units(PRIOR, [grid])[0]}
        for i, j in np.ndindex(5, 5):
            mask[i, j] = False
            found.add(write_units(PRIOR, [grid], coded=[mask])[0])
            mask[i, j] = True
        assert len(found) == 26

    def test_a_unit_without_any_codes_is_empty(self) -> None:
        grids = [formula_codes(SMALL.sizes, 3, 4), formula_codes(SMALL.sizes, 5, 2)]
        masks = [np.zeros((3, 4), bool), None]
        payloads = write_units(PRIOR, grids, coded=masks)
        assert payloads[0] == b""
        assert payloads[1]
        first, second = read_units(PRIOR, payloads, [(3, 4), (5, 2)], coded=masks)
        assert not first.any()
        assert np.array_equal(second, grids[1])
        told: list[float] = []
        assert write_units(PRIOR, grids[:1], told.append, coded=masks[:1]) == [b""]
        assert told[-1] == 1
        told.clear()
        read_units(PRIOR, [b""], [(3, 4)], told.append, coded=masks[:1])
        assert told[-1] == 1

    @pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 9, 40])
    @pytest.mark.parametrize("byte", [b"\0", b"\x01", b"\xff"])
    def test_surplus_bytes_of_a_unit_without_codes_are_refused(self, length: int, byte: bytes) -> None:
        good = write_units(PRIOR, [formula_codes(SMALL.sizes, 5, 2)])
        for payloads in ([*good, byte * length], [byte * length, *good]):
            shapes = [(5, 2) if payload in good else (3, 4) for payload in payloads]
            masks = [None if payload in good else np.zeros((3, 4), bool) for payload in payloads]
            with pytest.raises(DamagedFile, match="more data"):
                read_units(PRIOR, payloads, shapes, coded=masks)

    def test_golden_bytes(self) -> None:
        """These bytes must never change, or existing files would no longer decode."""
        grid, mask = formula_codes(SMALL.sizes, 7, 9), formula_mask(7, 9)
        mask[:2, :2], mask[3:5, 2:8] = True, False
        assert ["".join("-c"[int(value)] for value in row) for row in mask] == GOLDEN_MASK
        assert write_units(PRIOR, [grid], coded=[mask])[0].hex() == GOLDEN
        (back,) = read_units(PRIOR, [bytes.fromhex(GOLDEN)], [(7, 9)], coded=[mask])
        assert np.array_equal(back, np.where(mask, grid, 0))

    def test_damaged_payloads_are_refused_or_read_as_other_codes(self) -> None:
        grid, mask = formula_codes(SMALL.sizes, 6, 8), formula_mask(6, 8)
        (payload,) = write_units(PRIOR, [grid], coded=[mask])
        damaged = [payload[:length] for length in range(len(payload) - 4)]
        for at in range(0, 8 * (len(payload) - 4), 11):
            changed = bytearray(payload)
            changed[at // 8] ^= 1 << at % 8
            damaged.append(bytes(changed))
        for each in damaged:
            try:
                (back,) = read_units(PRIOR, [each], [(6, 8)], coded=[mask])
            except DamagedFile:
                continue
            assert not np.array_equal(back[:, mask], grid[:, mask])
            assert not back[:, ~mask].any()
            assert all(0 <= codes.min() <= codes.max() < k for codes, k in zip(back, SMALL.sizes, strict=True))
        padded = payload + bytes(-len(payload) % 4)
        for surplus in (bytes(8), b"\xff" * 80):
            with pytest.raises(DamagedFile, match="more data"):
                read_units(PRIOR, [padded + surplus], [(6, 8)], coded=[mask])

    def test_masks_that_do_not_fit_are_refused(self) -> None:
        grids = [formula_codes(SMALL.sizes, 2, 3), formula_codes(SMALL.sizes, 2, 3)]
        payloads, good = write_units(PRIOR, grids), np.ones((2, 3), bool)
        wrong: list[Any] = [[], [None], [good], [good] * 3, [good, good.T], [good, good[:1]], [good, good.ravel()]]
        for coded in [*wrong, [good, good.astype(np.uint8)], [good, good.astype(float)]]:
            with pytest.raises(ValueError, match="bool array"):
                write_units(PRIOR, grids, coded=coded)
            with pytest.raises(ValueError, match="bool array"):
                read_units(PRIOR, payloads, [(2, 3), (2, 3)], coded=coded)


GOLDEN_MASK = ["ccc-ccccc", "ccccc-ccc", "-cc-cc-cc", "-c------c", "cc-------", "ccc-c-c-c", "c---c--c-"]
GOLDEN = (
    "bfe1be9bf592bd6c3ff52b7b658668b7af3037d683b4d9c5c5d820497c47478c96a51341fb00fb1527780215ce25f43f"
    "1bd7f8867bbd4b3c17f6a2ac"
)


# Numpy's two implementations, call by call.


@settings(max_examples=60, deadline=None)
@given(unit=MASKED, swept=st.sampled_from([1, 4, 256]))
def test_sweep_and_traverse_make_the_same_calls(unit: tuple[tuple[int, int], Mask | None], swept: int) -> None:
    shape, mask = unit
    grid = formula_codes(SMALL.sizes, *shape)
    one, other, told = Recorder(), Recorder(), []
    changed = grid.copy()
    traverse(PRIOR, [changed], one, told.append, [mask])
    assert np.array_equal(changed, grid), "the grid stays as it is where no codes are"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wavefront, "SWEEP_CELLS", swept)
        sweep(PRIOR, grid, other, 0, told.append, mask)
    assert len(one.calls) == len(other.calls)
    for (_, symbols, counts), (_, its_symbols, its_counts) in zip(one.calls, other.calls, strict=True):
        assert len(symbols) > 0
        assert np.array_equal(symbols, its_symbols)
        assert np.array_equal(counts, its_counts)
    assert told[-1] == 1


# Native code, at every instruction set.

needs_native = pytest.mark.skipif(native.missing() is not None, reason=f"native code is missing: {native.missing()}")
module: Any = native._native
INSTRUCTIONS = module.levels() if module else ()


def check_level(level: str, layout: Layout, units: list[tuple[tuple[int, int], Mask | None]], salt: int) -> None:
    """The prior at this instruction set writes and reads what numpy does."""
    prior = IntegerPrior(formula_tensors(layout), layout, 0)
    shapes, masks = [shape for shape, _ in units], [mask for _, mask in units]
    grids = [formula_codes(layout.sizes, *shape, salt + unit) for unit, shape in enumerate(shapes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_native", None)
        expected = write_units(prior, grids, prove=False, coded=masks)
    fast = NativePrior(prior, level)
    assert fast.write(grids, masks) == expected
    assert same(fast.read(expected, shapes, masks), emptied(grids, masks))


@needs_native
@pytest.mark.parametrize("level", INSTRUCTIONS)
@pytest.mark.parametrize(
    "layout", [SMALL, Layout((7, 1, 300, 16, 17), 1, 96, 48, 5), Layout((1, 1), 1, 4, 3, 2)], ids=str
)
def test_levels_agree(level: str, layout: Layout) -> None:
    shapes = [(5, 7), (1, 1), (9, 9), (1, 30), (30, 1), (60, 3), (4, 4)]
    masks: list[Mask | None] = [formula_mask(*shape, salt) for salt, shape in enumerate(shapes)]
    masks[2], masks[6] = None, np.zeros((4, 4), bool)
    check_level(level, layout, list(zip(shapes, masks, strict=True)), 3)


@needs_native
@pytest.mark.parametrize("level", INSTRUCTIONS)
def test_waves_longer_than_a_chunk(level: str) -> None:
    check_level(level, SMALL, [((150, 230), formula_mask(150, 230))], 1)


@needs_native
@settings(max_examples=60, deadline=None)
@given(data=st.data(), units=UNITS)
def test_any_units(data: st.DataObject, units: list[tuple[tuple[int, int], Mask | None]]) -> None:
    sizes = tuple(data.draw(st.lists(st.sampled_from([1, 2, 16, 33]), min_size=1, max_size=3)))
    layout = Layout(sizes, 1, *data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4))))
    check_level(data.draw(st.sampled_from(INSTRUCTIONS)), layout, units, data.draw(st.integers(1, 999)))


@needs_native
def test_hostile_masks() -> None:
    loaded = NativePrior(PRIOR)._loaded
    codes, shapes, good = formula_codes(SMALL.sizes, 2, 3).tobytes(), ((2, 3),), bytes([1, 1, 0, 1, 0, 1])
    (payload,) = module.write(loaded, (codes,), shapes, (good,))
    assert module.read(loaded, (payload,), shapes, (good,))
    wrong: list[Any] = [b"", good[:-1], good + b"\0", good * 1000, good[:-1] + b"\x02", b"\xff" + good[1:]]
    wrong += [bytearray(good), memoryview(good), "110101", 5, (1, 1, 0, 1, 0, 1), [good], np.ones((2, 3), bool)]
    masks: list[Any] = [(each,) for each in wrong]
    masks += [(), (good, good), (None, None), [good], good, None, np.ones((1, 2, 3), bool)]
    for each in masks:
        with pytest.raises((ValueError, TypeError)):
            module.write(loaded, (codes,), shapes, each)
        with pytest.raises((ValueError, TypeError)):
            module.read(loaded, (payload,), shapes, each)
    with pytest.raises(TypeError):
        module.write(loaded, (codes,), shapes)
    with pytest.raises(TypeError):
        module.read(loaded, (payload,), shapes)
    outside = formula_codes(SMALL.sizes, 2, 3)
    outside[0, 0, 2] = 5  # where there are no codes
    with pytest.raises(ValueError, match="out of range"):
        module.write(loaded, (outside.tobytes(),), shapes, (good,))


@needs_native
def test_native_code_that_ignores_masks_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, mask = formula_codes(SMALL.sizes, 6, 5), formula_mask(6, 5)
    expected = write_units(PRIOR, [grid], coded=[mask])
    right = native.NativePrior.write

    def wrong(self: NativePrior, grids: list[Codes], coded: object = None) -> list[bytes]:
        return right(self, grids)

    monkeypatch.setattr(native.NativePrior, "write", wrong)
    faulty = IntegerPrior(TENSORS, SMALL, 0)
    assert write_units(faulty, [grid], coded=[mask]) == expected
    made = native.native_prior(faulty)
    assert made is not None
    assert made.trusted is False
