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


def pixel_order(order, sequence_length, square_side=1):
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
        square_side: int, `k`. The order is one of squares of `k` x `k` tokens,
            each of which is read row by row. Defaults to 1, of tokens.

    Returns:
        int32 array `(N,)`: where in the image, row by row, the tokens are
        that come first, second and so on.

    Raises:
        ValueError: if there is no such order, or none of so many tokens, or
            squares do not fill the image.

    Example:
    >>> pixel_order("spiral", 9)
    array([0, 1, 2, 5, 8, 7, 6, 3, 4], dtype=int32)
    """
    seed = check_order(order)
    if square_side > 1:
        squares = _squares(sequence_length, square_side)
        return squares[pixel_order(order, len(squares))].reshape(-1)
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


def _squares(sequence_length, square_side):
    """Places of each square, row by row, int32 `(N / k^2, k^2)`."""
    side = math.isqrt(sequence_length)
    if side * side != sequence_length or side % square_side:
        raise ValueError(
            f"Squares of {square_side}x{square_side} tokens do not fill an "
            f"image of {sequence_length}. Choose a side that divides the "
            "image's."
        )
    grid = np.arange(sequence_length, dtype="int32")
    shape = (side // square_side, square_side)
    grid = grid.reshape(*shape, *shape).swapaxes(1, 2)
    return grid.reshape(-1, square_side**2)


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
