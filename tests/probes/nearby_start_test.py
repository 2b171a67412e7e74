import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from igpt_keras import fit_logistic_regression
from igpt_keras.probes.nearby_start import nearby_start
from igpt_keras.probes.nearby_start import second_moments


def made(num_classes, width=24):
    """Features that are much alike, as those of a network."""
    generator = np.random.default_rng(0)
    places = generator.integers(0, num_classes, 500)
    hidden = generator.normal(size=(500, width))
    # What tells the classes is in where they differ least.
    centres = np.linspace(0, 1, width) * generator.normal(size=(10, width))
    hidden += centres[places]
    mixed, _ = np.linalg.qr(generator.normal(size=(width, width)))
    features = hidden * np.logspace(0, -2, width) @ mixed
    return features / features.std(axis=0) + 0.2, places


def loss(features, places, penalty, coef, intercept):
    scores = features @ coef.T + intercept
    if len(coef) == 1:
        scores = np.concatenate([0 * scores, scores], axis=1)
    right = log_softmax(scores, axis=1)[np.arange(len(places)), places]
    return -right.mean() + penalty / 2 * np.sum(coef**2)


def test_moments():
    features, _ = made(3)
    rows = np.concatenate([features, np.ones((500, 1))], axis=1)
    expected = rows.T @ rows / 500
    np.testing.assert_allclose(second_moments(features), expected)
    single = second_moments(features.astype("float32"))
    np.testing.assert_allclose(single, expected, atol=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("c", [0.01, 10.0])
def test_ends_where_no_direction_makes_the_loss_less(num_classes, c):
    features, places = made(num_classes)
    penalty = 1 / (c * 500)
    moments = second_moments(features)
    coef, intercept = nearby_start(
        features, places, moments, penalty, 1e-7, 1000
    )
    rows = 1 if num_classes == 2 else num_classes
    assert coef.shape == (rows, 24) and intercept.shape == (rows,)
    least = loss(features, places, penalty, coef, intercept)
    point = np.concatenate([coef, intercept[:, None]], axis=1)
    for i in np.ndindex(point.shape):
        for step in (1e-3, -1e-3):
            other = point.copy()
            other[i] += step
            other = loss(features, places, penalty, other[:, :-1], other[:, -1])
            assert other > least
    probe = LogisticRegression(C=c, tol=1e-9, max_iter=50_000)
    probe.fit(features, places)
    np.testing.assert_allclose(
        least,
        loss(features, places, penalty, probe.coef_, probe.intercept_),
        rtol=1e-8,
    )
    np.testing.assert_allclose(
        features @ coef.T, features @ probe.coef_.T, atol=1e-2
    )


def test_probes_of_features_that_are_alike_take_few_passes():
    features, places = made(4)
    plain = LogisticRegression(C=10, max_iter=10_000).fit(features, places)
    assert plain.n_iter_[0] > 100
    one_set = features, places
    found = fit_logistic_regression(
        *one_set, *one_set, *one_set, regularization=10, max_iterations=40
    )
    assert found.converged.all()
    # scikit-learn's solver had nothing left to do.
    assert found.probes[0][-1].n_iter_[0] == 0


def test_starts_from_another_solution():
    features, places = made(4)
    moments = second_moments(features)
    start = nearby_start(features, places, moments, 1e-3, 1e-7, 1000)
    # After a step at most it is where it was.
    again = nearby_start(features, places, moments, 1e-3, 1e-5, 1, start)
    for one, other in zip(start, again):
        np.testing.assert_allclose(one, other, atol=1e-3)
    fresh = nearby_start(features, places, moments, 1e-3, 1e-5, 1)
    assert np.abs(fresh[0] - start[0]).max() > 0.1
