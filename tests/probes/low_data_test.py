import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from igpt_keras.probes import low_data_accuracy
from igpt_keras.probes.low_data import draw_balanced_subset


@pytest.fixture(scope="module")
def digits():
    """train and test features and labels, interleaved."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return [
        array[part] for part in (order[:1200], order[1200:]) for array in (x, y)
    ]


def reference(train, y, test, t, seeds, labels_per_class, **arguments):
    """Accuracy on each subset by scikit-learn."""
    accuracies = []
    for seed in seeds:
        subset = draw_balanced_subset(y, labels_per_class, seed)
        scaler = StandardScaler().fit(train[subset])
        probe = LogisticRegression(max_iter=1000, **arguments)
        probe.fit(scaler.transform(train[subset]), y[subset])
        accuracies.append(probe.score(scaler.transform(test), t))
    return np.array(accuracies)


def test_subsets_are_balanced_distinct_and_fixed_by_the_seed():
    labels = np.random.default_rng(0).integers(0, 10, 1000)
    subsets = [draw_balanced_subset(labels, 4, (0, i)) for i in range(5)]
    for subset in subsets:
        assert np.bincount(labels[subset]).tolist() == [4] * 10
        assert len(set(subset)) == 40
    assert len({tuple(s) for s in subsets}) == 5
    again = draw_balanced_subset(labels, 4, (0, 3))
    np.testing.assert_array_equal(again, subsets[3])


def test_low_data_accuracy(digits):
    train, y, test, t = digits
    mean, deviation = low_data_accuracy(train, y, test, t)
    assert 0.6 < mean < 0.9 and 0 < deviation < 0.1
    more, _ = low_data_accuracy(train, y, test, t, labels_per_class=25)
    assert more > mean + 0.05
    # The deviation divides by the number of subsets less one: for two subsets
    # with mean m, of which the first scores a, it is |a - m| * sqrt(2).
    two, spread = low_data_accuracy(train, y, test, t, num_subsets=2)
    subset = draw_balanced_subset(y, 4, (0, 0))
    scaler = StandardScaler().fit(train[subset])
    probe = LogisticRegression(max_iter=1000)
    probe.fit(scaler.transform(train[subset]), y[subset])
    first = probe.score(scaler.transform(test), t)
    assert abs(spread - abs(first - two) * np.sqrt(2)) < 1e-9
    with pytest.raises(ValueError, match="num_subsets must be >= 2"):
        low_data_accuracy(train, y, test, t, num_subsets=1)


def test_low_data_needs_enough_images():
    with pytest.raises(ValueError, match="Class 1 has 2 images"):
        draw_balanced_subset(np.array([0, 0, 0, 0, 1, 1]), 4, 0)


@pytest.mark.parametrize("c", [1e-4, 1.0, 100.0])
def test_c_is_the_one_given(digits, c):
    expected = reference(
        *digits, seeds=[(3, 0), (3, 1)], labels_per_class=10, C=c
    )
    mean, deviation = low_data_accuracy(
        *digits, labels_per_class=10, num_subsets=2, seed=3, regularization=c
    )
    assert mean == pytest.approx(expected.mean())
    assert deviation == pytest.approx(expected.std(ddof=1))


def test_c_is_one_unless_told(digits):
    values = [
        low_data_accuracy(*digits, num_subsets=2, **arguments)
        for arguments in ({}, {"regularization": 1.0}, {"regularization": 0.01})
    ]
    assert values[0] == values[1] != values[2]


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_the_solver_has_iterations_enough():
    """The class is in the direction of least variance, found last."""
    generator = np.random.default_rng(0)
    y = np.arange(800) % 2
    x = generator.normal(size=(800, 30))
    x[:, -1] += 0.8 * (2 * y - 1)
    x *= 10.0 ** np.linspace(0, -2.7, 30)
    x = x @ np.linalg.qr(generator.normal(size=(30, 30)))[0]
    arguments = {"labels_per_class": 200, "num_subsets": 2}
    mean, _ = low_data_accuracy(
        x[:400], y[:400], x[400:], y[400:], regularization=1e4, **arguments
    )
    # It takes some four hundred iterations; after a hundred it is below.
    assert mean > 0.7


def test_takes_the_features_of_one_layer(digits):
    train, y, test, t = digits
    for bad in (train[None], train[:, 0], train[:7]):
        with pytest.raises(ValueError, match="train: features must be those"):
            low_data_accuracy(bad, y, test, t)
    with pytest.raises(ValueError, match="whole numbers"):
        low_data_accuracy(train, y + 0.5, test, t)
    assert low_data_accuracy(train.tolist(), y.tolist(), test, t) == (
        low_data_accuracy(train, y, test, t)
    )
