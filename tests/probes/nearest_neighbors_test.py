import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from igpt_keras.probes import hold_out
from igpt_keras.probes import nearest_neighbors
from igpt_keras.probes import probe_neighbors

NUMBERS = (1, 7, 40)


def images(count, seed, noise=(3.0, 1.5)):
    """Two layers of features, one better than the other; gaps in labels."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(3, 6))
    classes = generator.integers(0, 3, count)
    # Units of very different sizes, away from zero.
    scale = np.array([1, 100, 1, 1, 0.01, 1])
    layers = [
        (centers[classes] + sigma * generator.normal(size=(count, 6))) * scale
        for sigma in noise
    ]
    return np.stack(layers).astype("float32") + 2, np.array([2, 5, 9])[classes]


def by_scikit_learn(x, y, queries, k):
    """The weighted vote as scikit-learn's own classifier takes it."""
    scaler = StandardScaler().fit(x)
    classifier = KNeighborsClassifier(
        k, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine"
    )
    classifier.fit(scaler.transform(x), y)
    return classifier.predict(scaler.transform(queries))


def test_is_the_classifier_of_scikit_learn():
    """For each number; layer and number by validation alone."""
    train, validation, test = images(150, 1), images(120, 2), images(130, 3)
    accuracies = {}
    for k in NUMBERS:
        result = nearest_neighbors(*train, *validation, *test, neighbors=k)
        assert result.neighbors.tolist() == [k, k]
        for layer in range(2):
            expected = [
                (by_scikit_learn(train[0][layer], train[1], x[layer], k) == y)
                for x, y in (validation, test)
            ]
            found = (
                result.validation_accuracy[layer],
                result.test_accuracy[layer],
            )
            np.testing.assert_allclose(found, [x.mean() for x in expected])
            accuracies[k, layer] = found
    result = nearest_neighbors(*train, *validation, *test, neighbors=NUMBERS)
    for layer in range(2):
        best = max(NUMBERS, key=lambda k: accuracies[k, layer][0])
        assert result.neighbors[layer] == best
        found = result.validation_accuracy[layer], result.test_accuracy[layer]
        np.testing.assert_allclose(found, accuracies[best, layer])
    assert result.chosen_layer == 1 and 1 in result.tied_layers
    assert (result.num_validation_images, result.num_test_images) == (120, 130)


def test_held_out_images_choose_and_then_vote():
    train, test = images(150, 1), images(130, 3)
    x, y = train
    fit, held_out = hold_out(y)
    result = probe_neighbors(*train, *test, neighbors=NUMBERS)
    parts = (x[:, fit], y[fit], x[:, held_out], y[held_out])
    chosen = nearest_neighbors(*parts, *test, neighbors=NUMBERS)
    np.testing.assert_array_equal(result.neighbors, chosen.neighbors)
    np.testing.assert_array_equal(
        result.validation_accuracy, chosen.validation_accuracy
    )
    assert (result.test_accuracy != chosen.test_accuracy).any()
    for layer, k in enumerate(result.neighbors):
        expected = by_scikit_learn(x[layer], y, test[0][layer], k) == test[1]
        assert result.test_accuracy[layer] == pytest.approx(expected.mean())


def test_nothing_is_chosen_on_test():
    train, validation, test = images(150, 1), images(120, 2), images(130, 3)
    result = nearest_neighbors(*train, *validation, *test, neighbors=NUMBERS)
    swapped = test[0][::-1], test[1]
    other = nearest_neighbors(*train, *validation, *swapped, neighbors=NUMBERS)
    np.testing.assert_array_equal(result.neighbors, other.neighbors)
    assert result.chosen_layer == other.chosen_layer
    assert other.test_accuracy[1] < result.test_accuracy[1]


@pytest.mark.parametrize(
    "neighbors, message",
    [
        (0, "must be an int >= 1"),
        ([], "must be an int >= 1"),
        (2.5, "must be an int >= 1"),
        (True, "must be an int >= 1"),
        ([3, 151], "neighbors=151 cannot vote: there are 150"),
    ],
)
def test_refuses_numbers_of_neighbours(neighbors, message):
    sets = *images(150, 1), *images(20, 2), *images(20, 3)
    with pytest.raises(ValueError, match=message):
        nearest_neighbors(*sets, neighbors=neighbors)


@pytest.mark.parametrize("place", ["train", "validation", "test"])
def test_refuses_what_a_linear_probe_refuses(place):
    """Errors of sets are shared, see `logistic_regression_test.py`."""
    sets = {
        name: list(images(30, seed))
        for seed, name in enumerate(("train", "validation", "test"))
    }

    def call():
        return nearest_neighbors(*(a for s in sets.values() for a in s))

    sets[place][1] = sets[place][1][:-1]
    with pytest.raises(ValueError, match=f"{place}: features must be"):
        call()
    sets[place] = list(images(30, 4))
    sets[place][0][0, 3, 2] = np.nan
    with pytest.raises(ValueError, match=f"{place}: features are not finite"):
        call()
    sets[place] = list(images(30, 4))
    sets["train"][1][:] = 5
    with pytest.raises(ValueError, match="at least two classes"):
        call()
