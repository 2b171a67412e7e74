from igpt_keras.probes.check_parts import check_parts


def check_layers(model, layers=None):
    """Layers of a model to probe, ascending; all if none are given.

    Raises:
        ValueError: unless they are of 0 to `L`, and as `check_parts`.
    """
    check_parts(model)
    last = len(model.blocks)
    layers = sorted(set(range(last + 1) if layers is None else layers))
    if not layers or layers[0] < 0 or layers[-1] > last:
        raise ValueError(
            f"layers must be of 0 to {last}, the final norm, received {layers}."
        )
    return layers
