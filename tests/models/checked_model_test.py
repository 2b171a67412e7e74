import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras.layers import check_shares as module

TOKEN_IDS = tiny.token_ids(7)


def images(count):
    return {"x": TOKEN_IDS[:count], "y": TOKEN_IDS[:count]}


def validated(count, **arguments):
    few = (TOKEN_IDS[:count], TOKEN_IDS[:count])
    return {**images(4), "validation_data": few, **arguments}


@pytest.mark.parametrize(
    "method, arguments, count",
    [
        ("fit", images(7), 7),
        ("fit", {**images(6), "batch_size": 3}, 3),
        ("fit", {**images(6), "validation_split": 0.5}, 3),
        ("fit", {**images(5), "validation_split": 0.2}, 1),
        ("fit", validated(7), 7),
        ("fit", validated(6, validation_batch_size=3), 3),
        ("evaluate", images(1), 1),
        ("evaluate", {**images(6), "batch_size": 3}, 3),
    ],
)
def test_a_first_batch_that_replicas_cannot_share(
    method, arguments, count, monkeypatch
):
    model = tiny.model(num_layers=1)
    model.compile("sgd")
    monkeypatch.setattr(module, "num_replicas", lambda model: 2)
    before = tiny.array(model.head.kernel).copy()
    with pytest.raises(ValueError, match=f"has {count} images for 2 replicas"):
        getattr(model, method)(**arguments, verbose=0)
    np.testing.assert_array_equal(tiny.array(model.head.kernel), before)


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_datasets_whose_first_batch_replicas_cannot_share(
    objective, monkeypatch
):
    tf = pytest.importorskip("tensorflow")
    model = tiny.model(num_layers=1, objective=objective)
    model.compile("sgd")
    monkeypatch.setattr(module, "num_replicas", lambda model: 2)

    def dataset(count):
        x = TOKEN_IDS[:count]
        mask = np.ones_like(x)
        inputs = {"token_ids": x, "mask": mask} if objective == "bert" else x
        return tf.data.Dataset.from_tensor_slices((inputs, x)).batch(4)

    for method, arguments in (
        ("fit", {"x": dataset(3)}),
        ("fit", {"x": dataset(4), "validation_data": dataset(3)}),
        ("evaluate", {"x": dataset(3)}),
    ):
        with pytest.raises(ValueError, match="has 3 images for 2 replicas"):
            getattr(model, method)(**arguments, verbose=0)
    assert np.isfinite(model.evaluate(dataset(7), verbose=0))


def test_a_classifier_says_it_too(monkeypatch):
    model = igpt_keras.IGPTClassifier(tiny.model(num_layers=1), 3)
    model.compile("sgd")
    monkeypatch.setattr(module, "num_replicas", lambda model: 2)
    labels = np.arange(7) % 3
    with pytest.raises(ValueError, match="has 7 images for 2 replicas"):
        model.fit(TOKEN_IDS, labels)
    with pytest.raises(ValueError, match="has 3 images for 2 replicas"):
        model.evaluate(TOKEN_IDS, labels, 3)


def test_later_batches_need_not_be_even(monkeypatch):
    model = tiny.model(num_layers=1)
    model.compile("sgd")
    monkeypatch.setattr(module, "num_replicas", lambda model: 2)
    few = {**images(7), "batch_size": 4, "verbose": 0}
    validation = TOKEN_IDS[:5], TOKEN_IDS[:5]
    history = model.fit(**few, validation_data=validation).history
    (found,) = history["val_loss"]
    expected = model.evaluate(*validation, batch_size=4, verbose=0)
    np.testing.assert_allclose(found, expected)
    assert np.isfinite(model.evaluate(**few))
