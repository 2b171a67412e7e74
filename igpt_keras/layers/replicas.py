import keras


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


def outside_replicas():
    """Whether code is traced for all replicas of `tf.distribute` at once."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_replica_context() is None
