import io
import pathlib

import keras
import matplotlib
import numpy as np

# Not pyplot, which would choose a backend and keep every figure.
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from igpt_keras.reports.pictures import COMPLETION_COLUMNS
from igpt_keras.reports.pictures import completion_rows
from igpt_keras.reports.pictures import enlarge
from igpt_keras.reports.pictures import first_half
from igpt_keras.reports.pictures import palette_squares
from igpt_keras.reports.pictures import sample_pictures
from igpt_keras.reports.pictures import tile

SWATCH_COLUMNS = 32


def draw_grids(path, grids, width=6, dpi=150):
    """Writes pictures under one another, with titles.

    Args:
        path: path of the PNG, or a file to write it to.
        grids: dict of uint8 `(H, W, 3)` by title.
        width: float. Inches. Defaults to 6.
        dpi: float. Pixels an inch; more where a grid has more. Defaults to
            150.
    """
    heights = [width * grid.shape[0] / grid.shape[1] for grid in grids.values()]
    figure = Figure(figsize=(width, sum(heights) + 0.35 * len(grids)))
    all_axes = figure.subplots(
        len(grids), squeeze=False, height_ratios=heights
    )[:, 0]
    for axes, (title, grid) in zip(all_axes, grids.items()):
        axes.imshow(grid, interpolation="nearest")
        axes.set_title(title, fontsize="small" if width < 10 else "medium")
        axes.axis("off")
    # Every pixel of a picture gets at least one of the file.
    most = max(grid.shape[1] for grid in grids.values())
    figure.savefig(path, dpi=max(dpi, 1.3 * most / width), bbox_inches="tight")


def titled_image(title, grid):
    """A picture with its title above it, as `draw_grids` writes it.

    Args:
        title: str.
        grid: uint8 `(H, W, 3)`.

    Returns:
        uint8 `(H', W', 4)`.
    """
    file = io.BytesIO()
    draw_grids(file, {title: grid})
    return np.asarray(Image.open(file))


def draw_samples(directory, model, tokenizer, images, seed=0):
    """Writes `samples.png`, 40 of them, and `completions.png`.

    Args:
        directory: path.
        model: an autoregressive `IGPT`.
        tokenizer: its tokenizer.
        images: uint8 `(B, R, R, 3)`, which are completed.
        seed: int. Defaults to 0.
    """
    directory = pathlib.Path(directory)
    samples, completions, originals = sample_pictures(
        model, tokenizer, images, 40, seed
    )
    rows = completion_rows(originals, completions, first_half(model))
    columns = len(rows) // len(images)
    draw_grids(directory / "samples.png", {"samples": tile(samples, 10)})
    grids = {COMPLETION_COLUMNS: tile(rows, columns)}
    draw_grids(directory / "completions.png", grids)


def draw_palettes(directory, palettes, errors, images):
    """Writes `palette.png`, the colours, and `samples.png`, what they keep.

    Args:
        directory: path.
        palettes: dict of `PaletteTokenizer` by name.
        errors: dict of float by name, see `evaluation.palette_error`.
        images: uint8 `(B, R, R, 3)`, shown as they are and through each.
    """
    directory = pathlib.Path(directory)
    colours, samples = {}, {"original": images}
    for name, tokenizer in palettes.items():
        size = tokenizer.vocabulary_size
        squares = tile(palette_squares(tokenizer.colours), SWATCH_COLUMNS)
        colours[f"{name}: {size} colours, by luminance"] = squares
        title = f"{name}: {size} colours, mean squared error {errors[name]:.2f}"
        samples[title] = keras.ops.convert_to_numpy(
            tokenizer.detokenize(tokenizer(images))
        )
    draw_grids(directory / "palette.png", colours)
    rows = {
        title: enlarge(tile(row, len(images))) for title, row in samples.items()
    }
    draw_grids(directory / "samples.png", rows)


def draw_reconstructions(directory, images, pictures, results):
    """Writes `reconstructions.png`, a row for the images and for each VQ-VAE.

    Args:
        directory: path.
        images: uint8 `(B, R, R, 3)`.
        pictures: dict of uint8 `(B, R, R, 3)` by quantizer.
        results: list of dicts of `evaluation.reconstruction_quality`, each
            with its `quantizer`.
    """
    grids = {"original": tile(images, len(images))}
    for result in results:
        title = (
            f"{result['quantizer']}: PSNR {result['psnr']:.2f} dB, SSIM "
            f"{result['ssim']:.3f}, {result['bits_per_pixel']:.2f} bits per "
            f"pixel, {result['active_codes']} codes in use"
        )
        grids[title] = tile(pictures[result["quantizer"]], len(images))
    path = pathlib.Path(directory) / "reconstructions.png"
    draw_grids(path, grids, width=12, dpi=100)


def draw_probe_curves(directory, probes, metrics, own):
    """Writes `probe_curve.png`, and `probe_curve_NAME.png` of other datasets.

    Args:
        directory: path.
        probes: list of records of `LinearProbe.history`, of all datasets.
        metrics: dict of `probe_reports`.
        own: str. Name of the dataset that was trained on.
    """
    found = {f"probe_curve_{name}": name for name in metrics["probes"]}
    if metrics["probe"]:
        found["probe_curve"] = own
    for file, name in found.items():
        draw_probe_curve(
            pathlib.Path(directory) / f"{file}.png",
            [record for record in probes if record["name"] == name],
            metrics["probes"].get(name, metrics),
        )


def draw_probe_curve(path, probes, metrics):
    """Writes accuracy against depth: a line per probe, then the final one.

    The lines of training are accuracies on validation images, and solid; what
    was measured on test images is dashed.

    Args:
        path: path of the PNG.
        probes: list of records of `LinearProbe.history`.
        metrics: dict of `probe_report`, or of `probe_weights`, whose other
            readings of the layers are drawn too.
    """
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    for record, colour in _coloured(probes):
        axes.plot(
            record["layers"],
            100 * np.array(record["accuracy"]),
            color=colour,
            label=f"step {record['step']:,}, validation",
        )
    layers = [row["layer"] for row in metrics["probe"]]
    axes.plot(
        layers,
        [100 * row["test_accuracy"] for row in metrics["probe"]],
        "o--",
        color="black",
        label="final weights, test",
    )
    _other_readings(axes, metrics)
    for key, colour, label in (
        ("raw_pixels_test_accuracy", "tab:red", "raw pixels, test"),
        ("untrained_test_accuracy", "tab:orange", "untrained network, test"),
        ("chance", "tab:gray", "largest class, test"),
    ):
        axes.axhline(
            100 * metrics[key],
            color=colour,
            linestyle=":" if key == "chance" else "--",
            label=label,
        )
    axes.set_title(
        f"linear probe fitted on {metrics['probe_images']:,} images; "
        f"{metrics['validation_images']:,} of validation, "
        f"{metrics['test_images']:,} of test",
        fontsize="medium",
    )
    axes.set_xlabel("layer")
    axes.set_ylabel("accuracy, per cent")
    axes.set_xticks(layers)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120, bbox_inches="tight")


def _other_readings(axes, metrics):
    """The layers as nearest neighbours and attentive probes read them."""
    for key, rows, style, label in (
        ("neighbors", "layers", "s--", "nearest neighbours, test"),
        ("attentive", "probe", "D", "attentive probe, test"),
    ):
        report = metrics.get(key)
        if report is None:
            continue
        colour = {"neighbors": "tab:blue", "attentive": "tab:green"}[key]
        axes.plot(
            [row["layer"] for row in report[rows]],
            [100 * row["test_accuracy"] for row in report[rows]],
            style,
            color=colour,
            label=label,
        )


def draw_accuracy_curves(path, curves, chance):
    """Writes validation accuracy against epochs, a line a run.

    Args:
        path: path of the PNG.
        curves: dict by name of lists of dicts of `epochs`, those trained, and
            `validation_accuracy`.
        chance: float. Share of the largest class.
    """
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    for name, curve in curves.items():
        epochs = [point["epochs"] for point in curve]
        percent = [100 * point["validation_accuracy"] for point in curve]
        (line,) = axes.plot(epochs, percent, ".-", label=name)
        if percent:
            best = int(np.argmax(percent))
            colour = line.get_color()
            axes.plot(epochs[best], percent[best], "o", color=colour)
    axes.axhline(
        100 * chance, color="tab:gray", linestyle=":", label="largest class"
    )
    title = "validation accuracy; a dot where it is best"
    x_label, y_label = "epochs of the training images", "accuracy, per cent"
    save_chart(path, axes, title, x_label, y_label)


def draw_chart(path, title, x_label, y_label, series, logarithmic=False):
    """Writes lines of points, one a series.

    Args:
        path: path of the PNG.
        title: str.
        x_label: str.
        y_label: str.
        series: dict by name of pairs of lists, `(x, y)`.
        logarithmic: bool. Whether the x axis is. Defaults to `False`.
    """
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    for name, (x, y) in series.items():
        axes.plot(x, y, "o-", markersize=4, label=name)
    if logarithmic:
        axes.set_xscale("log")
    save_chart(path, axes, title, x_label, y_label, dpi=100)


def save_chart(path, axes, title, x_label, y_label, dpi=120):
    """Writes axes that lines were drawn in, with words, grid and legend."""
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    axes.figure.savefig(path, dpi=dpi, bbox_inches="tight")


def probe_curve_image(history):
    """Accuracy against the layer as training went, a line a probe.

    Args:
        history: list of records of `LinearProbe.history`, not empty.

    Returns:
        uint8 `(H, W, 4)`.
    """
    figure = Figure(figsize=(7, 5), layout="tight")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    for record, colour in _coloured(history):
        percent = 100 * np.array(record["accuracy"])
        # A legend of the ends: colours between them tell the order.
        ends = record in (history[0], history[-1])
        axes.plot(
            record["layers"],
            percent,
            "o-",
            color=colour,
            label=f"after step {record['step']}" if ends else None,
        )
    last = history[-1]
    axes.axhline(
        100 * last["chance"],
        color="tab:gray",
        linestyle=":",
        label="largest class",
    )
    axes.set_title(f"linear probe on {last['test_images']} images")
    axes.set_xlabel("layer")
    axes.set_ylabel("accuracy, per cent")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _coloured(probes):
    """Each probe's record with a colour, from early and bright to late."""
    viridis = matplotlib.colormaps["viridis"]
    return zip(probes, viridis(np.linspace(0.9, 0, len(probes))))
