import numpy as np
import pytest

from igpt_keras.models.resize_positions import resize_positions


def table(side, dimensions=6):
    return np.random.default_rng(0).normal(size=(side * side, dimensions))


@pytest.mark.each_backend
def test_the_same_size_is_the_same_table():
    np.testing.assert_array_equal(
        resize_positions(table(5), 25), table(5).astype("float32")
    )


@pytest.mark.each_backend
def test_interpolates_each_dimension_as_an_image():
    """Inside, cubics are exact on planes; rows are not columns."""
    rows, columns = np.mgrid[0:8, 0:8]
    planes = np.stack([rows, columns, 2 * rows - columns + 1], axis=-1)
    resized = resize_positions(planes.reshape(64, 3), 256).reshape(16, 16, 3)
    # Centres of the new positions on the old grid.
    at = (np.arange(16) + 0.5) / 2 - 0.5
    inside = slice(4, 12)
    np.testing.assert_allclose(
        resized[inside, 7, 0], at[inside], atol=1e-5, err_msg="rows"
    )
    np.testing.assert_allclose(
        resized[7, inside, 1], at[inside], atol=1e-5, err_msg="columns"
    )
    np.testing.assert_allclose(
        resized[inside, inside, 2],
        2 * at[inside, None] - at[None, inside] + 1,
        atol=1e-5,
    )


@pytest.mark.each_backend
def test_dimensions_do_not_mix():
    whole = resize_positions(table(4), 36)
    for i in range(6):
        alone = resize_positions(table(4)[:, i : i + 1], 36)
        np.testing.assert_allclose(whole[:, i : i + 1], alone, atol=1e-6)


@pytest.mark.each_backend
def test_shrinking_averages():
    """Antialiased: a chessboard becomes grey, not one of its colours."""
    board = np.indices((16, 16)).sum(axis=0) % 2
    small = resize_positions(board.reshape(256, 1), 16)
    assert np.abs(small - 0.5).max() < 0.1


def test_refuses_what_is_no_grid():
    with pytest.raises(ValueError, match="10 positions are no square"):
        resize_positions(np.zeros((10, 3)), 16)
    with pytest.raises(ValueError, match="17 positions are no square"):
        resize_positions(np.zeros((16, 3)), 17)
