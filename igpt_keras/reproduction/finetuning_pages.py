"""Pages of fine-tuning and few labels: Figure 4, Tables 3 and 4."""

import dataclasses
import functools
import itertools
import math

from igpt_keras.reproduction import experiments
from igpt_keras.reproduction import paper_numbers
from igpt_keras.reproduction.page import Content
from igpt_keras.reproduction.page import Page
from igpt_keras.reproduction.page import all_runs
from igpt_keras.reproduction.page import chosen_accuracy
from igpt_keras.reproduction.page import completed
from igpt_keras.reproduction.page import epoch_curve
from igpt_keras.reproduction.page import found
from igpt_keras.reproduction.page import layer_curve
from igpt_keras.reproduction.page import percent
from igpt_keras.reproduction.page import test_images
from igpt_keras.reproduction.page import trend

OBJECTIVES = ("autoregressive", "bert")
FINETUNINGS = {
    "joint": {},
    "classes alone": {"generative_weight": 0},
    "from scratch": {"from_scratch": True, "dropout": 0.1},
}
LABELS_PER_CLASS = (4, 25, 400)


def figure_4(scale, seeds):
    """Autoregressive and BERT, by probes and by fine-tuning."""
    dataset, runs = scale.labelled[0], {}
    for objective in OBJECTIVES:
        trained = experiments.pretrainings(
            scale, scale.finetuned, seeds, objective=objective
        )
        runs["probe", objective] = [
            experiments.probing(scale, run, dataset) for run in trained
        ]
        runs["fine-tuning", objective] = [
            experiments.finetuning(scale, run, dataset) for run in trained
        ]
    title = "Autoregressive and BERT, probed and fine-tuned"
    content = functools.partial(_figure_4, runs, scale)
    return Page(title, all_runs(runs), content)


def _figure_4(runs, scale, results):
    page, dataset = Content(), scale.labelled[0]
    accuracies = {
        key: [_accuracy(m) for m in completed(results, several)]
        for key, several in runs.items()
    }
    papers = {}
    if dataset == "cifar10":
        papers = {
            ("fine-tuning", "autoregressive"): paper_numbers.FINETUNING[
                dataset
            ],
            ("fine-tuning", "bert"): paper_numbers.BERT_FINETUNING_CIFAR10,
        }
    for key, values in accuracies.items():
        kind, objective = key
        row = f"{objective}{', one mask' * (objective == 'bert')}"
        page.cell(row, kind, papers.get(key), percent(values))
    images = test_images(results, runs["probe", OBJECTIVES[0]])
    for kind in ("probe", "fine-tuning"):
        _show_masks(
            page, kind, found(results, runs[kind, "bert"], "test_masks"), images
        )
    page.trends.append(
        trend(
            "autoregressive features are above BERT's in the probe",
            accuracies["probe", "autoregressive"],
            accuracies["probe", "bert"],
            images,
        )
    )
    (probes, error), (tuned, other) = (
        _gap(results, *(runs[kind, name] for name in OBJECTIVES), images)
        for kind in ("probe", "fine-tuning")
    )
    statement = "fine-tuning closes the gap: it is larger in the probe"
    error = math.hypot(error, other)
    page.trends.append(trend(statement, probes, tuned, error=error))
    page.charts += _objective_charts(runs, scale, results)
    return page


def _objective_charts(runs, scale, results):
    """Probes by layer and fine-tuning by epoch, a line an objective."""
    first = {
        key: completed(results, several)[:1] for key, several in runs.items()
    }
    return [
        {
            "title": f"linear probes of {scale.finetuned}, test",
            "x_label": "layer",
            "y_label": "accuracy, per cent",
            "series": {
                objective: layer_curve(metrics)
                for objective in OBJECTIVES
                for metrics in first["probe", objective]
            },
        },
        _tuned_chart(
            f"fine-tuning {scale.finetuned}",
            {
                objective: epoch_curve(metrics)
                for objective in OBJECTIVES
                for metrics in first["fine-tuning", objective]
            },
        ),
    ]


def _gap(results, runs, others, images):
    """How far runs are above others of their seed, and the binomial error.

    The error is 0 where nothing is measured.
    """
    pairs = [completed(results, pair) for pair in zip(runs, others)]
    pairs = [tuple(map(_accuracy, pair)) for pair in pairs if len(pair) == 2]
    if not pairs or images is None:
        return [], 0.0
    gaps = [one - other for one, other in pairs]
    return gaps, trend("", *zip(*pairs), images)["standard_error"]


def _show_masks(page, kind, masks, images):
    """BERT's accuracies by what is hidden, of probes or of fine-tuning."""
    one, ensemble, none = (
        [mask[f"{name}_accuracy"] for mask in masks]
        for name in ("one_mask", "ensemble", "no_mask")
    )
    page.cell("bert, ensemble of masks", kind, None, percent(ensemble))
    page.cell("bert, nothing hidden", kind, None, percent(none))
    statement = f"{kind}: the ensemble of masks is above one mask"
    page.trends.append(trend(statement, ensemble, one, images))


def table_3(scale, seeds):
    """Fine-tuning with the joint loss, with classes alone, from scratch."""
    trained = experiments.pretrainings(scale, scale.finetuned, seeds)
    runs = {
        (dataset, name): [
            experiments.finetuning(
                scale,
                run,
                dataset,
                name.replace(" ", "_") if changes else None,
                **changes,
            )
            for run in trained
        ]
        for dataset in scale.labelled
        for name, changes in FINETUNINGS.items()
    }

    def content(results):
        page = Content()
        for dataset in scale.labelled:
            of_dataset = {name: runs[dataset, name] for name in FINETUNINGS}
            title = f"fine-tuning {scale.finetuned} on {dataset}"
            _show_finetuning(page, dataset, of_dataset, title, results)
        return page

    return Page("Fine-tuning", all_runs(runs), content)


def _show_finetuning(page, dataset, runs, title, results):
    """Rows, trends and a chart of one dataset in Table 3."""
    for method, value in paper_numbers.OTHERS_FINETUNING.get(
        dataset, {}
    ).items():
        page.cell(method, dataset, value)
    accuracies, series, curves = {}, {}, {}
    for name, several in runs.items():
        accuracies[name] = found(results, several, "test_accuracy")
        paper = None
        if name == "joint":
            paper = paper_numbers.FINETUNING.get(dataset)
        page.cell(f"iGPT, {name}", dataset, paper, percent(accuracies[name]))
        for metrics in completed(results, several)[:1]:
            curves[name] = metrics["curve"]
            series[name] = epoch_curve(metrics)
    images = test_images(results, runs["joint"])
    for one, other in itertools.combinations(runs, 2):
        statement = f"{dataset}: {one} is above {other}"
        values = accuracies[one], accuracies[other]
        page.trends.append(trend(statement, *values, images))
    if {"joint", "from scratch"} <= set(curves):
        page.cell(
            "epochs until the best of from scratch, of its own",
            dataset,
            "1 of 18 (ImageNet)",
            _epochs_to_reach(curves["joint"], curves["from scratch"]),
        )
    page.charts.append(_tuned_chart(title, series))


def _tuned_chart(title, series):
    return {
        "title": title,
        "x_label": "epochs",
        "y_label": "validation accuracy, per cent",
        "series": series,
    }


def table_4(scale, seeds):
    """Probes and fine-tuning with few labels."""
    dataset = scale.labelled[0]
    trained = experiments.pretraining(scale, scale.main)
    labels = ",".join(map(str, LABELS_PER_CLASS))
    probe = experiments.probing(scale, trained, dataset, low_data=labels)
    # Not the run without few labels.
    probe = dataclasses.replace(probe, name=f"{probe.name}_few")
    few = [
        experiments.finetuning(
            scale,
            trained,
            dataset,
            f"few_seed{seed}" if seed else "few",
            seed=seed,
            **{**scale.few, "labels_per_class": LABELS_PER_CLASS[0]},
        )
        for seed in seeds
    ]
    content = functools.partial(_table_4, probe, few)
    return Page("Few labels", [probe, *few], content)


def _table_4(probe, few, results):
    page = Content()
    columns = [f"{n} labels a class, error" for n in LABELS_PER_CLASS]
    for method, values in paper_numbers.LOW_DATA.items():
        for column, value in zip(columns, values):
            if method != "iGPT-L" and value is not None:
                page.cell(method, column, value)
    (rows,) = found(results, [probe], "low_data") or [[None] * len(columns)]
    papers = paper_numbers.LOW_DATA["iGPT-L"]
    for row, column, paper in zip(rows, columns, papers):
        ours, raw = (
            row and _error(row, name) for name in ("chosen_layer", "raw_pixels")
        )
        page.cell("iGPT, linear probe", column, paper, ours)
        page.cell("raw pixels", column, None, raw)
        if row:
            images = test_images(results, [probe])
            page.trends.append(_above_pixels(row, column, images))
    errors = [1 - a for a in found(results, few, "test_accuracy")]
    paper = f"{100 - float(paper_numbers.LOW_DATA_FINETUNING):.1f}"
    page.cell("iGPT, fine-tuned", columns[0], paper, percent(errors))
    return page


def _error(row, name):
    error, deviation = 1 - row[f"{name}_accuracy"], row[f"{name}_deviation"]
    return f"{100 * error:.1f} +- {100 * deviation:.1f}"


def _above_pixels(row, column, images):
    """The trend that features make fewer errors than pixels do."""
    names = ("chosen_layer", "raw_pixels")
    one, other = (row[f"{name}_accuracy"] for name in names)
    # Of the mean of five subsets, all read on the same test images.
    variances = [row[f"{name}_deviation"] ** 2 / 5 for name in names]
    error = sum(variances) ** 0.5
    statement = f"{column}: below that of raw pixels"
    return trend(statement, [one], [other], images, error)


def _accuracy(metrics):
    """On test, of fine-tuning or of the layer that validation chose.

    Of BERT it is under one mask, the mean over several.
    """
    if metrics["test_masks"] is not None:
        return metrics["test_masks"]["one_mask_accuracy"]
    if "test_accuracy" in metrics:
        return metrics["test_accuracy"]
    return chosen_accuracy(metrics)


def _epochs_to_reach(curve, other):
    """Epochs until the best of another run, and those that it took itself."""
    best = max(other, key=lambda point: point["validation_accuracy"])
    for point in curve:
        if point["validation_accuracy"] >= best["validation_accuracy"]:
            return f"{point['epochs']:.1f} of {best['epochs']:.1f}"
    return f"not in {curve[-1]['epochs']:.1f}"
