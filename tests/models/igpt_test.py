import keras
import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras


def logits(model, token_ids, mask=None):
    if mask is None:
        return array(model(token_ids))
    return array(model({"token_ids": token_ids, "mask": mask}))


@pytest.mark.each_backend
def test_autoregressive_logits_match_the_reference():
    model, token_ids = tiny.model(), tiny.token_ids()
    expected, _ = reference.forward(tiny.numpy_weights(model), token_ids)
    np.testing.assert_allclose(
        logits(model, token_ids), expected, atol=1e-4, rtol=1e-5
    )


@pytest.mark.each_backend
def test_bert_logits_match_the_reference():
    model, token_ids, mask = tiny.model("bert"), tiny.token_ids(), tiny.mask()
    expected, _ = reference.forward(tiny.numpy_weights(model), token_ids, mask)
    np.testing.assert_allclose(
        logits(model, token_ids, mask), expected, atol=1e-4, rtol=1e-5
    )


@pytest.mark.each_backend
@pytest.mark.parametrize("position", [0, 7, 15])
def test_a_token_moves_later_logits_only(position):
    model, token_ids = tiny.model(), tiny.token_ids()
    changed = token_ids.copy()
    changed[:, position] = (changed[:, position] + 1) % 11
    difference = np.abs(logits(model, token_ids) - logits(model, changed))
    assert difference[:, : position + 1].max() == 0
    # The last token is no input at all.
    assert position == 15 or difference[:, position + 1 :].max() > 1e-3


@pytest.mark.each_backend
def test_first_logits_are_the_same_for_all_images():
    first = logits(tiny.model(), tiny.token_ids())[:, 0]
    np.testing.assert_array_equal(first, np.repeat(first[:1], 4, axis=0))


@pytest.mark.each_backend
def test_bert_looks_both_ways():
    model, token_ids = tiny.model("bert"), tiny.token_ids()
    mask = np.zeros_like(token_ids, "bool")
    changed = token_ids.copy()
    changed[:, -1] = (changed[:, -1] + 1) % 11
    difference = logits(model, token_ids, mask) - logits(model, changed, mask)
    assert np.abs(difference[:, 0]).min(axis=0).max() > 1e-3


@pytest.mark.each_backend
def test_bert_does_not_see_hidden_tokens():
    model, token_ids, mask = tiny.model("bert"), tiny.token_ids(), tiny.mask()
    changed = np.where(mask, (token_ids + 1) % 11, token_ids)
    np.testing.assert_array_equal(
        logits(model, token_ids, mask), logits(model, changed, mask)
    )


@pytest.mark.each_backend
@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_training_changes_nothing_in_the_forward_pass(objective):
    model, inputs = tiny.model(objective), tiny.token_ids()
    if objective == "bert":
        inputs = {"token_ids": inputs, "mask": tiny.mask()}
    np.testing.assert_array_equal(
        array(model(inputs, training=True)),
        array(model(inputs, training=False)),
    )


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_fresh_loss_is_ln_v_and_only_the_head_learns_first(objective):
    model = igpt_keras.IGPT(**tiny.SIZE, objective=objective)
    token_ids = tiny.token_ids()
    inputs = token_ids
    if objective == "bert":
        inputs = {"token_ids": token_ids, "mask": tiny.mask()}
    model.compile(keras.optimizers.SGD(1.0))
    before = [array(v) for v in model.trainable_variables]
    loss = model.evaluate(inputs, token_ids, verbose=0)
    assert abs(loss - np.log(11)) < 1e-6
    model.fit(inputs, token_ids, verbose=0)
    for variable, value in zip(model.trainable_variables, before):
        moved = not np.array_equal(array(variable), value)
        assert moved == (variable is model.head.kernel), variable.path
    assert model.evaluate(inputs, token_ids, verbose=0) < loss - 1e-3


@pytest.mark.each_backend
def test_autoregressive_loss_is_nats_per_token():
    model, token_ids = tiny.model(), tiny.token_ids(batch=10)
    model.compile()
    expected = reference.nats(
        logits(model, token_ids).astype("float64"), token_ids
    )
    for batch_size in (10, 4):
        loss = model.evaluate(
            token_ids, token_ids, batch_size=batch_size, verbose=0
        )
        assert abs(loss - expected.mean()) < 1e-5
    assert abs(loss * 16 - expected.sum(axis=1).mean()) < 1e-4  # per image


@pytest.mark.each_backend
def test_bert_loss_is_the_mean_over_images_of_masked_means():
    model, token_ids = tiny.model("bert"), tiny.token_ids(batch=3)
    mask = np.zeros((3, 16), "bool")
    mask[0, :1], mask[1, 3:14] = True, True  # and none in the third
    model.compile()
    loss = model.evaluate(
        {"token_ids": token_ids, "mask": mask}, token_ids, verbose=0
    )
    expected = reference.bert_loss(
        logits(model, token_ids, mask).astype("float64"), token_ids, mask
    )
    assert abs(loss - expected) < 1e-5
    pooled = reference.nats(logits(model, token_ids, mask), token_ids)[mask]
    assert abs(loss - pooled.mean()) > 1e-2


def test_bert_with_nothing_hidden_is_zero_and_trains():
    model, token_ids = tiny.model("bert"), tiny.token_ids()
    inputs = {"token_ids": token_ids, "mask": np.zeros((4, 16), "bool")}
    model.compile("sgd")
    assert model.fit(inputs, token_ids, verbose=0).history["loss"] == [0.0]
    assert all(np.isfinite(array(v)).all() for v in model.weights)


def test_bert_sample_weights_weigh_images():
    model, token_ids, mask = tiny.model("bert"), tiny.token_ids(), tiny.mask()
    model.compile()
    inputs = {"token_ids": token_ids, "mask": mask}
    first = np.array([1.0, 0, 0, 0], "float32")
    loss = model.evaluate(inputs, token_ids, sample_weight=first, verbose=0)
    expected = reference.bert_loss(
        logits(model, token_ids, mask).astype("float64")[:1],
        token_ids[:1],
        mask[:1],
    )
    assert abs(4 * loss - expected) < 1e-4


@pytest.mark.compiled
def test_optimizer_learns_a_constant_image():
    model = igpt_keras.IGPT(**tiny.SIZE)
    model.compile(keras.optimizers.Adam(3e-2))
    token_ids = np.repeat(tiny.token_ids(batch=1), 8, axis=0)
    history = model.fit(token_ids, token_ids, epochs=30, verbose=0).history
    assert history["loss"][-1] < 0.3


def test_mixed_bfloat16_keeps_logits_and_loss_in_float32():
    model = igpt_keras.IGPT(**tiny.SIZE, dtype="mixed_bfloat16")
    token_ids = tiny.token_ids()
    output = model(token_ids)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert model.blocks[0].compute_dtype == "bfloat16"
    assert {v.dtype for v in model.weights} == {"float32"}
    model.compile(keras.optimizers.SGD(0.1))
    history = model.fit(token_ids, token_ids, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.large
@pytest.mark.compiled
def test_compiles_with_xla():
    model, token_ids = tiny.model(), tiny.token_ids()
    expected = logits(model, token_ids)
    model.compile("sgd", jit_compile=True)
    np.testing.assert_allclose(
        model.predict(token_ids, verbose=0), expected, atol=1e-4
    )
    assert np.isfinite(
        model.fit(token_ids, token_ids, verbose=0).history["loss"]
    )


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_keras_saving_round_trip(objective, tmp_path):
    model = tiny.model(objective)
    model.compile(keras.optimizers.SGD(0.1))
    token_ids = inputs = tiny.token_ids()
    if objective == "bert":
        inputs = {"token_ids": inputs, "mask": tiny.mask()}
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(copy) is igpt_keras.IGPT
    np.testing.assert_array_equal(array(copy(inputs)), array(model(inputs)))
    assert copy.get_config() == model.get_config()
    losses = [
        m.fit(inputs, token_ids, epochs=2, verbose=0).history["loss"]
        for m in (model, copy)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"num_heads": 4}, "num_heads=4 does not divide hidden_dim=15"),
        ({"objective": "gpt"}, "Unknown objective 'gpt'.*autoregressive"),
        ({"num_layers": 0}, "num_layers must be a positive int"),
        ({"hidden_dim": 1.5}, "hidden_dim must be a positive int"),
        ({"num_layers": True}, "num_layers must be a positive int"),
        ({"num_heads": "3"}, "num_heads must be a positive int"),
    ],
)
def test_refuses_sizes_that_do_not_fit(overrides, message):
    with pytest.raises(ValueError, match=message):
        igpt_keras.IGPT(**{**tiny.SIZE, **overrides})


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x[:, :9], "shape"),
        (lambda x: x[0], "shape|rank|dim"),
        (lambda x: x.astype("float32"), "must be integers, received float32"),
        (lambda x: x + 11, r"must be in \[0, 11\), received values from 11"),
        (lambda x: x - 11, r"must be in \[0, 11\), received values from -11"),
        (lambda x: {"token_ids": x}, "one tensor of token ids|structure"),
    ],
)
def test_refuses_bad_token_ids(change, message):
    model = tiny.model()
    bad = change(tiny.token_ids())
    model.compile("sgd")
    calls = [model]
    if isinstance(bad, np.ndarray):
        calls += [
            lambda x: model.predict(x, verbose=0),
            lambda x: model.fit(x, x, verbose=0),
            lambda x: model.evaluate(x, x, verbose=0),
        ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call(bad)


def test_refuses_bad_datasets():
    tf = pytest.importorskip("tensorflow")
    model = tiny.model()
    model.compile("sgd")
    for change, message in (
        (lambda x: x[:, :9], "must have shape"),
        (lambda x: x.astype("float32"), "must be integers"),
    ):
        bad = change(tiny.token_ids())
        dataset = tf.data.Dataset.from_tensors((bad, bad))
        for call in (model.fit, model.evaluate, model.predict):
            with pytest.raises(ValueError, match=message):
                call(dataset, verbose=0)


@pytest.mark.each_backend
def test_bert_needs_its_mask():
    model = tiny.model("bert")
    with pytest.raises(ValueError, match="mask|structure"):
        model(tiny.token_ids())
    with pytest.raises(ValueError, match="A BERT model takes a dict"):
        model.check_inputs(tiny.token_ids())


WEIGHTS = np.random.default_rng(5)


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
@pytest.mark.parametrize("shape", [(5,), (16,), (5, 16), (16, 16)])
def test_sample_weights_are_of_images_or_tokens(objective, shape):
    """16 images of 16 tokens: as many weights as tokens, for images."""
    model, x = tiny.model(objective, num_layers=1), tiny.token_ids(shape[0])
    weight = WEIGHTS.uniform(0.1, 2, shape).astype("float32")
    mask = np.ones(x.shape, "bool")
    inputs = x
    if objective == "bert":
        mask = tiny.mask(shape[0])
        inputs = {"token_ids": x, "mask": mask}
    found = logits(model, x, mask if objective == "bert" else None)
    nats = reference.nats(found.astype("float64"), x)
    right = found.argmax(axis=-1) == x
    tokens = np.broadcast_to(
        weight if len(shape) == 2 else weight[:, None], x.shape
    )
    per_image = (nats * tokens * mask).sum(axis=1) / mask.sum(axis=1)
    model.compile(
        "sgd",
        metrics=["accuracy"],
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy("weighted")],
    )
    result = model.evaluate(
        inputs, x, sample_weight=weight, verbose=0, return_dict=True
    )
    assert abs(result["loss"] - per_image.mean()) < 1e-5
    assert abs(result["accuracy"] - right[mask].mean()) < 1e-5
    expected = (right * tokens * mask).sum() / (tokens * mask).sum()
    assert abs(result["weighted"] - expected) < 1e-5
    (trained, *_) = model.train_on_batch(inputs, x, sample_weight=weight)
    assert abs(trained - per_image.mean()) < 1e-5


@pytest.mark.parametrize(
    "shape", [(4, 1), (1, 16), (4, 15), (4, 16, 1), ()], ids=str
)
def test_refuses_other_sample_weights(shape):
    model, x = tiny.model(), tiny.token_ids()
    model.compile("sgd")
    weight = np.ones(shape, "float32")
    message = "sample_weight must have shape|and x has 4 rows"
    for call in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError, match=message):
            call(x, x, sample_weight=weight)
    with pytest.raises(ValueError, match="no classes to weigh"):
        model.fit(x, x, class_weight={0: 1.0})


@pytest.mark.each_backend
def test_bert_takes_metrics_that_can_leave_out_visible_tokens():
    model = tiny.model("bert")
    for argument in ("metrics", "weighted_metrics"):
        with pytest.raises(ValueError, match="cannot leave out the tokens"):
            model.compile("sgd", **{argument: [keras.metrics.AUC()]})
    model.compile(
        "sgd", metrics=["acc", keras.metrics.sparse_top_k_categorical_accuracy]
    )


@pytest.mark.parametrize(
    "targets, message",
    [
        (tiny.token_ids() + 11, r"y must be in \[0, 11\)"),
        (tiny.token_ids() - 11, r"y must be in \[0, 11\)"),
        (tiny.token_ids() + 0.5, "y must be integers, received float64"),
        (tiny.token_ids().astype("str"), "y must be integers, received str"),
        (tiny.token_ids()[:, :9], r"y must have shape \(batch, 16\)"),
        (tiny.token_ids()[:, 0], r"y must have shape \(batch, 16\)"),
        (3, r"y must have shape \(batch, 16\)"),
    ],
)
def test_refuses_bad_targets(targets, message):
    model, x = tiny.model(), tiny.token_ids()
    model.compile("sgd")
    for call in (
        lambda: model.fit(x, targets),
        lambda: model.evaluate(x, targets),
        lambda: model.train_on_batch(x, targets),
        lambda: model.test_on_batch(x, targets),
        lambda: model.fit(x, x, validation_data=(x, targets)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_takes_targets_as_lists_and_of_a_loss_of_ones_own():
    model, x = tiny.model(), tiny.token_ids()
    model.compile("sgd")
    expected = model.evaluate(x, x, verbose=0)
    assert model.evaluate(x, x.tolist(), verbose=0) == expected
    assert abs(model.test_on_batch(x, x.tolist()) - expected) < 1e-6
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    loss = model.evaluate(x, np.eye(11, dtype="float32")[x], verbose=0)
    assert abs(loss - expected) < 1e-5


def test_refuses_ids_out_of_range_in_single_batches():
    model, x = tiny.model(), tiny.token_ids()
    model.compile("sgd")
    for call in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=r"must be in \[0, 11\)"):
            call(x + 11, x)
    with pytest.raises(ValueError, match=r"must be in \[0, 11\)"):
        model.predict_on_batch(x + 11)


@pytest.mark.parametrize(
    "dtype, vocabulary_size",
    [
        pytest.param("uint8", 256, marks=pytest.mark.each_backend),
        ("uint8", 512),
        ("int8", 200),
        ("int16", 40000),
        ("uint16", 65536),
    ],
)
def test_ids_of_few_bits_cost_what_others_do(dtype, vocabulary_size):
    model = tiny.model(vocabulary_size=vocabulary_size, num_layers=1)
    model.compile(keras.optimizers.SGD(0.0))
    token_ids = np.iinfo(dtype).max - tiny.token_ids()
    expected = model.evaluate(token_ids, verbose=0)
    few_bits = token_ids.astype(dtype)
    found = model.evaluate(few_bits, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    losses = model.fit(few_bits, few_bits, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, [expected], rtol=1e-5)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "part, shift",
    [
        ("x", -11),
        *(
            pytest.param(*case, marks=pytest.mark.large)
            for case in (
                ("last", 11),
                ("x", 11),
                ("y", 11),
                ("y", -11),
                ("last", -11),
            )
        ),
    ],
)
def test_ids_out_of_range_from_a_generator_are_no_loss(shift, part, caplog):
    model, x = tiny.model(num_layers=1), tiny.token_ids()
    bad = x.copy()
    # The last token is no input, and one target is enough.
    bad[0, 15 if part == "last" else 3] += shift
    batch = {"x": (bad, x), "y": (x, bad), "last": (bad, x)}[part]
    model.compile("sgd", jit_compile=True)
    calls = (
        lambda x: model.fit(x, steps_per_epoch=1).history["loss"][0],
        lambda x: model.evaluate(x, steps=1),
    )
    for call in calls:
        caplog.clear()
        result = call(batch for _ in range(2))
        assert np.isnan(result)
        assert "out of the model's range" in caplog.text


def test_refuses_empty_batches_and_what_is_no_array():
    model, x = tiny.model(), tiny.token_ids()
    model.compile("sgd")
    for call in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError, match="The batch is empty"):
            call(x[:0], x[:0])
    with pytest.raises(ValueError, match="The batch is empty"):
        model.predict(x[:0])
    for bad in (3, "digits", x.tolist()):
        with pytest.raises(ValueError, match="shape|one tensor of token ids"):
            model.fit(bad, x)


def test_refuses_to_be_cloned_without_its_objective():
    for objective in ("autoregressive", "bert"):
        model = tiny.model(objective)
        for arguments in ({}, {"clone_function": lambda layer: layer}):
            with pytest.raises(ValueError, match="cannot be cloned"):
                keras.models.clone_model(model, **arguments)
        copy = type(model).from_config(model.get_config())
        assert copy.get_config() == model.get_config()


def test_takes_whatever_is_an_index_for_a_size():
    sizes = {k: np.int64(v) for k, v in tiny.SIZE.items()}
    sizes["num_layers"] = np.uint8(3)
    model = igpt_keras.IGPT(**sizes)
    for name, value in tiny.SIZE.items():
        assert type(getattr(model, name)) is int
        assert getattr(model, name) == value
    named = igpt_keras.IGPT.from_preset(
        "igpt_nano", sequence_length=np.int32(16)
    )
    assert type(named.sequence_length) is int
    classifier = igpt_keras.IGPTClassifier(model, np.arange(3).max() + 1)
    assert type(classifier.num_classes) is int
    for bad in (True, 1, "3", 2.0):
        with pytest.raises(ValueError, match="num_classes must be an int >= 2"):
            igpt_keras.IGPTClassifier(model, bad)
    for bad in (float("nan"), float("inf"), "one"):
        with pytest.raises(ValueError, match="must be >= 0 and finite"):
            igpt_keras.IGPTClassifier(model, 3, generative_weight=bad)
    with pytest.raises(ValueError, match="named size, which has no class head"):
        igpt_keras.IGPTClassifier.from_preset("igpt_nano")
