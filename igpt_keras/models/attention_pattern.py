import re

PREFIX = "prefix_causal"
# Of each objective: its own pattern, then what else it may have.
PATTERNS = {
    "autoregressive": ("causal", "prefix_causal", "block_causal:K"),
    "bert": ("none",),
}


def read_attention(attention, objective):
    """What of the tokens each position attends to.

    Args:
        attention: str, as for `IGPT`, or `None` for the objective's own.
        objective: `"autoregressive"` or `"bert"`.

    Returns:
        `(attention, square_side)`: the pattern's name, and the side of the
        squares that are predicted at once, 1 for token by token.

    Raises:
        ValueError: if the objective has no such pattern.
    """
    own, *others = PATTERNS[objective]
    if attention in (None, own):
        return own, 1
    if attention in others and attention == PREFIX:
        return attention, 1
    found = re.fullmatch(r"block_causal:([1-9]\d*)", str(attention))
    if found is None or not others:
        raise ValueError(
            f"attention={attention!r} is none of {PATTERNS[objective]}, which "
            f"objective={objective!r} has: next tokens are predicted from "
            "those before them, hidden ones from all others. K is the side of "
            "a square, as in 'block_causal:2'."
        )
    return attention, int(found[1])
