import gc
import types
import weakref

import forked
import keras
import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras
from igpt_keras import evaluation
from igpt_keras.probes import AttentiveProbe
from igpt_keras.probes import ProbeGrid
from igpt_keras.probes.features import feature_extractor


def batches(token_ids, size):
    labels = np.arange(len(token_ids), dtype="int32")
    return [
        (token_ids[i : i + size], labels[i : i + size])
        for i in range(0, len(token_ids), size)
    ]


@pytest.mark.each_backend
@pytest.mark.parametrize("size", [10, 4, 1])
def test_features_match_the_reference_and_keep_every_image(size):
    model, token_ids = tiny.model(), tiny.token_ids(batch=10)
    features, labels = igpt_keras.extract_features(
        model, batches(token_ids, size)
    )
    _, expected = reference.forward(tiny.numpy_weights(model), token_ids)
    assert features.shape == (4, 10, 15) and features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=1e-4)
    np.testing.assert_array_equal(labels, np.arange(10))


@pytest.mark.each_backend
def test_bert_features_hide_nothing_unless_told():
    model, token_ids = tiny.model("bert"), tiny.token_ids()
    weights, labels = tiny.numpy_weights(model), np.zeros(4, "int32")
    none = np.zeros((4, 16), "bool")
    for mask, inputs in (
        (none, token_ids),
        (tiny.mask(), {"token_ids": token_ids, "mask": tiny.mask()}),
    ):
        features, _ = igpt_keras.extract_features(model, [(inputs, labels)])
        _, expected = reference.forward(weights, token_ids, mask)
        np.testing.assert_allclose(features, expected, atol=1e-4)


def test_first_position_is_the_start_token():
    """One-token images: features cannot depend on the token."""
    model = tiny.model(sequence_length=1)
    token_ids = np.arange(11, dtype="int32")[:, None]
    features, _ = igpt_keras.extract_features(model, batches(token_ids, 11))
    assert np.ptp(features, axis=1).max() < 1e-6


@pytest.mark.each_backend
def test_repeatable_and_model_untouched():
    model, data = tiny.model(), batches(tiny.token_ids(), 3)
    before = [array(v) for v in model.weights]
    first, _ = igpt_keras.extract_features(model, data)
    second, _ = igpt_keras.extract_features(model, data)
    np.testing.assert_array_equal(first, second)
    for variable, value in zip(model.weights, before):
        np.testing.assert_array_equal(array(variable), value)


@pytest.mark.each_backend
def test_last_layer_is_what_the_head_reads():
    model, token_ids = tiny.model(), tiny.token_ids()
    features, _ = igpt_keras.extract_features(model, batches(token_ids, 4))
    logits = array(model(token_ids)).mean(axis=1)
    np.testing.assert_allclose(
        features[-1] @ array(model.head.kernel), logits, atol=1e-4
    )


def test_a_shuffled_dataset_keeps_labels_with_images():
    tf = pytest.importorskip("tensorflow")
    model, token_ids = tiny.model(), tiny.token_ids(batch=32)
    ordered, _ = igpt_keras.extract_features(model, batches(token_ids, 32))
    dataset = tf.data.Dataset.from_tensor_slices(
        (token_ids, np.arange(32))
    ).shuffle(32, reshuffle_each_iteration=True)
    features, labels = igpt_keras.extract_features(model, dataset.batch(5))
    assert not np.array_equal(labels, np.arange(32))
    np.testing.assert_allclose(features, ordered[:, labels], atol=1e-5)


@pytest.mark.each_backend
def test_labels_of_any_kind_and_empty_batches():
    model, token_ids = tiny.model(), tiny.token_ids()
    expected, _ = igpt_keras.extract_features(model, batches(token_ids, 4))
    for labels in (
        [4, 0, 2, 9],
        (4.0, 0.0, 2.0, 9.0),
        np.array([4, 0, 2, 9], "uint8"),
    ):
        empty = (np.zeros((0, 16), "int32"), [])
        features, found = igpt_keras.extract_features(
            model, [empty, (token_ids.tolist(), labels), empty]
        )
        np.testing.assert_array_equal(found, [4, 0, 2, 9])
        assert found.dtype == np.int32
        np.testing.assert_allclose(features, expected, atol=1e-5)


def test_labels_of_a_tf_dataset_are_not_cut_or_rounded():
    """Under a policy too whose floats cannot hold them."""
    tf = pytest.importorskip("tensorflow")
    model, token_ids = tiny.model(), tiny.token_ids()

    def extract(labels):
        dataset = tf.data.Dataset.from_tensor_slices((token_ids, labels))
        return igpt_keras.extract_features(model, dataset.batch(3))

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for dtype in ("float32", "float64", "int64", "uint16"):
            labels = np.array([0, 257, 4099, 3], dtype)
            _, found = extract(labels)
            np.testing.assert_array_equal(found, [0, 257, 4099, 3])
        np.testing.assert_array_equal(
            extract(np.array([True, False, True, True]))[1], [1, 0, 1, 1]
        )
        # The fraction is in the second batch, which nothing looks at before.
        with pytest.raises(ValueError, match="whole numbers"):
            extract(np.array([0, 1, 2, 0.5], "float32"))
        with pytest.raises(ValueError, match="must be integers"):
            extract(np.array(["a", "b", "c", "d"]))
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "policy",
    [
        "mixed_bfloat16",
        pytest.param("mixed_float16", marks=pytest.mark.each_backend),
    ],
)
def test_the_global_policy_changes_nothing(policy):
    model, data = tiny.model(), batches(tiny.token_ids(), 3)
    expected, _ = igpt_keras.extract_features(model, data)
    keras.config.set_dtype_policy(policy)
    try:
        features, _ = igpt_keras.extract_features(model, data)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(features, expected)


@pytest.mark.each_backend
def test_a_classifier_has_the_features_of_its_model():
    model, data = tiny.model(), batches(tiny.token_ids(), 4)
    classifier = igpt_keras.IGPTClassifier(model, num_classes=4)
    features, _ = igpt_keras.extract_features(classifier, data)
    expected, _ = igpt_keras.extract_features(model, data)
    np.testing.assert_allclose(features, expected, atol=1e-6)


STRATEGIES = """
import contextlib
import keras, numpy as np, tensorflow as tf, tiny, igpt_keras

tf.config.run_functions_eagerly(True)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
one = tf.distribute.MirroredStrategy(["CPU:0"])
plain = tiny.model()
with two.scope():
    mirrored = tiny.model()
token_ids, labels = tiny.token_ids(7), np.arange(7)
arrays = [(token_ids[:3], labels[:3]), (token_ids[3:], labels[3:])]
dataset = tf.data.Dataset.from_tensor_slices((token_ids, labels)).batch(3)
expected, _ = igpt_keras.extract_features(plain, arrays)
for model, scope, data in (
    (plain, one.scope, dataset),
    (plain, two.scope, dataset),
    (plain, two.scope, arrays),
    (mirrored, contextlib.nullcontext, dataset),
    (mirrored, contextlib.nullcontext, arrays),
    (mirrored, two.scope, dataset),
):
    with scope():
        features, found = igpt_keras.extract_features(model, data)
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_allclose(features, expected, atol=1e-5)
# What is kept with the model from one strategy's scope is not for another's.
again = tiny.model()
for scope in (two.scope, one.scope, contextlib.nullcontext):
    with scope():
        features, _ = igpt_keras.extract_features(again, dataset)
        kept = igpt_keras.probes.features.feature_extractor(again)
        strategy = tf.distribute.get_strategy()
        assert kept.feature_model.distribute_strategy is strategy
    np.testing.assert_allclose(features, expected, atol=1e-5)
# Batch norm of a replica's share would be of fewer images.
with two.scope():
    try:
        igpt_keras.probes.AttentiveProbe(again, 3)
    except ValueError as error:
        assert "MirroredStrategy of 2 replicas" in str(error), error
    else:
        raise SystemExit("an attentive probe on two replicas")
"""


def test_whatever_strategy_surrounds_the_call(subprocess_environment):
    pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    result = forked.run(["-c", STRATEGIES], env=subprocess_environment)
    assert result.returncode == 0, result.stderr[-4000:]


def test_mixed_precision_features_are_float32():
    model = igpt_keras.IGPT(**tiny.SIZE, dtype="mixed_bfloat16")
    exact = igpt_keras.IGPT(**tiny.SIZE)
    exact.set_weights(model.get_weights())
    data = batches(tiny.token_ids(), 4)
    features, _ = igpt_keras.extract_features(model, data)
    expected, _ = igpt_keras.extract_features(exact, data)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=0.1)


def one_hot(batch):
    return [(batch[0][0], keras.utils.to_categorical(batch[0][1], 4))]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda data: [], "dataset is empty"),
        (lambda data: [data[0][0]], r"yields \(token_ids, labels\)"),
        (lambda data: [(data[0][0] + 11, data[0][1])], r"in \[0, 11\)"),
        (lambda data: [(data[0][0][:, :3], data[0][1])], "must have shape"),
        (one_hot, "one int label per image"),
        (lambda data: [(data[0][0], data[0][1][:3])], "4 images and 3 labels"),
        (lambda data: [(data[0][0], list("abcd"))], "must be integers"),
        (lambda data: [(data[0][0], [0, 1, 2, 0.5])], "whole numbers"),
        (lambda data: data[0], "Put a single batch in a list"),
        (lambda data: [(*data[0], 1)], "received a tuple of 3"),
        (lambda data: [({"images": 1}, data[0][1])], r"dict of \['images'\]"),
        (
            lambda data: [
                ({"token_ids": data[0][0], "mask": tiny.mask()}, data[0][1])
            ],
            "An autoregressive model takes one tensor",
        ),
        (lambda data: [(np.zeros((0, 16), "int32"), [])], "it has no image"),
        (iter, "is a generator, which can be read once"),
    ],
)
def test_refuses_bad_datasets(change, message):
    data = change(batches(tiny.token_ids(), 4))
    with pytest.raises(ValueError, match=message):
        igpt_keras.extract_features(tiny.model(), data)


def test_refuses_an_endless_dataset():
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensors(batches(tiny.token_ids(), 4)[0])
    with pytest.raises(ValueError, match="repeats forever"):
        igpt_keras.extract_features(tiny.model(), dataset.repeat())


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_features_in_a_file_are_the_same(objective, tmp_path):
    """Batches of several sizes; the file holds them, and is mapped."""
    model, token_ids = tiny.model(objective), tiny.token_ids(23)
    labels = np.arange(23) % 3
    batches = [
        (token_ids[i:j], labels[i:j]) for i, j in ((0, 10), (10, 20), (20, 23))
    ]
    path = tmp_path / "features.npy"
    expected, _ = igpt_keras.extract_features(model, batches)
    for _ in range(2):
        features, found = igpt_keras.extract_features(model, batches, path)
        assert isinstance(features, np.memmap)
        np.testing.assert_allclose(features, expected, atol=1e-5)
        np.testing.assert_allclose(np.load(path), expected, atol=1e-5)
        np.testing.assert_array_equal(found, labels)


def functional_model(**changes):
    """A Keras model of tiny size with the documented parts, and no more."""
    inputs = keras.Input((16,), dtype="int32")
    x = keras.layers.Embedding(11, 15)(inputs)
    blocks = [igpt_keras.layers.TransformerBlock(3, 2) for _ in range(2)]
    for block in blocks:
        x = block(x)
    final_norm = keras.layers.RMSNormalization()
    model = keras.Model(inputs, keras.layers.Dense(11)(final_norm(x)))
    parts = {"blocks": blocks, "final_norm": final_norm, "hidden_dim": 15}
    for name, part in {**parts, **changes}.items():
        setattr(model, name, part)
    return model


def test_features_of_any_model_with_the_parts(tmp_path):
    model, token_ids = functional_model(), tiny.token_ids()
    x, expected = model.layers[1](token_ids), []
    for block in model.blocks:
        expected.append(block.attention_norm(x))
        x = block(x)
    expected.append(model.final_norm(x))
    expected = [np.mean(tiny.array(states), axis=1) for states in expected]
    data = batches(token_ids, 3)
    for path in (None, tmp_path / "features.npy"):
        features, _ = igpt_keras.extract_features(model, data, path)
        np.testing.assert_allclose(features, expected, atol=1e-5)

    # Other layers of the same model are not those of before.
    blocks, model.blocks = model.blocks, model.blocks[1:]
    fewer, _ = igpt_keras.extract_features(model, data)
    np.testing.assert_allclose(fewer, expected[1:], atol=1e-5)
    model.blocks = blocks

    data = [(tiny.token_ids(30), np.arange(30) % 3)]
    probe = igpt_keras.LinearProbe(data, data, layers=[1], verbose=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss)
    model.fit(token_ids, token_ids, verbose=0, callbacks=[probe])
    assert len(probe.history[0]["accuracy"]) == 1

    for bad, message in (
        (token_ids[:, :3], r"must have shape \(batch, 16\)"),
        (token_ids * 1.0, "must be integers, received float"),
        ({"token_ids": token_ids, "mask": tiny.mask()}, "received a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            igpt_keras.extract_features(model, [(bad, np.arange(4))])


@pytest.mark.each_backend
def test_grids_of_probes_take_any_model_with_the_parts():
    model, x = functional_model(), tiny.token_ids(12)
    y = np.arange(12) % 3
    for probe in (
        ProbeGrid(model, 3, [0, 1], [1.0]),
        AttentiveProbe(model, 3, [1], [0.1], num_heads=3),
    ):
        assert tiny.array(probe(x)).shape[0] == 12
    with pytest.raises(ValueError, match="Functional has no `num_heads`"):
        AttentiveProbe(model, 3, [1])
    for make in (ProbeGrid, AttentiveProbe):
        with pytest.raises(ValueError, match="Sequential has no `blocks`"):
            make(keras.Sequential(), 3)
    examples = types.SimpleNamespace(probe_inputs=[(x, y)], labels=y)
    found = evaluation.layer_alignment(model, examples)
    assert found["layers"] == list(range(len(model.blocks) + 1))
    with pytest.raises(ValueError, match="an IGPT, received a Functional"):
        evaluation.token_losses(model, x)


@pytest.mark.each_backend
def test_a_model_inside_of_another_is_named():
    inner = tiny.model()
    token_ids = keras.Input((16,), dtype="int32")
    outer = keras.Model(token_ids, keras.layers.Dense(3)(inner(token_ids)))
    for name in ("blocks", "final_norm", "hidden_dim"):
        setattr(outer, name, getattr(inner, name))
    with pytest.raises(
        ValueError, match="block 0 is not among the `layers` of"
    ):
        igpt_keras.extract_features(outer, batches(tiny.token_ids(), 4))


@pytest.mark.each_backend
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"blocks": None}, "this Functional has no `blocks`"),
        ({"blocks": []}, "`blocks` of this Functional are empty"),
        ({"final_norm": None}, "has no `final_norm`"),
        ({"hidden_dim": None}, "has no `hidden_dim`"),
        (
            {"blocks": [keras.layers.Dense(3)]},
            "block 0 of this Functional, a Dense, has no `attention_norm`",
        ),
        (
            {"final_norm": keras.layers.RMSNormalization()},
            "`final_norm` has no one `output`: it was not called",
        ),
    ],
)
def test_names_the_part_that_a_model_lacks(changes, message):
    data = batches(tiny.token_ids(), 4)
    with pytest.raises(ValueError, match=message):
        igpt_keras.extract_features(functional_model(**changes), data)


def test_the_feature_model_is_made_once_and_follows_the_weights():
    model, data = tiny.model(), batches(tiny.token_ids(), 4)
    igpt_keras.extract_features(model, data)
    first = feature_extractor(model)
    assert feature_extractor(igpt_keras.IGPTClassifier(model, 3)) is first
    model.embedding.token_embedding.assign(
        -tiny.array(model.embedding.token_embedding)
    )
    changed, _ = igpt_keras.extract_features(model, data)
    _, expected = reference.forward(tiny.numpy_weights(model), data[0][0])
    np.testing.assert_allclose(changed, expected, atol=1e-4)
    # Not a part of the model.
    assert len(model.weights) == len(tiny.model().weights)

    # LoRA adds variables, which what was traced does not read.
    model.blocks[0].attention.output_projection.enable_lora(2)
    adapted = model.blocks[0].attention.output_projection
    adapted.lora_kernel_b.assign(np.ones(adapted.lora_kernel_b.shape))
    assert feature_extractor(model) is not first
    features, _ = igpt_keras.extract_features(model, data)
    assert np.abs(features[1:] - changed[1:]).max() > 0.1


@pytest.mark.each_backend
def test_a_model_that_was_probed_is_freed():
    model = tiny.model()
    igpt_keras.extract_features(model, batches(tiny.token_ids(), 4))
    kept = weakref.ref(model)
    del model
    keras.utils.clear_session()
    gc.collect()
    assert kept() is None
