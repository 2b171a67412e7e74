"""All that training changes: weights, optimizer and metrics."""

import numpy as np

from igpt_keras.backend import has_workers
from igpt_keras.backend import model_scope
from igpt_keras.backend import whole_array


def training_state(model):
    """All variables of a compiled model, its optimizer and its metrics.

    Args:
        model: a compiled Keras model.

    Returns:
        `(arrays, known)`: dicts by the kind and place of a variable, such as
        `"optimizer_00002"`, of NumPy arrays, and of `[path, shape, dtype]`.
    """
    variables = _variables(model)
    arrays = {
        # A copy, since the backend may write into its own.
        key: np.array(whole_array(variable))
        for key, variable in variables.items()
    }
    return arrays, {
        key: [variable.path, list(variable.shape), variable.dtype]
        for key, variable in variables.items()
    }


def assign_state(model, arrays, saved, path):
    """Loads what `training_state` returned, or raises and loads nothing.

    Metrics that are not the model's are left out: one that is compiled later
    starts at nothing.

    Args:
        model: a compiled Keras model.
        arrays: dict of arrays.
        saved: dict of `[path, shape, dtype]`, of each array.
        path: where they are from, for the message.

    Raises:
        ValueError: if they are of another model or optimizer.
    """
    variables = _variables(model)

    def described(key, known):
        name, shape, dtype = known
        # Of a whole path only the end is the same in every process.
        return key, name.rpartition("/")[2], tuple(shape), dtype

    found = {
        key: described(key, known)
        for key, known in saved.items()
        if key in arrays
    }
    expected = {
        key: described(key, (v.path, v.shape, v.dtype))
        for key, v in variables.items()
    }
    keys = [
        key
        for key in sorted(set(found) | set(expected))
        if not key.startswith("metric")
    ]
    others = [key for key in keys if found.get(key) != expected.get(key)]
    if others:
        first = others[0]
        raise ValueError(
            f"{path} belongs to another model or optimizer: {len(others)} of "
            f"{len(keys)} variables differ, the first being {first} "
            f"({saved.get(first)} saved, {expected.get(first)} expected). "
            "Use the run's own settings, or another directory."
        )
    for key, variable in variables.items():
        if found.get(key) == expected[key]:
            variable.assign(arrays[key])


def _variables(model):
    if not model.optimizer.built:
        # Under `tf.distribute` the optimizer's variables belong in its scope.
        with model_scope(model):
            model.optimizer.build(model.trainable_variables)
    # All workers would have to read a metric together.
    metrics = [] if has_workers(model) else model.metrics_variables
    # By position and not by name: names of optimizer slots are not unique.
    return {
        f"{kind}_{i:05d}": variable
        for kind, variables in (
            ("model", model.variables),
            ("optimizer", model.optimizer.variables),
            ("metric", metrics),
        )
        for i, variable in enumerate(variables)
    }
