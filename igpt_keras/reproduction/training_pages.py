"""Pages of how to train: Table 5 and section A.1."""

import functools

from igpt_keras import presets
from igpt_keras.reproduction import experiments
from igpt_keras.reproduction.page import Content
from igpt_keras.reproduction.page import Page
from igpt_keras.reproduction.page import all_runs
from igpt_keras.reproduction.page import chosen_accuracy
from igpt_keras.reproduction.page import completed
from igpt_keras.reproduction.page import found
from igpt_keras.reproduction.page import loss_curve
from igpt_keras.reproduction.page import more_by_seed
from igpt_keras.reproduction.page import nats_column
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
    "float16": {"dtype": "mixed_float16"},
    "beta2 0.999": {"beta_2": 0.999},
    **{
        f"mask rate {rate:.2f}": {"objective": "bert", "mask_rate": rate}
        for rate in (0.15, 0.2, 0.25, 0.3, 0.35)
    },
}


def table_5(scale, seeds):
    """Learning rates, searched."""
    runs = {
        (preset, objective): experiments.searching(scale, preset, objective)
        for preset in scale.sizes
        for objective in ("autoregressive", "bert")
    }

    def content(results):
        page, series = Content(), {"autoregressive": {}, "bert": {}}
        for (preset, objective), run in runs.items():
            metrics = results.get(run.name, {})
            rates = presets.LEARNING_RATES.get((preset, objective), {})
            paper = f"{rates[32]:g}" if rates else None
            best = metrics.get("best")
            if metrics and best is None:
                best = "all diverged"
            page.cell(preset, objective, paper, best)
            trials = [
                trial
                for trial in metrics.get("trials", [])
                if trial["value"] is not None
            ]
            if trials:
                series[objective][preset] = (
                    [float(trial["learning_rate"]) for trial in trials],
                    [trial["value"] for trial in trials],
                )
        page.charts += [
            {
                "title": f"searches for the learning rate, {objective}",
                "x_label": "learning rate",
                "y_label": nats_column("validation loss", objective),
                "series": searched,
                "logarithmic": True,
            }
            for objective, searched in series.items()
        ]
        return page

    return Page("Learning rates", list(runs.values()), content)


def section_a1(scale, seeds):
    """What the appendix tried: heads, initialisation, Adam, precision."""
    variants = {**VARIANTS, HIGH_RATE: {"learning_rate": scale.high_rate}}
    variants = {name: scale.variant | one for name, one in variants.items()}
    runs = {
        name: experiments.pretrainings(
            scale,
            scale.variants,
            seeds,
            variant=name.replace(" ", "_") if changes else None,
            **changes,
        )
        for name, changes in variants.items()
    }
    return Page(
        "Heads, initialisation, Adam, precision and masks",
        # All of a seed before the next one.
        sorted(all_runs(runs), key=lambda run: run.flags["seed"]),
        functools.partial(_section_a1, runs),
    )


def _section_a1(runs, results):
    page, losses, diverged = Content(), {}, {}
    curves = {"autoregressive": {}, "bert": {}}
    for name, several in runs.items():
        objective = several[0].flags["objective"]
        losses[name] = found(results, several, "validation_nats_per_token")
        over = [results[r.name] for r in several if r.name in results]
        diverged[name] = sum(m["record"]["diverged"] for m in over)
        text = number(losses[name])
        if diverged[name]:
            text = f"{diverged[name]} of {len(over)} diverged"
        # Masks of each rate are read under their own.
        column = nats_column("validation", objective)
        page.cell(name, column, ours=text)
        done = completed(results, several)
        accuracies = [_chosen(m) for m in done if m["probe"] or m["probes"]]
        page.cell(name, "probe, validation", ours=percent(accuracies))
        rises = [_largest_rise(m) for m in over if "progress" in m]
        page.cell(
            name, "largest rise of the validation loss", ours=number(rises)
        )
        for metrics in done[:1]:
            curves[objective][name] = loss_curve(metrics)
    for name, several in runs.items():
        if name == USUAL or several[0].flags["objective"] == "bert":
            continue
        statement = f"{name}: a higher loss than the paper's settings"
        key = "validation_nats_per_token"
        more = more_by_seed(results, several, runs[USUAL], key)
        compared = trend(statement, more, [0.0] * len(more))
        if diverged[name] and losses[USUAL]:
            # Higher than any number.
            compared |= {"verdict": "shown, by divergence"}
        page.trends.append(compared)
    page.charts += [
        {
            "title": title,
            "x_label": "step",
            "y_label": nats_column("validation loss", objective),
            "series": curves[objective],
        }
        for title, objective in (
            ("variants", "autoregressive"),
            ("BERT, by mask rate", "bert"),
        )
    ]
    return page


def _chosen(metrics):
    """Validation accuracy of the chosen layer, of the first set probed."""
    of_others = list(metrics["probes"].values())
    return chosen_accuracy([*of_others, metrics][0], "validation")


def _largest_rise(metrics):
    """Of the validation loss above the least of the periods before."""
    least, most = float("inf"), 0.0
    for logs in metrics["progress"]["epochs"]:
        least = min(least, logs["val_loss"])
        most = max(most, logs["val_loss"] - least)
    return most
