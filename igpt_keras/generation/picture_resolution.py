import math

from igpt_keras.conversion.open_weights import check_tokenizer


def picture_resolution(model, tokenizer):
    """Side of the pictures that a model draws, `R`.

    Args:
        model: an `IGPT`, or an `IGPTClassifier` around one.
        tokenizer: its tokenizer.

    Raises:
        ValueError: if there is no tokenizer, it is of another model, or the
            model's tokens are no square.
    """
    model = getattr(model, "igpt", model)
    check_tokenizer(tokenizer, model)
    length = model.sequence_length
    side = math.isqrt(length)
    if side * side != length:
        raise ValueError(
            f"The model has {length} tokens, which are no square picture. "
            "Use a model of a square number of them."
        )
    codes = getattr(tokenizer, "model_resolution", side)
    if codes != side:
        raise ValueError(
            f"The tokenizer makes {codes}x{codes} codes of a picture and the "
            f"model has {side}x{side} tokens. Pass the VQ-VAE that the model "
            "was trained with."
        )
    return getattr(tokenizer, "input_resolution", side)
