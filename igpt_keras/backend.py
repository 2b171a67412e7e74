"""What Keras does not hide of its backends."""

import contextlib

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


def sum_across_replicas(tensor):
    """Sum of a tensor over the replicas of `tf.distribute`.

    Elsewhere the tensor itself: on JAX, arrays are of the whole batch.
    """
    if keras.backend.backend() != "tensorflow":
        return tensor
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def precise_matmul(x, y):
    """The float32 product of matrices, also where accelerators round.

    They may round operands to tf32, as TensorFlow has them do by default, or
    to bfloat16.
    """
    if keras.backend.backend() == "jax":
        import jax.numpy as jnp

        return jnp.matmul(x, y, precision="highest")
    # Three parts of 8 bits each, which no rounding changes; products of less
    # than 2**-24 are left out. By bits, not casts: XLA takes a cast to bfloat16
    # and back for nothing.
    x0, x1, x2 = _bfloat16_parts(x)
    y0, y1, y2 = _bfloat16_parts(y)
    return keras.ops.matmul(
        keras.ops.concatenate([x0, x0, x1, x0, x1, x2], axis=-1),
        keras.ops.concatenate([y0, y1, y0, y2, y1, y0], axis=-2),
    )


def _bfloat16_parts(x):
    parts = []
    for _ in range(3):
        bits = keras.ops.view(x, "int32")
        high = keras.ops.bitwise_and(bits, np.int32(-(2**16)))
        parts.append(keras.ops.view(high, "float32"))
        x = x - parts[-1]
    return parts


def outside_replicas():
    """Whether code is traced for all replicas of `tf.distribute` at once."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_replica_context() is None


def num_replicas(model):
    """Replicas that the model's variables live on, 1 without a strategy."""
    strategy = getattr(model, "distribute_strategy", None)
    return 1 if strategy is None else strategy.num_replicas_in_sync


def model_scope(model):
    """Where what shares the model's variables must be built.

    The scope of the `tf.distribute` strategy that the model was built under,
    whichever is in force where this is called.
    """
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def optimizer_step(model):
    """Optimizer steps that a compiled model has taken, as an int."""
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))
