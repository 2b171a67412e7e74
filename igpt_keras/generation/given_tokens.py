import numpy as np


def given_tokens(keep, side):
    """Which tokens of a picture are given when the others are drawn.

    Args:
        keep: `"top"` or `"left"`, that half, or the fraction of the rows that
            is kept from the top.
        side: int. Side of the grid of tokens.

    Returns:
        bool `(side, side)`.

    Raises:
        ValueError: for anything else, and for a fraction that leaves no row,
            or all.
    """
    given = np.zeros((side, side), "bool")
    if keep == "left":
        given[:, : side // 2] = True
        return given
    try:
        fraction = 0.5 if keep == "top" else float(keep)
    except (TypeError, ValueError):
        fraction = float("nan")
    if not 0 <= fraction <= 1:
        raise ValueError(
            "keep must be 'top', 'left' or a fraction of the rows in (0, 1), "
            f"received {keep!r}."
        )
    rows = round(fraction * side)
    if not 0 < rows < side:
        raise ValueError(
            f"keep={keep} of {side} rows of tokens is {rows}, and nothing is "
            f"left to {'complete' if rows else 'complete from'}. Keep from 1 "
            f"to {side - 1} rows."
        )
    given[:rows] = True
    return given
