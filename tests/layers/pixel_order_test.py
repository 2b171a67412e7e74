import numpy as np
import pytest

from igpt_keras.layers import pixel_order

ALL = ["raster", "columns", "reversed", "spiral", "z_curve", "random:5"]


def walked_spiral(side):
    """Step by step: turn right at the border and at what was visited."""
    row = column = 0
    step, visited = (0, 1), []
    for _ in range(side * side):
        visited.append((row, column))
        ahead = (row + step[0], column + step[1])
        if ahead in visited or not all(0 <= i < side for i in ahead):
            step = (step[1], -step[0])
        row, column = row + step[0], column + step[1]
    return [row * side + column for row, column in visited]


def nested_quadrants(side):
    """Top left, top right, bottom left, bottom right, each the same way."""

    def visit(row, column, size):
        if row >= side or column >= side:
            return []
        if size == 1:
            return [row * side + column]
        half = size // 2
        corners = [(0, 0), (0, half), (half, 0), (half, half)]
        return [
            place
            for down, right in corners
            for place in visit(row + down, column + right, half)
        ]

    return visit(0, 0, 2 ** (side - 1).bit_length())


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 6, 8])
def test_orders_are_those_that_are_walked(side):
    grid = np.arange(side * side).reshape(side, side)
    expected = {
        "raster": grid.ravel(),
        "columns": [row * side + c for c in range(side) for row in range(side)],
        "reversed": grid.ravel()[::-1],
        "spiral": walked_spiral(side),
        "z_curve": nested_quadrants(side),
    }
    for order, places in expected.items():
        found = pixel_order(order, side * side)
        assert found.dtype == "int32"
        np.testing.assert_array_equal(found, places, err_msg=order)


def test_by_hand():
    spiral = [0, 1, 2, 3, 7, 11, 15, 14, 13, 12, 8, 4, 5, 6, 10, 9]
    z_curve = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    np.testing.assert_array_equal(pixel_order("spiral", 16), spiral)
    np.testing.assert_array_equal(pixel_order("z_curve", 16), z_curve)
    # 3x3 of the 4x4 curve.
    z_curve = [0, 1, 3, 4, 2, 5, 6, 7, 8]
    np.testing.assert_array_equal(pixel_order("z_curve", 9), z_curve)


@pytest.mark.parametrize("order", ALL)
@pytest.mark.parametrize("length", [1, 9, 1024])
def test_every_order_is_a_permutation(order, length):
    found = pixel_order(order, length)
    np.testing.assert_array_equal(np.sort(found), np.arange(length))


def test_random_orders_are_of_the_seed():
    first = pixel_order("random:0", 1024)
    np.testing.assert_array_equal(pixel_order("random:0", 1024), first)
    for other in (pixel_order("random:1", 1024), np.arange(1024)):
        assert np.mean(first == other) < 0.01
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.15


def test_refuses_what_is_no_order():
    for order in ("diagonal", "random", "random:-1", "random:SEED", None, 3):
        with pytest.raises(ValueError, match="Unknown order .* 'random:0'"):
            pixel_order(order, 16)
    for order in ("columns", "spiral", "z_curve"):
        with pytest.raises(ValueError, match="square images, and 8 tokens"):
            pixel_order(order, 8)
    for order in ("raster", "reversed", "random:0"):
        assert len(pixel_order(order, 8)) == 8
