"""What one passes to `fit` before one has read how."""

import keras
import numpy as np
import pytest
import tiny

import igpt_keras


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_inputs_are_the_targets(objective):
    model, token_ids = tiny.model(objective), tiny.token_ids()
    x = token_ids
    if objective == "bert":
        x = {"token_ids": x, "mask": tiny.mask().astype("int32")}
    model.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    expected = model.evaluate(x, token_ids, verbose=0)
    assert len(expected) == 2
    options = {"verbose": 0, "return_dict": False}
    np.testing.assert_allclose(model.evaluate(x, **options), expected)
    np.testing.assert_allclose(model.test_on_batch(x), expected, rtol=1e-6)

    def generator():
        yield (x,)

    runs = [
        model.fit(x, validation_data=(x,), verbose=0),
        model.fit(generator(), steps_per_epoch=1, verbose=0),
    ]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensors(x)
        runs.append(
            model.fit(
                dataset, validation_data=dataset, verbose=0, shuffle=False
            )
        )
    for run in runs:
        for key in run.history:
            index = int(key.endswith("accuracy"))
            np.testing.assert_allclose(
                run.history[key], expected[index], rtol=1e-5
            )


def test_labels_are_refused_and_explained():
    model, token_ids = tiny.model(), tiny.token_ids()
    model.compile()
    labels = np.arange(4)
    message = "leave y out, and labels out of a dataset: `dataset.map"
    for y in (labels, labels[:, None], np.eye(4)):
        with pytest.raises(ValueError, match=message):
            model.fit(token_ids, y, verbose=0)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensors((token_ids, labels))
        with pytest.raises(ValueError, match=message):
            model.fit(dataset, verbose=0)
        with pytest.raises(ValueError, match=message):
            model.fit(token_ids, validation_data=dataset, verbose=0)
    classifier = igpt_keras.IGPTClassifier(model, 3)
    classifier.compile()
    with pytest.raises(ValueError, match="Labels must have shape"):
        classifier.fit(token_ids, verbose=0)


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 4, 4, 1), (4, 4, 4, 3)])
def test_images_are_no_token_ids(shape):
    model = tiny.model()
    model.compile()
    with pytest.raises(ValueError, match=r"token ids by `tokenizer\(images\)"):
        model.fit(np.zeros(shape, "uint8"), verbose=0)


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 8, 8, 1)])
def test_greyscale_images_become_rgb_as_they_are_told(shape):
    images = np.zeros(shape, "uint8")
    tokenizer = tiny.grey_palette()
    for takes in (tokenizer, igpt_keras.PaletteTokenizer.fit):
        with pytest.raises(ValueError, match="Greyscale") as error:
            takes(images)
        assert "keras.ops.repeat(images" in str(error.value)
    if len(shape) == 3:
        images = images[..., None]
    assert tokenizer(keras.ops.repeat(images, 3, axis=-1)).shape == (4, 64)


def test_fit_before_compile_says_so():
    with pytest.raises(ValueError, match="call `compile"):
        tiny.model().fit(tiny.token_ids(), verbose=0)


def test_bert_without_masks_hears_where_they_are_from():
    model = tiny.model("bert")
    model.compile("adam")
    with pytest.raises(ValueError, match="data.mask_tokens` draws masks"):
        model.fit(tiny.token_ids(), verbose=0)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "SparseCategoricalCrossentropy",
        "crossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.SparseCategoricalCrossentropy,
        keras.losses.SparseCategoricalCrossentropy(),
    ],
)
def test_a_loss_of_probabilities_is_refused(loss):
    model = tiny.model()
    with pytest.raises(ValueError, match="logits.*leave out loss"):
        model.compile("adam", loss=loss)


def test_the_same_loss_of_logits_is_the_objectives_own():
    model, token_ids = tiny.model(), tiny.token_ids()
    model.compile()
    expected = model.evaluate(token_ids, verbose=0)
    own = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss=own)
    found = model.evaluate(token_ids, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["loss", "loss_weights"])
def test_a_classifier_has_losses_of_its_own(name):
    classifier = igpt_keras.IGPTClassifier(tiny.model(), 3)
    message = f"leave out {name}.*generative_weight"
    with pytest.raises(ValueError, match=message):
        classifier.compile("adam", **{name: "mse"})
