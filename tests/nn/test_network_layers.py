"""Convolutions in tiles give the plain sums, whatever the size of the grid, and the strips cover it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from vqcodec.nn import tiles
from vqcodec.nn.layers import Conv3x3, Pointwise, shuffled, strided_as_3x3, transposed_as_3x3, unshuffled
from vqcodec.nn.tiles import Scratch, Tiles
from vqcodec.nn.trunk import convolved
from vqcodec.threads import Workers

SIZES = [(1, 1), (1, 9), (4, 4), (7, 5), (13, 22), (5, 300)]
Doubles = npt.NDArray[np.float64]


def plain(x: Doubles, kernels: Doubles, stride: int = 1) -> Doubles:
    """The convolution by its definition, with a margin of 1 of zeros: [H, W, C] -> [h, w, K]."""
    side = len(kernels)
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    rows, columns = ((size + 2 - side) // stride + 1 for size in x.shape[:2])
    total = np.zeros((rows, columns, kernels.shape[3]))
    for i in range(side):
        for j in range(side):
            part = padded[i : i + stride * rows : stride, j : j + stride * columns : stride]
            total += part[:rows, :columns] @ kernels[i, j]
    return total


def random(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_convolution_is_the_sum_of_its_taps(implementation: str, size: tuple[int, int], rectify: bool) -> None:
    x, kernels, bias = random(*size, 5), random(3, 3, 5, 7, seed=1), random(7, seed=2)
    found = convolved(Conv3x3(kernels, bias), x, Workers(1), Scratch(), rectify=rectify)
    used = np.maximum(x, 0) if rectify else x
    expected = plain(used.astype(np.float64), kernels.astype(np.float64)) + bias
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("size", [(2, 2), (6, 10)])
def test_a_strided_convolution_and_its_transpose(implementation: str, size: tuple[int, int]) -> None:
    x, kernels = random(*size, 3), random(4, 4, 3, 5, seed=1)
    blocks = np.ascontiguousarray(unshuffled(x, 2)).reshape(size[0] // 2, size[1] // 2, 12)
    found = convolved(Conv3x3(strided_as_3x3(kernels)), blocks, Workers(1), Scratch())
    np.testing.assert_allclose(found, plain(x.astype(np.float64), kernels.astype(np.float64), 2), atol=1e-4)
    # The transpose T of a linear function f has y . f(x) = T(y) . x for all x and y.
    y = random(*found.shape, seed=2)
    back = convolved(Conv3x3(transposed_as_3x3(kernels.transpose(0, 1, 3, 2))), y, Workers(1), Scratch())
    assert float((y * found).sum()) == pytest.approx(float((shuffled(back, 2) * x).sum()), rel=1e-3)


def test_shuffling_is_undone() -> None:
    x = random(12, 8, 3)
    blocks = np.ascontiguousarray(unshuffled(x, 4)).reshape(3, 2, 48)
    assert np.array_equal(blocks[1, 1].reshape(4, 4, 3), x[4:8, 4:8])
    assert np.array_equal(shuffled(blocks, 4), x)


@pytest.mark.parametrize("size", SIZES)
def test_strips_cover_each_tile_once(size: tuple[int, int]) -> None:
    grid = Tiles(*size)
    seen = np.zeros((-(-size[0] // 4), -(-size[1] // 4)), int)
    for strip in grid.strips():
        seen[strip.top : strip.bottom, strip.left : strip.right] += 1
        assert strip.count <= 1.5 * tiles.STRIP
    assert (seen == 1).all()


def test_strips_of_an_area_cover_it_with_its_margin() -> None:
    strips = Tiles(40, 50).strips((slice(9, 20), slice(30, 50)), 3)
    assert (min(s.top for s in strips), max(s.bottom for s in strips)) == (1, 6)  # rows 6 to 22
    assert (min(s.left for s in strips), max(s.right for s in strips)) == (6, 13)  # columns 27 to 49


@pytest.mark.parametrize("rectify", [False, True])
def test_a_pointwise_convolution_of_several_inputs(implementation: str, rectify: bool) -> None:
    a, b = random(6, 5, 3), random(6, 5, 4, seed=1)
    first, second, bias = random(3, 2, seed=2), random(4, 2, seed=3), random(2, seed=4)
    found = np.zeros((6, 5, 2), np.float32)
    Pointwise([first, second], bias, Scratch()).compute([a, b], [found], slice(2, 5), rectify=rectify)
    expected = a @ first + (np.maximum(b, 0) if rectify else b) @ second + bias
    np.testing.assert_allclose(found[2:5], expected[2:5], atol=1e-5)
    assert not found[[0, 1, 5]].any()


def test_a_pointwise_convolution_from_segments_to_several_outputs(implementation: str) -> None:
    """From the rows of blocks of 4 x 4 pixels to two arrays, and back."""
    pixels, matrix = random(12, 24, 3), random(48, 48, seed=1)
    blocks = pixels.reshape(3, 4, 6, 12).transpose(0, 2, 1, 3)
    one, two = np.zeros((3, 6, 7), np.float32), np.zeros((3, 6, 41), np.float32)
    Pointwise([matrix], np.zeros(48, np.float32), Scratch()).compute([blocks], [one, two], slice(0, 3))
    expected = blocks.reshape(3, 6, 48) @ matrix
    np.testing.assert_allclose(np.concatenate([one, two], 2), expected, atol=1e-4)
    again = np.zeros_like(pixels)
    target = again.reshape(3, 4, 6, 12).transpose(0, 2, 1, 3)
    inverse = np.linalg.inv(matrix.astype(float)).astype(np.float32)
    layer = Pointwise([inverse[:7], inverse[7:]], np.zeros(48, np.float32), Scratch())
    layer.compute([one, two], [target], slice(0, 3))
    np.testing.assert_allclose(again, pixels, atol=1e-2)
