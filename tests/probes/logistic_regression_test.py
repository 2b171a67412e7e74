import os
import tracemalloc

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from igpt_keras import fit_logistic_regression


@pytest.fixture(scope="module")
def digits():
    """train, validation and test features and labels, interleaved."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    parts = np.split(order, [1200, 1500])
    return [array[part] for part in parts for array in (x, y)]


def test_matches_scikit_learn(digits):
    result = fit_logistic_regression(
        *digits, regularization=[0.1], standardize=False
    )
    probe = LogisticRegression(C=0.1, max_iter=1000).fit(*digits[:2])
    assert abs(result.test_accuracy[0] - probe.score(*digits[4:])) < 1e-3
    assert abs(result.validation_accuracy[0] - probe.score(*digits[2:4])) < 1e-3
    assert result.test_accuracy[0] > 0.93


def test_converges_and_says_so(digits):
    result = fit_logistic_regression(*digits)
    assert result.converged.all()
    # scikit-learn stops on the gradient of its own scaling of the loss.
    assert result.gradient_norm.max() < 1e-3
    stopped = fit_logistic_regression(
        *digits, regularization=[10.0], max_iterations=3
    )
    assert not stopped.converged.any()
    assert stopped.gradient_norm.min() > 10 * result.gradient_norm.max()


def test_where_lbfgs_gives_up_it_has_not_converged(digits):
    """It also stops where rounding leaves no step that makes the loss less."""
    result = fit_logistic_regression(
        *digits, regularization=[1.0], tolerance=1e-14
    )
    (probe,) = result.probes
    assert probe[-1].n_iter_[0] < 1000
    assert result.gradient_norm[0] > 1e-13 and not result.converged[0]


def test_plain_features_are_fitted_in_float64(digits):
    """Of an offset that leaves float32 no gradient to follow."""
    apart = list(digits)
    for i in (0, 2, 4):
        apart[i] = digits[i] / 16 + 100
    found = fit_logistic_regression(
        *apart, regularization=[1.0], standardize=False, max_iterations=5000
    )
    probe = LogisticRegression(C=1.0, max_iter=5000, tol=1e-6).fit(*apart[:2])
    assert abs(found.test_accuracy[0] - probe.score(*apart[4:])) < 0.01


def test_standardising_makes_scale_and_offset_irrelevant(digits):
    scaled = list(digits)
    factor = 10.0 ** np.random.default_rng(0).integers(-3, 4, 64)
    for i in (0, 2, 4):
        scaled[i] = digits[i] * factor + 7
    one, two = (fit_logistic_regression(*d) for d in (digits, scaled))
    np.testing.assert_allclose(one.test_accuracy, two.test_accuracy, atol=2e-3)


def test_statistics_come_from_train_only(digits):
    shifted = list(digits)
    shifted[4] = digits[4] + 1000.0
    result = fit_logistic_regression(*shifted)
    # Standardised by its own mean, the test set would be unchanged.
    assert result.test_accuracy[0] < 0.5


def test_layer_and_c_are_chosen_on_validation(digits):
    generator = np.random.default_rng(0)
    train, y, validation, v, test, t = digits
    noise = [generator.normal(size=x.shape) for x in (train, validation, test)]
    # Layer 0 is noise on test only, layer 1 on validation only.
    result = fit_logistic_regression(
        np.stack([train, train]),
        y,
        np.stack([validation, noise[1]]),
        v,
        np.stack([noise[2], test]),
        t,
    )
    assert result.best_layer == 0
    assert result.validation_accuracy[0] > 0.9 > result.validation_accuracy[1]
    assert result.test_accuracy[1] > 0.5 > result.test_accuracy[0]


def test_ties_go_to_the_stronger_penalty_and_the_lower_layer():
    x, y = np.eye(3).repeat(20, axis=0), np.arange(3).repeat(20)
    features = np.stack([0 * x, x, x])
    result = fit_logistic_regression(
        features, y, features, y, features, y, regularization=[1.0, 0.1, 10.0]
    )
    assert result.validation_accuracy[1:].tolist() == [1.0, 1.0]
    assert result.regularization.tolist() == [0.1] * 3
    assert result.chosen_layer == 1 and result.tied_layers == [1, 2]


def test_separable_and_shuffled_labels():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 4, 600)
    x = np.eye(4)[y] + 0.05 * generator.normal(size=(600, 4))
    parts = [slice(0, 300), slice(300, 450), slice(450, 600)]
    separable = [a[part] for part in parts for a in (x, y)]
    assert fit_logistic_regression(*separable).test_accuracy[0] == 1
    noise = generator.permutation(y)
    shuffled = [a[part] for part in parts for a in (x, noise)]
    accuracy = fit_logistic_regression(*shuffled).test_accuracy[0]
    assert abs(accuracy - 0.25) < 0.12


def test_two_classes():
    generator = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = y[:, None] + 0.3 * generator.normal(size=(200, 3))
    result = fit_logistic_regression(x, y, x, y, x, y)
    assert result.test_accuracy[0] > 0.9
    assert result.gradient_norm[0] < 1e-3


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.full(6, 3), "at least two classes, and all 6 have class 3"),
        (np.full(6, -1), "6 of 6 have no label"),
        (["a"] * 6, "must be integers"),
        (np.full(6, 0.5), "whole numbers"),
    ],
)
def test_refuses_labels_that_cannot_be_probed(labels, message):
    x = np.zeros((6, 2))
    with pytest.raises(ValueError, match=message):
        fit_logistic_regression(x, labels, x, labels, x, labels)


def test_as_many_images_as_classes_whatever_their_numbers():
    x, labels = np.eye(6), [0, 1, 2, 40, 41, 999]
    result = fit_logistic_regression(x, labels, x, labels, x, labels)
    assert result.test_accuracy.tolist() == [1.0]


def test_refuses_bad_features():
    x, y = np.zeros((6, 2)), np.arange(6) % 2
    with pytest.raises(ValueError, match="train: features must be"):
        fit_logistic_regression(x[0], y, x, y, x, y)
    with pytest.raises(ValueError, match="test: features are not finite"):
        fit_logistic_regression(x, y, x, y, x * np.nan, y)
    with pytest.raises(ValueError, match="same layers and width"):
        fit_logistic_regression(x, y, x, y, x[:, :1], y)
    with pytest.raises(ValueError, match="test: there are no images"):
        fit_logistic_regression(x, y, x, y, x[:0], y[:0])
    for c in (0, [0], [], [np.nan], np.inf, "1", [1.0, -1.0]):
        with pytest.raises(ValueError, match="values of C > 0"):
            fit_logistic_regression(x, y, x, y, x, y, regularization=c)


def test_a_number_is_one_strength(digits):
    result = fit_logistic_regression(*digits, regularization=0.1)
    assert result.regularization.tolist() == [0.1]


def test_refit_takes_validation_in(digits):
    """With the strength chosen before, on train alone."""
    strengths = [0.001, 0.1]
    refitted = fit_logistic_regression(
        *digits, regularization=strengths, refit=True, tolerance=1e-6
    )
    plain = fit_logistic_regression(
        *digits, regularization=strengths, tolerance=1e-6
    )
    assert refitted.regularization == plain.regularization
    assert refitted.validation_accuracy == plain.validation_accuracy
    x, y = (np.concatenate([digits[i], digits[i + 2]]) for i in (0, 1))
    scaler = StandardScaler().fit(x)
    probe = LogisticRegression(
        C=refitted.regularization[0], max_iter=1000, tol=1e-6
    ).fit(scaler.transform(x), y)
    coefficients = refitted.probes[0][-1].coef_
    np.testing.assert_allclose(coefficients, probe.coef_, atol=2e-3)
    assert np.abs(plain.probes[0][-1].coef_ - coefficients).max() > 0.01


def test_no_progress_bar_into_a_file(digits, capsys):
    fit_logistic_regression(*digits, regularization=0.001, verbose=1)
    assert capsys.readouterr().out == ""


def test_memory_is_a_few_layers(tmp_path):
    """Of a mapped file of 24 of them."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 4000)
    path = tmp_path / "features.npy"
    features = np.lib.format.open_memmap(path, "w+", "float32", (24, 4000, 64))
    for layer in features:
        layer[:] = generator.normal(size=(4000, 64)) + labels[:, None]
    features = np.load(path, mmap_mode="r")
    few = np.array(features[:, :100]), labels[:100]
    tracemalloc.start()
    result = fit_logistic_regression(
        features, labels, *few, *few, regularization=0.01
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(result.test_accuracy) == 24
    # As float64, and scaled, by each of two threads or four.
    layer = 4000 * 64 * 8
    assert peak < (4 + 3 * os.cpu_count()) * layer
    if os.cpu_count() <= 2:
        assert peak < features.nbytes
