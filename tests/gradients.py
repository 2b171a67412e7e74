"""Gradients on either backend, for tests."""

import keras
import numpy as np


def gradient(function, x):
    """Of a scalar function of one float32 array, as an array."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(np.asarray(x, "float32")))
    import tensorflow as tf

    x = tf.convert_to_tensor(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()


def of_variables(function, variables):
    """Of a scalar function, with respect to Keras variables, as arrays."""
    if keras.backend.backend() == "jax":
        import jax

        def stateless(values):
            with keras.StatelessScope(list(zip(variables, values))):
                return function()

        values = [variable.value for variable in variables]
        return [np.asarray(g) for g in jax.grad(stateless)(values)]
    import tensorflow as tf

    values = [variable.value for variable in variables]
    with tf.GradientTape() as tape:
        result = function()
    found = tape.gradient(result, values, unconnected_gradients="zero")
    # A sum over occurrences, whether or not TensorFlow took it.
    return [tf.convert_to_tensor(gradient).numpy() for gradient in found]
