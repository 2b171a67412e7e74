"""Orders of epochs: no two alike, and as good as drawn from a hat."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from igpt_keras.data.order import shuffled  # noqa: E402


def orders(epochs, count, seed=0, start=0):
    """The first epochs of a seed, `(epochs, count)`."""
    places = tf.data.Dataset.range(start * count, (start + epochs) * count)
    indices = shuffled(places, count, seed).map(lambda index, _: index)
    return next(iter(indices.batch(epochs * count))).numpy().reshape(-1, count)


def test_every_epoch_is_a_permutation():
    found = orders(20, 37)
    np.testing.assert_array_equal(
        np.sort(found), np.tile(np.arange(37), (20, 1))
    )


@pytest.mark.large
def test_no_epoch_and_no_seed_is_like_another():
    """Also those that 8, 16 or 31 bits would take for the same."""
    found = list(orders(200, 20))
    seeds = [*range(1, 20), 2**8, 2**8 + 1, 2**16, 2**24, 2**31 - 1]
    found += [orders(1, 20, seed)[0] for seed in seeds]
    far = [2**16, 2**31, 2**32, 2**40]
    found += [orders(1, 20, start=epoch)[0] for epoch in far]
    assert len(np.unique(found, axis=0)) == 200 + len(seeds) + len(far)


@pytest.mark.parametrize(
    "count",
    [10, *(pytest.param(n, marks=pytest.mark.large) for n in (64, 257))],
)
def test_neighbours_are_independent(count):
    """In place and in epoch: correlations are within four errors of none."""
    epochs = 20_000 // count
    found = (orders(epochs, count) - (count - 1) / 2) / np.sqrt(
        (count**2 - 1) / 12
    )
    in_place = found[:, 1:] * found[:, :-1]
    in_epoch = found[1:] * found[:-1]
    for products, expected in (
        # Without replacement the next is a little less alike.
        (in_place, -1 / (count - 1)),
        (in_epoch, 0),
    ):
        means = products.mean(axis=1)
        error = means.std() / np.sqrt(len(means))
        assert abs(means.mean() - expected) < 4 * error


def test_every_example_is_everywhere_as_often():
    """Chi-square of (place, example), over epochs and over seeds."""
    count, epochs = 12, 600
    by_epoch = orders(epochs, count)
    by_seed = np.stack([orders(1, count, seed)[0] for seed in range(36)])
    for found in (by_epoch, by_seed):
        seen = np.zeros((count, count))
        np.add.at(seen, (np.arange(count), found), 1)
        expected = len(found) / count
        chi_square = ((seen - expected) ** 2 / expected).sum()
        freedom = (count - 1) ** 2
        assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)


def test_what_is_random_of_an_image_is_of_its_epoch():
    places = tf.data.Dataset.range(20)
    pairs = [
        (int(index), *image_seed.numpy())
        for index, image_seed in shuffled(places, 5, 3)
    ]
    assert [p[0] + 5 * (i // 5) for i, p in enumerate(pairs)] == [
        p[2] for p in pairs
    ]
    assert {p[1] for p in pairs} == {3} and len(set(pairs)) == 20
