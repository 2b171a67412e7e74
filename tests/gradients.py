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
