from igpt_keras.conversion.open_weights import open_weights
from igpt_keras.models.check_draft import check_draft


def open_draft(path, model, tokenizer):
    """Opens a model that drafts tokens for another, as `sample` takes it.

    Args:
        path: as `open_weights` takes it; `None` for no draft.
        model: the `IGPT`, or `IGPTClassifier`, that is drafted for.
        tokenizer: that model's, `None` if there is none.

    Returns:
        `IGPT`, `None` without a path.

    Raises:
        ValueError: if the draft's tokens, their order or their number are not
            the model's, or it came with another tokenizer.
    """
    if path is None:
        return None
    draft, own = open_weights(path)
    draft = check_draft(getattr(model, "igpt", model), draft)
    both = None not in (own, tokenizer)
    if both and own.fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"The draft {path} was trained on the tokens of another tokenizer "
            f"than the model's ({own.fingerprint[:12]}... there, "
            f"{tokenizer.fingerprint[:12]}... here): they would mean other "
            "colours. Pass one that pretrain.py trained with the model's "
            "--palette or --tokenizer."
        )
    return draft
