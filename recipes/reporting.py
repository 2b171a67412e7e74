"""What a pretraining run shows: progress, pictures, table and metrics."""

import json
import math
import os
import pathlib
import time

import keras
import matplotlib
import numpy as np

import igpt_keras

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

LABELS_PER_CLASS = 4


class Progress:
    """Seconds trained and probe history of a run, across its restarts."""

    def __init__(self, path, epoch):
        self.path = path
        self.train_seconds = 0.0
        self.probes = []
        if epoch and path.is_file():
            saved = json.loads(path.read_text())
            self.train_seconds = saved["train_seconds"]
            # A probe after the last checkpoint will be made again.
            self.probes = [p for p in saved["probes"] if p["epoch"] <= epoch]

    def callback(self, probes):
        before, seconds = list(self.probes), self.train_seconds
        start = time.perf_counter()

        def on_epoch_end(epoch, logs):
            self.train_seconds = seconds + time.perf_counter() - start
            self.probes = before + [r for p in probes for r in p.history]
            write_json(
                self.path,
                {
                    "train_seconds": self.train_seconds,
                    "probes": self.probes,
                },
            )

        return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


class PictureLog(keras.callbacks.Callback):
    """Samples and completions for TensorBoard after each epoch."""

    def __init__(self, log_dir, tokenizer, images, num_samples=16):
        super().__init__()
        self.log_dir = log_dir
        self.tokenizer = tokenizer
        self.images = images[:4]
        self.num_samples = num_samples

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(
            str(self.log_dir / "pictures")
        )

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        if self.model.objective != "autoregressive":
            return
        step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        samples, completions = sample_pictures(
            self.model, self.tokenizer, self.images, self.num_samples, seed=0
        )
        rows = completion_rows(self.images, completions)
        with self.writer.as_default(step=step):
            for name, grid in (
                ("samples", tile(samples, 8)),
                ("completions", tile(rows, rows.shape[0] // len(self.images))),
            ):
                tf.summary.image(name, enlarge(grid)[None])
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()


def sample_pictures(model, tokenizer, images, num_samples, seed, each=4):
    """Unconditional samples, and `each` completions of every image.

    Returns:
        uint8 `(num_samples, R, R, 3)` and `(len(images), each, R, R, 3)`.
    """
    samples = igpt_keras.sample(model, num_samples, seed=seed)
    token_ids = keras.ops.convert_to_numpy(tokenizer(images))
    half = token_ids.shape[1] // 2
    completed = igpt_keras.sample(
        model,
        len(images) * each,
        prompt=np.repeat(token_ids[:, :half], each, axis=0),
        seed=seed,
    )
    pictures = [
        keras.ops.convert_to_numpy(tokenizer.detokenize(x))
        for x in (samples, completed)
    ]
    shape = (len(images), each, *images.shape[1:])
    return pictures[0], pictures[1].reshape(shape)


def completion_rows(images, completions):
    """A row an image: its upper half, the completions, the original."""
    half = images.copy()
    half[:, half.shape[1] // 2 :] = 128
    rows = np.concatenate([half[:, None], completions, images[:, None]], axis=1)
    return rows.reshape(-1, *images.shape[1:])


def tile(images, columns):
    """A grid with a pixel of white between images, uint8 `(H, W, 3)`."""
    columns = min(columns, len(images))
    blank = -len(images) % columns
    images = np.pad(
        images, [(0, blank), (0, 0), (0, 0), (0, 0)], constant_values=255
    )
    images = np.pad(
        images, [(0, 0), (1, 0), (1, 0), (0, 0)], constant_values=255
    )
    count, height, width, _ = images.shape
    grid = images.reshape(count // columns, columns, height, width, 3)
    grid = grid.swapaxes(1, 2).reshape(-1, columns * width, 3)
    return np.pad(grid, [(0, 1), (0, 1), (0, 0)], constant_values=255)


def enlarge(image, least=512):
    """Repeats pixels until the width is `least`, so viewers do not blur it."""
    factor = -(-least // image.shape[1])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def draw_pictures(run_dir, model, tokenizer, images, seed):
    """Writes `samples.png` and `completions.png`."""
    if model.objective != "autoregressive":
        print("A BERT model defines no order to sample in: no samples.")
        return
    print("Sampling.", flush=True)
    images = images[:6]
    samples, completions = sample_pictures(model, tokenizer, images, 40, seed)
    for name, grid, title in (
        ("samples", tile(samples, 10), "samples"),
        (
            "completions",
            tile(completion_rows(images, completions), 6),
            "input half | completions by the model | original",
        ),
    ):
        height, width, _ = grid.shape
        figure, axes = pyplot.subplots(figsize=(6, 6 * height / width + 0.4))
        axes.imshow(grid, interpolation="nearest")
        axes.set_title(title)
        axes.axis("off")
        _save(figure, run_dir / f"{name}.png")


def draw_probe_curve(path, probes, metrics):
    """Accuracy against depth, a line per probe, baselines dashed."""
    figure, axes = pyplot.subplots(figsize=(7, 5))
    colours = pyplot.get_cmap("viridis")(np.linspace(0.9, 0, len(probes)))
    for record, colour in zip(probes, colours):
        axes.plot(
            record["layers"],
            record["accuracy"],
            color=colour,
            label=f"step {record['step']}",
        )
    layers = [row["layer"] for row in metrics["probe"]]
    axes.plot(
        layers,
        [row["test_accuracy"] for row in metrics["probe"]],
        "o-",
        color="black",
        label="best weights, test",
    )
    axes.axhline(
        metrics["raw_pixels_test_accuracy"],
        color="tab:red",
        linestyle="--",
        label="raw pixels, test",
    )
    axes.axhline(
        metrics["untrained_test_accuracy"],
        color="tab:gray",
        linestyle="--",
        label="untrained, best layer, test",
    )
    axes.set_xlabel("layer")
    axes.set_ylabel("linear probe accuracy (lines: validation)")
    axes.set_xticks(layers)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def probe_report(model, untrained, train, validation, test, seed):
    """Final probes: every layer, both baselines, few labels."""

    def probe(title, features):
        print(f"Probing {title}.", flush=True)
        return igpt_keras.fit_logistic_regression(
            features["train"],
            train.labels,
            features["validation"],
            validation.labels,
            features["test"],
            test.labels,
            verbose=1,
        )

    sets = {"train": train, "validation": validation, "test": test}
    grid = math.isqrt(model.sequence_length)
    features, raw, fresh = {}, {}, {}
    for split, examples in sets.items():
        features[split], _ = igpt_keras.extract_features(model, examples.tokens)
        fresh[split], _ = igpt_keras.extract_features(
            untrained, examples.tokens
        )
        raw[split] = raw_pixels(examples.images, grid)
    result = probe("the trained network", features)
    raw_result = probe("raw pixels", raw)
    fresh_result = probe("an untrained network", fresh)
    best = result.best_layer
    low_data = {"labels_per_class": LABELS_PER_CLASS}
    if np.unique(train.labels, return_counts=True)[1].min() < LABELS_PER_CLASS:
        print(f"A class has fewer than {LABELS_PER_CLASS} probe images.")
        low_data = {}
    for name, train_features, test_features in (
        ("best_layer", features["train"][best], features["test"][best]),
        ("raw_pixels", raw["train"], raw["test"]),
    ):
        if not low_data:
            break
        mean, deviation = igpt_keras.low_data_accuracy(
            train_features,
            train.labels,
            test_features,
            test.labels,
            labels_per_class=LABELS_PER_CLASS,
            seed=seed,
        )
        low_data[f"{name}_mean"] = mean
        low_data[f"{name}_standard_deviation"] = deviation
    return {
        "probe": [
            {
                "layer": layer,
                "validation_accuracy": float(validation_accuracy),
                "test_accuracy": float(test_accuracy),
            }
            for layer, (validation_accuracy, test_accuracy) in enumerate(
                zip(result.validation_accuracy, result.test_accuracy)
            )
        ],
        "best_layer": best,
        "raw_pixels_test_accuracy": float(raw_result.test_accuracy[0]),
        "untrained_test_accuracy": float(
            fresh_result.test_accuracy[fresh_result.best_layer]
        ),
        "low_data": low_data,
    }


def raw_pixels(images, side):
    """Pixels as features, averaged to as many as there are tokens.

    Args:
        images: uint8 `(M, R, R, 3)`.
        side: int that divides `R`.

    Returns:
        float32 `(M, side * side * 3)`.
    """
    block = images.shape[1] // side
    blocks = images.reshape(len(images), side, block, side, block, 3)
    pixels = blocks.mean(axis=(2, 4), dtype="float32")
    return pixels.reshape(len(images), -1)


def summary(metrics, run_dir):
    """The closing table and the paths of what the run left."""
    lines = [
        "",
        f"validation {metrics['validation_nats_per_token']:.4f}, test "
        f"{metrics['test_nats_per_token']:.4f} nats per token; trained "
        f"{metrics['train_seconds']:.0f} s",
        f"entropy of the test tokens' frequencies: "
        f"{metrics['test_unigram_nats_per_token']:.4f} nats per token",
    ]
    if metrics["probe"]:
        lines += ["", "layer   validation   test"]
        for row in metrics["probe"]:
            best = row["layer"] == metrics["best_layer"]
            lines.append(
                f"{row['layer']:5d}   {row['validation_accuracy']:10.1%}   "
                f"{row['test_accuracy']:.1%}"
                + ("   <- best on validation" if best else "")
            )
        lines += [
            f"raw pixels           {metrics['raw_pixels_test_accuracy']:.1%}",
            "untrained network, "
            f"best layer  {metrics['untrained_test_accuracy']:.1%}",
        ]
    if metrics["probe"] and metrics["low_data"]:
        low = metrics["low_data"]
        lines += [
            "",
            f"with {low['labels_per_class']} labels a class: best layer "
            f"{low['best_layer_mean']:.1%} +- "
            f"{low['best_layer_standard_deviation']:.1%}, raw pixels "
            f"{low['raw_pixels_mean']:.1%} +- "
            f"{low['raw_pixels_standard_deviation']:.1%}",
        ]
    lines += ["", f"In {run_dir}:"]
    for name, what in (
        ("probe_curve.png", "accuracy against depth as training went"),
        ("samples.png", "pictures drawn by the model"),
        ("completions.png", "half a picture, completed"),
        ("metrics.json", "these numbers"),
        ("preset", "the model: igpt_keras.IGPT.from_preset"),
        ("logs", f"curves: tensorboard --logdir={run_dir / 'logs'}"),
    ):
        if (run_dir / name).exists():
            lines.append(f"  {name:16} {what}")
    return "\n".join(lines)


def write_json(path, value):
    """Writes a file whole or not at all."""
    path = pathlib.Path(path)
    staged = path.with_name(f".{path.name}.tmp")
    staged.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(staged, path)


def _save(figure, path):
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
