"""Weights for images of another size than they were trained on."""

import math

from igpt_keras.backend import whole_array
from igpt_keras.models.igpt_classifier import IGPTClassifier
from igpt_keras.models.resize_positions import resize_positions


def resized(
    opened,
    tokenizer,
    source,
    input_resolution=None,
    interpolate_positions=False,
):
    """A model for images of another size, from its weights.

    Args:
        opened: an `IGPT`, or an `IGPTClassifier`, whose class head is kept.
        tokenizer: the model's.
        source: str. Where it is from, for messages.
        input_resolution: int. Side of the images. Defaults to the model's own.
        interpolate_positions: bool. Whether positions may be resized, as a
            two-dimensional grid. Defaults to `False`.

    Returns:
        `opened` itself where its positions are as many, or else another model.

    Raises:
        ValueError: if positions would have to be resized and may not, or the
            tokenizer is a VQ-VAE, whose images have one size.
    """
    if hasattr(tokenizer, "model_resolution"):
        check_codes(tokenizer, input_resolution)
        return opened
    model = getattr(opened, "igpt", opened)
    side = math.isqrt(model.sequence_length)
    check_positions(source, side, input_resolution, interpolate_positions)
    if input_resolution in (None, side):
        return opened
    length = input_resolution**2
    config = {**model.get_config(), "sequence_length": length}
    other = type(model).from_config(config)
    other.set_weights(resized_weights(model, length))
    if opened is model:
        return other
    classifier = IGPTClassifier(
        other, opened.num_classes, head_layer=opened.head_layer
    )
    classifier.class_head.set_weights(opened.class_head.get_weights())
    return classifier


def resized_weights(model, sequence_length):
    """The weights of an `IGPT` as arrays, of so many positions."""
    table = model.embedding.position_embedding
    arrays = []
    for variable in model.weights:
        array = whole_array(variable)
        if variable is table:
            array = resize_positions(array, sequence_length)
        arrays.append(array)
    return arrays


def check_positions(source, side, wanted, interpolate_positions):
    """Raises a `ValueError` unless positions fit or may be interpolated."""
    if wanted not in (None, side) and not interpolate_positions:
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
