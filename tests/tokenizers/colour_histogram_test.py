import numpy as np

import igpt_keras
from igpt_keras.tokenizers import colour_histogram


def test_counts_every_pixel_once():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (30, 4, 4, 3)).astype("uint8")
    images[::3] = [255, 0, 1]
    for batch_size in (7, 30):
        batches = [images[i : i + batch_size] for i in range(0, 30, batch_size)]
        # Ends within an image.
        histogram = colour_histogram.count_colours(batches, 401)
        # As large whatever is counted.
        assert histogram.shape == (2**24,) and histogram.nbytes == 2**27
        colours, counts = colour_histogram.distinct_colours(histogram)
        expected = np.unique(
            images.reshape(-1, 3)[:401], axis=0, return_counts=True
        )
        np.testing.assert_array_equal(colours, expected[0])
        np.testing.assert_array_equal(counts, expected[1])
        assert colours.dtype == np.uint8 and counts.sum() == 401


def test_prior_spreads_a_share():
    histogram = np.zeros(2**24, "int64")
    grey, red = 0x808080, 0xFF0000
    histogram[[grey, red]] = [30, 10]
    smooth = colour_histogram.add_prior(histogram, 0.25, seed=1)
    assert np.isclose(smooth.sum(), 40)
    # Of the noise a hundred-thousandth comes back to the colour itself.
    np.testing.assert_allclose(smooth[[grey, red]], [22.5, 7.5], rtol=1e-3)
    colours, weights = colour_histogram.distinct_colours(smooth)
    moved = colours.astype(int) - 128
    near_grey = (np.abs(moved).max(axis=1) < 110) & moved.any(axis=1)
    for channel in moved[near_grey].T:
        variance = np.average(channel**2, weights=weights[near_grey])
        # A little more than 24: some of red's neighbours are among them.
        assert abs(np.sqrt(variance) - 24) < 1
    again = colour_histogram.add_prior(histogram, 0.25, seed=1)
    np.testing.assert_array_equal(smooth, again)
    other = colour_histogram.add_prior(histogram, 0.25, seed=2)
    assert (smooth != other).any()


def test_palette_of_a_histogram_and_how_it_came_to_be():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (20, 8, 8, 3)).astype("uint8")
    histogram = colour_histogram.count_colours([images], 1280)
    rounds = []
    tokenizer, history = colour_histogram.fit_palette(
        histogram, 7, seed=2, on_round=lambda: rounds.append(1)
    )
    expected = igpt_keras.PaletteTokenizer.fit(images, 7, 2)
    np.testing.assert_allclose(tokenizer.palette, expected.palette, atol=1e-6)
    assert len(rounds) == len(history) > 0
    errors = [row["mean_squared_error"] for row in history]
    assert errors == sorted(errors, reverse=True)
    decoded = tokenizer.detokenize(tokenizer(images))
    error = np.square(np.asarray(decoded, "float64") - images).mean()
    # Centres are rounded to whole levels at the end.
    assert abs(error - errors[-1]) < 2


def test_no_more_colours_than_the_palette_has():
    images = np.zeros((1, 2, 2, 3), "uint8")
    histogram = colour_histogram.count_colours([images], 4)
    tokenizer, history = colour_histogram.fit_palette(histogram, 7)
    assert tokenizer.vocabulary_size == 1 and history == []
