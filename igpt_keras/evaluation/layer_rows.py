from igpt_keras.probes.chosen_layers import standard_error


def layer_rows(layers, result, names):
    """What was found in each layer, and which was chosen, for a report.

    Args:
        layers: list of `P` int, or one `None` of raw pixels.
        result: `LayerAccuracies` of them.
        names: attributes of `result`, arrays over layers, to report of each.

    Returns:
        `(rows, chosen)`: list of `P` dicts, `layer` and these; and a dict of
        `chosen_layer`, `tied_layers`, `test_accuracy` (of the chosen layer)
        and `test_standard_error`.
    """
    columns = {name: getattr(result, name).tolist() for name in names}
    rows = [
        {"layer": layer, **dict(zip(columns, values))}
        for layer, *values in zip(layers, *columns.values())
    ]
    accuracy = float(result.test_accuracy[result.chosen_layer])
    return rows, {
        "chosen_layer": layers[result.chosen_layer],
        "tied_layers": [layers[i] for i in result.tied_layers],
        "test_accuracy": accuracy,
        "test_standard_error": standard_error(accuracy, result.num_test_images),
    }
