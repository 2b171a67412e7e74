import numpy as np
import tiny
from tiny import array

import igpt_keras
from igpt_keras import reports


def test_tile_puts_a_white_pixel_between():
    images = np.arange(3, dtype="uint8")[:, None, None, None]
    images = np.broadcast_to(images, (3, 2, 2, 3))
    grid = reports.tile(images, 2)
    # Two columns and two rows of 2 pixels, and a line around each.
    assert grid.shape == (7, 7, 3)
    for i, (row, column) in enumerate([(0, 0), (0, 1), (1, 0)]):
        corner = grid[1 + 3 * row :, 1 + 3 * column :]
        assert (corner[:2, :2] == i).all()
    assert (grid[4:6, 4:6] == 255).all()
    assert (grid[::3] == 255).all() and (grid[:, ::3] == 255).all()
    assert reports.tile(images, 9).shape == (4, 10, 3)


def test_enlarge_repeats_pixels():
    image = np.arange(12, dtype="uint8").reshape(2, 2, 3)
    large = reports.enlarge(image, least=5)
    assert large.shape == (6, 6, 3)
    np.testing.assert_array_equal(large[::3, ::3], image)
    np.testing.assert_array_equal(large[2::3, 2::3], image)


def test_rows_show_half_completions_and_the_original():
    images = np.full((2, 4, 4, 3), 7, "uint8")
    completions = np.arange(2 * 3, dtype="uint8").reshape(2, 3, 1, 1, 1)
    completions = np.broadcast_to(completions, (2, 3, 4, 4, 3))
    rows = reports.completion_rows(images, completions).reshape(2, 5, 4, 4, 3)
    assert (rows[:, 0, :2] == 7).all() and (rows[:, 0, 2:] == 128).all()
    np.testing.assert_array_equal(rows[:, 1:4], completions)
    np.testing.assert_array_equal(rows[:, 4], images)
    assert (images == 7).all()


def test_palette_squares_go_from_dark_to_bright():
    colours = np.uint8([[255, 255, 255], [0, 0, 255], [0, 255, 0], [0, 0, 0]])
    squares = reports.palette_squares(colours, side=2)
    assert squares.shape == (4, 2, 2, 3)
    np.testing.assert_array_equal(squares[:, 1, 1], colours[[3, 1, 2, 0]])


def test_completions_keep_the_given_half():
    palette = np.linspace(-1, 1, 33).reshape(11, 3)
    tokenizer = igpt_keras.PaletteTokenizer(palette)
    exact = array(tokenizer.detokenize(tiny.token_ids(batch=2)))
    # Near enough to a colour of the palette to become it.
    images = exact ^ 1
    samples, completions, originals = reports.sample_pictures(
        tiny.model(), tokenizer, images, num_samples=3, seed=1, each=5
    )
    assert samples.shape == (3, 4, 4, 3)
    assert completions.shape == (2, 5, 4, 4, 3)
    np.testing.assert_array_equal(originals, exact)
    given = np.broadcast_to(exact[:, None, :2], (2, 5, 2, 4, 3))
    np.testing.assert_array_equal(completions[:, :, :2], given)
    # Five different ones.
    assert len(np.unique(completions[0].reshape(5, -1), axis=0)) == 5
