import keras
import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras

LABELS = np.array([0, 2, 1, 2])


def classifier(objective="autoregressive", **arguments):
    built = igpt_keras.IGPTClassifier(tiny.model(objective), 3, **arguments)
    generator = np.random.default_rng(4)
    built.class_head.kernel.assign(generator.normal(size=(15, 3)))
    built.compile(keras.optimizers.SGD(0.1))
    return built


def inputs(objective):
    token_ids = tiny.token_ids()
    if objective == "bert":
        return {"token_ids": token_ids, "mask": tiny.mask()}
    return token_ids


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
@pytest.mark.parametrize(
    "weight", [pytest.param(1.0, marks=pytest.mark.each_backend), 0.0]
)
def test_loss_is_generative_plus_classification(objective, weight):
    model, x = (
        classifier(objective, generative_weight=weight),
        inputs(objective),
    )
    outputs = {k: array(v).astype("float64") for k, v in model(x).items()}
    token_ids = tiny.token_ids()
    if objective == "bert":
        generative = reference.bert_loss(
            outputs["token_logits"], token_ids, tiny.mask()
        )
    else:
        generative = reference.nats(outputs["token_logits"], token_ids).mean()
    classes = reference.nats(outputs["class_logits"], LABELS).mean()
    results = model.evaluate(x, LABELS, return_dict=True, verbose=0)
    assert abs(results["loss"] - (weight * generative + classes)) < 1e-5
    right = (outputs["class_logits"].argmax(axis=1) == LABELS).mean()
    (accuracy,) = (v for k, v in results.items() if "accuracy" in k)
    assert abs(accuracy - right) < 1e-6


@pytest.mark.each_backend
def test_head_reads_the_feature_of_the_last_layer():
    model, token_ids = classifier(), tiny.token_ids()
    features, _ = igpt_keras.extract_features(model.igpt, [(token_ids, LABELS)])
    np.testing.assert_allclose(
        array(model(token_ids)["class_logits"]),
        features[-1] @ array(model.class_head.kernel),
        atol=1e-4,
    )


def test_class_loss_alone_trains_the_trunk():
    model, token_ids = classifier(generative_weight=0.0), tiny.token_ids()
    before = {v.path: array(v) for v in model.trainable_variables}
    model.fit(token_ids, LABELS, verbose=0)
    for variable in model.trainable_variables:
        moved = not np.array_equal(array(variable), before[variable.path])
        # The head over tokens has no part in it.
        assert moved == (variable is not model.igpt.head.kernel), variable.path


def test_fresh_losses_are_ln_v_plus_ln_c():
    model = igpt_keras.IGPTClassifier(igpt_keras.IGPT(**tiny.SIZE), 3)
    model.compile()
    results = model.evaluate(tiny.token_ids(), LABELS, verbose=0)
    assert abs(results[0] - (np.log(11) + np.log(3))) < 1e-6


def test_keras_saving_round_trip(tmp_path):
    model, token_ids = classifier(generative_weight=0.5), tiny.token_ids()
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert copy.generative_weight == 0.5
    for name, output in model(token_ids).items():
        np.testing.assert_array_equal(
            array(copy(token_ids)[name]), array(output)
        )
    losses = [
        m.fit(token_ids, LABELS, epochs=2, verbose=0).history["loss"]
        for m in (model, copy)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    with pytest.raises(ValueError, match=r"must be in \[0, 11\)"):
        model(token_ids + 11)


@pytest.mark.parametrize("kind", ["metrics", "weighted_metrics"])
def test_what_is_measured_comes_back(kind, tmp_path):
    model, token_ids = classifier(), tiny.token_ids()
    measured = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)]
    model.compile("sgd", **{kind: measured}, steps_per_execution=2)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    results = [
        m.evaluate(token_ids, LABELS, return_dict=True, verbose=0)
        for m in (model, copy)
    ]
    assert any("top_k" in name for name in results[0])
    assert results[1] == pytest.approx(results[0], rel=1e-5)
    assert copy.steps_per_execution == 2


def test_refuses_bad_arguments():
    model = tiny.model()
    with pytest.raises(ValueError, match="model must be an IGPT"):
        igpt_keras.IGPTClassifier(keras.Sequential(), 3)
    with pytest.raises(ValueError, match="num_classes must be an int >= 2"):
        igpt_keras.IGPTClassifier(model, 1)
    with pytest.raises(ValueError, match="generative_weight must be >= 0"):
        igpt_keras.IGPTClassifier(model, 3, generative_weight=-1)


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_sample_weights_weigh_both_losses_of_an_image(objective):
    model, x = classifier(objective, generative_weight=0.5), inputs(objective)
    weight = np.array([0.1, 2.0, 0.5, 1.0], "float32")
    outputs = {k: array(v).astype("float64") for k, v in model(x).items()}
    nats = reference.nats(outputs["token_logits"], tiny.token_ids())
    if objective == "bert":
        mask = tiny.mask()
        nats = (nats * mask).sum(axis=1) / mask.sum(axis=1)
    else:
        nats = nats.mean(axis=1)
    nats = 0.5 * nats + reference.nats(outputs["class_logits"], LABELS)
    expected = (weight * nats).mean()
    right = outputs["class_logits"].argmax(axis=1) == LABELS
    model.compile("sgd", weighted_metrics=["accuracy"])
    arguments = {"verbose": 0, "return_dict": True}
    for results in (
        model.evaluate(x, LABELS, sample_weight=weight, **arguments),
        model.evaluate(x, LABELS, sample_weight=weight.tolist(), **arguments),
    ):
        assert abs(results["loss"] - expected) < 1e-5
        (accuracy,) = (v for k, v in results.items() if "accuracy" in k)
        assert abs(accuracy - np.average(right, weights=weight)) < 1e-6
    # Weights of classes are weights of images.
    by_class = {0: 0.1, 1: 0.5, 2: 2.0}
    history = model.fit(x, LABELS, class_weight=by_class, verbose=0).history
    expected = (np.vectorize(by_class.get)(LABELS) * nats).mean()
    assert abs(history["loss"][0] - expected) < 1e-5


def test_refuses_weights_of_tokens():
    model, x = classifier(), tiny.token_ids()
    for shape in ((4, 16), (4, 1), ()):
        for call in (model.fit, model.evaluate, model.train_on_batch):
            with pytest.raises(ValueError, match=r"shape \(batch,\)|4 rows"):
                call(x, LABELS, sample_weight=np.ones(shape, "float32"))


@pytest.mark.parametrize(
    "labels, message",
    [
        (None, "Labels must have shape.*received None"),
        (2, r"Labels must have shape \(batch,\)"),
        ([0.0, 1.5, 1.0, 2.0], "Labels must be integers, received float64"),
        (["0", "1", "2", "0"], "Labels must be integers, received str"),
        (np.eye(4, 3, dtype="int32"), "of one-hot labels take the argmax"),
        ([0, 1, 2, 3], r"Labels must be in \[0, 3\), received values"),
        ([0, 1, 2, -1], r"Labels must be in \[0, 3\), received values"),
        ([0, 1, 2], "y has shape .*4 rows"),
    ],
)
def test_refuses_bad_labels(labels, message):
    model, x = classifier(), tiny.token_ids()
    for call in (
        lambda: model.fit(x, labels),
        lambda: model.evaluate(x, labels),
        lambda: model.train_on_batch(x, labels),
        lambda: model.test_on_batch(x, labels),
        lambda: model.fit(x, LABELS, validation_data=(x, labels)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.each_backend
def test_takes_labels_as_lists():
    model, x = classifier(), tiny.token_ids()
    expected = model.evaluate(x, LABELS, verbose=0)
    assert model.evaluate(x, LABELS.tolist(), verbose=0) == expected


@pytest.mark.parametrize(
    "dtype, num_classes", [("uint8", 256), ("int8", 200), ("uint16", 65536)]
)
def test_labels_of_few_bits_cost_what_others_do(dtype, num_classes):
    model = igpt_keras.IGPTClassifier(tiny.model(num_layers=1), num_classes)
    model.compile(keras.optimizers.SGD(0.0))
    expected = model.evaluate(tiny.token_ids(), LABELS, verbose=0)
    labels = LABELS.astype(dtype)
    found = model.evaluate(tiny.token_ids(), labels, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    losses = model.fit(tiny.token_ids(), labels, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, expected[:1], rtol=1e-5)


@pytest.mark.large
@pytest.mark.compiled
def test_labels_out_of_range_from_a_generator_are_no_loss(caplog):
    model, x = classifier(), tiny.token_ids()
    model.compile("sgd", jit_compile=True)
    for bad in (3, -1):
        batches = iter([(x, np.array([0, 1, 2, bad]))] * 2)
        # A generator, which Keras asks for a batch ahead.
        history = model.fit((b for b in batches), steps_per_epoch=1).history
        assert np.isnan(history["loss"][0])
        assert "labels out of the model's range" in caplog.text
        caplog.clear()


def test_refuses_bad_token_ids():
    model, x = classifier(), tiny.token_ids()
    for change, message in (
        (lambda x: x + 11, r"must be in \[0, 11\)"),
        (lambda x: x[:, :9], "must have shape"),
        (lambda x: x / 2, "must be integers"),
        (lambda x: x[:0], "The batch is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(change(x), LABELS[: len(change(x))])


@pytest.mark.each_backend
def test_from_config_leaves_its_argument_as_it_is():
    model = classifier(generative_weight=0.5)
    config = model.get_config()
    for _ in range(2):
        copy = igpt_keras.IGPTClassifier.from_config(config)
        assert copy.get_config() == model.get_config() == config
    with pytest.raises(ValueError, match="cannot be cloned"):
        keras.models.clone_model(model)


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_head_reads_the_feature_of_its_layer(layer, tmp_path):
    model, token_ids = classifier(head_layer=layer), tiny.token_ids()
    features, _ = igpt_keras.extract_features(model.igpt, [(token_ids, LABELS)])
    expected = array(model(token_ids)["class_logits"])
    np.testing.assert_allclose(
        expected, features[layer] @ array(model.class_head.kernel), atol=1e-4
    )
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "preset")
    for copy in (
        keras.saving.load_model(tmp_path / "model.keras", safe_mode=True),
        igpt_keras.IGPTClassifier.from_preset(tmp_path / "preset"),
    ):
        assert copy.head_layer == layer
        np.testing.assert_array_equal(
            array(copy(token_ids)["class_logits"]), expected
        )


def test_later_layers_learn_no_class_of_an_earlier_one():
    model = classifier(head_layer=1, generative_weight=0.0)
    before = {v.path: array(v) for v in model.trainable_variables}
    model.fit(tiny.token_ids(), LABELS, verbose=0)
    moved = {
        path.split("block_")[1][0]
        for path, value in before.items()
        if "block_" in path
        for variable in model.trainable_variables
        if variable.path == path and (array(variable) != value).any()
    }
    # The first block, and the norm in front of the second.
    assert moved == {"0", "1"}
    for variable in model.igpt.blocks[1].mlp_up.weights:
        np.testing.assert_array_equal(array(variable), before[variable.path])


def test_weight_of_the_classification_loss(tmp_path):
    model, x = classifier(classification_weight=0.25), tiny.token_ids()
    outputs = {k: array(v).astype("float64") for k, v in model(x).items()}
    expected = reference.nats(outputs["token_logits"], x).mean()
    expected += 0.25 * reference.nats(outputs["class_logits"], LABELS).mean()
    loss = model.evaluate(x, LABELS, verbose=0)[0]
    assert abs(loss - expected) < 1e-5
    model.save_to_preset(tmp_path / "preset")
    copy = igpt_keras.IGPTClassifier.from_preset(tmp_path / "preset")
    assert copy.classification_weight == 0.25


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"head_layer": 4}, "head_layer=4 is none of 0 to 3"),
        ({"head_layer": -1}, "head_layer must be an int >= 0"),
        ({"classification_weight": -1}, "classification_weight must be >= 0"),
        (
            {"classification_weight": 0, "generative_weight": 0},
            "there is no loss",
        ),
    ],
)
def test_refuses_heads_and_weights(arguments, message):
    with pytest.raises(ValueError, match=message):
        igpt_keras.IGPTClassifier(tiny.model(), 3, **arguments)


@pytest.mark.parametrize("layer", [1, 3])
def test_other_formats_know_a_head_on_the_final_norm(layer, tmp_path):
    model = classifier(head_layer=layer)
    if layer == 3:
        igpt_keras.save_huggingface(model, tmp_path / "model")
        copy = igpt_keras.load_huggingface(tmp_path / "model")
        np.testing.assert_allclose(
            array(copy(tiny.token_ids())["class_logits"]),
            array(model(tiny.token_ids())["class_logits"]),
            atol=1e-5,
        )
        return
    with pytest.raises(ValueError, match="class head reads layer 1"):
        igpt_keras.save_huggingface(model, tmp_path / "model")
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="class head reads layer 1"):
            igpt_keras.save_openai_checkpoint(model, tmp_path / "ckpt")
