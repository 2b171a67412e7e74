import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras  # noqa: E402
import reference  # noqa: E402
import tiny  # noqa: E402

import igpt_keras  # noqa: E402
from igpt_keras.data import mask_tokens  # noqa: E402

TOKEN_IDS = np.arange(64 * 100, dtype="int32").reshape(64, 100)


def masks(count=4, **arguments):
    dataset = tf.data.Dataset.from_tensors((TOKEN_IDS, np.zeros(64)))
    batches = mask_tokens(dataset.repeat(count), **arguments)
    result = []
    for inputs, targets in batches.as_numpy_iterator():
        np.testing.assert_array_equal(inputs["token_ids"], TOKEN_IDS)
        np.testing.assert_array_equal(targets, TOKEN_IDS)
        result.append(inputs["mask"])
    return np.array(result)


def test_rate_and_independence():
    drawn = masks(mask_rate=0.15)
    assert drawn.dtype == np.int32 and drawn.shape == (4, 64, 100)
    error = np.sqrt(0.15 * 0.85 / drawn.size)
    assert abs(drawn.mean() - 0.15) < 4 * error
    # Steps, images and both halves of a batch (two replicas) differ.
    assert len(np.unique(drawn.reshape(256, 100), axis=0)) == 256


def test_seed_and_step_fix_the_mask():
    drawn = masks(seed=1)
    np.testing.assert_array_equal(drawn, masks(seed=1))
    np.testing.assert_array_equal(drawn[2:], masks(2, seed=1, start_step=2))
    assert not np.array_equal(drawn, masks(seed=2))


def test_edges_and_bad_rates():
    assert not masks(mask_rate=0.0).any()
    assert masks(mask_rate=1.0).all()
    with pytest.raises(ValueError, match=r"mask_rate must be in \[0, 1\]"):
        masks(mask_rate=1.5)


def masked_images(batch=24, rate=0.4, seed=0, size=5):
    """Labelled batches of tiny images under masks."""
    token_ids = tiny.token_ids(batch)
    labels = np.arange(batch) % 3
    dataset = tf.data.Dataset.from_tensor_slices((token_ids, labels))
    return mask_tokens(dataset.batch(size), rate, seed, labels=True)


def test_labels_are_kept_with_the_same_masks():
    token_ids, labels = tiny.token_ids(6), np.arange(6) % 3
    dataset = tf.data.Dataset.from_tensor_slices((token_ids, labels)).batch(4)
    pairs = zip(
        mask_tokens(dataset, 0.4, 7, 3).as_numpy_iterator(),
        mask_tokens(dataset, 0.4, 7, 3, labels=True).as_numpy_iterator(),
        strict=True,
    )
    for (inputs, targets), (same_inputs, kept) in pairs:
        np.testing.assert_array_equal(inputs["mask"], same_inputs["mask"])
        np.testing.assert_array_equal(targets, same_inputs["token_ids"])
        np.testing.assert_array_equal(kept, labels[: len(kept)])
        labels = labels[len(kept) :]


def test_bert_is_probed_under_masks():
    """Features are the mean over positions with the same tokens hidden."""
    model, dataset = tiny.model("bert"), masked_images()
    token_ids, mask = (
        np.concatenate([x[key] for x, _ in dataset.as_numpy_iterator()])
        for key in ("token_ids", "mask")
    )
    assert 0.3 < mask.mean() < 0.5
    _, expected = reference.forward(
        tiny.numpy_weights(model), token_ids, mask.astype(bool)
    )
    # As a dataset, which goes through tf.data, and as arrays.
    for data in (dataset, list(dataset.as_numpy_iterator())):
        features, labels = igpt_keras.extract_features(model, data)
        np.testing.assert_allclose(features, expected, atol=1e-4)
        np.testing.assert_array_equal(labels, np.arange(24) % 3)
    visible, _ = igpt_keras.extract_features(
        model, masked_images(rate=0.0, size=24)
    )
    assert np.abs(visible - features).max() > 0.1
    again, _ = igpt_keras.extract_features(model, dataset)
    np.testing.assert_array_equal(again, features)


def test_the_callback_probes_under_masks():
    model, dataset = tiny.model("bert"), masked_images(60)
    model.compile(keras.optimizers.SGD(0.0))
    records = []
    for data in (dataset, masked_images(60, rate=0.0)):
        callback = igpt_keras.LinearProbe(data, data, verbose=0)
        model.fit(
            masked_images(8).map(
                lambda inputs, _: (inputs, inputs["token_ids"])
            ),
            callbacks=[callback],
            verbose=0,
        )
        records.append(callback.history[0])
    features, labels = igpt_keras.extract_features(model, dataset)
    expected = igpt_keras.probes.probe_layers(
        features, labels, features, labels
    )
    assert records[0]["accuracy"] == expected.test_accuracy.tolist()
    assert records[0]["accuracy"] != records[1]["accuracy"]


@pytest.mark.compiled
def test_a_bert_classifier_is_fine_tuned_on_them():
    keras.utils.set_random_seed(0)
    classifier = igpt_keras.IGPTClassifier(tiny.model("bert"), num_classes=3)
    classifier.compile(keras.optimizers.Adam(1e-2))
    losses = classifier.fit(masked_images(), epochs=20, verbose=0).history[
        "class_logits_loss"
    ]
    assert losses[0] > 0.8 and losses[-1] < 0.3


@pytest.mark.parametrize(
    "dataset",
    [
        tf.data.Dataset.from_tensors(TOKEN_IDS),
        tf.data.Dataset.from_tensor_slices((TOKEN_IDS, TOKEN_IDS[:, 0])),
        tf.data.Dataset.from_tensors((TOKEN_IDS / 9, TOKEN_IDS[:, 0])),
        tf.data.Dataset.from_tensors(({"token_ids": TOKEN_IDS}, TOKEN_IDS)),
        [(TOKEN_IDS, TOKEN_IDS[:, 0])],
    ],
    ids=["no labels", "no batches", "floats", "dicts", "a list"],
)
def test_refuses_other_datasets(dataset):
    with pytest.raises(ValueError, match=r"batches \(token_ids, labels\)"):
        mask_tokens(dataset)


def test_refuses_tokens_as_labels():
    dataset = tf.data.Dataset.from_tensors((TOKEN_IDS, TOKEN_IDS))
    mask_tokens(dataset)
    with pytest.raises(ValueError, match="one label per image"):
        mask_tokens(dataset, labels=True)
