"""What an optimizer makes of the gradients, for every variable."""

import forked
import gradients
import keras
import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras

RATE = 1e-3
# Of Adam; weights with hardly any gradient would move by its rounding.
EPSILON = 1e-6
KINDS = ["autoregressive", "bert", "classifier"]


def training_case(kind, batch=8, **overrides):
    """A model, and the inputs and targets of a batch with repeated tokens."""
    objective = "bert" if kind == "bert" else "autoregressive"
    built = tiny.model(objective, num_layers=1, **overrides)
    x = y = tiny.token_ids(batch) // 2
    if kind == "bert":
        x = {"token_ids": x, "mask": tiny.mask(batch)}
    if kind == "classifier":
        built = igpt_keras.IGPTClassifier(built, 3)
        kernel = np.random.default_rng(4).normal(size=(15, 3))
        built.class_head.kernel.assign(kernel)
        y = np.arange(batch) % 3
    return built, x, y


def adam(**arguments):
    return keras.optimizers.Adam(RATE, epsilon=EPSILON, **arguments)


def loss_gradients(model, x, y):
    def loss():
        tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
        return model.compute_loss(*tensors, model(tensors[0]))

    return gradients.of_variables(loss, model.trainable_variables)


def snapshot(model):
    return {v.path: array(v).copy() for v in model.trainable_variables}


@pytest.mark.compiled
@pytest.mark.parametrize(
    "kind",
    [
        "autoregressive",
        pytest.param("bert", marks=pytest.mark.each_backend),
        "classifier",
    ],
)
def test_a_step_of_adam_is_that_of_numpy_for_every_variable(kind):
    model, x, y = training_case(kind)
    model.compile(adam())
    model.evaluate(x, y, verbose=0)
    before, steps = snapshot(model), []
    # From zero moments every weight moves by the rate, a wrong second moment
    # or not at all: the second step tells apart what the first does not.
    for _ in range(2):
        steps.append(loss_gradients(model, x, y))
        model.train_on_batch(x, y)
    for i, variable in enumerate(model.trainable_variables):
        expected = reference.adam(
            before[variable.path],
            [step[i] for step in steps],
            RATE,
            EPSILON,
        )
        np.testing.assert_allclose(
            array(variable), expected, atol=0.01 * RATE, err_msg=variable.path
        )
        moved = np.abs(array(variable) - before[variable.path]).max()
        assert moved > RATE / 2, variable.path


@pytest.mark.parametrize("kind", ["autoregressive", "bert"])
def test_the_gradient_of_the_token_embedding_is_that_of_the_loss(kind):
    """Against finite differences of the reference."""
    model, x, y = training_case(kind, batch=3)
    model.compile()
    model.evaluate(x, y, verbose=0)
    mask = x["mask"] if kind == "bert" else None

    def loss(weights):
        logits, _ = reference.forward(weights, y, mask)
        if mask is None:
            return reference.nats(logits, y).mean()
        return reference.bert_loss(logits, y, mask)

    weights = tiny.numpy_weights(model)
    expected = np.zeros_like(weights["wte"])
    for place in np.ndindex(expected.shape):
        values = []
        for change in (1e-5, -1e-5):
            moved = weights["wte"].copy()
            moved[place] += change
            values.append(loss({**weights, "wte": moved}))
        expected[place] = (values[0] - values[1]) / 2e-5
    index = [v.path for v in model.trainable_variables].index(
        model.embedding.token_embedding.path
    )
    np.testing.assert_allclose(
        loss_gradients(model, x, y)[index], expected, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_weight_moves_further_than_the_rate_in_mixed_bfloat16(kind):
    model, x, y = training_case(kind, dtype="mixed_bfloat16")
    model.compile(keras.optimizers.Adam(RATE))
    before = snapshot(model)
    model.train_on_batch(x, y)
    for variable in model.trainable_variables:
        step = np.abs(array(variable) - before[variable.path]).max() / RATE
        assert abs(step - 1) < 0.01, f"{variable.path}: {step}"


@pytest.mark.parametrize(
    "kind",
    [
        "autoregressive",
        pytest.param("bert", marks=pytest.mark.large),
        pytest.param("classifier", marks=pytest.mark.large),
    ],
)
def test_accumulation_over_halves_is_the_whole_batch(kind):
    found = []
    for parts in (1, 2):
        model, x, y = training_case(kind)
        model.compile(
            adam(gradient_accumulation_steps=parts if parts > 1 else None)
        )
        model.fit(
            x, y, batch_size=8 // parts, shuffle=False, epochs=2, verbose=0
        )
        found.append(snapshot(model))
    for path, value in found[0].items():
        np.testing.assert_allclose(
            found[1][path], value, atol=0.01 * RATE, err_msg=path
        )


@pytest.mark.compiled
@pytest.mark.large
def test_compiled_with_xla_a_step_is_the_same():
    found = []
    for compiled in (False, True):
        model, x, y = training_case("autoregressive")
        model.compile(adam(), jit_compile=compiled)
        model.train_on_batch(x, y)
        found.append(snapshot(model))
    for path, value in found[0].items():
        np.testing.assert_allclose(
            found[1][path], value, atol=0.01 * RATE, err_msg=path
        )


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="JAX has no attention in float16 on a CPU",
)
@pytest.mark.parametrize("kind", KINDS)
def test_small_gradients_survive_mixed_float16(kind):
    found = []
    for dtype in ("float32", "mixed_float16"):
        model, x, y = training_case(kind, dtype=dtype)
        model.compile(keras.optimizers.SGD(1e6))
        before = snapshot(model)
        # Gradients below what float16 holds, unless the loss is scaled.
        weight = np.full(8, 1e-6, "float32")
        model.train_on_batch(x, y, sample_weight=weight)
        found.append({k: v - before[k] for k, v in snapshot(model).items()})
    for path, value in found[0].items():
        error = np.linalg.norm(found[1][path] - value) / np.linalg.norm(value)
        assert error < 0.02, f"{path}: {error}"


def test_refuses_to_train_float16_weights():
    for kind in ("bert", "classifier"):
        model, _, _ = training_case(kind, dtype="float16")
        with pytest.raises(ValueError, match="Train under 'mixed_float16'"):
            model.compile()


PROGRAM = """
import sys
import keras, numpy as np
sys.path.insert(0, "tests/models")
from training_step_test import KINDS, adam, snapshot, training_case
found = {}
for kind in KINDS:
    model, x, y = training_case(kind)
    model.compile(adam())
    for _ in range(10):
        model.train_on_batch(x, y)
    for path, value in snapshot(model).items():
        found[kind + " " + path] = value
np.savez(sys.argv[1], **found)
"""


@pytest.mark.large
def test_ten_steps_of_adam_are_the_same_on_both_backends(
    subprocess_environment, tmp_path
):
    pytest.importorskip("tensorflow")
    pytest.importorskip("jax")
    found = []
    for backend in ("tensorflow", "jax"):
        path = tmp_path / f"{backend}.npz"
        result = forked.run(
            ["-c", PROGRAM, str(path)],
            env={**subprocess_environment, "KERAS_BACKEND": backend},
        )
        assert result.returncode == 0, result.stderr[-3000:]
        found.append(np.load(path))
    assert set(found[0].files) == set(found[1].files)
    for name in found[0].files:
        np.testing.assert_allclose(
            found[0][name], found[1][name], atol=1e-5, err_msg=name
        )
