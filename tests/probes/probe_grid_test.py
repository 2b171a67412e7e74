import keras
import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras.probes import ProbeGrid

RATES = (3.0, 0.1)
LAYERS = (0, 2)


def data(objective="autoregressive"):
    token_ids = tiny.token_ids(40)
    labels = np.random.default_rng(5).integers(0, 3, 40).astype("int32")
    if objective == "bert":
        return {"token_ids": token_ids, "mask": tiny.mask(40)}, labels
    return token_ids, labels


def by_hand(features, labels, rate, steps, batch):
    """SGD with momentum 0.9 and a cosine decay, in float64, of one probe."""
    classes = labels.max() + 1
    parameters = np.zeros((features.shape[1] + 1, classes))
    x = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    momentum = np.zeros_like(parameters)
    for step in range(steps):
        rows = np.arange(step * batch, (step + 1) * batch) % len(x)
        logits = x[rows] @ parameters
        share = np.exp(logits - logits.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        share[np.arange(batch), labels[rows]] -= 1
        now = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        momentum = 0.9 * momentum - now * x[rows].T @ share / batch
        parameters += momentum
    return parameters


def fit(grid, x, y, steps=8, batch=10):
    grid.compile(steps)
    grid.fit(
        x,
        y,
        batch_size=batch,
        epochs=steps * batch // len(y),
        shuffle=False,
        verbose=0,
    )


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_each_probe_moves_as_if_alone(objective):
    x, y = data(objective)
    model = tiny.model(objective)
    before = [tiny.array(v) for v in model.weights]
    grid = ProbeGrid(model, 3, LAYERS, RATES)
    fit(grid, x, y)
    features, _ = igpt_keras.extract_features(model, [(x, y)])
    grid.evaluate(x, y, verbose=0)
    for r, rate in enumerate(RATES):
        for p, layer in enumerate(LAYERS):
            expected = by_hand(features[layer], y, rate, 8, 10)
            kernel = tiny.array(grid.kernel)[r, p]
            np.testing.assert_allclose(
                kernel, expected[:-1], atol=2e-3 * np.abs(expected).max()
            )
            logits = features[layer] @ expected[:-1] + expected[-1]
            right = (logits.argmax(axis=1) == y).mean()
            assert abs(grid.accuracies[r, p] - right) < 0.03
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(tiny.array(variable), value)


def test_joined_layers_are_one_probe():
    x, y = data()
    model = tiny.model()
    grid = ProbeGrid(model, 3, LAYERS, RATES, concat=True)
    fit(grid, x, y)
    features, _ = igpt_keras.extract_features(model, [(x, y)])
    joined = np.concatenate([features[layer] for layer in LAYERS], axis=1)
    for r, rate in enumerate(RATES):
        expected = by_hand(joined, y, rate, 8, 10)
        kernel = tiny.array(grid.kernel)[r].reshape(-1, 3)
        np.testing.assert_allclose(
            kernel, expected[:-1], atol=2e-3 * np.abs(expected).max()
        )
    assert grid(x).shape == (40, 2, 1, 3)


def test_loss_and_accuracy_of_fresh_probes():
    """Rates times ln 3 each; the first class for all."""
    x, y = data()
    grid = ProbeGrid(tiny.model(), 3, LAYERS, RATES)
    grid.compile(1)
    loss, accuracy = grid.evaluate(x, y, batch_size=7, verbose=0)
    assert abs(loss - 2 * sum(RATES) * np.log(3)) < 1e-4
    share = (y == 0).mean()
    assert abs(accuracy - share) < 1e-6
    np.testing.assert_allclose(grid.accuracies, np.full((2, 2), share))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"layers": [4]}, "layers must be of 0 to 3"),
        ({"layers": []}, "layers must be of 0 to 3"),
        ({"learning_rates": []}, "learning_rates must be a sequence"),
        ({"learning_rates": [1, 0]}, "learning_rates must be a sequence"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ProbeGrid(tiny.model(), 3, **arguments)


def test_takes_a_classifier_and_all_layers():
    classifier = igpt_keras.IGPTClassifier(tiny.model(), 3)
    grid = ProbeGrid(classifier, 3)
    assert grid.layer_numbers == [0, 1, 2, 3]
    assert len(grid.learning_rates) == 5 and max(grid.learning_rates) == 30
    assert [v.name for v in grid.trainable_variables] == ["kernel", "bias"]
    keras.utils.clear_session()
