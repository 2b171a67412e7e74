"""Attention by blocks of queries, which keeps no scores."""

import keras
import numpy as np
from keras import ops

from igpt_keras.backend import attends_by_kernel
from igpt_keras.backend import batch_matmul
from igpt_keras.backend import run_after


def attend(queries, keys, values, causal, prefix_length=None):
    """`softmax(q k^T / sqrt(K)) v` of every head.

    Where the backend has kernels that keep no scores, or the number of
    positions is not known, that is `keras.ops.dot_product_attention`. Elsewhere
    one block of queries after the other meets the keys that it sees, and the
    backward pass computes probabilities again: of the scores `(B, H, N, N)` a
    block of rows is in memory at a time, and of causal attention hardly more
    than half is computed. Softmax is in float32 at least.

    Args:
        queries: float tensor `(B, N, H, K)`.
        keys: float tensor, as `queries`.
        values: float tensor, as `queries`.
        causal: bool. Whether position `i` attends to positions `<= i` only.
        prefix_length: optional int tensor `(B,)`, `P`. Where attention is
            causal, position `i` then attends to positions `<= max(i, P)`, and
            nothing is saved: `P` may be any.

    Returns:
        Float tensor `(B, N, H, K)`.
    """
    if not causal:
        prefix_length = None
    length = queries.shape[1]
    dtype = keras.backend.result_type(queries.dtype, keys.dtype, values.dtype)
    # A softmax over one position is no softmax to Keras.
    by_kernel = attends_by_kernel(dtype, prefix_length is not None)
    if length is None or length == 1 or by_kernel:
        mask = None
        if prefix_length is not None:
            positions = ops.arange(ops.shape(queries)[1], dtype="int32")
            causal, mask = False, _seen(positions, positions, prefix_length)
        return ops.dot_product_attention(
            queries, keys, values, mask=mask, is_causal=causal
        )
    heads = [ops.cast(x, dtype) for x in (queries, keys, values)]

    @ops.custom_gradient
    def attention(*heads):
        heads = [swap_heads(x) for x in heads]
        attended = swap_heads(_attend_in_blocks(*heads, causal, prefix_length))

        def gradient(upstream):
            found = _gradients(
                *heads, attended, upstream, causal, prefix_length
            )
            return tuple(swap_heads(x) for x in found)

        return attended, gradient

    return attention(*heads)


def block_size(length):
    """Queries in a block, of a sequence of `length`.

    The scores of few queries stay in a CPU's cache, and fewer of them are
    computed that a causal mask removes; many blocks make a large graph.
    """
    return 64 if length <= 512 else 128


def _blocks(length, causal, prefix_length):
    """`(start, stop, visible)`: its queries, and the keys before `visible`."""
    # A prefix may reach beyond any block.
    in_part = causal and prefix_length is None
    size = block_size(length)
    starts = range(0, length, size)
    stops = [min(start + size, length) for start in starts]
    return [
        (start, stop, stop if in_part else length)
        for start, stop in zip(starts, stops)
    ]


def _attend_in_blocks(queries, keys, values, causal, prefix_length):
    """Of heads `(B, H, N, K)`."""
    outputs = []
    for block in _blocks(queries.shape[2], causal, prefix_length):
        # Side by side the blocks would be in memory side by side.
        heads = run_after(outputs[-1:], queries, keys, values)
        query, key, value = _take(*heads, block)
        weights = _weights(query, key, causal, block, prefix_length)
        outputs.append(batch_matmul(ops.cast(weights, value.dtype), value))
    return _join(outputs)


def _take(queries, keys, values, block):
    """A block's queries, and the keys and values that it sees."""
    start, stop, visible = block
    return (
        queries[:, :, start:stop],
        keys[:, :, :visible],
        values[:, :, :visible],
    )


def _seen(queries, keys, prefix_length):
    """Which keys queries attend to after a prefix, bool `(B, 1, n, m)`.

    Args:
        queries: int array `(n,)`, positions.
        keys: int array `(m,)`, positions.
        prefix_length: int tensor `(B,)`.
    """
    last = ops.cast(prefix_length, "int32")[:, None, None, None]
    return keys <= ops.maximum(last, queries[:, None])


def _weights(query, key, causal, block, prefix_length):
    """Softmax of a block's scores, in float32 at least."""
    wide = keras.backend.result_type(query.dtype, "float32")
    scale = query.shape[-1] ** -0.5
    if wide == keras.backend.standardize_dtype(query.dtype):
        scores = batch_matmul(query * scale, key, transpose_y=True)
    else:
        # Scaled queries would be rounded to other scores.
        scores = batch_matmul(query, key, transpose_y=True)
        scores = ops.cast(scores, wide) * scale
    if prefix_length is not None:
        start, stop, visible = block
        (prefix_length,) = run_after([query], prefix_length)
        positions = np.arange(visible, dtype="int32")
        seen = _seen(positions[start:stop], positions, prefix_length)
        scores = ops.where(seen, scores, -1e30)
    elif causal:
        # The last of the keys are the block's own.
        size = query.shape[2]
        hidden = np.triu(np.full((size, size), -1e30), 1).astype(wide)
        before = key.shape[2] - size
        scores = scores + ops.pad(
            *run_after([query], hidden), ((0, 0), (before, 0))
        )
    return ops.softmax(scores)


def _gradients(
    queries, keys, values, attended, upstream, causal, prefix_length
):
    """Of the queries, keys and values, heads `(B, H, N, K)`.

    With scores `S`, `P = softmax(S)`, `O = P V` and the upstream gradient `U`,
    that of `S` is `P (U V^T - sum(U O))`, summed over a head's width (Dao et
    al. 2022, appendix B.2).

    Args:
        attended: float tensor `(B, N, H, K)`, `O`.
        upstream: float tensor, as `attended`.
    """
    dtype = queries.dtype
    wide = keras.backend.result_type(dtype, "float32")
    mean = ops.cast(upstream, wide) * ops.cast(attended, wide)
    mean = swap_heads(ops.sum(mean, axis=-1, keepdims=True))
    # XLA knows no order but that of data, and would take what is computed
    # again for what it has.
    one = _one_after(upstream, dtype)
    queries, keys, values = (x * one for x in (queries, keys, values))
    upstream = swap_heads(ops.cast(upstream, dtype))
    query_parts, key_parts, value_parts = [], [], []
    key_sum = value_sum = None
    after = [mean]
    for block in reversed(_blocks(queries.shape[2], causal, prefix_length)):
        start, stop, visible = block
        heads = run_after(after, queries, keys, values)
        query, key, value = _take(*heads, block)
        above = upstream[:, :, start:stop]
        weights = _weights(query, key, causal, block, prefix_length)
        scores = batch_matmul(above, value, transpose_y=True)
        scores = weights * (ops.cast(scores, wide) - mean[:, :, start:stop])
        scores, weights = ops.cast(scores, dtype), ops.cast(weights, dtype)
        key_part = batch_matmul(scores, query, transpose_x=True)
        value_part = batch_matmul(weights, above, transpose_x=True)
        query_parts.append(batch_matmul(scores, key))
        if visible < queries.shape[2] and key_sum is not None:
            # Blocks come from the last: no other one sees the keys past these.
            key_parts.append(key_sum[:, :, visible:])
            value_parts.append(value_sum[:, :, visible:])
            key_sum, value_sum = (
                x[:, :, :visible] for x in (key_sum, value_sum)
            )
        if key_sum is not None:
            key_part, value_part = key_part + key_sum, value_part + value_sum
        key_sum, value_sum = key_part, value_part
        after = [query_parts[-1], key_sum, value_sum]
    scale = queries.shape[-1] ** -0.5
    return (
        _join(query_parts[::-1]) * scale,
        _join([*key_parts, key_sum][::-1]) * scale,
        _join([*value_parts, value_sum][::-1]),
    )


def _one_after(tensor, dtype):
    """1, which is not known before the tensor is; NaN where that begins so."""
    # A sum, as a replica's share of a batch may be empty.
    first = ops.sum(ops.reshape(tensor, (-1,))[:1])
    return ops.cast(ops.where(ops.isnan(first), float("nan"), 1.0), dtype)


def swap_heads(x):
    """Swaps positions and heads of `(B, N, H, K)` or `(B, H, N, K)`."""
    return ops.transpose(x, (0, 2, 1, 3))


def _join(parts):
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=2)
