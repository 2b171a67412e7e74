import keras

from igpt_keras.models.attention_pattern import PREFIX


def input_tensors(sequence_length, attention):
    """What an `IGPT` takes, as `keras.Input`s by name.

    Args:
        sequence_length: int, `N`.
        attention: str, the pattern that `read_attention` names.

    Returns:
        dict of `token_ids` `(B, N)`, with `mask` `(B, N)` for BERT, with
        `prefix_length` `(B,)` where a prefix is seen from both sides.
    """
    shape = (sequence_length,)
    tensors = {"token_ids": keras.Input(shape, dtype="int32", name="token_ids")}
    if attention == "none":
        tensors["mask"] = keras.Input(shape, dtype="bool", name="mask")
    if attention == PREFIX:
        tensors["prefix_length"] = keras.Input(
            (), dtype="int32", name="prefix_length"
        )
    return tensors
