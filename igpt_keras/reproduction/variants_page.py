"""Orders and attentions beside the paper's, which has one of each."""

import functools

from igpt_keras import presets
from igpt_keras.reproduction import experiments
from igpt_keras.reproduction.page import Content
from igpt_keras.reproduction.page import Page
from igpt_keras.reproduction.page import all_runs
from igpt_keras.reproduction.page import chosen_accuracy
from igpt_keras.reproduction.page import completed
from igpt_keras.reproduction.page import found
from igpt_keras.reproduction.page import layer_curve
from igpt_keras.reproduction.page import more_by_seed
from igpt_keras.reproduction.page import nats_column
from igpt_keras.reproduction.page import number
from igpt_keras.reproduction.page import percent
from igpt_keras.reproduction.page import test_images
from igpt_keras.reproduction.page import trend

PLAIN = "raster, causal"
# Of the six orders those that are furthest apart for the other attentions.
# BERT's network is the same in each.
VARIANTS = {
    PLAIN: {},
    "columns, causal": {"order": "columns"},
    "reversed, causal": {"order": "reversed"},
    "spiral, causal": {"order": "spiral"},
    "z_curve, causal": {"order": "z_curve"},
    "random, causal": {"order": "random:0"},
    "raster, prefix_causal": {"attention": "prefix_causal"},
    "random, prefix_causal": {
        "order": "random:0",
        "attention": "prefix_causal",
    },
    "raster, block_causal 2": {"attention": "block_causal:2"},
    "random, block_causal 2": {
        "order": "random:0",
        "attention": "block_causal:2",
    },
    "any, none": {"objective": "bert"},
}
# What features are read by, as columns.
READINGS = ("best linear layer", "nearest neighbours", "attentive")


def study_variants(scale, seeds):
    """Order by attention: likelihood, and three ways to read the features."""
    dataset = scale.labelled[0]
    last = presets.IGPT[scale.variants]["num_layers"]
    readings = {
        "neighbors": "1,5,20,100",
        # A quarter apart, of which validation chooses.
        "attentive": ",".join(str(i * last // 4) for i in (1, 2, 3, 4)),
        **scale.study_probe,
    }
    pretrained, probes = {}, {}
    for name, changes in VARIANTS.items():
        pretrained[name] = experiments.pretrainings(
            scale,
            scale.variants,
            seeds,
            variant=f"study {name}".replace(",", "").replace(" ", "_"),
            **scale.study,
            **changes,
        )
        probes[name] = [
            experiments.probing(scale, run, dataset, **readings)
            for run in pretrained[name]
        ]
    # All of a seed before the next one.
    runs = sorted(all_runs(probes), key=lambda run: run.flags["seed"])
    content = functools.partial(_content, pretrained, probes)
    return Page("Orders and attentions", runs, content)


def _content(pretrained, probes, results):
    page, accuracies, images = Content(), {}, None
    curves = {"orders of a causal model": {}, "attentions": {}}
    for name, several in probes.items():
        nats = found(results, pretrained[name], "test_nats_per_token")
        column = nats_column("test", VARIANTS[name].get("objective"))
        page.cell(name, column, ours=number(nats))
        over = completed(results, several)
        images = images or test_images(results, several)
        accuracies[name] = [_readings(metrics) for metrics in over]
        for column in READINGS:
            values = [reading[column] for reading in accuracies[name]]
            page.cell(name, column, ours=percent(values))
        layers = ", ".join(str(m["chosen_layer"]) for m in over)
        page.cell(
            name, "layer chosen for the linear probe", ours=layers or None
        )
        order, attention = name.split(", ")
        for metrics in over[:1]:
            if attention == "causal":
                curves["orders of a causal model"][order] = layer_curve(metrics)
            if order != "random":
                curves["attentions"].setdefault(attention, layer_curve(metrics))
    for name in VARIANTS:
        if name == PLAIN:
            continue
        # Nats of hidden tokens are of another task.
        if "objective" not in VARIANTS[name]:
            pair = pretrained[name], pretrained[PLAIN]
            more = more_by_seed(results, *pair, "test_nats_per_token")
            statement = f"{name}: more nats than {PLAIN}"
            page.trends.append(trend(statement, more, [0.0] * len(more)))
        for column in READINGS:
            one, other = (
                [reading[column] for reading in accuracies[key]]
                for key in (PLAIN, name)
            )
            statement = f"{name}: {column} below that of {PLAIN}"
            page.trends.append(trend(statement, one, other, images))
    for title, series in curves.items():
        page.charts.append(
            {
                "title": f"linear probes by layer, test: {title}",
                "x_label": "layer",
                "y_label": "accuracy, per cent",
                "series": series,
            }
        )
    return page


def _readings(metrics):
    """Test accuracies of a run of linear_probe.py, by `READINGS`."""
    found = (
        chosen_accuracy(metrics),
        metrics["neighbors"]["test_accuracy"],
        metrics["attentive"]["test_accuracy"],
    )
    return dict(zip(READINGS, found))
