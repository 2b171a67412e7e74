"""Pages of how to train: Table 5 and section A.1."""

import functools

from igpt_keras.reproduction import experiments
from igpt_keras.reproduction import paper_numbers
from igpt_keras.reproduction.page import Content
from igpt_keras.reproduction.page import Page
from igpt_keras.reproduction.page import found
from igpt_keras.reproduction.page import number
from igpt_keras.reproduction.page import percent
from igpt_keras.reproduction.page import trend

USUAL, HIGH_RATE = "as the paper", "learning rate too high"
VARIANTS = {
    USUAL: {},
    "normal head": {"head": "normal"},
    "tied head": {"head": "tied"},
    "depth-scaled MLP": {"depth_scaled_mlp": True},
    "weight decay 0.01": {"weight_decay": 0.01},
    "dropout 0.1": {"dropout": 0.1},
    "bfloat16": {"dtype": "mixed_bfloat16"},
    "beta2 0.999": {"beta_2": 0.999},
    "mask rate 0.15": {"objective": "bert", "mask_rate": 0.15},
    "mask rate 0.25": {"objective": "bert", "mask_rate": 0.25},
    "mask rate 0.35": {"objective": "bert", "mask_rate": 0.35},
}


def table_5(scale, seeds):
    """Learning rates, searched."""
    runs = {
        (preset, objective): experiments.searching(scale, preset, objective)
        for preset in scale.sizes
        for objective in ("autoregressive", "bert")
    }

    def content(results):
        page, series = Content(), {}
        for (preset, objective), run in runs.items():
            metrics = results.get(run.name, {})
            paper = paper_numbers.LEARNING_RATES.get((preset, objective))
            page.cell(preset, objective, paper, metrics.get("best"))
            trials = [
                trial
                for trial in metrics.get("trials", [])
                if trial["value"] is not None
            ]
            if trials:
                series[f"{preset}, {objective}"] = (
                    [float(trial["learning_rate"]) for trial in trials],
                    [trial["value"] for trial in trials],
                )
        page.charts.append(
            {
                "title": "searches for the learning rate",
                "x_label": "learning rate",
                "y_label": "validation loss, nats per token",
                "series": series,
                "logarithmic": True,
            }
        )
        return page

    return Page("Learning rates", list(runs.values()), content)


def section_a1(scale, seeds):
    """What the appendix tried: heads, initialisation, Adam, precision."""
    variants = {**VARIANTS, HIGH_RATE: {"learning_rate": scale.high_rate}}
    runs = {
        name: [
            experiments.pretraining(
                scale,
                scale.variants,
                variant=name.replace(" ", "_") if changes else None,
                seed=seed,
                **changes,
            )
            for seed in seeds
        ]
        for name, changes in variants.items()
    }
    return Page(
        "Heads, initialisation, Adam, precision and masks",
        [run for several in runs.values() for run in several],
        functools.partial(_section_a1, runs),
    )


def _section_a1(runs, results):
    page, series, losses = Content(), {}, {}
    for name, several in runs.items():
        losses[name] = found(results, several, "validation_nats_per_token")
        over = [results[r.name] for r in several if r.name in results]
        diverged = sum(m["record"]["diverged"] for m in over)
        text = number(losses[name])
        if diverged:
            text = f"{diverged} of {len(over)} diverged"
        page.cell(name, "validation, nats per token", ours=text)
        accuracies = [_chosen(m) for m in over if m.get("probe")]
        page.cell(name, "probe, validation", ours=percent(accuracies))
        rises = [_largest_rise(m) for m in over if "progress" in m]
        page.cell(name, "largest rise of the loss", ours=number(rises))
        if over and "progress" in over[0]:
            epochs = over[0]["progress"]["epochs"]
            series[name] = (
                [logs["epoch"] for logs in epochs],
                [logs["val_loss"] for logs in epochs],
            )
    for name in ("normal head", "tied head", "beta2 0.999", HIGH_RATE):
        statement = f"{name}: a higher loss than the paper's settings"
        page.trends.append(trend(statement, losses[name], losses[USUAL]))
    page.charts.append(
        {
            "title": "variants, and BERT by mask rate",
            "x_label": "period",
            "y_label": "validation loss, nats per token",
            "series": series,
        }
    )
    return page


def _chosen(metrics):
    """Validation accuracy of the chosen layer."""
    rows = {r["layer"]: r["validation_accuracy"] for r in metrics["probe"]}
    return rows[metrics["chosen_layer"]]


def _largest_rise(metrics):
    """Of the training loss above the least before it, over periods."""
    least, most = float("inf"), 0.0
    for logs in metrics["progress"]["epochs"]:
        least = min(least, logs["loss"])
        most = max(most, logs["loss"] - least)
    return most
