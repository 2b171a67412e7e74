_OTHERS = ({"mask"}, {"prefix_length"})


def check_parts(model):
    """Raises a `ValueError` that names what features cannot be taken without.

    Args:
        model: what `extract_features` takes.
    """
    needs = (
        "Features are taken from a functional Keras model on token ids, with "
        "the attributes `blocks` (layers, each with an `attention_norm`), "
        "`final_norm` and `hidden_dim`"
    )
    kind = type(model).__name__
    for place in type(model).__mro__:
        if place.__module__.startswith(("keras.", "igpt_keras.")):
            break
        if "call" in vars(place):
            raise ValueError(
                f"{needs}; {kind} overrides `call`, which features, taken "
                "from the layers that the model is made of, do not follow. "
                "Move what it does into a block."
            )
    for name in ("blocks", "final_norm", "hidden_dim"):
        if getattr(model, name, None) is None:
            raise ValueError(f"{needs}; this {kind} has no `{name}`.")
    if not len(model.blocks):
        raise ValueError(f"{needs}; the `blocks` of this {kind} are empty.")
    for i, block in enumerate(model.blocks):
        if getattr(block, "attention_norm", None) is None:
            raise ValueError(
                f"{needs}; block {i} of this {kind}, a {type(block).__name__}, "
                "has no `attention_norm`."
            )
    layers = {f"block {i}": block for i, block in enumerate(model.blocks)}
    for name, layer in {"the model": model, **layers}.items():
        _check_called(name, layer, "input", needs)
    _check_called("`final_norm`", model.final_norm, "output", needs)
    parts = {**layers, "`final_norm`": model.final_norm}
    for name, layer in parts.items():
        if not any(layer is own for own in getattr(model, "layers", ())):
            raise ValueError(
                f"{needs}; {name} is not among the `layers` of this {kind}. "
                "Where it is inside one of them, a model of its own, pass that."
            )
    shape = getattr(model.input, "shape", None)
    if isinstance(model.input, dict):
        others = set(model.input) - {"token_ids"}
        shape = others in _OTHERS and (None, None)
    if not shape or len(shape) != 2:
        raise ValueError(
            f"{needs}; the input of this {kind} is {model.input!r}, expected "
            "token ids (B, N), or a dict of `token_ids` and `mask`, or of "
            "`token_ids` and `prefix_length`."
        )


def _check_called(name, layer, end, needs):
    try:
        getattr(layer, end)
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"{needs}; {name} has no one `{end}`: it was not called, once, on "
            "the tensors of `keras.Input` that the model is made of."
        ) from error
