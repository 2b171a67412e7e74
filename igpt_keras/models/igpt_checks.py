"""What an `IGPT` takes; each raises a `ValueError` for anything else."""

import keras

from igpt_keras.models.checked_model import check_ids
from igpt_keras.models.checked_model import describe


def check_inputs(model, inputs):
    """See `IGPT.check_inputs`."""
    if model.objective == "bert":
        if not isinstance(inputs, dict) or set(inputs) != {
            "token_ids",
            "mask",
        }:
            raise ValueError(
                "A BERT model takes a dict of `token_ids` and `mask` "
                "(bool, True = hidden and predicted), received "
                f"{describe(inputs)}. `igpt_keras.data.mask_tokens` draws "
                "masks for the batches of a dataset."
            )
        check_ids(
            "mask",
            inputs["mask"],
            (None, model.sequence_length),
            2,
            "A mask is bool, or int with 1 where a token is hidden.",
            kinds=("bool", "int"),
        )
        inputs = inputs["token_ids"]
    elif model.takes_prefix:
        names = {"token_ids", "prefix_length"}
        if not isinstance(inputs, dict) or set(inputs) != names:
            raise ValueError(
                "A model of attention='prefix_causal' takes a dict of "
                "`token_ids` and `prefix_length` (int, tokens that are seen "
                f"from both sides), received {describe(inputs)}. "
                "`igpt_keras.data.draw_prefixes` draws lengths for training; "
                "of length 0 the model is causal."
            )
        check_ids(
            "prefix_length",
            inputs["prefix_length"],
            (None,),
            model.sequence_length + 1,
            "One int for each image, from 0 to sequence_length = "
            f"{model.sequence_length}.",
        )
        inputs = inputs["token_ids"]
    elif isinstance(inputs, (dict, list, tuple)):
        raise ValueError(
            "An autoregressive model takes one tensor of token ids, "
            f"received {describe(inputs)}."
        )
    check_ids(
        "token_ids",
        inputs,
        (None, model.sequence_length),
        model.vocabulary_size,
        "Images become token ids by `tokenizer(images)`. Use the tokenizer "
        "this model was made for, or build the model for yours; it has "
        f"vocabulary_size={model.vocabulary_size} and "
        f"sequence_length={model.sequence_length}.",
    )


def check_targets(model, targets):
    """See `IGPT.check_targets`."""
    check_ids(
        "y",
        targets,
        (None, model.sequence_length),
        model.vocabulary_size,
        "An IGPT predicts its own input: leave y out, and labels out of a "
        "dataset: `dataset.map(lambda token_ids, labels: token_ids)`. "
        "`IGPTClassifier(model, num_classes)` learns labels.",
    )


def check_weights(model, sample_weight):
    """See `IGPT.check_weights`."""
    shape = tuple(sample_weight.shape)
    if len(shape) == 1 or (
        len(shape) == 2 and shape[1] in (None, model.sequence_length)
    ):
        return
    raise ValueError(
        "sample_weight must have shape (batch,), a weight for each image, "
        f"or (batch, {model.sequence_length}), one for each token, received "
        f"shape {shape}."
    )


def check_loss(loss):
    """See `IGPT.compile`."""
    sparse = keras.losses.SparseCategoricalCrossentropy
    found = loss
    # What Keras makes the sparse one of token ids.
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        found = sparse()
    elif isinstance(loss, (str, type)):
        found = keras.losses.get(loss)
    if found is keras.losses.sparse_categorical_crossentropy or (
        isinstance(found, sparse) and not found.from_logits
    ):
        raise ValueError(
            "The loss takes the model's outputs for probabilities, and they "
            "are logits: leave out loss for the objective's own, or pass "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        )
