"""What Keras does not hide of its backends."""

import contextlib
import os

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


def take_rows(table, indices):
    """Rows of a table by index, with a dense gradient on every backend.

    TensorFlow's own gradient has a slice per occurrence of an index. Keras'
    optimizers do their arithmetic slice by slice, so that Adam's second moment
    would be a sum of squares in place of the square of a sum.

    Args:
        table: float variable or tensor `(V, D)`.
        indices: int tensor `(...)` in `[0, V)`.

    Returns:
        Float tensor `(..., D)`; NaN where an index is out of range and the
        device does not raise.
    """
    if keras.backend.backend() == "jax":
        # Negative ones would count from the end; rows past it are NaN.
        indices = keras.ops.where(indices < 0, table.shape[0], indices)
    if keras.backend.backend() != "tensorflow":
        return keras.ops.take(table, indices, axis=0)
    import tensorflow as tf

    @tf.custom_gradient
    def take(table):
        rows, width = table.shape

        def gradient(upstream):
            return tf.math.unsorted_segment_sum(
                tf.reshape(upstream, (-1, width)),
                tf.reshape(indices, (-1,)),
                num_segments=rows,
            )

        # An error on a CPU, and something else each under XLA and on a GPU.
        right = (indices >= 0) & (indices < rows)
        found = tf.gather(table, indices)
        return tf.where(right[..., None], found, float("nan")), gradient

    return take(tf.convert_to_tensor(table))


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


def batch_matmul(x, y, transpose_x=False, transpose_y=False):
    """Products of matrices, without a copy of what is transposed.

    Args:
        x: float tensor `(..., n, k)`, or `(..., k, n)` if `transpose_x`.
        y: float tensor `(..., k, m)`, or `(..., m, k)` if `transpose_y`.
        transpose_x: bool. Defaults to `False`.
        transpose_y: bool. Defaults to `False`.

    Returns:
        Float tensor `(..., n, m)`.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.matmul(x, y, transpose_a=transpose_x, transpose_b=transpose_y)
    x = keras.ops.swapaxes(x, -1, -2) if transpose_x else x
    y = keras.ops.swapaxes(y, -1, -2) if transpose_y else y
    return keras.ops.matmul(x, y)


def run_after(others, *tensors):
    """Tensors that TensorFlow does not read before others are computed.

    It runs side by side what it can, also what needs much memory. Other
    backends take one operation after the other, in an order of their own.

    Args:
        others: list of tensors.
        *tensors: tensors or arrays.

    Returns:
        list of `tensors`.
    """
    tensors = [keras.ops.convert_to_tensor(x) for x in tensors]
    if keras.backend.backend() != "tensorflow":
        return tensors
    import tensorflow as tf

    with tf.control_dependencies(others):
        return [tf.identity(x) for x in tensors]


def attends_by_kernel(dtype, is_masked=False):
    """Whether `keras.ops.dot_product_attention` may keep no scores.

    JAX has such kernels on GPUs and TPUs, in 16 bits, PyTorch everywhere,
    TensorFlow none.

    Args:
        dtype: str, of queries, keys and values.
        is_masked: bool. Whether each image has a mask of its own, of which
            Keras gives a TPU's kernel the first image's for all. Defaults to
            `False`.
    """
    if keras.backend.backend() == "jax":
        import jax

        without = ("cpu", "tpu") if is_masked else ("cpu",)
        return "16" in dtype and jax.default_backend() not in without
    return keras.backend.backend() != "tensorflow"


def _bfloat16_parts(x):
    parts = []
    for _ in range(3):
        bits = keras.ops.view(x, "int32")
        high = keras.ops.bitwise_and(bits, np.int32(-(2**16)))
        parts.append(keras.ops.view(high, "float32"))
        x = x - parts[-1]
    return parts


def balance_replicas(loss, rows):
    """A loss with the gradient that the whole batch has on one device.

    Keras averages over replicas, whatever their shares of the batch are, and
    the last batch is not always spread evenly.

    Args:
        loss: float scalar, the mean over this replica's rows.
        rows: int scalar, their number.

    Returns:
        Float scalar: `loss`, whose gradient has the weight of its rows.
    """
    if keras.backend.backend() != "tensorflow":
        return loss
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return loss
    rows = tf.cast(rows, loss.dtype)
    share = rows * context.num_replicas_in_sync / sum_across_replicas(rows)
    return share * loss + tf.stop_gradient((1 - share) * loss)


def outside_replicas():
    """Whether code is traced for all replicas of `tf.distribute` at once."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_replica_context() is None


def replica_id():
    """Number of the `tf.distribute` replica that this code runs on, an int32.

    0 elsewhere: on JAX, arrays are of the whole batch.
    """
    if keras.backend.backend() != "tensorflow":
        return 0
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def current_strategy():
    """The `tf.distribute` strategy in whose scope code runs.

    What is built there belongs to it. `None` on other backends.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_strategy()


def num_replicas(model):
    """Replicas that the model's variables live on, 1 without a strategy."""
    strategy = getattr(model, "distribute_strategy", None)
    return 1 if strategy is None else strategy.num_replicas_in_sync


def has_workers(model):
    """Whether several processes train a model, each with a part of it all."""
    if keras.backend.backend() == "jax":
        # Also of arrays that a training step has taken, which are not read.
        values = [variable.value for variable in model.variables[:1]]
        return not all(v.sharding.is_fully_addressable for v in values)
    strategy = getattr(model, "distribute_strategy", None)
    if num_replicas(model) == 1:
        return False
    import tensorflow as tf

    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def predict_batch(model, inputs):
    """What `model.predict` gives of one batch.

    On one device of TensorFlow without the pipeline of data that `predict`
    builds for each call, which takes longer than a small batch.

    Args:
        model: a Keras model of a dict.
        inputs: dict of arrays.
    """
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if on_tensorflow and num_replicas(model) == 1:
        return model.predict_on_batch(inputs)
    # Of `predict_on_batch` every replica is given the whole batch.
    rows = len(next(iter(inputs.values())))
    return model.predict(inputs, batch_size=rows, verbose=0)


def compile_rows(function, inputs, model, least):
    """A function of a batch, row by row, compiled as one program.

    XLA compiles it on TensorFlow, where `fit` and `predict` leave that out on
    CPUs, and on JAX, where they do not. Small products use one core, so on
    CPUs TensorFlow runs the program on a part of the rows for each core.

    Args:
        function: takes and returns dicts of tensors, all with the batch first.
        inputs: dict of tensors.
        model: the model whose variables `function` reads.
        least: int. Rows of such a part at least, of which a single row is
            filled up too: steps of two rows may be faster than those of one.

    Returns:
        What `function(inputs)` does.
    """
    if keras.backend.backend() != "tensorflow":
        return function(inputs)
    import tensorflow as tf

    variables = model.variables

    # Values, not variables: XLA finds those of the first replica alone.
    @tf.function(jit_compile=True, autograph=False)
    def compiled(values, inputs):
        with keras.StatelessScope(zip(variables, values)):
            return function(inputs)

    values = [tf.convert_to_tensor(variable) for variable in variables]
    rows = next(iter(inputs.values())).shape[0]
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if rows is None or replicas > 1 or tf.config.list_logical_devices("GPU"):
        return compiled(values, inputs)
    size = max(least, -(-rows // _cores()))
    # The last part is filled up with the first rows once more: parts of one
    # shape are one program to compile.
    places = [i % rows for i in range(-(-rows // size) * size)]
    inputs = {k: tf.gather(x, places) for k, x in inputs.items()}
    outputs = [
        compiled(values, {k: x[i : i + size] for k, x in inputs.items()})
        for i in range(0, rows, size)
    ]
    return {k: tf.concat([o[k] for o in outputs], 0)[:rows] for k in outputs[0]}


def _cores():
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


@contextlib.contextmanager
def model_scope(model):
    """Where what shares the model's variables must be built and called.

    The scope of the `tf.distribute` strategy that the model was built under
    and the model's own dtype policy, whichever are in force where this is
    called. Whatever takes floating point numbers besides sets its own `dtype`.
    """
    strategy = getattr(model, "distribute_strategy", None)
    before = keras.config.dtype_policy()
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        keras.config.set_dtype_policy(model.dtype_policy)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)


def optimizer_step(model):
    """Optimizer steps that a compiled model has taken, as an int."""
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


def on_mesh():
    """Whether a `keras.distribution` is in force, of JAX's devices."""
    if keras.backend.backend() != "jax":
        return False
    return keras.distribution.distribution() is not None


def place_batch(batch):
    """Arrays of a batch on the devices of the distribution in force.

    Args:
        batch: tree of arrays; of several processes each has its share.

    Returns:
        The tree, of `jax.Array`s of the whole batch.
    """
    import jax

    distribution = keras.distribution.distribution()
    return keras.tree.map_structure(
        lambda x: jax.make_array_from_process_local_data(
            distribution.get_data_layout(x.shape).backend_layout, x
        ),
        batch,
    )


def place_whole_batch(batch):
    """`place_batch` of a batch that each process has all of.

    A batch that does not divide is on every device.
    """
    import jax

    distribution = keras.distribution.distribution()

    def place(x):
        layout = distribution.get_data_layout(x.shape)
        if x.shape[0] % distribution.num_model_replicas:
            axes = [None] * len(x.shape)
            mesh = distribution.device_mesh
            layout = keras.distribution.TensorLayout(axes, mesh)
        return jax.make_array_from_callback(
            x.shape, layout.backend_layout, lambda index: x[index]
        )

    return keras.tree.map_structure(place, batch)


def whole_array(variable):
    """A variable's value, of which other processes may hold parts.

    All processes ask for it together.
    """
    if keras.backend.backend() == "jax":
        value = variable.value
        if not (value.is_fully_addressable or value.is_fully_replicated):
            from jax.experimental import multihost_utils

            return multihost_utils.process_allgather(value, tiled=True)
    return keras.ops.convert_to_numpy(variable)


def evaluate_on_mesh(model, dataset):
    """What `model.evaluate` gives under a `keras.distribution`.

    Keras lays out all batches as the first one, which a last one of fewer
    images does not fit.

    Args:
        model: compiled Keras model, on JAX.
        dataset: `tf.data.Dataset` of batches.

    Returns:
        dict of float.
    """
    shapes = keras.tree.map_structure(
        lambda x: np.zeros([d or 1 for d in x.shape], x.dtype.as_numpy_dtype),
        dataset.element_spec,
    )
    model._symbolic_build(data_batch=shapes)
    model.make_test_function()
    model.reset_metrics()
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.metrics_variables,
    )
    state = tuple([v.value for v in variables] for variables in groups)
    for batch in dataset.as_numpy_iterator():
        batches = iter([place_whole_batch(batch)])
        _, state = model.test_function(state, batches)
    # What was passed in is no longer there.
    for variables, values in zip(groups, state):
        for variable, value in zip(variables, values):
            variable.assign(value)
    return {k: float(v) for k, v in model.get_metrics_result().items()}
