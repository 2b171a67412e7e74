"""Tokens drawn from logits."""

from keras import ops


def draw(logits, uniform, top_k=None, top_p=None):
    """Draws one token a row by inverting the cumulative distribution.

    Args:
        logits: float `(B, V)`, already divided by the temperature.
        uniform: float `(B,)` in [0, 1).
        top_k: as in `sample`; ties go to the lower token id.
        top_p: as in `sample`; applied after `top_k`.

    Returns:
        int32 `(B,)`.
    """
    order, ranked = _rank(logits, top_k, top_p)
    chosen = draw_index(ranked, uniform)
    token_ids = ops.take_along_axis(order, chosen[:, None], axis=-1)[:, 0]
    return ops.cast(token_ids, "int32")


def distribution(logits, top_k=None, top_p=None):
    """Probabilities that `draw` draws by.

    Args:
        logits: float `(B, V)`, already divided by the temperature.
        top_k: as in `draw`.
        top_p: as in `draw`.

    Returns:
        float32 `(B, V)`, 0 of what `top_k` and `top_p` leave out.
    """
    if top_k is None and top_p is None:
        return ops.softmax(ops.cast(logits, "float32"))
    order, ranked = _rank(logits, top_k, top_p)
    ranked = ranked / ops.sum(ranked, axis=-1, keepdims=True)
    return ops.take_along_axis(ranked, ops.argsort(order, axis=-1), axis=-1)


def draw_index(weights, uniform):
    """Draws an index a row by inverting the cumulative distribution.

    Args:
        weights: float32 `(B, V)` >= 0, of any positive sum.
        uniform: float `(B,)` in [0, 1).

    Returns:
        int32 `(B,)`, of weights that are not 0.
    """
    cumulative = ops.cumsum(weights, axis=-1)
    # Just under the total, so that rounding cannot pass the last kept token.
    threshold = uniform[:, None] * cumulative[:, -1:] * (1 - 1e-6)
    passed = ops.logical_and(cumulative > threshold, weights > 0)
    chosen = ops.argmax(ops.cast(passed, "int32"), axis=-1)
    return ops.cast(chosen, "int32")


def _rank(logits, top_k, top_p):
    """Tokens from the most probable, and what is kept of probabilities."""
    probabilities = ops.softmax(ops.cast(logits, "float32"))
    # Most probable first; a stable sort, so rank 0 is what argmax returns.
    order = ops.argsort(-probabilities, axis=-1)
    ranked = ops.take_along_axis(probabilities, order, axis=-1)
    rank = ops.arange(ranked.shape[-1])
    kept = ops.ones_like(ranked, "bool")
    if top_k is not None:
        kept = ops.logical_and(kept, rank < top_k)
        ranked = ranked * ops.cast(kept, ranked.dtype)
        ranked = ranked / ops.sum(ranked, axis=-1, keepdims=True)
    if top_p is not None:
        before = ops.cumsum(ranked, axis=-1) - ranked
        kept = ops.logical_and(kept, ops.logical_or(before < top_p, rank == 0))
        ranked = ranked * ops.cast(kept, ranked.dtype)
    return order, ranked
