import forked
import keras
import numpy as np
import pytest
from tiny import array

from igpt_keras.layers import Dropout


@pytest.mark.each_backend
def test_drops_its_share_and_keeps_the_mean():
    layer = Dropout(0.3, seed=1)
    x = np.full((200, 100), 2.0, "float32")
    dropped = array(layer(x, training=True))
    zero = dropped == 0
    assert abs(zero.mean() - 0.3) < 4 * np.sqrt(0.21 / x.size)
    np.testing.assert_allclose(dropped[~zero], 2 / 0.7, rtol=1e-6)
    # Units are independent of their neighbours, and of the next step's.
    for a, b in ((zero[1:], zero[:-1]), (zero[:, 1:], zero[:, :-1])):
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(a.size)
    again = array(layer(x, training=True)) == 0
    correlation = np.corrcoef(zero.ravel(), again.ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(x.size)
    same = array(Dropout(0.3, seed=1)(x, training=True))
    np.testing.assert_array_equal(dropped, same)


@pytest.mark.each_backend
def test_does_nothing_but_in_training():
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    np.testing.assert_array_equal(array(Dropout(0.5)(x)), x)
    layer = Dropout(0.0)
    np.testing.assert_array_equal(array(layer(x, training=True)), x)
    assert layer.variables == []


@pytest.mark.parametrize("rate", [1, -0.1, "0.1"])
def test_refuses_a_rate_out_of_range(rate):
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\)"):
        Dropout(rate)


@pytest.mark.each_backend
@pytest.mark.compiled
def test_compiled_drops_the_same():
    x = np.ones((5, 7), "float32")
    eager = array(Dropout(0.5, seed=3)(x, training=True))
    model = keras.Sequential([keras.Input((7,)), Dropout(0.5, seed=3)])
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(
            lambda: model(x, training=True), jit_compile=True
        )()
    else:
        import jax

        variables = [v.value for v in model.non_trainable_variables]
        compiled, _ = jax.jit(
            lambda state: model.stateless_call([], state, x, training=True)
        )(variables)
    np.testing.assert_array_equal(array(compiled), eager)


PROGRAM = """
import numpy as np, tensorflow as tf
from igpt_keras.layers import Dropout

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x = tf.ones((50, 40))
with strategy.scope():
    layer = Dropout(0.5, seed=1)
steps = []
for _ in range(2):
    both = strategy.run(tf.function(lambda: layer(x, training=True)))
    both = strategy.experimental_local_results(both)
    steps.append([part.numpy() == 0 for part in both])
alone = Dropout(0.5, seed=1)(x, training=True).numpy() == 0
np.testing.assert_array_equal(steps[0][0], alone)
drawn = [part.ravel() for step in steps for part in step]
correlations = np.corrcoef(drawn)[np.triu_indices(4, 1)]
assert np.abs(correlations).max() < 4 / np.sqrt(2000), correlations
"""


def test_replicas_drop_different_units(subprocess_environment):
    pytest.importorskip("tensorflow")
    result = forked.run(["-c", PROGRAM], env=subprocess_environment)
    assert result.returncode == 0, result.stderr[-3000:]
