"""The closing lines of programs that train on images alone."""

import json
import urllib.parse

from igpt_keras.reports.evaluation_summaries import describe_ties
from igpt_keras.reports.evaluation_summaries import name_validation
from igpt_keras.reports.tables import files_left
from igpt_keras.reports.tables import table


def pretraining_summary(metrics, directory, fold_validation=False):
    """The closing lines of a pretraining run.

    Args:
        metrics: dict, as in its `metrics.json`.
        directory: path of the run.
        fold_validation: bool. Whether validation images were trained on.
            Defaults to `False`.
    """
    left = files_left(
        directory,
        {
            "probe_curve.png": "accuracy against depth as training went",
            **{
                f"probe_curve_{name}.png": f"the same of {name}"
                for name in metrics["probes"]
            },
            "samples.png": "pictures drawn by the model",
            "completions.png": "half a picture, completed",
            "metrics.json": "these numbers",
            "preset": "the model: igpt_keras.IGPT.from_preset",
            "logs": f"curves: tensorboard --logdir={directory}",
        },
    )
    names = [*["validation"] * bool(metrics["probe"]), *metrics["probes"]]
    if names:
        left += "\nThe probe curves, pinned and not smoothed, are then at\n  "
        left += tensorboard_link(f"accuracy_probe_{n}/layers" for n in names)
    validation = name_validation(fold_validation)
    lines = [*_losses(metrics, validation), *_probes(metrics, validation)]
    for name, report in metrics["probes"].items():
        lines += ["", f"{name}:", *_probes(report)[1:]]
    return "\n".join([*lines, "", left])


def tensorboard_link(tags):
    """TensorBoard's page with scalars pinned above all and no smoothing.

    Its address is that of `tensorboard --logdir=...` on this machine, with the
    port that it takes if no other is asked for.

    Args:
        tags: list of str. Scalars to pin.
    """
    cards = [{"plugin": "scalars", "tag": tag} for tag in tags]
    pinned = json.dumps(cards, separators=(",", ":"))
    query = urllib.parse.urlencode({"pinnedCards": pinned, "smoothing": 0})
    return f"http://localhost:6006/?{query}#timeseries"


def _losses(metrics, validation):
    return [
        "",
        f"{validation} {metrics['validation_nats_per_token']:.4f}, test "
        f"{metrics['test_nats_per_token']:.4f} nats per token",
        f"entropy of the test tokens' frequencies: "
        f"{metrics['test_unigram_nats_per_token']:.4f} nats per token",
        _times(metrics),
    ]


def _times(metrics):
    """Seconds of training, and what share others took of all of it."""
    names = ("train", "probe", "picture")
    seconds = {name: metrics[f"{name}_seconds"] for name in names}
    whole = max(sum(seconds.values()), 1e-9)
    others = [
        f"{name}s {seconds[name]:.0f} s ({seconds[name] / whole:.0%})"
        for name in names[1:]
        if seconds[name]
    ]
    return ", ".join([f"trained {seconds['train']:.0f} s", *others])


def _probes(metrics, validation="validation"):
    if not metrics["probe"]:
        return []
    rows = [["layer", validation, "test"]]
    rows += [
        [
            str(row["layer"]),
            f"{row['validation_accuracy']:.1%}",
            f"{row['test_accuracy']:.1%}",
        ]
        for row in metrics["probe"]
    ]
    rows += [
        ["raw pixels", "", f"{metrics['raw_pixels_test_accuracy']:.1%}"],
        [
            "untrained network, best layer",
            "",
            f"{metrics['untrained_test_accuracy']:.1%}",
        ],
    ]
    probes = table(rows).split("\n")
    probes[1 + metrics["chosen_layer"]] += "   <- chosen on training images"
    probes += describe_ties(metrics)
    probes.append(
        f"{metrics['probe_images']:,} images to fit and choose on; standard "
        f"error of the test column {metrics['test_standard_error']:.1%}; the "
        f"largest class is {metrics['chance']:.1%}"
    )
    chosen = metrics["probe"][metrics["chosen_layer"]]["test_accuracy"]
    if metrics["raw_pixels_test_accuracy"] >= chosen:
        probes.append(
            "raw pixels do as well: a linear classifier needs no features to "
            "separate images as small and plain as these"
        )
    lines = ["", *probes]
    low = metrics["low_data"]
    if not low:
        lines += ["A class has too few probe images for low-data probes."]
    else:
        lines += [
            "",
            f"with {low['labels_per_class']} labels a class: best layer "
            f"{low['best_layer_mean']:.1%} +- "
            f"{low['best_layer_standard_deviation']:.1%}, raw pixels "
            f"{low['raw_pixels_mean']:.1%} +- "
            f"{low['raw_pixels_standard_deviation']:.1%}",
        ]
    return lines


def palette_summary(metrics, directory):
    """The closing lines of training a palette: errors side by side.

    Args:
        metrics: dict, as in its `metrics.json`.
        directory: path of the results.
    """
    rows = [
        [
            palette["name"],
            f"{palette['mean_squared_error']:.3f}",
            f"{palette['vocabulary_size']} colours",
        ]
        for palette in metrics["palettes"]
    ]
    left = files_left(
        directory,
        {
            "palette.npy": "for --palette of the other recipes",
            "palette.png": "its colours from dark to bright",
            "samples.png": "images before and after",
            "metrics.json": "these numbers",
        },
    )
    return (
        f"\nmean squared error a channel, in levels of 0 to 255, on "
        f"{metrics['evaluation_images']:,} crops of {metrics['dataset']} "
        f"{metrics['evaluation_split']} images:\n{table(rows)}\n\n{left}"
    )


def vq_vae_summary(metrics, directory):
    """The closing lines of training VQ-VAEs: what their codes keep.

    Args:
        metrics: dict, as in its `metrics.json`.
        directory: path of the run.
    """
    columns = {
        "PSNR dB": ("psnr", "{:.2f}"),
        "SSIM": ("ssim", "{:.3f}"),
        "bits/pixel": ("bits_per_pixel", "{:.2f}"),
        "by entropy": ("entropy_bits_per_pixel", "{:.2f}"),
        "active": ("active_codes", "{:d}"),
        "of all": ("active_code_fraction", "{:.1%}"),
        "perplexity": ("perplexity", "{:.0f}"),
        "seconds": ("train_seconds", "{:.0f}"),
    }
    rows = [["", *columns]]
    for result in metrics["quantizers"]:
        cells = [text.format(result[key]) for key, text in columns.values()]
        rows.append([result["quantizer"], *cells])
    preset = f"{metrics['quantizers'][0]['quantizer']}/preset"
    left = files_left(
        directory,
        {
            "reconstructions.png": "test images before and after",
            "metrics.json": "these numbers",
            preset: f"for --tokenizer=vq_vae:{directory}/{preset}",
            "logs": f"curves: tensorboard --logdir={directory}",
        },
    )
    return (
        f"\nOn {metrics['test_images']:,} test images of {metrics['dataset']}, "
        f"{metrics['input_resolution']} pixels, {metrics['vocabulary_size']} "
        f"codes:\n{table(rows)}\n\n{left}"
    )
