import dataclasses
import typing

import numpy as np

# Standard errors apart that two numbers have to be.
APART = 2.0


@dataclasses.dataclass(frozen=True)
class Page:
    """A figure, table or section of the paper.

    Attributes:
        title: str, what the paper shows there.
        runs: list of `Run`.
        content: function of `read_results`, of which runs may be missing, to a
            `Content`.
    """

    title: str
    runs: list
    content: typing.Callable


@dataclasses.dataclass
class Content:
    """What a page shows of the runs that are over.

    Attributes:
        cells: list of dicts: `row`, `column`, `paper` (str or `None`) and
            `ours` (str or `None`).
        trends: list of dicts of `trend`.
        charts: list of dicts, what `reports.draw_chart` takes but the path.
    """

    cells: list = dataclasses.field(default_factory=list)
    trends: list = dataclasses.field(default_factory=list)
    charts: list = dataclasses.field(default_factory=list)

    def cell(self, row, column, paper=None, ours=None):
        """Adds a cell."""
        cell = {"row": row, "column": column, "paper": paper, "ours": ours}
        self.cells.append(cell)


def completed(results, runs):
    """What runs left that came to their end and did not diverge, in order."""
    left = [results[run.name] for run in runs if run.name in results]
    return [metrics for metrics in left if not metrics["record"]["diverged"]]


def found(results, runs, key):
    """Values of a key in what those left, where they are not `None`."""
    values = [metrics.get(key) for metrics in completed(results, runs)]
    return [value for value in values if value is not None]


def more_by_seed(results, runs, others, key):
    """By how much a key is larger than in another run, of each seed with both.

    Losses of a seed are compared with its own: each has a palette, which moves
    all of them alike.
    """
    pairs = [
        [found(results, [run], key) for run in pair]
        for pair in zip(runs, others)
    ]
    return [one[0] - other[0] for one, other in pairs if one and other]


def test_images(results, runs):
    """Test images that accuracies of runs are of, `None` if none is over."""
    images = found(results, runs, "test_images")
    return images[0] if images else None


def loss_curve(metrics):
    """Steps and validation losses of a run, for a chart."""
    epochs = metrics["progress"]["epochs"]
    return tuple([logs[key] for logs in epochs] for key in ("step", "val_loss"))


def layer_curve(metrics):
    """Layers and test accuracies of a run's linear probes, for a chart."""
    rows = metrics["probe"]
    accuracies = [100 * row["test_accuracy"] for row in rows]
    return [row["layer"] for row in rows], accuracies


def epoch_curve(metrics):
    """Epochs and validation accuracies of fine-tuning, for a chart."""
    points = metrics["curve"]
    accuracies = [100 * point["validation_accuracy"] for point in points]
    return [point["epochs"] for point in points], accuracies


def nats_column(split, objective):
    """Title of a run's loss; of BERT it is another task, of hidden tokens."""
    hidden = "hidden " if objective == "bert" else ""
    return f"{split}, nats per {hidden}token"


def all_runs(groups):
    """Runs of a dict of lists of them."""
    return [run for runs in groups.values() for run in runs]


def chosen_accuracy(metrics, split="test"):
    """Accuracy of the layer that was chosen for it, of a probe's metrics."""
    rows = {row["layer"]: row for row in metrics["probe"]}
    return rows[metrics["chosen_layer"]][f"{split}_accuracy"]


def percent(values):
    """Mean of fractions, with the deviation over seeds, in per cent."""
    if not values:
        return None
    if len(values) == 1:
        return f"{100 * values[0]:z.1f}"
    deviation = np.std(values, ddof=1)
    return f"{100 * np.mean(values):z.1f} +- {100 * deviation:.1f}"


def number(values):
    """Mean of numbers, with the deviation over seeds."""
    if not values:
        return None
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{np.mean(values):.4f} +- {np.std(values, ddof=1):.4f}"


def trend(statement, one, other, images=None, error=None):
    """Whether one number is above another.

    Args:
        statement: str, that it is.
        one: list of float, one a seed.
        other: list of float.
        images: int. Of accuracies, those that they are measured on. Defaults to
            `None`: what seeds say counts alone.
        error: float. The difference's standard error by other means. Defaults
            to `None`.

    Returns:
        dict of `statement`, `verdict` ("shown", "not shown", "cannot be told"
        apart, "one seed" where nothing says how large chance is, or "not
        measured"), `difference` and its `standard_error`, which is the largest
        of the one over seeds, the binomial one and `error`; or `None` if there
        is none.
    """
    if not one or not other:
        verdict = {"verdict": "not measured", "difference": None}
        return {"statement": statement, **verdict, "standard_error": None}
    difference = float(np.mean(one) - np.mean(other))
    errors = [] if error is None else [error]
    if min(len(one), len(other)) > 1:
        variances = [np.var(x, ddof=1) / len(x) for x in (one, other)]
        errors.append(float(np.sqrt(sum(variances))))
    if images is not None:
        shares = [np.mean(one), np.mean(other)]
        errors.append(float(np.sqrt(sum(p * (1 - p) for p in shares) / images)))
    error = max(errors, default=None)
    if error is None:
        verdict = "one seed"
    elif abs(difference) < APART * error:
        verdict = "cannot be told"
    else:
        verdict = "shown" if difference > 0 else "not shown"
    return {
        "statement": statement,
        "verdict": verdict,
        "difference": difference,
        "standard_error": error,
    }
