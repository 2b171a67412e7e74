import dataclasses

import keras
import numpy as np
from keras import ops

from igpt_keras.terminal import verbosity

_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class NamedTensor:
    """A tensor of a foreign checkpoint and the variables that it holds.

    Attributes:
        name: str. Its name in the checkpoint.
        shape: tuple of int. Its shape there.
        parts: tuple of `(variable, view)`. `view(array)` is the part of the
            checkpoint's array that holds the variable, elements in the
            variable's order; to `write`, it must be a NumPy view. Without
            parts the tensor must be all zeros.
    """

    name: str
    shape: tuple
    parts: tuple

    def read(self, array):
        """Assigns the variables from the checkpoint's array.

        Raises:
            ValueError: if the array has another shape, is not floating or
                not finite, or should be zeros and is not.
        """
        if array.shape != self.shape:
            raise ValueError(
                f"{self.name} has shape {array.shape}, expected {self.shape}."
            )
        if array.dtype.name not in _FLOATS:
            raise ValueError(f"{self.name} is {array.dtype}, expected float32.")
        array = array.astype("float32", copy=False)
        if not np.isfinite(array).all():
            raise ValueError(
                f"{self.name} is not finite: it holds NaN or infinity. Take a "
                "checkpoint from before training diverged."
            )
        if not self.parts and array.any():
            raise ValueError(
                f"{self.name} is not zero. Image GPT has no biases, so a "
                "model that was trained with them computes something else."
            )
        for variable, view in self.parts:
            variable.assign(view(array).reshape(variable.shape))

    def write(self):
        """The checkpoint's array, float32, from the variables."""
        array = np.zeros(self.shape, "float32")
        for variable, view in self.parts:
            part = view(array)
            part[...] = ops.convert_to_numpy(variable).reshape(part.shape)
        return array


def with_progress(tensors, verbose):
    """Yields from a list, with a Keras progress bar if `verbose`."""
    bar = keras.utils.Progbar(
        len(tensors), unit_name="tensor", verbose=verbosity(verbose)
    )
    for tensor in tensors:
        yield tensor
        bar.add(1)
