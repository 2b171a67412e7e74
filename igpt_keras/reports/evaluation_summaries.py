"""The closing lines of programs that evaluate."""

from igpt_keras.reports.tables import files_left
from igpt_keras.reports.tables import table


def linear_probe_summary(metrics, directory):
    """The closing lines of probing weights.

    Args:
        metrics: dict of `probe_weights`, with `model`, `dataset`, and
            `attentive` and `alignment`, which may be `None`.
        directory: path of the results.
    """
    lines = _layer_table(metrics)
    if any(not row["converged"] for row in metrics["probe"]):
        lines.append("! L-BFGS stopped at its last iteration, not converged")
    lines += describe_ties(metrics)
    last = metrics["probe"][-1]["layer"]
    lines.append(
        f"layer {last} is {100 * metrics['last_layer_loss']:.1f} points "
        f"below layer {metrics['chosen_layer']} on test; standard error of the "
        f"test column {metrics['test_standard_error']:.1%}; the largest class "
        f"is {metrics['chance']:.1%}"
    )
    lines += _other_readings(metrics)
    lines += _masks(metrics["test_masks"])
    lines += _few_labels(metrics["low_data"])
    left = files_left(
        directory,
        {
            "probe_curve.png": "accuracy against depth",
            **(
                {"alignment.png": "how alike the layers are, of each pair"}
                if metrics["alignment"]
                else {}
            ),
            "metrics.json": "these numbers",
        },
    )
    return (
        f"\n{metrics['model']} on {metrics['dataset']}: fitted on "
        f"{metrics['probe_images']:,} images, chosen on "
        f"{metrics['validation_images']:,}, tested on "
        f"{metrics['test_images']:,}\n" + "\n".join(lines) + f"\n\n{left}"
    )


def _layer_table(metrics):
    """Lines of a row a layer, a column a way to read it, and the baselines."""
    columns = ["layer", "C", "gradient", "validation", "test"]
    near = metrics["neighbors"]
    near_rows = {row["layer"]: row for row in near["layers"]} if near else {}
    if near:
        columns += ["k", "k-NN test"]
    attentive = metrics["attentive"] or {"probe": []}
    attentive = {row["layer"]: row for row in attentive["probe"]}
    if attentive:
        columns.append("attentive test")
    rows = []
    for row in metrics["probe"]:
        layer = row["layer"]
        norm = f"{row['gradient_norm']:.0e}" + "!" * (not row["converged"])
        cells = [str(layer), f"{row['regularization']:g}", norm]
        cells += [f"{row[f'{s}_accuracy']:.1%}" for s in ("validation", "test")]
        if layer in near_rows:
            cells.append(str(near_rows[layer]["neighbors"]))
            cells.append(f"{near_rows[layer]['test_accuracy']:.1%}")
        if layer in attentive:
            cells.append(f"{attentive.pop(layer)['test_accuracy']:.1%}")
        rows.append(cells)
    for layer, row in attentive.items():
        blanks = [""] * (len(columns) - 2)
        rows.append([str(layer), *blanks, f"{row['test_accuracy']:.1%}"])
    joined = metrics["concatenated"]
    if joined is not None:
        name = f"{joined['layers']} layers, {joined['features']:,} features"
        rows.append([name, "", "", "", f"{joined['test_accuracy']:.1%}"])
    untrained = f"untrained network, layer {metrics['untrained_layer']}"
    for name, key in (("raw pixels", "raw_pixels"), (untrained, "untrained")):
        key += "_test_accuracy"
        row = [name, "", "", "", f"{metrics[key]:.1%}"]
        rows.append(row + (["", f"{near[key]:.1%}"] if near else []))
    rows = [row + [""] * (len(columns) - len(row)) for row in rows]
    lines = table([columns, *rows]).split("\n")
    numbers = [row["layer"] for row in metrics["probe"]]
    chosen = numbers.index(metrics["chosen_layer"])
    lines[1 + chosen] += "   <- chosen on validation images"
    return lines


def _other_readings(metrics):
    """A line each of nearest neighbours and attentive probes, if any."""
    lines = []
    near = metrics["neighbors"]
    if near:
        lines.append(
            f"nearest neighbours: {near['test_accuracy']:.1%} +- "
            f"{near['test_standard_error']:.1%} on test at layer "
            f"{near['chosen_layer']}, chosen on validation, as k is; untrained "
            "network at its own best layer"
        )
    attentive = metrics["attentive"]
    if attentive:
        lines.append(
            f"attentive probe: {attentive['test_accuracy']:.1%} +- "
            f"{attentive['test_standard_error']:.1%} on test at layer "
            f"{attentive['chosen_layer']}, learning rate "
            f"{attentive['learning_rate']:g}, chosen on validation; "
            f"{attentive['epochs']} epochs"
        )
    return lines


def grid_summary(metrics, directory):
    """The closing lines of probing weights by SGD.

    Args:
        metrics: dict of `grid_report`, with those of the run.
        directory: path of the run.
    """
    rates = [f"{rate:g}" for rate in metrics["learning_rates"]]
    rows = [["layer", *rates, "test"]]
    joined = f"{len(metrics['layers'])} layers joined"
    for row in metrics["probe"]:
        layer = joined if row["layer"] is None else str(row["layer"])
        by_rate = [f"{accuracy:.1%}" for accuracy in row["validation_by_rate"]]
        rows.append([layer, *by_rate, f"{row['test_accuracy']:.1%}"])
    lines = table(rows).split("\n")
    layers = [row["layer"] for row in metrics["probe"]]
    place = 1 + layers.index(metrics["chosen_layer"])
    lines[place] += f"   <- chosen, at {metrics['learning_rate']:g}"
    lines += _at_the_end(metrics["learning_rate"], metrics["learning_rates"])
    lines += _masks(metrics["test_masks"])
    peak, kept = (
        f"{metrics[f'{name}_bytes'] / 2**30:.2f} GiB"
        for name in ("peak_memory", "feature")
    )
    return (
        f"\n{metrics['model']} on {metrics['dataset']}: "
        f"{metrics['steps']:,} steps; validation by learning rate, and test at "
        "the best of these:\n" + "\n".join(lines) + "\nstandard error on test "
        f"{metrics['test_standard_error']:.1%}; the largest class is "
        f"{metrics['chance']:.1%}\n"
        f"peak memory {peak}; features of all training images would take "
        f"{kept} more\n\n"
        + files_left(
            directory,
            {
                "metrics.json": "these numbers",
                "logs": f"curves: tensorboard --logdir={directory}",
            },
        )
    )


def name_validation(fold_validation):
    """What to call validation images: no others, where they were trained on."""
    return "validation" + " (trained on)" * bool(fold_validation)


def finetuning_summary(metrics, directory, fold_validation=False):
    """The closing lines of fine-tuning.

    Args:
        metrics: dict, as in its `metrics.json`.
        directory: path of the run.
        fold_validation: bool. Whether validation images were trained on.
            Defaults to `False`.
    """
    start = "fresh weights" if metrics["from_scratch"] else metrics["model"]
    rows = [["", name_validation(fold_validation), "test"]]
    for name, key, text in (
        ("accuracy", "accuracy", "{:.1%}"),
        ("nats of the class", "class_nats", "{:.4f}"),
        ("nats per token", "nats_per_token", "{:.4f}"),
    ):
        values = [metrics[f"{s}_{key}"] for s in ("validation", "test")]
        rows.append([name, *(text.format(value) for value in values)])
    lines = [
        f"\n{start} on {metrics['dataset']}: {metrics['images']['train']:,} "
        f"training images, weights of step {metrics['steps']:,}",
        table(rows),
        f"standard error on test {metrics['test_standard_error']:.1%}; the "
        f"largest of {metrics['num_classes']:,} classes is "
        f"{metrics['chance']:.1%}; trained {metrics['train_seconds']:.0f} s",
        *_masks(metrics["test_masks"]),
    ]
    left = files_left(
        directory,
        {
            "accuracy.png": "validation accuracy by epoch",
            "metrics.json": "these numbers",
            "preset": "the model: igpt_keras.IGPTClassifier.from_preset",
            "logs": f"curves: tensorboard --logdir={directory}",
        },
    )
    return "\n".join([*lines, "", left])


def loss_summary(metrics, released_batch):
    """The loss of a model as a table, a column an averaging rule.

    Args:
        metrics: dict of `evaluation.average_losses`, `objective`, for BERT
            `num_masks`, `mask_rate` and `seed`, `classes` (of
            `evaluation.class_scores`, or `None`) and
            `released_nats_per_token`.
        released_batch: int. Images in a batch of the released script.
    """
    columns = {"all images": metrics["all_images"]}
    if metrics["whole_batches"] is not None:
        head = f"whole batches of {released_batch}"
        columns[head] = metrics["whole_batches"]
    rows = [["", *columns]]
    for key, text in (
        ("images", "{:,}"),
        ("nats_per_token", "{:.4f}"),
        ("bits_per_token", "{:.4f}"),
        ("palette_bits_per_dimension", "{:.4f}"),
        ("perplexity", "{:.3f}"),
    ):
        if key in metrics["all_images"]:
            cells = [text.format(column[key]) for column in columns.values()]
            rows.append([key.replace("_", " "), *cells])
    lines = ["", table(rows)]
    if metrics["whole_batches"] is None:
        lines.append(
            f"Fewer than {released_batch} images: the released script, which "
            "takes whole batches only, would evaluate none."
        )
    if metrics["objective"] == "bert":
        lines.append(
            f"over hidden tokens; {metrics['num_masks']} mask(s) an image, "
            f"rate {metrics['mask_rate']}, seed {metrics['seed']}; an image "
            "with nothing hidden counts as 0"
        )
    classes = metrics["classes"]
    if classes is not None:
        lines.append(
            f"accuracy {classes['accuracy']:.1%} +- "
            f"{classes['standard_error']:.1%}, {classes['class_nats']:.4f} "
            "nats of the class"
        )
        lines += _masks(classes["masks"])
    released = metrics["released_nats_per_token"]
    if released is not None:
        lines.append(
            f"released code, step 1,000,000, whole batches: {released:.4f} "
            "nats per token"
        )
    return "\n".join(lines)


def search_summary(found, flag, directory):
    """The closing lines of a search for the learning rate.

    Args:
        found: dict of `metric`, `best`, and `trials` of `search_learning_rate`.
        flag: str. The recipe's flag of the learning rate.
        directory: path of the search.
    """
    rows = [["learning rate", found["metric"].replace("_", " ")]]
    for trial in found["trials"]:
        value = trial["value"]
        text = "diverged" if value is None else f"{value:.4f}"
        best = "   <- best" * (trial["learning_rate"] == found["best"])
        rows.append([trial["learning_rate"], text + best])
    if found["best"] is None:
        last = "Every trial diverged: begin with a lower --learning_rates."
    else:
        tried = [trial["learning_rate"] for trial in found["trials"]]
        lines = [
            f"The best run is {directory}/{flag}_{found['best']}.",
            *_at_the_end(found["best"], tried),
        ]
        last = "\n".join(lines)
    return (
        f"\n{table(rows)}\n\n{last}\nAll trials, under HParams: tensorboard "
        f"--logdir={directory}"
    )


def describe_ties(metrics):
    """A line of the layers that cannot be told from the chosen one, if any."""
    ties = [n for n in metrics["tied_layers"] if n != metrics["chosen_layer"]]
    if not ties:
        return []
    layers = ", ".join(map(str, ties))
    return [f"no layer is best: {layers} within a standard error"]


def _at_the_end(best, tried):
    """A line where learning rates were tried on one side of the best alone."""
    best, rates = float(best), [float(rate) for rate in tried]
    if min(rates) < best < max(rates):
        return []
    end = "lowest" if best == min(rates) else "highest"
    return [
        f"The best learning rate is the {end} that was tried: one beyond it "
        "may be better (--learning_rates)."
    ]


def _masks(masks):
    """BERT's accuracy by what is hidden, if it is BERT."""
    if masks is None:
        return []
    return [
        f"BERT on test: one mask {masks['one_mask_accuracy']:.1%} +- "
        f"{masks['one_mask_deviation']:.1%} over {masks['num_masks']}, the "
        f"class that most of these give {masks['ensemble_accuracy']:.1%}, "
        f"nothing hidden {masks['no_mask_accuracy']:.1%}"
    ]


def _few_labels(low_data):
    """Table 4's rows, accuracy and error of each number of labels a class."""
    if not low_data:
        return []
    rows = [["labels a class", "accuracy", "error", "raw pixels"]]
    for few in low_data:
        accuracy, raw = few["chosen_layer_accuracy"], few["raw_pixels_accuracy"]
        deviation = f"{few['chosen_layer_deviation']:.1%}"
        rows.append(
            [
                f"{few['labels_per_class']:,}",
                f"{accuracy:.1%} +- {deviation}",
                f"{1 - accuracy:.1%} +- {deviation}",
                f"{raw:.1%} +- {few['raw_pixels_deviation']:.1%}",
            ]
        )
    return ["", table(rows)]
