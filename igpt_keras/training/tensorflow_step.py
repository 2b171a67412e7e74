import keras

from igpt_keras.backend import has_workers
from igpt_keras.backend import num_replicas
from igpt_keras.training.batch_loss import batch_loss
from igpt_keras.training.batch_part import batch_part


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
                        lambda x: tf.identity(batch_part(x, part, count)), batch
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
        with tf.GradientTape() as tape:
            loss = batch_loss(model, batch)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
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
