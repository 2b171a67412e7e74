"""Pages of an IsoFLOP study: its plan, its curves and what they say."""

import math

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from igpt_keras.reports.tables import duration
from igpt_keras.reports.tables import markdown_table

_LINES = {
    "parameters": ("N", "compute-optimal parameters"),
    "tokens": ("D", "compute-optimal tokens"),
}


def isoflop_plan(plan, throughput=None):
    """Rows of text: a row a run, and one of all.

    Args:
        plan: list of dicts with `budget`, `num_layers`, `hidden_dim`,
            `parameters`, `steps`, `tokens` and `flops`.
        throughput: float. FLOPs a second of the device, to say how long runs
            take. Defaults to no such column.

    Returns:
        list of lists of str; heads are the first.
    """
    heads = ["budget", "layers x width", "parameters", "steps", "tokens"]
    heads += ["FLOPs", "share of all"]
    rows = [heads if throughput is None else [*heads, "time"]]
    total = sum(run["flops"] for run in plan)

    def costs(flops):
        cells = [f"{flops:.4g}", f"{100 * flops / total:.1f} %"]
        if throughput is not None:
            cells.append(duration(flops / throughput))
        return cells

    for run in plan:
        size = [f"{run['budget']:g}", _size(run), f"{run['parameters']:,}"]
        spent = [f"{run['steps']:,}", f"{run['tokens']:,}"]
        rows.append([*size, *spent, *costs(run["flops"])])
    return [*rows, ["all", "", "", "", "", *costs(total)]]


def draw_isoflop(path, points, fits):
    """Writes the curves of each fit, and the lines through their optima.

    Args:
        path: path of the PNG.
        points: list of dicts with `budget`, `parameters`, and what is fitted.
        fits: dict by name, such as `"validation_nats"`, of dicts of
            `fit_isoflop`; points have values of these names, or `None`.
    """
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    for place, (name, fit) in zip(axes[0], fits.items()):
        _draw_curves(place, points, name, fit)
    for place, (what, (symbol, label)) in zip(axes[1], _LINES.items()):
        for (name, fit), colour in zip(fits.items(), ("tab:blue", "tab:red")):
            _draw_line(place, fit, what, symbol, _words(name), colour)
        place.set_xlabel("budget C, FLOPs")
        place.set_ylabel(f"{label} {symbol}")
        place.set_title("optima and the line through them")
        if place.has_data():
            place.set_xscale("log")
            place.set_yscale("log")
            place.legend(fontsize="small")
        place.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=90)


def _draw_curves(axes, points, name, fit):
    colours = matplotlib.colormaps["viridis"](
        np.linspace(0, 0.85, len(fit["curves"]))
    )
    for curve, colour in zip(fit["curves"], colours):
        of = [
            (point["parameters"], point[name])
            for point in points
            if point["budget"] == curve["budget"] and point[name] is not None
        ]
        x, y = np.array(sorted(of)).T
        label = f"{curve['budget']:.3g} FLOPs"
        if curve["reason"] is not None:
            label += ", not on the line"
        axes.plot(x, y, "o", color=colour, markersize=5, label=label)
        if curve["coefficients"] is not None:
            along = np.geomspace(x[0], x[-1], 100)
            fitted = np.polyval(curve["coefficients"], np.log10(along))
            dashed = "-" if curve["reason"] is None else ":"
            axes.plot(along, fitted, dashed, color=colour, linewidth=1)
        if curve["parameters"] is not None:
            best = curve["parameters"], curve["value"]
            axes.plot(*best, "*", color=colour, markersize=14)
    axes.set_xscale("log")
    axes.set_xlabel("parameters N")
    axes.set_ylabel(_words(name))
    axes.set_title("a parabola a budget, a star at its optimum")
    axes.grid(alpha=0.3, which="both")
    if fit["curves"]:
        axes.legend(fontsize="small")


def _draw_line(axes, fit, what, symbol, name, colour):
    on_line = [curve for curve in fit["curves"] if curve["reason"] is None]
    if not on_line:
        return
    budgets = np.array([curve["budget"] for curve in on_line])
    best = np.array([curve[what] for curve in on_line])
    line, label = fit[what], name
    if line["exponent"] is not None:
        label += f": {symbol} ~ C^{line['exponent']:.2f}"
        if line["interval"] is not None:
            label += " ({:.2f} to {:.2f})".format(*line["interval"])
        fitted = 10 ** line["intercept"] * budgets ** line["exponent"]
        axes.plot(budgets, fitted, "-", color=colour, linewidth=1)
    axes.plot(budgets, best, "*", color=colour, markersize=12, label=label)


def write_isoflop_page(path, title, points, fits, seconds, hardware, commands):
    """Writes the page: picture, runs, optima, exponents, what is left out.

    Args:
        path: path of the Markdown file, beside `isoflop.png`.
        title: str.
        points: list of dicts of `reproduction.isoflop_points`.
        fits: as for `draw_isoflop`.
        seconds: float. Of all runs together.
        hardware: str, what they ran on.
        commands: list of str, first the one of the study.
    """
    lines = [f"# {title}", "", "![curves, optima and lines](isoflop.png)", ""]
    lines += [markdown_table(_point_rows(points)), ""]
    lines += ["## Optima", "", markdown_table(_optimum_rows(fits)), ""]
    lines += ["## Exponents", "", markdown_table(_exponent_rows(fits)), ""]
    lines += ["## Left out", "", *_left_out(points, fits), ""]
    lines += [
        "## How",
        "",
        "Approach 2 of Hoffmann et al. (2022, arXiv 2203.15556), for pixels as "
        "in arXiv 2511.08704: at each budget a parabola against log N, N all "
        "parameters, and a line through the optima in log-log. FLOPs are those "
        "of training, forward and backward, attention with them. Sizes are "
        "compared on validation, which chose neither weights nor layers; test "
        "stands beside it. Intervals are 95 % of a bootstrap of the parabolas' "
        "residuals, and know nothing of other seeds, learning rates or shapes. "
        "All sizes share one tokenizer and one learning rate.",
        "",
        f"The runs took {duration(seconds)} in all, on {hardware}.",
        "",
        "## Commands",
        "",
        "The first one runs the others.",
        "",
        "```bash",
        *commands,
        "```",
    ]
    path.write_text("\n".join(lines) + "\n")


def _point_rows(points):
    rows = [
        [
            *("budget", "layers x width", "N", "steps", "D", "FLOPs"),
            *("validation nats per token", "test", "layer"),
            *("validation accuracy, per cent", "test", "minutes"),
        ]
    ]
    for point in points:
        cells = [f"{point['budget']:g}", _size(point)]
        cells += [f"{point[x]:,}" for x in ("parameters", "steps", "tokens")]
        cells.append(f"{point['flops']:.3g}")
        nats = [point["validation_nats"], point["test_nats"]]
        if point["state"] != "over":
            nats = [math.nan, math.nan]
        cells += [_cell(x, "{:.4f}") for x in nats]
        cells.append(_cell(point["chosen_layer"], "{}"))
        for name in ("validation_accuracy", "test_accuracy"):
            cells.append(_cell(point[name], "{:.1%}").rstrip("%"))
        seconds = point["seconds"]
        cells.append(_cell(seconds and seconds / 60, "{:.1f}"))
        rows.append(cells)
    return rows


def _optimum_rows(fits):
    rows = [["budget", "by", "N", "95 % of N", "D", "D / N", "value"]]
    for name, fit in fits.items():
        for curve in fit["curves"]:
            if curve["reason"] is not None:
                continue
            interval = curve["parameters_interval"]
            between = "not known"
            if interval is not None:
                between = "{:,.0f} to {:,.0f}".format(*interval)
            size, tokens = curve["parameters"], curve["tokens"]
            rows.append(
                [
                    *(f"{curve['budget']:g}", _words(name), f"{size:,.0f}"),
                    *(between, f"{tokens:,.0f}", f"{tokens / size:.1f}"),
                    f"{curve['value']:.4f}",
                ]
            )
    return rows


def _exponent_rows(fits):
    rows = [["by", "budgets on the line", "N ~ C^a", "95 %", "D ~ C^b", "95 %"]]
    for name, fit in fits.items():
        on_line = [curve for curve in fit["curves"] if curve["reason"] is None]
        cells = [_words(name), f"{len(on_line)} of {len(fit['curves'])}"]
        for what in _LINES:
            interval = fit[what]["interval"]
            cells.append(_cell(fit[what]["exponent"], "{:.3f}"))
            between = "not known"
            if interval is not None:
                between = "{:.3f} to {:.3f}".format(*interval)
            cells.append(between)
        rows.append(cells)
    return rows


def _left_out(points, fits):
    """A line of Markdown for each thing that is on no curve or no line."""
    lines = [
        f"- {point['budget']:g} FLOPs, {_size(point)}: {point['state']}."
        for point in points
        if point["state"] != "over"
    ]
    for name, fit in fits.items():
        lines += [
            f"- {_words(name)}, {curve['budget']:g} FLOPs: {curve['reason']}."
            for curve in fit["curves"]
            if curve["reason"] is not None
        ]
        lines += [
            f"- {_words(name)}, exponent of {symbol}: {fit[what]['reason']}."
            for what, (symbol, _) in _LINES.items()
            if fit[what]["reason"] is not None
        ]
    return lines or [
        "Nothing: all runs are on curves, and all curves on lines."
    ]


def _size(run):
    return f"{run['num_layers']} x {run['hidden_dim']}"


def _words(name):
    """What is fitted, as it is read."""
    return {
        "validation_nats": "validation nats per token",
        "validation_accuracy": "validation accuracy of the probe",
    }.get(name, name)


def _cell(value, form):
    if value is None or value != value:
        return "-"
    return form.format(value)
