"""Weights for images of another size than they were trained on."""

import math

from igpt_keras.backend import whole_array
from igpt_keras.models.resize_positions import resize_positions


def finetuning_positions(
    igpt,
    tokenizer,
    source,
    input_resolution=None,
    interpolate_positions=False,
):
    """How many positions a model is fine-tuned with.

    Args:
        igpt: an `IGPT`.
        tokenizer: the model's.
        source: str. Where it is from, for messages.
        input_resolution: int. Side of the images. Defaults to the model's own.
        interpolate_positions: bool. Whether positions may be resized, as a
            two-dimensional grid. Defaults to `False`.

    Returns:
        int, for `build_classifier`.

    Raises:
        ValueError: if positions would have to be resized and may not, or the
            tokenizer is a VQ-VAE, whose images have one size.
    """
    if hasattr(tokenizer, "model_resolution"):
        check_codes(tokenizer, input_resolution)
        return igpt.sequence_length
    if input_resolution is None:
        return igpt.sequence_length
    side = math.isqrt(igpt.sequence_length)
    check_positions(source, side, input_resolution, interpolate_positions)
    return input_resolution**2


def resized_weights(model, sequence_length):
    """The weights of an `IGPT` as arrays, of so many positions."""
    table = model.embedding.position_embedding
    arrays = []
    for variable in model.weights:
        array = whole_array(variable)
        if variable is table and len(array) != sequence_length:
            array = resize_positions(array, sequence_length)
        arrays.append(array)
    return arrays


def check_positions(source, side, wanted, interpolate_positions):
    """Raises a `ValueError` unless positions fit or may be interpolated."""
    if wanted != side and not interpolate_positions:
        raise ValueError(
            f"The weights in {source} have positions of {side}x{side} "
            f"tokens, and the images here have {wanted}x{wanted}. Pass "
            "--interpolate_positions to resize them as a two-dimensional grid "
            f"and train on, or --input_resolution for {side}x{side}."
        )


def check_codes(tokenizer, input_resolution):
    """Raises a `ValueError` for images of another size than a VQ-VAE's."""
    if input_resolution not in (None, tokenizer.input_resolution):
        side = tokenizer.input_resolution
        raise ValueError(
            f"The weights' VQ-VAE is for images of {side}x{side}, and "
            f"--input_resolution={input_resolution}. Leave it out."
        )
