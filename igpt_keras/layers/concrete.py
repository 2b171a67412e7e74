import keras
import numpy as np


def concrete(tensor):
    """The tensor's values as an array, `None` while a function is traced."""
    if isinstance(tensor, np.ndarray):
        return tensor
    if isinstance(tensor, keras.KerasTensor):
        return None
    if keras.backend.backend() == "jax":
        import jax

        if isinstance(tensor, jax.Array) and not isinstance(
            tensor, jax.core.Tracer
        ):
            return np.asarray(tensor)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(tensor, tf.Tensor) and tf.executing_eagerly():
            return tensor.numpy()
    return None
