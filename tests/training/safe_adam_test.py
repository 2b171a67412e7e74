import keras
import numpy as np
import pytest

from igpt_keras import training


def reference(value, gradients, rate, clip_norm=None, weight_decay=0.0):
    """Adam in NumPy (Kingma and Ba 2015), on all values at once."""
    m = v = np.zeros_like(value)
    for step, gradient in enumerate(gradients, 1):
        if clip_norm is not None:
            norm = np.sqrt(np.square(gradient).sum())
            gradient = gradient * min(1, clip_norm / norm)
        value = value - weight_decay * rate * value
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        unbiased = m / (1 - 0.9**step), v / (1 - 0.999**step)
        value = value - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return value


def apply(optimizer, variables, gradient):
    parts = np.split(gradient.astype("float32"), [2])
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in parts], variables)


def variables():
    return [keras.Variable([1.0, -2.0]), keras.Variable([3.0])]


def values(variables):
    return np.concatenate([keras.ops.convert_to_numpy(v) for v in variables])


@pytest.mark.parametrize("clip_norm", [None, 0.5, 100.0])
@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_is_adam_of_the_clipped_gradient(clip_norm, weight_decay):
    gradients = np.random.default_rng(0).normal(size=(4, 3))
    optimizer = training.SafeAdam(
        0.1, clip_norm, epsilon=1e-8, weight_decay=weight_decay
    )
    found = variables()
    for gradient in gradients:
        apply(optimizer, found, gradient)
    expected = reference(
        np.array([1.0, -2.0, 3.0]), gradients, 0.1, clip_norm, weight_decay or 0
    )
    np.testing.assert_allclose(values(found), expected, rtol=1e-5)
    assert int(optimizer.skipped_steps) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_is_that_of_keras(dtype, amsgrad):
    gradients = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    found = []
    for adam in (training.SafeAdam, keras.optimizers.Adam):
        optimizer = adam(0.1, beta_2=0.95, amsgrad=amsgrad)
        variable = keras.Variable([1.0, -2.0, 3.0], dtype=dtype)
        for gradient in gradients:
            optimizer.apply([keras.ops.cast(gradient, dtype)], [variable])
        found.append(keras.ops.convert_to_numpy(variable).astype("float32"))
    rtol = {"float32": 1e-5, "bfloat16": 0.02}[dtype]
    np.testing.assert_allclose(*found, rtol=rtol)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.IndexedSlices"
)
@pytest.mark.parametrize("amsgrad", [False, True])
def test_gradients_of_some_rows(amsgrad):
    import tensorflow as tf

    # As `tf.gather` leaves them: row 1 twice.
    rows = tf.IndexedSlices(tf.ones((3, 2)), tf.constant([1, 1, 2]), (4, 2))
    found = []
    for gradient in (rows, tf.convert_to_tensor(rows)):
        optimizer = training.SafeAdam(0.1, epsilon=0.5, amsgrad=amsgrad)
        variable = keras.Variable(np.ones((4, 2)))
        for _ in range(2):
            optimizer.apply([gradient], [variable])
        found.append(variable.numpy())
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad):
    optimizer = training.SafeAdam(0.1, weight_decay=0.1)
    found = variables()
    apply(optimizer, found, np.ones(3))

    def state():
        moments = (*optimizer._momentums, *optimizer._velocities)
        return values([*found, *moments])

    before = state()
    for _ in range(2):
        apply(optimizer, found, np.array([1.0, 1.0, bad]))
    np.testing.assert_array_equal(state(), before)
    assert int(optimizer.iterations) == 3
    assert int(optimizer.skipped_steps) == 2
    assert int(optimizer.skipped_in_a_row) == 2
    assert int(optimizer.last_skipped_step) == 2
    apply(optimizer, found, np.ones(3))
    assert np.abs(state() - before).max() > 0.01
    assert int(optimizer.skipped_steps) == 2
    assert int(optimizer.skipped_in_a_row) == 0


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, float("inf"), float("nan")])
def test_a_norm_that_is_none(clip_norm):
    with pytest.raises(ValueError, match="clip_norm must be > 0"):
        training.SafeAdam(0.1, clip_norm)
