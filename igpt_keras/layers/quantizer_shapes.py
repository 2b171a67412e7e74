"""What quantizers take and give."""

import keras


def check_vectors(inputs, embedding_dim):
    """Raises a `ValueError` unless `inputs` are `(B, height, width, D)`."""
    shape = tuple(inputs.shape)
    if len(shape) != 4 or shape[-1] != embedding_dim:
        raise ValueError(
            "inputs must have shape (B, height, width, "
            f"{embedding_dim}), received {shape}."
        )


def output_spec(inputs):
    """Symbols of the quantized vectors and their token ids."""
    shape = tuple(inputs.shape)
    return (
        keras.KerasTensor(shape, "float32"),
        keras.KerasTensor(shape[:-1], "int32"),
    )
