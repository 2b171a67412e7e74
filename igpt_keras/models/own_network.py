"""A user's own model or block: saved by name, found again, or refused.

Classes are looked up among those that `keras.saving` has registered; nothing is
imported because a file names it.
"""

import inspect

import keras

MODEL = "igpt_keras>IGPT"
CLASSIFIER = "igpt_keras>IGPTClassifier"
BLOCK = "igpt_keras>TransformerBlock"


def registered_name(thing):
    """The name that a class or function is saved by.

    Raises:
        ValueError: if it is not registered, so that nothing could find it.
    """
    name = shown_name(thing)
    found = keras.saving.get_registered_object(name)
    # Not by identity: a notebook's cell that is run again registers the same
    # definition once more.
    if found is not thing and _place(found) != _place(thing):
        raise ValueError(
            f"{name} is not registered, so that what is saved could not be "
            "opened as the same network. Write "
            "`@keras.saving.register_keras_serializable(package='mine')` above "
            "its definition."
        )
    return name


def shown_name(thing):
    """The name of a class or function, registered or not."""
    if not hasattr(thing, "__name__"):
        return repr(thing)
    return keras.saving.get_registered_name(thing)


def _place(thing):
    return getattr(thing, "__module__", None), getattr(
        thing, "__qualname__", None
    )


def find_class(name, asked, path):
    """The class that a preset was saved from.

    Args:
        name: str, its registered name.
        asked: class whose `from_preset` was called.
        path: of the preset, for messages.

    Returns:
        `asked` or a subclass of it.

    Raises:
        ValueError: if it is not registered, or none of these.
    """
    if name == shown_name(asked):
        return asked
    found = keras.saving.get_registered_object(name)
    if found is None:
        raise ValueError(
            f"{path} was saved from the class {name!r}, which is not "
            f"registered here; opened as {asked.__name__} it would be another "
            "network. Import the module that registers it first, or call "
            "`from_preset` of the class itself."
        )
    if not (inspect.isclass(found) and issubclass(found, asked)):
        raise ValueError(
            f"{path} was saved from the class {name!r}, which is no "
            f"{asked.__name__}. Open it with `{found.__name__}.from_preset`. "
            f"For a new {asked.__name__} with its weights, build one and pass "
            "them to `set_weights`."
        )
    return found


def find_block(block, default):
    """What makes an `IGPT`'s blocks.

    Args:
        block: class or function, its registered name, or `None` for `default`.

    Raises:
        ValueError: if it is none of these, or not registered.
    """
    if block is None or block == BLOCK:
        return default
    found = block
    if isinstance(block, str):
        found = keras.saving.get_registered_object(block)
        if found is None:
            raise ValueError(
                f"The model's blocks are of {block!r}, which is not registered "
                "here; with others it would be another network. Import the "
                "module that registers it first."
            )
    if not callable(found) or isinstance(found, keras.layers.Layer):
        raise ValueError(
            "block must be a class, or a function, with TransformerBlock's "
            f"arguments, that makes one block; received {found!r}."
        )
    return found


def ordering_arguments(block, order, square_side):
    """What a block is told of the sequence that is not the usual one.

    Args:
        block: class or function that makes a block.
        order: str. Left out if it is raster, or `block` does not take it: its
            inputs come in the order, and most blocks need no more.
        square_side: int. Left out if it is 1.

    Returns:
        dict of arguments.

    Raises:
        ValueError: if there are squares, and `block` does not take them.
    """
    function = block.__init__ if inspect.isclass(block) else block
    taken = inspect.signature(function).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    arguments = {}
    if order != "raster" and (anything or "order" in taken):
        arguments["order"] = order
    if square_side > 1:
        if not (anything or "square_side" in taken):
            raise ValueError(
                f"{shown_name(block)} takes no square_side, so that it would "
                "not attend by squares of tokens. Pass it on to a "
                "TransformerBlock or SelfAttention, or leave out "
                "attention='block_causal:K'."
            )
        arguments["square_side"] = square_side
    return arguments


def check_takes_prefix(block):
    """Raises a `ValueError` unless a block attends by a prefix.

    Args:
        block: a layer that makes up an `IGPT`.
    """
    attention = getattr(block, "attention_class", None)
    for part, name in (
        (block, type(block).__name__),
        (attention, shown_name(attention)),
    ):
        for method in ("call", "prefill"):
            function = getattr(part, method, None)
            if function is None or function is keras.layers.Layer.call:
                continue
            if "prefix_length" not in inspect.signature(function).parameters:
                raise ValueError(
                    f"`{method}` of {name} takes no prefix_length, so that "
                    "it would not attend by a prefix. Pass it on to "
                    "SelfAttention, or leave out attention='prefix_causal'."
                )


def check_parts(model):
    """Raises a `ValueError` unless an `IGPT`'s blocks are what it names."""
    for block in model.blocks:
        if inspect.isclass(model.block) and type(block) is not model.block:
            raise ValueError(
                f"{block.name} is a {type(block).__name__}, and the model "
                f"names {shown_name(model.block)} as its block, so that "
                "another network would be opened. Build the model with "
                "`IGPT(..., block=...)`."
            )
        activation = getattr(block, "activation", None)
        up = getattr(block, "mlp_up", None)
        if None not in (activation, up) and up.activation != activation:
            raise ValueError(
                f"The activation of {block.name} was replaced, which is not "
                "saved, so that another network would be opened. Define "
                "`activation` in a block of your own, and pass that to "
                "`IGPT(..., block=...)`."
            )


def check_plain(model):
    """Raises a `ValueError` unless OpenAI's code computes a model's function.

    For formats that hold weights alone: their reader builds the plain network.
    """
    igpt = getattr(model, "igpt", model)
    names = [shown_name(type(model)), shown_name(type(igpt))]
    names += [shown_name(igpt.block)]
    own = [n for n in names if n not in (MODEL, CLASSIFIER, BLOCK)]
    if own:
        raise ValueError(
            f"The model is built from {own[0]}, and this format holds weights "
            "alone, which its reader puts into the plain network. Use "
            "`save_to_preset`. If only training differs, give the weights to "
            "an `IGPT` with `set_weights`, and save that."
        )
    for name, usual in (("order", "raster"), ("given_attention", None)):
        found = getattr(igpt, name)
        if found != usual:
            raise ValueError(
                "The model predicts tokens by "
                f"{name.removeprefix('given_')}={found!r}, and whatever reads "
                "this format has raster order and the objective's own "
                "attention. Use `save_to_preset`."
            )


def check_decodes(model):
    """Raises a `ValueError` if decoding token by token is another network's.

    `sample` follows `decode` of the embedding, the blocks and their attention.
    A class that overrides `call` alone would be trained as one network and
    sampled as another. `sample` itself refuses BERT, and what is no `IGPT`.
    """
    model = getattr(model, "igpt", model)
    is_igpt = MODEL in map(shown_name, type(model).__mro__)
    if not is_igpt or model.objective == "bert":
        return
    if model.objective != "autoregressive":
        raise ValueError(
            "sample needs the autoregressive objective, received a model of "
            f"the objective {model.objective!r}."
        )
    parts = [(model.embedding, "decode")]
    for method in ("prefill", "decode"):
        for block in model.blocks:
            parts.append((block, method))
            # One of the block's own need not follow that of `attention`.
            if _definer(block, method) == BLOCK:
                parts.append((block.attention, method))
    for part, method in parts:
        if not _follows(part, method):
            raise ValueError(
                f"{type(part).__name__} has a `call` and no `{method}` of its "
                "own: sample needs `prefill`, which computes what `call` does "
                "and gives keys and values, and `decode`, which computes it "
                "for one position, as TransformerBlock and SelfAttention have "
                "them. Training, probes and evaluation need neither."
            )
    if _definer(model, "call") != MODEL:
        raise ValueError(
            f"{type(model).__name__} overrides `call`, which sample does not "
            "follow: it would draw from another network. Move what it does "
            "into a block, with `decode`."
        )


def check_extends(model):
    """Raises a `ValueError` if scoring a draft is another network's.

    As `check_decodes`, which comes before, of `extend`.

    Args:
        model: an autoregressive `IGPT`.
    """
    parts = [model.embedding]
    for block in model.blocks:
        parts.append(block)
        if _definer(block, "extend") == BLOCK:
            parts.append(block.attention)
    for part in parts:
        if not _follows(part, "extend"):
            raise ValueError(
                f"{type(part).__name__} has a `decode` and no `extend` of its "
                "own, which computes the same for runs of positions: sample "
                "needs it with a draft. Define it as TransformerBlock and "
                "SelfAttention do, or leave out draft."
            )


def _follows(layer, method):
    """Whether a method is defined where `call` is, or further down."""
    changing = {"call", "_body", "prefill"} - {method}
    if method == "extend":
        changing.add("decode")
    for place in (layer, *type(layer).__mro__):
        if method in vars(place):
            return True
        if changing & set(vars(place)):
            return False
    return False


def _definer(model, method):
    """Name of the class that defines a method of a model."""
    for place in (model, *type(model).__mro__):
        if method in vars(place):
            return shown_name(place)
    return None
