"""A training step of ours, where Keras's cannot do what is asked.

`model.fit` has no gradient accumulation and no several steps a call under
`tf.distribute`, and does not run on several workers at all.
"""

import keras
import numpy as np

from igpt_keras.backend import has_workers
from igpt_keras.backend import num_replicas
from igpt_keras.backend import on_mesh
from igpt_keras.backend import place_batch
from igpt_keras.training.processes import any_process
from igpt_keras.training.processes import share_of_data


def train_step(model, micro_batches=1, steps_per_call=1):
    """What trains a compiled model by some steps at each call.

    Args:
        model: compiled Keras model.
        micro_batches: int. Parts of each replica's share of a batch whose
            gradients are summed before the step is taken. Defaults to 1.
        steps_per_call: int. Steps before it comes back. Defaults to 1.

    Returns:
        `TensorFlowStep` or `JaxStep`.
    """
    if keras.backend.backend() == "tensorflow":
        return TensorFlowStep(model, micro_batches, steps_per_call)
    return JaxStep(model, micro_batches, steps_per_call)


class TensorFlowStep:
    """`train_step` on TensorFlow, under any of its strategies.

    Args:
        model: see `train_step`.
        micro_batches: see there.
        steps_per_call: see there.
    """

    def __init__(self, model, micro_batches=1, steps_per_call=1):
        import tensorflow as tf

        self.model = model
        self.micro_batches = micro_batches
        strategy = model.distribute_strategy
        step = self._step
        if model.jit_compile is True and num_replicas(model) == 1:
            step = tf.function(step, jit_compile=True, reduce_retracing=True)

        @tf.autograph.experimental.do_not_convert
        def run(batch, stop):
            losses = strategy.run(
                lambda batch: tf.stack([step(batch), stop]), args=(batch,)
            )
            # Over all workers: they stop together, or would wait for ever.
            return strategy.reduce("SUM", losses, axis=None)

        # Traced by autograph, for the loop.
        def call(iterator, stop):
            if steps_per_call == 1:
                return _finite_sum(run(next(iterator), stop))
            total = tf.zeros((3,))
            for _ in tf.range(steps_per_call):
                total += _finite_sum(run(next(iterator), stop))
            return total

        self._call = tf.function(call)

    def __call__(self, iterator, stop=False):
        """Takes the steps.

        Args:
            iterator: of `iterate`.
            stop: bool. Whether this worker is to stop after them.

        Returns:
            `(total, count, stop)`: the sum of their finite losses, the number
            of these, and whether any worker is to stop.
        """
        import tensorflow as tf

        stop = tf.constant(float(stop))
        total, count, stop = self._call(iterator, stop).numpy()
        return float(total), int(count), bool(stop)

    def iterate(self, batches_from, step):
        """What `__call__` takes.

        Args:
            batches_from: see `training.fit`.
            step: int. Steps that are done.
        """
        strategy = self.model.distribute_strategy
        if has_workers(self.model):
            return iter(
                strategy.distribute_datasets_from_function(
                    lambda context: batches_from(step, context)
                )
            )
        batches = batches_from(step)
        if num_replicas(self.model) > 1:
            batches = strategy.experimental_distribute_dataset(batches)
        return iter(batches)

    def sync(self):
        """Brings what was trained back into the model: it is there."""

    def read(self, variable):
        """The value of a variable of the optimizer, as an array."""
        return keras.ops.convert_to_numpy(variable)

    def _step(self, batch):
        """A replica's step; its share of the loss of the whole batch."""
        import tensorflow as tf

        model, count = self.model, self.micro_batches
        if count == 1:
            loss, gradients = self._gradients(batch)
        else:
            loss, gradients = 0.0, None
            for part in range(count):
                # Each waits for the one before, or all would be in memory.
                with tf.control_dependencies(gradients or ()):
                    taken = keras.tree.map_structure(
                        lambda x: tf.identity(_part(x, part, count)), batch
                    )
                part_loss, found = self._gradients(taken)
                loss += part_loss / count
                found = [gradient / count for gradient in found]
                if gradients is None:
                    gradients = found
                else:
                    gradients = [a + b for a, b in zip(gradients, found)]
        model.optimizer.apply(gradients, model.trainable_variables)
        return loss

    def _gradients(self, batch):
        import tensorflow as tf

        model = self.model
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = model.compute_loss(
                x=x, y=y, y_pred=outputs, sample_weight=weight, training=True
            )
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        model.compute_metrics(x, y, outputs, sample_weight=weight)
        # A variable without one has a zero.
        return loss, [
            tf.zeros_like(v) if g is None else tf.convert_to_tensor(g)
            for g, v in zip(gradients, model.trainable_variables)
        ]


def _finite_sum(reduced):
    """float32 `(3,)`: the loss or 0, whether it is finite, who stops."""
    import tensorflow as tf

    loss, stop = tf.unstack(reduced)
    finite = tf.math.is_finite(loss)
    return tf.stack(
        [tf.where(finite, loss, 0.0), tf.cast(finite, tf.float32), stop]
    )


def _part(tensor, part, count):
    """One of `count` parts of a batch."""
    rows = tensor.shape[0]
    if rows is None or rows % count:
        raise ValueError(
            f"A replica's {rows or 'unknown number of'} images do not divide "
            f"into micro_batches={count}. Choose another number."
        )
    size = rows // count
    return tensor[part * size : (part + 1) * size]


class JaxStep:
    """`train_step` on JAX, under any `keras.distribution`.

    Args:
        model: see `train_step`.
        micro_batches: see there.
        steps_per_call: see there.
    """

    def __init__(self, model, micro_batches=1, steps_per_call=1):
        import jax

        self.model = model
        self.micro_batches = micro_batches
        self.steps_per_call = steps_per_call
        self._state = None
        # What comes back is placed as what went in, or it compiles again. On
        # one device JAX does that itself, and would not where it is told to.
        shardings = None
        if on_mesh():
            shardings = (
                None,
                [
                    [variable.value.sharding for variable in variables]
                    for variables in self._variables()
                ],
            )
        step = self._step
        if model.jit_compile and not model.run_eagerly:
            step = jax.jit(step, donate_argnums=0, out_shardings=shardings)
        self._jitted = step

    def __call__(self, iterator, stop=False):
        """Takes the steps; see `TensorFlowStep`."""
        if self._state is None:
            self._state = [
                [variable.value for variable in variables]
                for variables in self._variables()
            ]
        losses = []
        for _ in range(self.steps_per_call):
            loss, self._state = self._jitted(self._state, next(iterator))
            losses.append(loss)
        if has_workers(self.model):
            stop = any_process(stop)
        losses = np.array([float(loss) for loss in losses])
        finite = np.isfinite(losses)
        return float(losses[finite].sum()), int(finite.sum()), stop

    def iterate(self, batches_from, step):
        """What `__call__` takes; see `TensorFlowStep`."""
        if has_workers(self.model):
            batches = batches_from(step, share_of_data())
        else:
            batches = batches_from(step)
        if hasattr(batches, "as_numpy_iterator"):
            batches = batches.as_numpy_iterator()
        return map(place_batch, batches) if on_mesh() else batches

    def sync(self):
        """Brings what was trained back into the model."""
        if self._state is None:
            return
        for variables, values in zip(self._variables(), self._state):
            for variable, value in zip(variables, values):
                variable.assign(value)
        self._state = None

    def read(self, variable):
        """The value of a variable of the optimizer, as an array."""
        if self._state is None:
            return keras.ops.convert_to_numpy(variable)
        for place, other in enumerate(self.model.optimizer.variables):
            if other is variable:
                return np.asarray(self._state[2][place])
        raise ValueError(f"{variable.path} is none of the optimizer.")

    def _variables(self):
        model = self.model
        return [
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        ]

    def _step(self, state, batch):
        import jax

        trainable, others, optimizer, metrics = state
        gradients_of = jax.value_and_grad(self._loss, has_aux=True)
        count = self.micro_batches

        def of_part(carried, part):
            total, loss, others, metrics = carried
            (_, (part_loss, others, metrics)), gradients = gradients_of(
                trainable, others, optimizer, metrics, part
            )
            total = [a + b / count for a, b in zip(total, gradients)]
            return (total, loss + part_loss / count, others, metrics), None

        zeros = [jax.numpy.zeros_like(x) for x in trainable]
        start = (zeros, jax.numpy.float32(0), others, metrics)
        if count == 1:
            carried, _ = of_part(start, batch)
        else:
            parts = keras.tree.map_structure(
                lambda x: jax.numpy.stack(
                    [_part(x, part, count) for part in range(count)]
                ),
                batch,
            )
            carried, _ = jax.lax.scan(of_part, start, parts)
        gradients, loss, others, metrics = carried
        trainable, optimizer = self.model.optimizer.stateless_apply(
            optimizer, gradients, trainable
        )
        return loss, [trainable, others, optimizer, metrics]

    def _loss(self, trainable, others, optimizer, metrics, batch):
        """The loss to differentiate, and what else a step makes."""
        model = self.model
        before = zip(self._variables(), (trainable, others, optimizer, metrics))
        mapping = [pair for names in before for pair in zip(*names)]
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        with keras.StatelessScope(mapping) as scope:
            outputs = model(x, training=True)
            loss = model.compute_loss(
                x=x, y=y, y_pred=outputs, sample_weight=weight, training=True
            )
            scaled = model.optimizer.scale_loss(loss)
            model.compute_metrics(x, y, outputs, sample_weight=weight)
        others, metrics = (
            [scope.get_current_value(variable) for variable in variables]
            for variables in (
                model.non_trainable_variables,
                model.metrics_variables,
            )
        )
        return scaled, (loss, others, metrics)
