"""What of an image is given when a model draws the rest."""

import math

import numpy as np

from igpt_keras.layers.pixel_order import ORDERS


def first_places(model, count):
    """Which tokens come first in a model's order.

    Args:
        model: an `IGPT`.
        count: int. How many.

    Returns:
        bool array `(N,)`, in raster order.
    """
    first = np.zeros(model.sequence_length, "bool")
    first[model.embedding.permutation[:count]] = True
    return first


def read_prompt(model, num_samples, prompt, given):
    """Tokens that are given, and how many of each image.

    Args:
        model: an `IGPT`.
        num_samples: int, `S`.
        prompt: as in `sample`.
        given: as in `sample`.

    Returns:
        `(token_ids, counts)`: int32 `(S, N)` in raster order, 0 where nothing
        is given, and int32 `(S,)`. Of image `i` the first `counts[i]` of the
        model's order are given.

    Raises:
        ValueError: if they are no tokens of the model, given are others than
            the first ones, or of squares that are predicted at once a part.
    """
    length = model.sequence_length
    token_ids = np.zeros((num_samples, length), "int32")
    if prompt is None:
        if given is not None:
            raise ValueError(
                "given says which tokens of prompt are given, and there is no "
                f"prompt. Pass int token ids ({length},) or ({num_samples}, "
                f"{length})."
            )
        return token_ids, np.zeros(num_samples, "int32")
    prompt = np.asarray(prompt)
    if prompt.ndim == 1:
        prompt = prompt[None]
    if (
        prompt.ndim != 2
        or prompt.shape[0] not in (1, num_samples)
        or prompt.shape[1] > length
    ):
        raise ValueError(
            f"prompt must have shape (P,) or ({num_samples}, P) with P <= "
            f"{length}, received {prompt.shape}."
        )
    if given is None:
        given = np.arange(length) < prompt.shape[1]
        prompt = np.pad(prompt, ((0, 0), (0, length - prompt.shape[1])))
    given = _read_given(model, num_samples, prompt, given)
    prompt = np.broadcast_to(prompt, given.shape)
    _check_tokens(model, prompt[given])
    token_ids[given] = prompt[given]
    return token_ids, _count_first(model, given)


def _read_given(model, num_samples, prompt, given):
    """Bool `(S, N)` of what a caller passed."""
    length = model.sequence_length
    given = np.asarray(given)
    if given.ndim == 1:
        given = given[None]
    if (
        given.dtype != "bool"
        or given.ndim != 2
        or given.shape[0] not in (1, num_samples)
        or given.shape[1] != length
        or prompt.shape[1] != length
    ):
        raise ValueError(
            f"given must be bool of shape ({length},) or ({num_samples}, "
            f"{length}), True where the token of prompt, of as many columns, "
            f"is given; received {given.dtype} of shape {given.shape} for a "
            f"prompt of shape {prompt.shape}."
        )
    return np.broadcast_to(given, (num_samples, length))


def _check_tokens(model, tokens):
    if tokens.size and (
        not np.issubdtype(tokens.dtype, np.integer)
        or tokens.min() < 0
        or tokens.max() >= model.vocabulary_size
    ):
        raise ValueError(
            "prompt must hold int token ids in "
            f"[0, {model.vocabulary_size}), received {tokens.dtype} from "
            f"{tokens.min()} to {tokens.max()}."
        )


def _count_first(model, given):
    """How many tokens of each image are given, which are the first ones."""
    in_order = given[:, model.embedding.permutation]
    counts = in_order.sum(axis=1).astype("int32")
    wrong = in_order != (np.arange(in_order.shape[1]) < counts[:, None])
    size = model.embedding.square_side**2
    if not wrong.any() and not (counts % size).any():
        return counts
    if not wrong.any():
        raise ValueError(
            f"A model of attention={model.attention!r} draws whole squares, "
            f"and {int(counts[(counts % size).argmax()])} tokens are given, no "
            f"multiple of {size}. Give whole squares, or have "
            "igpt_keras.complete draw around a part of one."
        )
    row = np.flatnonzero(wrong.any(axis=1))[0]
    missing, later = model.embedding.permutation[
        [np.argmin(in_order[row]), np.flatnonzero(in_order[row])[-1]]
    ]
    name = "random:SEED" if model.order.startswith("random:") else model.order
    side = math.isqrt(model.sequence_length)
    raise ValueError(
        f"A model of order={model.order!r} draws {ORDERS[name]}, and what is "
        "given must be the first tokens of that order. Here the token at row "
        f"{missing // side}, column {missing % side} is not given, and the one "
        f"at row {later // side}, column {later % side} is, which comes later. "
        "Give all that come before it (igpt_keras.layers.pixel_order lists "
        "them), or have igpt_keras.complete draw around it."
    )
