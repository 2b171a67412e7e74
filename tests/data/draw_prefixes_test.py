import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import tiny  # noqa: E402

import igpt_keras  # noqa: E402
from igpt_keras.data import draw_prefixes  # noqa: E402

LENGTH = 10
TOKEN_IDS = np.arange(64 * LENGTH, dtype="int32").reshape(64, LENGTH)


def lengths(count=8, rows=slice(None), **arguments):
    token_ids = TOKEN_IDS[rows]
    dataset = tf.data.Dataset.from_tensors((token_ids, token_ids[:, 0]))
    found = []
    batches = draw_prefixes(dataset.repeat(count), **arguments)
    for inputs, targets in batches.as_numpy_iterator():
        np.testing.assert_array_equal(inputs["token_ids"], token_ids)
        labels = arguments.get("labels", False)
        np.testing.assert_array_equal(
            targets, token_ids[:, 0] if labels else token_ids
        )
        found.append(inputs["prefix_length"])
    return np.array(found)


def test_lengths_are_uniform_and_of_seed_and_step_alone():
    drawn = lengths(seed=1)
    assert drawn.dtype == np.int32 and drawn.shape == (8, 64)
    counts = np.bincount(drawn.ravel(), minlength=LENGTH)
    assert len(counts) == LENGTH
    chi_square = ((counts - 51.2) ** 2 / 51.2).sum()
    assert chi_square < 27.9  # 9 degrees of freedom, one in a thousand
    again = lengths(6, seed=1, start_step=2, labels=True)
    np.testing.assert_array_equal(again, drawn[2:])
    assert not np.array_equal(drawn, lengths(seed=2))


def test_two_replicas_have_the_lengths_of_one():
    whole = lengths(2)
    # Of one worker, whose replicas' shares come one after the other, and of
    # two.
    context = tf.distribute.InputContext(1, 0, 2)
    found = lengths(4, slice(32), input_context=context)
    np.testing.assert_array_equal(found.reshape(2, 64), whole)
    for worker in range(2):
        rows = slice(32 * worker, 32 * worker + 32)
        context = tf.distribute.InputContext(2, worker, 2)
        found = lengths(2, rows, input_context=context)
        np.testing.assert_array_equal(found, whole[:, rows])


def test_sets_train_on_prefixes_and_evaluate_without():
    split = igpt_keras.data.open_split("digits", "test", input_resolution=4)
    sets = igpt_keras.data.TokenSets(
        tiny.grey_palette(), 8, seed=3, attention="prefix_causal"
    )
    model = tiny.model(num_layers=1, attention="prefix_causal")
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.SGD(0.1))
    inputs, _ = next(iter(sets.training(split)))
    assert len(np.unique(inputs["prefix_length"])) > 2
    # Images of one step have one length each, wherever it is begun.
    following = sets.training(split, start_step=1)
    expected = list(sets.training(split).take(2))[1][0]["prefix_length"]
    found = next(iter(following))[0]["prefix_length"]
    np.testing.assert_array_equal(found, expected)

    examples = sets.evaluation(split, limit=12)
    model.fit(sets.training(split).take(6), verbose=0)
    loss = model.evaluate(examples.inputs, verbose=0)
    plain = igpt_keras.evaluation.token_losses(model, examples.token_ids)
    np.testing.assert_allclose(loss, plain.mean(), rtol=1e-5)
    for inputs, labels in examples.classified:
        assert not inputs["prefix_length"].numpy().any()
        assert labels.shape.rank == 1
    features, _ = igpt_keras.extract_features(model, examples.probe_inputs)
    whole = {"token_ids": examples.token_ids, "prefix_length": np.full(12, 16)}
    expected, _ = igpt_keras.extract_features(model, [(whole, examples.labels)])
    np.testing.assert_allclose(features, expected, atol=1e-5)
