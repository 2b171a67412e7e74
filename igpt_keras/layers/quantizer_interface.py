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


def check_dtype(layer):
    """Raises a `ValueError` unless the layer computes in float32."""
    if layer.dtype_policy.name != "float32":
        raise ValueError(
            "dtype must be float32, received "
            f"{layer.dtype_policy.name}: in less precision other codes are "
            "the nearest. Leave it out."
        )


def output_spec(inputs):
    """Symbols of the quantized vectors and their token ids."""
    shape = tuple(inputs.shape)
    return (
        keras.KerasTensor(shape, "float32"),
        keras.KerasTensor(shape[:-1], "int32"),
    )
