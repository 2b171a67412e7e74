import math

import numpy as np
from keras import ops


def resize_positions(table, sequence_length):
    """Resizes a position table as the two-dimensional grid it stands for.

    Bicubic, between the centres of positions, as one would resize an image
    whose channels are the `D` dimensions. A table of one size starts a model
    of another (48x48 from 32x32); it does not replace training there.

    Args:
        table: float array `(N, D)`, positions row by row.
        sequence_length: int. New number of positions. Both numbers are squares.

    Returns:
        float32 NumPy array `(sequence_length, D)`.

    Raises:
        ValueError: if a number of positions is not a square.
    """
    old, new = math.isqrt(len(table)), math.isqrt(sequence_length)
    for side, length in ((old, len(table)), (new, sequence_length)):
        if side * side != length:
            raise ValueError(
                f"{length} positions are no square grid; only square images' "
                "positions can be interpolated."
            )
    grid = np.reshape(table, (1, old, old, -1)).astype("float32")
    if new != old:
        grid = ops.image.resize(
            grid,
            (new, new),
            interpolation="bicubic",
            # When the grid shrinks, as for images.
            antialias=True,
            data_format="channels_last",
        )
    return np.reshape(ops.convert_to_numpy(grid), (sequence_length, -1))
