"""Blocks that are computed again in the backward pass change no number."""

import forked
import keras
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras

pytestmark = pytest.mark.compiled


def build(objective, **arguments):
    """A compiled model, always with the same weights and dropout."""
    keras.utils.set_random_seed(0)
    model = tiny.model(objective, **arguments)
    model.compile()
    return model


def loss_and_gradients(model, objective, way):
    """Of a training step, op by op or compiled."""
    x = y = tiny.token_ids()
    if objective == "bert":
        x = {"token_ids": x, "mask": tiny.mask()}

    def loss():
        tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
        outputs = model(tensors[0], training=True)
        return model.compute_loss(*tensors, outputs, training=True)

    variables = model.trainable_variables
    if keras.backend.backend() == "jax":
        import jax

        def stateless(values):
            with keras.StatelessScope(list(zip(variables, values))):
                return loss()

        function = jax.value_and_grad(stateless)
        if way == "xla":
            function = jax.jit(function)
        value, found = function([variable.value for variable in variables])
    else:
        import tensorflow as tf

        def step():
            with tf.GradientTape() as tape:
                value = loss()
            values = [variable.value for variable in variables]
            return value, tape.gradient(value, values)

        if way == "xla":
            step = tf.function(step, jit_compile=True)
        value, found = step()
    return [array(tensor) for tensor in (value, *found)]


@pytest.mark.parametrize(
    "objective, way",
    [
        ("autoregressive", "eager"),
        ("bert", "eager"),
        pytest.param("bert", "xla", marks=pytest.mark.large),
        pytest.param("autoregressive", "xla", marks=pytest.mark.large),
    ],
)
def test_gradients_and_loss_are_the_same(objective, way):
    plain, again = (
        loss_and_gradients(
            build(objective, num_layers=1, dropout=0.4, remat=remat),
            objective,
            way,
        )
        for remat in (False, True)
    )
    for one, other in zip(plain, again):
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6)
    if way == "eager":
        undropped = build(objective, num_layers=1, remat=True)
        loss, *_ = loss_and_gradients(undropped, objective, way)
        assert abs(loss - plain[0]) > 1e-2


def test_is_of_every_block_and_of_training_alone(monkeypatch):
    wrapped, original = [], keras.remat

    def remat(function):
        wrapped.append(function)
        return original(function)

    monkeypatch.setattr(keras, "remat", remat)
    token_ids = tiny.token_ids()
    model = tiny.model(remat=True)
    model(token_ids)
    tiny.model()(token_ids, training=True)
    assert not wrapped
    model(token_ids, training=True)
    assert len(wrapped) == model.num_layers


def test_can_be_changed_in_a_saved_model(tmp_path):
    model, token_ids = tiny.model(remat=True), tiny.token_ids()
    model.save_to_preset(tmp_path / "preset")
    for remat, overrides in ((True, {}), (False, {"remat": False})):
        copy = igpt_keras.IGPT.from_preset(tmp_path / "preset", **overrides)
        assert copy.get_config()["remat"] is remat
        assert copy.blocks[0].get_config()["remat"] is remat
        np.testing.assert_array_equal(
            array(copy(token_ids)), array(model(token_ids))
        )


PROGRAM = """
import keras, numpy as np, tensorflow as tf, tiny
from igpt_keras.training.train_step import train_step

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
token_ids, found = tiny.token_ids(8), []
for remat in (False, True):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = tiny.model(num_layers=1, dropout=0.4, remat=remat)
        model.compile(keras.optimizers.SGD(0.1))
    before = [tiny.array(v) for v in model.trainable_variables]
    step = train_step(model, micro_batches=2, steps_per_call=2)
    data = tf.data.Dataset.from_tensors((token_ids, token_ids)).repeat()
    loss = step(step.iterate(lambda start: data, 0))[0]
    after = [tiny.array(v) for v in model.trainable_variables]
    found.append([loss, *after])
for plain, again in zip(*found):
    np.testing.assert_allclose(again, plain, rtol=1e-6, atol=1e-6)
assert max(np.abs(a - b).max() for a, b in zip(after, before)) > 1e-2
"""


@pytest.mark.large
def test_replicas_train_the_same(subprocess_environment):
    pytest.importorskip("tensorflow")
    result = forked.run(["-c", PROGRAM], env=subprocess_environment)
    assert result.returncode == 0, result.stderr[-4000:]
