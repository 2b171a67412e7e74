import keras
import numpy as np

from igpt_keras.backend import has_workers
from igpt_keras.backend import on_mesh
from igpt_keras.backend import place_batch
from igpt_keras.training.batch_loss import batch_loss
from igpt_keras.training.batch_part import batch_part
from igpt_keras.training.processes import any_process
from igpt_keras.training.processes import share_of_data


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
                    [batch_part(x, part, count) for part in range(count)]
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
        with keras.StatelessScope(mapping) as scope:
            loss = batch_loss(model, batch)
            scaled = model.optimizer.scale_loss(loss)
        others, metrics = (
            [scope.get_current_value(variable) for variable in variables]
            for variables in (
                model.non_trainable_variables,
                model.metrics_variables,
            )
        )
        return scaled, (loss, others, metrics)
