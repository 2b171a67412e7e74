"""Weights as safetensors, and what must be true of them."""

import numpy as np
from keras import ops
from safetensors import SafetensorError
from safetensors.numpy import save_file


def check_finite(model):
    """Raises a `ValueError` if a weight of `model` is NaN or infinite."""
    for variable in model.variables:
        if not np.isfinite(ops.convert_to_numpy(variable)).all():
            raise ValueError(
                f"Weight {variable.path} is not finite. A model that diverged "
                "is not saved; go back to an earlier checkpoint."
            )


def write_safetensors(arrays, path):
    """Writes arrays by name as float32; an `OSError` if that fails."""
    arrays = {
        name: np.asarray(array, "float32", order="C")
        for name, array in arrays.items()
    }
    try:
        # transformers refuses files that do not name their framework.
        save_file(arrays, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}.") from error
