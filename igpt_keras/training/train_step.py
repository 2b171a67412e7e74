import keras

from igpt_keras.training.jax_step import JaxStep
from igpt_keras.training.tensorflow_step import TensorFlowStep
from igpt_keras.training.torch_step import TorchStep

_STEPS = {"tensorflow": TensorFlowStep, "jax": JaxStep, "torch": TorchStep}


def train_step(model, micro_batches=1, steps_per_call=1):
    """What trains a compiled model by some steps at each call.

    `model.fit` has no gradient accumulation and no several steps a call under
    `tf.distribute`, and does not run on several workers at all.

    Args:
        model: compiled Keras model.
        micro_batches: int. Parts of each replica's share of a batch whose
            gradients are summed before the step is taken. Defaults to 1.
        steps_per_call: int. Steps before it comes back. Defaults to 1.

    Returns:
        `TensorFlowStep`, `JaxStep` or `TorchStep`.
    """
    step = _STEPS[keras.backend.backend()]
    return step(model, micro_batches, steps_per_call)
