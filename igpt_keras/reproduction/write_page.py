import pathlib

from igpt_keras import reports
from igpt_keras.reports.tables import duration
from igpt_keras.reproduction.price import price
from igpt_keras.reproduction.run import in_order
from igpt_keras.reproduction.scales import SCALES
from igpt_keras.storage.json_file import write_json


def write_page(
    directory, name, scale, page, results, root, others, priced, throughput
):
    """Writes `NAME.md`, `NAME.json` and a PNG a chart.

    Runs that are not over are named and priced, and the rest is drawn. A cell
    is of the scale where it was measured there; `quoted` where it is the
    paper's alone; else `priced`, by the runs that it takes.

    Args:
        directory: path, such as that of `results`.
        name: str, such as `"figure_2_laptop"`.
        scale: str.
        page: `Page`.
        results: dict of `read_results`.
        root: path of the directory of all runs.
        others: dict of flags that every recipe takes.
        priced: the `Page` at the paper's scale.
        throughput: float. FLOPs a second of an accelerator, to price that.

    Returns:
        Path of the Markdown file.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    content = page.content(results)
    runs = in_order(page.runs)
    missing = [run.name for run in runs if run.name not in results]
    flops = sum(price(run)["flops"] for run in in_order(priced.runs))
    cells = [{**cell, "state": _state(cell, scale)} for cell in content.cells]
    lines = [f"# {name.replace('_', ' ')}: {page.title}", ""]
    if missing:
        lines += [f"Not over yet, and missing below: {', '.join(missing)}.", ""]
    for place, chart in enumerate(content.charts, 1):
        if chart["series"]:
            file = f"{name}_{place}.png"
            reports.draw_chart(directory / file, **chart)
            lines += [f"![{chart['title']}]({file})", ""]
    lines += [_cells(cells), ""]
    if content.trends:
        lines.append(_trends(content.trends))
    lines += [
        "",
        "Accuracies in per cent; +- is the deviation over seeds, of few labels "
        f"over subsets. At the paper's scale this page takes {flops:.3g} "
        f"FLOPs, {duration(flops / throughput)} of an accelerator that does "
        f"{throughput:.3g} a second.",
        "",
        "## Runs",
        "",
    ]
    records = {
        run.name: results[run.name]["record"]
        for run in runs
        if run.name in results
    }
    lines += [
        _runs(runs, records, SCALES[scale].throughput),
        "",
        "```bash",
        *(run.command(root, **others) for run in runs),
        "```",
    ]
    write_json(
        directory / f"{name}.json",
        {
            "title": page.title,
            "scale": scale,
            "missing": missing,
            "cells": cells,
            "trends": content.trends,
            "charts": content.charts,
            "paper_scale_flops": flops,
            "runs": [{"run": name, **r} for name, r in records.items()],
        },
    )
    path = directory / f"{name}.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def _runs(runs, records, throughput):
    rows = [["run", "minutes", "on"]]
    for run in runs:
        record = records.get(run.name)
        if record is None:
            minutes = price(run)["flops"] / throughput / 60
            machine = f"{throughput:.3g} FLOPs a second"
            cells = [f"priced: {minutes:.1f}", machine]
        else:
            cells = [f"{record['seconds'] / 60:.1f}", record["hardware"]]
        rows.append([run.name, *cells])
    return reports.markdown_table(rows)


def _state(cell, scale):
    if cell["ours"] is not None:
        return "the paper's scale" if scale == "paper" else f"{scale} scale"
    return "quoted" if cell["paper"] is not None else "priced"


def _cells(cells):
    rows = [["", "", "paper", "ours", "state"]]
    for cell in cells:
        paper, ours = (cell[key] or "" for key in ("paper", "ours"))
        rows.append([cell["row"], cell["column"], paper, ours, cell["state"]])
    return reports.markdown_table(rows)


def _trends(trends):
    rows = [["trend", "", "difference", "standard error"]]
    for trend in trends:
        numbers = [
            "" if trend[key] is None else f"{trend[key]:.4f}"
            for key in ("difference", "standard_error")
        ]
        rows.append([trend["statement"], trend["verdict"], *numbers])
    return reports.markdown_table(rows)
