import keras
import numpy as np

from igpt_keras.training.batch_loss import batch_loss
from igpt_keras.training.batch_part import batch_part


class TorchStep:
    """`train_step` on PyTorch, on one device.

    Args:
        model: see `train_step`.
        micro_batches: see there.
        steps_per_call: see there.
    """

    def __init__(self, model, micro_batches=1, steps_per_call=1):
        self.model = model
        self.micro_batches = micro_batches
        self.steps_per_call = steps_per_call

    def __call__(self, iterator, stop=False):
        """Takes the steps; see `TensorFlowStep`."""
        losses = np.array(
            [self._step(next(iterator)) for _ in range(self.steps_per_call)]
        )
        finite = np.isfinite(losses)
        return float(losses[finite].sum()), int(finite.sum()), stop

    def iterate(self, batches_from, step):
        """What `__call__` takes; see `TensorFlowStep`."""
        batches = batches_from(step)
        if hasattr(batches, "as_numpy_iterator"):
            batches = batches.as_numpy_iterator()
        return batches

    def sync(self):
        """Brings what was trained back into the model: it is there."""

    def read(self, variable):
        """The value of a variable of the optimizer, as an array."""
        return keras.ops.convert_to_numpy(variable)

    def _step(self, batch):
        import torch

        model, count = self.model, self.micro_batches
        model.zero_grad()
        total = 0.0
        for part in range(count):
            taken = batch
            if count > 1:
                taken = keras.tree.map_structure(
                    lambda x: batch_part(x, part, count), batch
                )
            loss = batch_loss(model, taken) / count
            # Gradients are added to those of the parts before.
            model.optimizer.scale_loss(loss).backward()
            total += float(loss)
        variables = model.trainable_variables
        gradients = [
            torch.zeros_like(v.value) if v.value.grad is None else v.value.grad
            for v in variables
        ]
        with torch.no_grad():
            model.optimizer.apply(gradients, variables)
        return total
