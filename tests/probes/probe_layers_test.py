"""The one protocol of callback and final probes."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from igpt_keras.probes import hold_out
from igpt_keras.probes import probe_layers
from igpt_keras.probes.chosen_layers import standard_error


def noisy_layers(num_images, seed, strengths=(0.3, 1.0, 0.6), width=12):
    """Features whose layers differ in how much of the class is in them."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, num_images)
    centers = np.random.default_rng(0).normal(size=(3, width))
    features = [
        strength * centers[labels]
        + generator.normal(size=(num_images, width)) * 2
        for strength in strengths
    ]
    return np.stack(features), labels


def reference(train, labels, test, test_labels, candidates):
    """The protocol in scikit-learn's own words."""

    def fit(layer, images, c):
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=c, max_iter=1000)
        )
        return probe.fit(train[layer][images], labels[images])

    fit_on, chosen_on = hold_out(labels)
    held_out, chosen, tested = [], [], []
    for layer in range(len(train)):
        scores = [
            fit(layer, fit_on, c).score(
                train[layer][chosen_on], labels[chosen_on]
            )
            for c in candidates
        ]
        chosen.append(candidates[int(np.argmax(scores))])
        held_out.append(max(scores))
        final = fit(layer, slice(None), chosen[-1])
        tested.append(final.score(test[layer], test_labels))
    return held_out, chosen, tested


def test_is_what_it_says():
    candidates = (0.001, 0.01, 1.0)
    train, labels = noisy_layers(240, seed=1)
    test, test_labels = noisy_layers(500, seed=2)
    result = probe_layers(
        train, labels, test, test_labels, regularization=candidates
    )
    held_out, chosen, tested = reference(
        train, labels, test, test_labels, candidates
    )
    assert len(set(chosen)) > 1
    np.testing.assert_array_equal(result.regularization, chosen)
    np.testing.assert_allclose(result.validation_accuracy, held_out)
    np.testing.assert_allclose(result.test_accuracy, tested, atol=2e-3)
    assert result.chosen_layer == result.best_layer == np.argmax(held_out)
    assert result.num_validation_images == len(hold_out(labels)[1])
    assert result.num_test_images == 500


def test_nothing_is_chosen_on_test():
    train, labels = noisy_layers(240, seed=1)
    test, test_labels = noisy_layers(500, seed=2)
    result = probe_layers(train, labels, test, test_labels)
    for layer in range(3):
        # Test is of use in one layer only, and that one changes.
        noise = np.random.default_rng(layer).normal(size=test.shape)
        noise[layer] = test[layer]
        other = probe_layers(train, labels, noise, test_labels)
        assert other.chosen_layer == result.chosen_layer == 1
        np.testing.assert_array_equal(
            other.regularization, result.regularization
        )


def test_the_layer_is_not_chosen_on_images_fitted_on():
    """Layer 0 can be learnt by heart, layer 1 generalises a little."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 90)
    by_heart = generator.normal(size=(90, 400))
    useful = np.zeros((90, 400))
    useful[:, 0] = labels + 0.6 * generator.normal(size=90)
    train = np.stack([by_heart, useful])
    result = probe_layers(train, labels, train, labels, regularization=10.0)
    np.testing.assert_array_equal(result.test_accuracy[0], 1.0)
    assert result.validation_accuracy[0] < 0.75
    assert result.chosen_layer == 1


def test_the_last_fit_is_on_all_images():
    """A class of one image is known only to a fit on every image."""
    labels = np.array([0, 1] * 30 + [0, 0])
    x = np.random.default_rng(0).normal(size=(62, 40))
    result = probe_layers(x, labels, x, labels, regularization=1e4)
    # By heart: a fit on two thirds would miss some of the rest.
    assert result.test_accuracy[0] == 1.0
    assert result.validation_accuracy[0] < 0.8


def test_strength_alone_changes_the_probe():
    train, labels = noisy_layers(240, seed=1)
    test, test_labels = noisy_layers(500, seed=2)
    norms = []
    for c in (1e-4, 1.0):
        result = probe_layers(
            train, labels, test, test_labels, regularization=c
        )
        assert result.regularization.tolist() == [c] * 3
        norms.append(np.abs(result.probes[1][-1].coef_).max())
    assert norms[0] < 0.1 * norms[1]


def test_other_sets_are_scored_by_the_same_probes():
    train, labels = noisy_layers(240, seed=1)
    test, test_labels = noisy_layers(500, seed=2)
    result = probe_layers(train, labels, test, test_labels)
    np.testing.assert_array_equal(
        result.accuracy(test, test_labels), result.test_accuracy
    )
    fresh, fresh_labels = noisy_layers(300, seed=3)
    result_on_fresh = probe_layers(train, labels, fresh, fresh_labels)
    np.testing.assert_array_equal(
        result.accuracy(fresh, fresh_labels), result_on_fresh.test_accuracy
    )
    with pytest.raises(ValueError, match="the 3 layers"):
        result.accuracy(test[:2], test_labels)


def test_ties_are_those_within_a_standard_error():
    train, labels = noisy_layers(240, seed=1, strengths=(1.0, 0.0, 1.0))
    result = probe_layers(train, labels, train, labels)
    best = result.validation_accuracy.max()
    error = np.sqrt(best * (1 - best) / result.num_validation_images)
    assert error == pytest.approx(
        standard_error(best, result.num_validation_images)
    )
    assert result.tied_layers == [
        layer
        for layer, accuracy in enumerate(result.validation_accuracy)
        if best - accuracy <= error
    ]
    assert result.chosen_layer in result.tied_layers
    assert 1 not in result.tied_layers
    # 90 of 100: sqrt(0.9 * 0.1 / 100) is 3 %.
    assert standard_error(0.9, 100) == pytest.approx(0.03)


def test_labels_with_gaps_are_like_any_other():
    train, labels = noisy_layers(60, seed=1)
    names = np.array([17, 400, 99_999])
    plain = probe_layers(train, labels, train, labels)
    named = probe_layers(train, names[labels], train, names[labels])
    np.testing.assert_array_equal(plain.test_accuracy, named.test_accuracy)


def test_refuses_what_does_not_fit_together():
    train, labels = noisy_layers(60, seed=1)
    with pytest.raises(ValueError, match="60 labels for features of shape"):
        probe_layers(train[:, :50], labels, train, labels)
    with pytest.raises(ValueError, match="at least two classes"):
        probe_layers(train, labels * 0, train, labels)
    with pytest.raises(ValueError, match="whole numbers"):
        probe_layers(train, labels + 0.5, train, labels)
