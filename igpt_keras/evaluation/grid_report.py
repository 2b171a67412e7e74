import keras
from keras import ops

from igpt_keras.evaluation.mask_ensemble import ensemble_of
from igpt_keras.probes.chosen_layers import standard_error
from igpt_keras.probes.labels import largest_class_share


def grid_report(grid, validation, test, num_masks=0, seed=0):
    """Accuracies of a trained `ProbeGrid`; test chooses nothing.

    Args:
        grid: a compiled `ProbeGrid`.
        validation: `EvaluationSet` that learning rate and layer are chosen on.
        test: `EvaluationSet`.
        num_masks: int. Of BERT: masks of each test image, whose modal
            prediction is scored for the chosen probe. Defaults to none.
        seed: int. Breaks ties of it. Defaults to 0.

    Returns:
        dict of `probe`, for each layer `layer`, the chosen `learning_rate`,
        `validation_accuracy`, `test_accuracy` and `validation_by_rate` (a list
        by `learning_rates`); `layers` and `learning_rates` of the grid;
        `chosen_layer`, `learning_rate`, `validation_accuracy` and
        `test_accuracy` of the chosen probe; `test_masks` of it, see
        `mask_ensemble`, or `None`; `test_standard_error`;
        `validation_images` and `test_images`, their numbers; and `chance`, the
        largest class of test. With `concat` there is one row,
        whose `layer` is `None`.
    """
    grid.evaluate(validation.probe_inputs, verbose=0)
    on_validation = grid.accuracies
    grid.evaluate(test.probe_inputs, verbose=0)
    on_test = grid.accuracies
    names = [None] if grid.concat else grid.layer_numbers
    rates, rows = on_validation.argmax(axis=0).tolist(), []
    for place, (layer, rate) in enumerate(zip(names, rates)):
        rows.append(
            {
                "layer": layer,
                "learning_rate": float(grid.learning_rates[rate]),
                "validation_accuracy": float(on_validation[rate, place]),
                "test_accuracy": float(on_test[rate, place]),
                "validation_by_rate": on_validation[:, place].tolist(),
            }
        )
    chosen = max(rows, key=lambda row: row["validation_accuracy"])
    error = standard_error(chosen["test_accuracy"], len(test.labels))
    keys = ("learning_rate", "validation_accuracy", "test_accuracy")
    test_masks = None
    if num_masks and "mask" in grid.names:
        place = rows.index(chosen)
        probe = (rates[place], place)
        test_masks = _test_masks(grid, test, probe, num_masks, seed)
    return {
        "probe": rows,
        "layers": list(grid.layer_numbers),
        "learning_rates": grid.learning_rates.tolist(),
        "chosen_layer": chosen["layer"],
        **{key: chosen[key] for key in keys},
        "test_masks": test_masks,
        "test_standard_error": error,
        "validation_images": len(validation.labels),
        "test_images": len(test.labels),
        "chance": largest_class_share(test.labels),
    }


def _test_masks(grid, test, probe, num_masks, seed):
    """`mask_ensemble` of one probe of a grid."""
    inputs = grid.feature_model.states.input
    rate, place = probe
    chosen = keras.Model(
        inputs, ops.argmax(grid(inputs)[:, rate, place], axis=-1)
    )

    def whole(inputs, labels):
        if isinstance(inputs, dict):
            return inputs
        return {"token_ids": inputs, "mask": 0 * inputs}

    def classes(dataset):
        return chosen.predict(dataset.map(whole), verbose=0)

    return ensemble_of(classes, test, num_masks, seed)
