from igpt_keras.models.igpt import IGPT
from igpt_keras.models.own_network import check_decodes
from igpt_keras.models.own_network import check_extends


def check_draft(model, draft):
    """The `IGPT` that can draft tokens for a model.

    Args:
        model: an autoregressive `IGPT`.
        draft: what `sample` was given.

    Returns:
        `draft`, or the `IGPT` in it if it is an `IGPTClassifier`.

    Raises:
        ValueError: if it is none, or of other tokens than the model's.
    """
    draft = getattr(draft, "igpt", draft)
    if not isinstance(draft, IGPT):
        raise ValueError(
            f"draft must be an IGPT, received a {type(draft).__name__}. Pass a "
            "smaller one than the model, trained on the same tokens."
        )
    for name, drawn in (("The model", model), ("draft", draft)):
        if drawn.objective == "bert":
            raise ValueError(
                f"{name} is a BERT model, which predicts hidden tokens from "
                "both sides and defines no order to draft in. Pass an "
                "autoregressive one."
            )
        if drawn.attention != "causal":
            instead = "Leave out draft."
            if drawn is draft:
                instead = "Pass one of attention='causal'."
            raise ValueError(
                f"{name} has attention={drawn.attention!r}, and a draft is "
                "checked token by token, each by those before it. " + instead
            )
    for key in ("vocabulary_size", "sequence_length", "order"):
        ours, its = getattr(model, key), getattr(draft, key)
        if ours != its:
            raise ValueError(
                f"The model has {key}={ours!r} and draft {its!r}. Pass a draft "
                "that was trained on the same tokens, in the same order."
            )
    check_decodes(draft)
    for drawn in (model, draft):
        check_extends(drawn)
    if _strategy(draft) is not _strategy(model):
        raise ValueError(
            "The model and draft are on different devices: they were built "
            "under two strategies of tf.distribute. Open both in the scope of "
            "one."
        )
    return draft


def _strategy(model):
    return getattr(model, "distribute_strategy", None)
