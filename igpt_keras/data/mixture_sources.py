import fractions
import math
import re

# A block of a mixture's order holds all of them.
MOST_PARTS = 1_000_000


def mixture_sources(name):
    """The datasets that a mixture's name lists, and how many parts of each.

    A comma makes a mixture: `"imagenet2012:0.9,folder:PATH:0.1"`. What stands
    behind the last colon of a source is its weight, a decimal number; weights
    of any sum will do. Without a comma it is one dataset, weight or not.

    Args:
        name: str.

    Returns:
        list of `(dataset, parts)`: names, and ints without a common divisor in
        the proportion of the weights; empty for one dataset.

    Raises:
        ValueError: for a weight that is missing or no number > 0, weights of
            too many digits, a dataset that is there twice, and one of tokens.
    """
    if "," not in name:
        return []
    weights = {}
    for item in name.split(","):
        dataset, _, text = item.strip().rpartition(":")
        number = re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text)
        weight = fractions.Fraction(text) if number else 0
        if not dataset or weight == 0:
            raise ValueError(
                f"{name!r} is a mixture, as there is a comma, and {item!r} has "
                "no weight, a number > 0 behind the last colon. Write "
                "'imagenet2012:0.9,folder:PATH:0.1'; a path of a dataset has "
                "no comma."
            )
        if dataset in weights:
            raise ValueError(
                f"{name!r} mixes {dataset} with itself. Name it once, with the "
                "sum of its weights."
            )
        if dataset.startswith(("npy:", "tokens:")):
            raise ValueError(
                f"{name!r} mixes tokens, and only datasets of images can be "
                f"mixed. Leave out {dataset}, or train on it alone."
            )
        weights[dataset] = weight
    whole = math.lcm(*(weight.denominator for weight in weights.values()))
    parts = [int(weight * whole) for weight in weights.values()]
    divisor = math.gcd(*parts)
    parts = [part // divisor for part in parts]
    if sum(parts) > MOST_PARTS:
        raise ValueError(
            f"The weights of {name!r} come down to {sum(parts):,} parts, and "
            f"{MOST_PARTS:,} are the most. Give them fewer digits."
        )
    return list(zip(weights, parts))
