"""A user's own model or block: saved by name, found again, or refused.

Classes are looked up among those that `keras.saving` has registered; nothing is
imported because a file names it.
"""

import inspect
import types

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
    same = found is thing or _place(found) == _place(thing)
    if same and _code(found) != _code(thing):
        raise ValueError(
            f"{name} was defined again, and differently, after the model was "
            "built, so that another network would be opened. Build the model "
            "again."
        )
    if not same:
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


def _code(thing):
    """What a class or function does, to tell a definition from a changed one.

    Without names of files and numbers of lines.
    """
    if inspect.isclass(thing):
        parts = vars(thing).items()
        codes = {name: _code(part) for name, part in parts}
        # Python's own say where a definition stands.
        values = {n: _value(x) for n, x in parts if not n.startswith("__")}
        bases = [(_value(base), _code(base)) for base in thing.__bases__]
        return {n: code for n, code in codes.items() if code}, values, bases
    code = getattr(thing, "__code__", thing)
    if not inspect.iscode(code):
        return None
    constants = [_code(x) or repr(x) for x in code.co_consts]
    return code.co_code, code.co_names, constants, _given(thing)


def _given(function):
    """Values of a function's defaults and of what it closes over."""
    cells = getattr(function, "__closure__", None) or ()
    values = [c.cell_contents for c in cells if c != types.CellType()]
    defaults = getattr(function, "__defaults__", None) or ()
    keywords = getattr(function, "__kwdefaults__", None) or {}
    named = {name: _value(x) for name, x in keywords.items()}
    return [_value(x) for x in (*values, *defaults)], named


def _value(thing):
    """A plain value, or the name of a class or function."""
    if isinstance(thing, tuple):
        return [_value(x) for x in thing]
    if isinstance(thing, (bool, int, float, str, type(None))):
        # Which tells 1 from True, and not one NaN from another.
        return repr(thing)
    return _place(thing)


def check_arguments(cls, config):
    """Raises a `ValueError` if a class takes what its configuration has not.

    Args:
        cls: a subclass of `IGPT` or `IGPTClassifier`, or one of them.
        config: dict of its `get_config`.
    """
    for place in cls.__mro__:
        if shown_name(place) in (MODEL, CLASSIFIER):
            return
        function = vars(place).get("__init__")
        parameters = inspect.signature(function).parameters if function else {}
        for name, parameter in list(parameters.items())[1:]:
            named = parameter.kind in (
                parameter.POSITIONAL_OR_KEYWORD,
                parameter.KEYWORD_ONLY,
            )
            if named and name not in config:
                raise ValueError(
                    f"{name!r} is an argument of {place.__name__} and not in "
                    "its configuration, so that another network would be "
                    "opened. Give it there: `def get_config(self): return "
                    f"{{**super().get_config(), {name!r}: self.{name}}}`."
                )


def final_config(cls, parent, config):
    """A configuration, checked if no `get_config` of a subclass adds to it."""
    if cls.get_config is parent.get_config:
        check_arguments(cls, config)
    return config


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
            "network. Import the module that registers it first (--import of "
            "the recipes), or call `from_preset` of the class itself."
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
                "module that registers it first (--import of the recipes)."
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
    if inspect.isclass(block):
        # Others only swallow what they do not name.
        anything &= BLOCK in map(shown_name, block.__mro__)
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
        _check_unpatched(block)
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


def _check_unpatched(block):
    """Raises a `ValueError` if an object differs from its class."""
    attention = getattr(block, "attention", None)
    usual = getattr(type(block), "attention_class", None)
    if None not in (attention, usual) and type(attention) is not usual:
        raise ValueError(
            f"The attention of {block.name} is a {type(attention).__name__}, "
            f"and its class says {usual.__name__}, so that another network "
            "would be opened. Make it the `attention_class` of a block of "
            "your own."
        )
    methods = {"call", "_body", "prefill", "decode", "extend", "prepare"}
    for part in (block, attention):
        patched = sorted(methods & vars(part).keys()) if part else []
        if patched:
            raise ValueError(
                f"`{patched[0]}` of {part.name} was replaced, which is not "
                "saved, so that another network would be opened. Define it in "
                "a class of your own."
            )


def own_classes(model):
    """Names of the classes that a model has in place of the plain ones."""
    igpt = getattr(model, "igpt", model)
    names = [shown_name(type(model)), shown_name(type(igpt))]
    names += [shown_name(igpt.block)]
    return [n for n in names if n not in (MODEL, CLASSIFIER, BLOCK)]


def check_plain(model):
    """Raises a `ValueError` unless OpenAI's code computes a model's function.

    For formats that hold weights alone: their reader builds the plain network.
    """
    igpt, own = getattr(model, "igpt", model), own_classes(model)
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
    sampled as another. `sample` itself refuses BERT.
    """
    model = getattr(model, "igpt", model)
    _check_has_decoding_parts(model)
    objective = getattr(model, "objective", "autoregressive")
    if objective == "bert":
        return
    if objective != "autoregressive":
        raise ValueError(
            "sample needs the autoregressive objective, received a model of "
            f"the objective {objective!r}."
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
    for name in ("final_norm", "head"):
        if not any(getattr(model, name) is x for x in model.operations):
            raise ValueError(
                f"The `{name}` of {model.name} is no layer that it was made "
                "of, so that sample would draw from another network. Put it "
                "into a model of your own: docs/variants.md has one."
            )
    check_call(model, "sample")


def check_call(model, who):
    """Raises a `ValueError` for an `IGPT` whose `call` is one of its own.

    Args:
        model: a model.
        who: str. What follows the layers that a model is made of.
    """
    is_igpt = MODEL in map(shown_name, type(model).__mro__)
    if is_igpt and _definer(model, "call") != MODEL:
        raise ValueError(
            f"{type(model).__name__} overrides `call`, which {who} does not "
            "follow: it would be of another network. Move what it does into a "
            "block, with `decode`."
        )


def _check_has_decoding_parts(model):
    needs = (
        "sample needs an IGPT, or a functional Keras model of such parts: "
        "`embedding`, a TokenAndPositionEmbedding; `blocks`, each with "
        "`prefill` and `decode`; `final_norm`; `head`; and the ints "
        "`sequence_length` and `vocabulary_size`"
    )
    kind = type(model).__name__
    names = ("embedding", "blocks", "final_norm", "head")
    for name in (*names, "sequence_length", "vocabulary_size", "operations"):
        if getattr(model, name, None) is None:
            raise ValueError(f"{needs}; this {kind} has no `{name}`.")
    for name in ("decode", "place", "permutation", "square_side"):
        if not hasattr(model.embedding, name):
            raise ValueError(
                f"{needs}; the `embedding` of this {kind} has no `{name}`."
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
