import keras
from keras import ops


class SafeAdam(keras.optimizers.Adam):
    """Adam that skips gradients that are not finite, and clips the rest.

    Both look at the gradient of the whole batch. Under `tf.distribute` Keras's
    `global_clipnorm` clips each replica's share before they are summed, and a
    NaN in one gradient is in all weights after the step.

    A skipped step leaves weights and moments as they were, and counts in
    `iterations`, which the schedule and the order of the data follow.

    Args:
        learning_rate: float or `keras.optimizers.schedules` schedule. Defaults
            to 0.001.
        clip_norm: float > 0. Norm of all gradients together that is scaled down
            to if it is more. Defaults to `None`, the paper's.
        **kwargs: of `keras.optimizers.Adam`, without its clipping.

    Attributes:
        skipped_steps: int variable. Steps that were skipped.
        skipped_in_a_row: int variable. Of them the last ones, without another
            between.
        last_skipped_step: int variable. The last one's number from 0, or -1.

    Raises:
        ValueError: for a `clip_norm` that is none.

    Example:

        model.compile(SafeAdam(1e-3, clip_norm=1.0))
    """

    def __init__(self, learning_rate=0.001, clip_norm=None, **kwargs):
        super().__init__(learning_rate, **kwargs)
        if clip_norm is not None and not 0 < clip_norm < float("inf"):
            raise ValueError(
                f"clip_norm must be > 0 and finite, received {clip_norm!r}."
            )
        self.clip_norm = clip_norm

    def build(self, variables):
        if not self.built:
            for name, value in (
                ("skipped_steps", 0),
                ("skipped_in_a_row", 0),
                ("last_skipped_step", -1),
            ):
                initializer = keras.initializers.Constant(value)
                counter = self.add_variable(
                    (), initializer, "int", "only_first_replica", name=name
                )
                setattr(self, name, counter)
        super().build(variables)

    def _backend_apply_gradients(self, grads, trainable_variables):
        if keras.backend.backend() == "tensorflow":
            self._apply_on_replicas(grads, trainable_variables)
            return
        keep, grads = self._checked(grads)
        moments = (*self._momentums, *self._velocities)
        changed = [*trainable_variables, *moments]
        before = [ops.convert_to_tensor(variable) for variable in changed]
        self._apply_weight_decay(trainable_variables)
        for gradient, variable in zip(grads, trainable_variables):
            self.update_step(gradient, variable, self.learning_rate)
        for variable, value in zip(changed, before):
            after = ops.convert_to_tensor(variable)
            variable.assign(ops.where(keep, after, value))
        self._count(keep)

    def _apply_on_replicas(self, grads, variables):
        import tensorflow as tf

        variables = [getattr(v, "value", v) for v in variables]
        pairs = self._all_reduce_sum_gradients(list(zip(grads, variables)))
        # Of embeddings they are of some rows, which may be there twice.
        grads = [tf.convert_to_tensor(gradient) for gradient, _ in pairs]
        keep, grads = self._checked(grads)
        self._count(keep)

        def step(variable, gradient, keep, learning_rate, *powers):
            def apply():
                if self.weight_decay and self._use_weight_decay(variable):
                    share = self.weight_decay * learning_rate
                    variable.assign_sub(variable * share)
                if self.amsgrad:
                    self.update_step(gradient, variable, learning_rate)
                else:
                    self._fused_step(gradient, variable, learning_rate, *powers)
                return True

            return tf.cond(keep, apply, lambda: False)

        def step_all(strategy, pairs, *others):
            for gradient, variable in pairs:
                strategy.extended.update(
                    variable, step, args=(gradient, *others), group=False
                )

        count = tf.cast(self.iterations + 1, "float32")
        tf.__internal__.distribute.interim.maybe_merge_call(
            step_all,
            self._distribution_strategy,
            list(zip(grads, variables)),
            keep,
            tf.cast(self.learning_rate, "float32"),
            self.beta_1**count,
            self.beta_2**count,
        )

    def _fused_step(self, gradient, variable, learning_rate, *powers):
        """`update_step` as one operation, which reads and writes once."""
        import tensorflow as tf

        index = self._get_variable_index(variable)
        rate, power_1, power_2, gradient = (
            tf.cast(x, variable.dtype)
            for x in (learning_rate, *powers, gradient)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def _checked(self, grads):
        """Whether the gradients are finite, and themselves, clipped."""
        squares = [ops.sum(ops.square(gradient)) for gradient in grads]
        norm = ops.sqrt(ops.sum(ops.stack(squares)))
        if self.clip_norm is not None:
            scale = self.clip_norm / ops.maximum(norm, self.clip_norm)
            grads = [gradient * scale for gradient in grads]
        return ops.isfinite(norm), grads

    def _count(self, keep):
        skipped = ops.cast(ops.logical_not(keep), self.skipped_steps.dtype)
        # JAX's `where` takes no variables.
        last = ops.where(
            keep,
            ops.convert_to_tensor(self.last_skipped_step),
            ops.convert_to_tensor(self.iterations),
        )
        for variable, value in (
            (self.skipped_steps, self.skipped_steps + skipped),
            (self.skipped_in_a_row, (self.skipped_in_a_row + 1) * skipped),
            (self.last_skipped_step, last),
        ):
            variable.assign(ops.cast(value, variable.dtype))
