"""Pages of linear probes: Figures 2 and 3, Tables 1 and 2, section 4.4."""

import numpy as np

from igpt_keras import presets
from igpt_keras.reproduction import experiments
from igpt_keras.reproduction import paper_numbers
from igpt_keras.reproduction.page import Content
from igpt_keras.reproduction.page import Page
from igpt_keras.reproduction.page import all_runs
from igpt_keras.reproduction.page import chosen_accuracy
from igpt_keras.reproduction.page import completed
from igpt_keras.reproduction.page import found
from igpt_keras.reproduction.page import layer_curve
from igpt_keras.reproduction.page import loss_curve
from igpt_keras.reproduction.page import number
from igpt_keras.reproduction.page import percent
from igpt_keras.reproduction.page import test_images
from igpt_keras.reproduction.page import trend


def figure_2(scale, seeds):
    """Accuracy against depth."""
    runs = _probes_of_main(scale, seeds)

    def content(results):
        page, series = Content(), {}
        for dataset, probes in runs.items():
            over = completed(results, probes)
            if over:
                series[dataset] = layer_curve(over[0])
            best = [chosen_accuracy(metrics) for metrics in over]
            last = [m["probe"][-1]["test_accuracy"] for m in over]
            first = [m["probe"][0]["test_accuracy"] for m in over]
            is_cifar10 = dataset == "cifar10"
            page.cell(
                f"{dataset}, last layer below the best, points",
                scale.main,
                paper_numbers.LAST_LAYER_LOSS if is_cifar10 else None,
                percent([b - x for b, x in zip(best, last)]),
            )
            images = test_images(results, probes)
            inside = [_best_inside(metrics) for metrics in over]
            for name, others in (("last", last), ("first", first)):
                statement = f"{dataset}: a layer inside beats the {name}"
                page.trends.append(trend(statement, inside, others, images))
        page.charts.append(
            {
                "title": f"linear probes of {scale.main}, test",
                "x_label": "layer",
                "y_label": "accuracy, per cent",
                "series": series,
            }
        )
        return page

    return Page("Linear probes by layer", all_runs(runs), content)


def figure_3(scale, seeds):
    """Validation loss against the probe's accuracy along training."""
    runs = {
        preset: experiments.pretrainings(scale, preset, seeds)
        for preset in scale.sizes
    }

    def content(results):
        page, points, losses = Content(), {}, {}
        for preset, trained in runs.items():
            over = completed(results, trained)
            page.cell(
                preset,
                "validation, nats per token",
                ours=number(
                    found(results, trained, "validation_nats_per_token")
                ),
            )
            for metrics in over[:1]:
                points[preset] = _along(metrics)
                losses[preset] = loss_curve(metrics)
            rising = [_share_rising(_along(metrics)[1]) for metrics in over]
            page.cell(
                preset,
                "probes above the one before, as the loss falls",
                ours=percent(rising),
            )
        for small, large in zip(list(runs), list(runs)[1:]):
            # Of a seed with its own, which has the same palette.
            pairs = [
                _at_equal_loss(_along(one), _along(other))
                for pair in zip(runs[small], runs[large])
                for one, other in zip(*(completed(results, [r]) for r in pair))
            ]
            gains = [pair[1] - pair[0] for pair in pairs if pair is not None]
            statement = f"at equal loss {large} is above {small}"
            page.trends.append(trend(statement, gains, [0.0] * len(gains)))
        page.charts += [
            {
                "title": "linear probe of the chosen layer, along training",
                "x_label": "validation loss, nats per token",
                "y_label": "validation accuracy, per cent",
                "series": points,
            },
            {
                "title": "expected loss",
                "x_label": "step",
                "y_label": "validation loss, nats per token",
                "series": losses,
            },
        ]
        return page

    return Page("Loss against the probe's accuracy", all_runs(runs), content)


def table_1(scale, seeds):
    """Linear probes of the main model on small datasets."""
    runs = _probes_of_main(scale, seeds)

    def content(results):
        page = Content()
        for dataset, probes in runs.items():
            over = completed(results, probes)
            for name, value in paper_numbers.OTHERS_LINEAR_PROBE[
                dataset
            ].items():
                page.cell(name, dataset, value)
            best = [chosen_accuracy(metrics) for metrics in over]
            paper = paper_numbers.LINEAR_PROBE[dataset]
            page.cell("iGPT, chosen layer", dataset, paper, percent(best))
            joined = [m["concatenated"]["test_accuracy"] for m in over]
            page.cell(
                f"iGPT, {scale.concat} layers", dataset, None, percent(joined)
            )
            for key in ("raw_pixels", "untrained"):
                values = found(results, probes, f"{key}_test_accuracy")
                page.cell(key.replace("_", " "), dataset, None, percent(values))
            raw = found(results, probes, "raw_pixels_test_accuracy")
            images = test_images(results, probes)
            page.trends += [
                trend(f"{dataset}: above raw pixels", best, raw, images),
                trend(
                    f"{dataset}: joined layers above one", joined, best, images
                ),
            ]
        return page

    return Page("Linear probes on small datasets", all_runs(runs), content)


def table_2(scale, seeds):
    """Linear probes by SGD beside other methods."""
    main = scale.main
    trained = experiments.pretrainings(scale, main, seeds)
    runs = {
        concat: [
            experiments.probing_by_sgd(scale, run, concat) for run in trained
        ]
        for concat in (False, True)
    }

    def content(results):
        page = Content()
        for (
            method,
            side,
            size,
            features,
            value,
        ) in paper_numbers.IMAGENET_PROBES:
            row = f"{method}, {side} pixels, {size} M, {features} features"
            page.cell(row, "ImageNet", value)
        width = presets.IGPT[main]["hidden_dim"]
        for concat, probes in runs.items():
            features = width * (scale.concat if concat else 1)
            values = found(results, probes, "test_accuracy")
            row = f"ours: {main}, {features} features"
            page.cell(row, scale.sgd["dataset"], None, percent(values))
        return page

    return Page("Linear probes by SGD", all_runs(runs), content)


def section_4_4(scale, seeds):
    """Linear probes by SGD, by size, and of joined layers."""
    runs = {}
    for preset in scale.sizes:
        trained = experiments.pretrainings(scale, preset, seeds)
        for concat in (False, True):
            runs[preset, concat] = [
                experiments.probing_by_sgd(scale, run, concat)
                for run in trained
            ]

    def content(results):
        page = Content()
        accuracies = {
            key: found(results, probes, "test_accuracy")
            for key, probes in runs.items()
        }
        for (preset, concat), values in accuracies.items():
            column = "chosen layer"
            if concat:
                column = f"{scale.concat} layers joined"
            paper = (
                None if concat else paper_numbers.IMAGENET_BY_SIZE.get(preset)
            )
            page.cell(preset, column, paper, percent(values))
        sizes = list(scale.sizes)
        for small, large in zip(sizes, sizes[1:]):
            page.trends.append(
                trend(
                    f"{large} above {small}",
                    accuracies[large, False],
                    accuracies[small, False],
                    test_images(results, runs[large, False]),
                )
            )
        for preset in sizes:
            page.trends.append(
                trend(
                    f"{preset}: joined layers above the best one",
                    accuracies[preset, True],
                    accuracies[preset, False],
                    test_images(results, runs[preset, True]),
                )
            )
        return page

    return Page("Linear probes by SGD, by size", all_runs(runs), content)


def _probes_of_main(scale, seeds):
    """Linear probes of the main size, by dataset."""
    trained = experiments.pretrainings(scale, scale.main, seeds)
    return {
        dataset: [experiments.probing(scale, run, dataset) for run in trained]
        for dataset in scale.labelled
    }


def _best_inside(metrics):
    """Test accuracy of the layer between first and last that validation has."""
    rows = metrics["probe"][1:-1]
    return max(rows, key=lambda row: row["validation_accuracy"])[
        "test_accuracy"
    ]


def _along(metrics):
    """Validation loss, and accuracy of the chosen layer, of each probe.

    Of one dataset: the first that was probed.
    """
    probes = metrics["progress"]["probes"]
    probes = [p for p in probes if p["name"] == probes[0]["name"]]
    chosen = [
        p["accuracy"][p["layers"].index(p["chosen_layer"])] for p in probes
    ]
    losses = [p["validation_loss"] for p in probes]
    return losses, [100 * accuracy for accuracy in chosen]


def _share_rising(values):
    pairs = list(zip(values, values[1:]))
    return sum(b > a for a, b in pairs) / max(1, len(pairs))


def _at_equal_loss(one, other):
    """Mean accuracy of a run's probes, and another's where it had their loss.

    Between its probes it is a straight line. `None` where they have no loss in
    common.
    """
    (x, y), (u, v) = (map(np.array, run) for run in (one, other))
    order = np.argsort(u)
    inside = (x >= u.min()) & (x <= u.max())
    if not inside.any():
        return None
    there = np.interp(x[inside], u[order], v[order])
    return y[inside].mean() / 100, there.mean() / 100
