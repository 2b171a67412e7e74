import operator

import numpy as np


def check_positive_ints(minimum=1, **values):
    """The values as Python ints, in the order they are given in.

    Whatever can be an index is an int, NumPy's for example; a bool is not.

    Returns:
        tuple of int.

    Raises:
        ValueError: that names the first that is no int from `minimum` on.
    """
    found = []
    for name, value in values.items():
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if (
            number is None
            or number < minimum
            or isinstance(value, (bool, np.bool_))
        ):
            kind = "a positive int" if minimum == 1 else f"an int >= {minimum}"
            raise ValueError(f"{name} must be {kind}, received {value!r}.")
        found.append(number)
    return tuple(found)
