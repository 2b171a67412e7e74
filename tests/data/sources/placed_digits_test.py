import numpy as np
import pytest

import igpt_keras

pytest.importorskip("tensorflow")


def test_each_digit_once_and_whole_somewhere_on_the_canvas():
    found = {}
    for split in ("train", "validation", "test"):
        digits, placed = (
            igpt_keras.data.load_examples(name, split, input_resolution=side)
            for name, side in (("digits", 8), ("placed_digits", 12))
        )
        # The same splits, in the same order.
        np.testing.assert_array_equal(placed.labels, digits.labels)
        for digit, canvas in zip(digits.images, placed.images):
            places = [
                (top, left)
                for top in range(5)
                for left in range(5)
                if np.array_equal(canvas[top : top + 8, left : left + 8], digit)
            ]
            assert places and canvas.sum() == digit.sum()
            found[places[0]] = found.get(places[0], 0) + 1
    # Every place is about as likely: 1,797 digits, of whose edges some are
    # black, so that the first place that fits may be another.
    assert len(found) == 25
    assert min(found.values()) > 1797 / 25 / 3


def test_its_own_resolution_is_the_canvas():
    split = igpt_keras.data.open_split("placed_digits", "test")
    assert split.input_resolution == 12
