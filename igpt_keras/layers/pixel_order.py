import math
import re

import numpy as np

# What each begins with, for messages.
ORDERS = {
    "raster": "rows from the top, each from the left",
    "columns": "columns from the left, each from the top",
    "reversed": "rows from the bottom, each from the right",
    "spiral": "rings from the outermost, each clockwise from its top left",
    "z_curve": "quadrants within quadrants, top left, top right, bottom left, "
    "bottom right",
    "random:SEED": "a permutation that is drawn from the seed",
}


def pixel_order(order, sequence_length):
    """The permutation that an image's tokens are predicted in.

    `pi` of the paper (section 2.1), which takes the identity, `"raster"`:

    - `"raster"`: row by row from the top, each from the left.
    - `"columns"`: column by column from the left, each from the top.
    - `"reversed"`: raster order backwards.
    - `"spiral"`: from the top left corner clockwise along the border, and so
      on inwards.
    - `"z_curve"`: by the bits of row and column in turn (Morton 1966): the
      four quadrants one after the other, and so within each. Of a side that is
      no power of two, what exists of the next power's.
    - `"random:SEED"`: the order of `N` words of 64 bits that PCG64 gives for
      the seed, an int from 0. Not `numpy.random.Generator.permutation`, which
      other versions of NumPy may draw otherwise.

    Args:
        order: str, one of these.
        sequence_length: int, `N`. A square, for those of rows and columns.

    Returns:
        int32 array `(N,)`: where in the image, row by row, the tokens are
        that come first, second and so on.

    Raises:
        ValueError: if there is no such order, or none of so many tokens.

    Example:
    >>> pixel_order("spiral", 9)
    array([0, 1, 2, 5, 8, 7, 6, 3, 4], dtype=int32)
    """
    seed = check_order(order)
    raster = np.arange(sequence_length, dtype="int32")
    if order == "raster":
        return raster
    if order == "reversed":
        return raster[::-1].copy()
    if seed is not None:
        words = np.random.PCG64(seed).random_raw(sequence_length)
        return np.argsort(words, kind="stable").astype("int32")
    side = math.isqrt(sequence_length)
    if side * side != sequence_length:
        raise ValueError(
            f"order={order!r} is of square images, and {sequence_length} "
            "tokens are none. Choose a sequence_length that is a square, or "
            "'raster', 'reversed' or 'random:SEED'."
        )
    grid = raster.reshape(side, side)
    if order == "columns":
        return grid.T.reshape(-1).copy()
    if order == "spiral":
        return _spiral(grid)
    return np.argsort(_morton_codes(side), kind="stable").astype("int32")


def check_order(order):
    """The seed of a random order, `None` of another.

    Raises:
        ValueError: if there is no such order.
    """
    if isinstance(order, str):
        seed = re.fullmatch(r"random:(\d+)", order)
        if seed is not None:
            return int(seed[1])
        if order in ORDERS and order != "random:SEED":
            return None
    raise ValueError(
        f"Unknown order {order!r}; choose one of {', '.join(ORDERS)}, such as "
        "'random:0'."
    )


def _spiral(grid):
    rings = []
    while grid.size:
        rings.append(grid[0])
        # What is left, turned so that its next side is its first row.
        grid = np.rot90(grid[1:])
    return np.concatenate(rings)


def _morton_codes(side):
    """Of each place row by row: bits of row and column, the row's above."""
    rows, columns = np.divmod(np.arange(side * side), side)
    codes = np.zeros(side * side, "int64")
    for bit in range(side.bit_length()):
        codes |= (columns >> bit & 1) << 2 * bit
        codes |= (rows >> bit & 1) << 2 * bit + 1
    return codes
