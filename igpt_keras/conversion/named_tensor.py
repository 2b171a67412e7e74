import dataclasses

import keras
import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class NamedTensor:
    """A tensor of a foreign checkpoint and the variables that it holds.

    Attributes:
        name: str. Its name in the checkpoint.
        shape: tuple of int. Its shape there.
        parts: tuple of `(variable, view)`. `view(array)` is the NumPy view of
            the checkpoint's array that holds the variable, elements in the
            variable's order. Without parts the tensor must be all zeros.
    """

    name: str
    shape: tuple
    parts: tuple

    def read(self, array):
        """Assigns the variables from the checkpoint's array.

        Raises:
            ValueError: if the array has another shape, is not finite, or
                should be zeros and is not.
        """
        if array.shape != self.shape:
            raise ValueError(
                f"{self.name} has shape {array.shape}, expected {self.shape}."
            )
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
    bar = keras.utils.Progbar(len(tensors), unit_name="tensor", verbose=verbose)
    for tensor in tensors:
        yield tensor
        bar.add(1)


def check_sequence_length(found, wanted, interpolate, source):
    """Raises a `ValueError` unless positions fit or may be interpolated."""
    if wanted is not None and wanted != found and not interpolate:
        raise ValueError(
            f"{source} has {found} positions and sequence_length={wanted} was "
            "asked for. Its position table fits one image size; pass "
            "interpolate_positions=True to resize it as a two-dimensional "
            "grid, and train on."
        )
