"""An autoregressive model by positions, with cached keys and values."""

import numpy as np
from keras import ops

# Of fewer steps XLA's compilation takes longer than it saves in ten batches.
XLA_STEPS = 32


def cache_lengths(start, stop, parts=4):
    """Lengths that the caches grow through from `start` to `stop`.

    A step reads the whole cache. Quarters of the image leave it little more
    to read than is filled, and few loops to compile.

    Args:
        start: int. Positions that are filled.
        stop: int. Those of the image.
        parts: int. Loops over a whole image, at most. Defaults to 4.

    Returns:
        list of int.
    """
    block = max(64, -(-stop // parts))
    return [
        min(end, stop)
        for end in range(block, stop + block, block)
        if end > start and start < stop
    ]


def lengthen(cache, missing):
    """A cache `(B, H, M, K)` with room for so many more positions, zeros."""
    return ops.pad(cache, ((0, 0), (0, 0), (0, missing), (0, 0)))


def prefill(model, token_ids, length, prefix_length=None):
    """Caches of the first positions of a model's order, in one pass.

    Args:
        model: an autoregressive `IGPT`.
        token_ids: int32 `(B, N)` in raster order; only what is before `length`
            in the model's is read.
        length: int, `P >= 1`, of whole squares if the model predicts these.
        prefix_length: int tensor `(B,)` if the model has prefixes: below `P`,
            or positions after these would be missing from what they see.

    Returns:
        For each block `(keys, values)`, float `(B, H, P, K)`.
    """
    x = model.embedding(token_ids)[:, :length]
    caches = []
    told = {} if prefix_length is None else {"prefix_length": prefix_length}
    for block in model.blocks:
        x, keys, values = block.prefill(x, **told)
        caches.append((keys, values))
    return caches


def decode(model, token_ids, caches, position):
    """Logits of one position from the tokens before it and their caches.

    Args:
        model: an autoregressive `IGPT`.
        token_ids: int32 `(B, N)` in raster order; only what is before
            `position` in the model's is read.
        caches: for each block `(keys, values)`, float `(B, H, M, K)` with
            `M > position`, filled below it. Each is an array of its own,
            which a loop updates in place.
        position: int32 scalar, in the model's order; the first of a square if
            the model predicts these.

    Returns:
        `(logits, caches)`: float32 `(B, G, V)`, `G` being 1 or the tokens of a
        square, and the caches with these positions.
    """
    size = model.embedding.square_side**2
    earlier = ops.maximum(position - size, 0)
    places = model.embedding.place(earlier + np.arange(size, dtype="int32"))
    previous = ops.take(token_ids, places, axis=1)
    x = model.embedding.decode(previous, position)
    return _go_on(model, "decode", x, caches, position)


def extend(model, ordered_ids, caches, positions):
    """Logits of runs of positions, of each image its own, in one pass.

    Args:
        model: an autoregressive `IGPT` of plain causal attention.
        ordered_ids: int32 `(B, N)` in the model's order; only what is before
            the last of `positions` is read.
        caches: for each block `(keys, values)`, float `(B, H, M, K)`, filled
            below each image's first position.
        positions: int32 `(B, G)`, of each image neighbours below `M`.

    Returns:
        `(logits, caches)`: float32 `(B, G, V)`, and the caches with these
        positions.
    """
    earlier = ops.maximum(positions - 1, 0)
    previous = ops.take_along_axis(ordered_ids, earlier, axis=1)
    x = model.embedding.extend(previous, positions)
    return _go_on(model, "extend", x, caches, positions)


def _go_on(model, method, x, caches, where):
    """Logits and caches of new inputs, by that method of every block."""
    filled = []
    for block, (keys, values) in zip(model.blocks, caches):
        x, keys, values = getattr(block, method)(x, keys, values, where)
        filled.append((keys, values))
    return model.head(model.final_norm(x)), filled
