"""What was written for TensorBoard."""

import numpy as np


def read(directory):
    """Tags of a run's tensors, and for the scalars their values."""
    # What TensorBoard's own page is served from.
    from tensorboard.backend.event_processing import (
        plugin_event_accumulator as event_accumulator,
    )
    from tensorboard.util import tensor_util

    accumulator = event_accumulator.EventAccumulator(
        str(directory), size_guidance={event_accumulator.TENSORS: 0}
    )
    accumulator.Reload()
    found = {}
    for tag in accumulator.Tags()["tensors"]:
        values = [
            (event.step, tensor_util.make_ndarray(event.tensor_proto))
            for event in accumulator.Tensors(tag)
        ]
        found[tag] = [
            (step, float(value) if np.ndim(value) == 0 else value)
            for step, value in values
            if value.dtype.kind == "f" or np.ndim(value)
        ]
    return found


def read_runs(logs):
    """`read` of every run in a directory, by name."""
    return {path.name: read(path) for path in logs.iterdir()}
