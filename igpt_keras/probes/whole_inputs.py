from keras import ops


def whole_inputs(names, inputs):
    """A model's inputs of images that it sees whole.

    Args:
        names: of what the model takes.
        inputs: dict of `token_ids` `(B, N)`, and of what is settled.

    Returns:
        dict of all: with a `mask` that hides nothing, and a `prefix_length`
        of `N`, by which each position attends to all.
    """
    token_ids = inputs["token_ids"]
    found = dict(inputs)
    if "mask" in names and "mask" not in inputs:
        # As numbers, for Keras's tracing under tf.distribute.
        found["mask"] = ops.zeros_like(token_ids, "int32")
    if "prefix_length" in names and "prefix_length" not in inputs:
        lengths = ops.zeros(ops.shape(token_ids)[:1], "int32")
        found["prefix_length"] = lengths + token_ids.shape[-1]
    return found


def token_input(model):
    """The symbolic token ids `(B, N)` that a functional model takes."""
    return model.input["token_ids"] if input_names(model) else model.input


def input_names(model):
    """Names of what a functional model takes; none for token ids alone."""
    return set(model.input) if isinstance(model.input, dict) else set()
