import numpy as np
from matplotlib.figure import Figure

from igpt_keras.reports.figures import save_chart
from igpt_keras.reports.tables import markdown_table


def outlier_rows(sets, dataset):
    """Rows of text: a row a set of images, a column a score.

    Args:
        sets: dict by name of the set, the model's own first, of dicts with
            `images`, `nats_per_token` and, but for the first, `auroc`, a dict
            by name of the score.
        dataset: str. What the first set is called.

    Returns:
        list of lists of str; heads are the first.
    """
    names = list(next(x["auroc"] for x in sets.values() if "auroc" in x))
    rows = [["AUROC against " + dataset, "images", "nats per token", *names]]
    for name, found in sets.items():
        areas = found.get("auroc", {})
        rows.append(
            [
                name,
                f"{found['images']:,}",
                f"{found['nats_per_token']:.3f}",
                *(f"{areas[x]:.3f}" if x in areas else "" for x in names),
            ]
        )
    return rows


def write_outlier_page(path, title, rows, command, picture):
    """Writes the table as Markdown, with the picture and the command.

    Args:
        path: path of the file.
        title: str.
        rows: rows of `outlier_rows`.
        command: str. What was run.
        picture: str. Name of the PNG beside it.
    """
    text = (
        f"# {title}\n\n![nats per token of each set]({picture})\n\n"
        f"{markdown_table(rows)}\n\n"
        "The area under the ROC curve: the share of pairs of an outlier and an "
        "image of\nthe model's own kind in which the outlier's score is the "
        "higher. 0.5 is chance;\nbelow it, outliers look more familiar.\n\n"
        f"```bash\n{command}\n```\n"
    )
    path.write_text(text)


def draw_losses(path, losses):
    """Writes a histogram of the images' losses, a line a set.

    Args:
        path: path of the PNG.
        losses: dict of float arrays `(M,)` by name, nats per token.
    """
    figure = Figure(figsize=(8, 4.5))
    axes = figure.subplots()
    highest = max(np.max(nats) for nats in losses.values())
    edges = np.linspace(0, highest, 81)
    for name, nats in losses.items():
        density = np.histogram(nats, edges)[0] / len(nats)
        axes.stairs(100 * density, edges, label=name, fill=False, linewidth=1.5)
    title = "what images cost the model"
    y_label = "per cent of the set's images"
    save_chart(path, axes, title, "nats per token", y_label)
