"""The palette program: count colours, cluster them, measure, show."""

import math
import pathlib

import interrupts
import keras
import matplotlib.figure
import numpy as np
import pretraining_data
import reporting
import run_setup

import igpt_keras

BATCH_SIZE = 128
# The crops to measure on are the same whatever the seed of the palette.
EVALUATION_SEED = 0
# Levels, as a standard deviation, and draws of the prior. In cross-validation
# over 307 images of ImageNet 16 to 32 levels gave much the same.
PRIOR_DEVIATION = 24
PRIOR_PIXELS = 500_000
NUM_SAMPLES = 10
SWATCH_COLUMNS = 32
REPORTS = ("palette.png", "samples.png", "metrics.json")


def run(settings):
    """Trains a palette; writes it and what it is worth to `run_dir`.

    Returns:
        The metrics, as written to `metrics.json`.
    """
    settings = dict(settings)
    if settings["input_resolution"] is None:
        is_small = settings["dataset"] == "digits"
        settings["input_resolution"] = 8 if is_small else 32
    if settings["pixels"] < settings["vocabulary_size"]:
        raise ValueError(
            f"--pixels={settings['pixels']} cannot give "
            f"--vocabulary_size={settings['vocabulary_size']} colours. Use "
            "more pixels, a thousand times as many for a good palette."
        )
    palettes = {}
    if settings["compare"] is not None:
        compared = igpt_keras.PaletteTokenizer(settings["compare"])
        palettes[pathlib.Path(settings["compare"]).name] = compared
    train, num_images = _crops(settings, "train", settings["seed"])
    held_out, _ = _crops(
        settings, settings["evaluation_split"], EVALUATION_SEED
    )
    run_dir = pathlib.Path(settings["run_dir"])
    _check_run_dir(run_dir)

    num_pixels = settings["pixels"]
    print(f"Counting the colours of {num_pixels:,} pixels.", flush=True)
    histogram = count_colours(train.as_numpy_iterator(), num_pixels)
    num_colours = np.count_nonzero(histogram)
    num_images = min(
        num_images, math.ceil(num_pixels / settings["input_resolution"] ** 2)
    )
    if num_colours > settings["vocabulary_size"] and settings["prior_images"]:
        share = settings["prior_images"] / (
            settings["prior_images"] + num_images
        )
        histogram = add_prior(histogram, share, settings["seed"])
    tokenizer, history = fit(settings, *distinct_colours(histogram))
    # What is left there would be of another palette.
    for name in REPORTS:
        (run_dir / name).unlink(missing_ok=True)
    tokenizer.save_palette(run_dir / "palette.npy")

    palettes = {"trained": tokenizer, **palettes}
    errors, samples = {}, {}
    for name in palettes:
        print(
            f"Measuring {name} on {settings['evaluation_images']:,} crops.",
            flush=True,
        )
        errors[name], samples["original"], samples[name] = evaluate(
            palettes[name], held_out, settings["evaluation_images"]
        )
    draw_palettes(run_dir / "palette.png", palettes)
    draw_samples(run_dir / "samples.png", palettes, errors, samples)
    metrics = {
        "dataset": settings["dataset"],
        "input_resolution": settings["input_resolution"],
        "seed": settings["seed"],
        "prior_images": settings["prior_images"],
        "images": num_images,
        "pixels": num_pixels,
        "distinct_colours": int(num_colours),
        "k_means": history,
        "evaluation_split": settings["evaluation_split"],
        "evaluation_images": settings["evaluation_images"],
        "palettes": [
            {
                "name": name,
                "vocabulary_size": palettes[name].vocabulary_size,
                "mean_squared_error": errors[name],
            }
            for name in palettes
        ],
    }
    reporting.write_json(run_dir / "metrics.json", metrics)
    print(summary(metrics, run_dir))
    return metrics


def count_colours(batches, num_pixels):
    """How often each of the 2**24 colours occurs.

    Takes 134 MB, however many pixels there are.

    Args:
        batches: iterable of `(images, labels)`, images uint8 `(B, R, R, 3)`.
        num_pixels: int. Pixels to count; batches must have as many.

    Returns:
        int64 array `(2**24,)`; colour (r, g, b) is `r << 16 | g << 8 | b`.
    """
    histogram = np.zeros(2**24, "int64")
    progress = keras.utils.Progbar(num_pixels, interval=1, unit_name="pixel")
    seen = 0
    for images, _ in batches:
        pixels = images.reshape(-1, 3)[: num_pixels - seen]
        np.add.at(histogram, _indices(pixels), 1)
        seen += len(pixels)
        progress.update(seen)
        interrupts.check()
        if seen == num_pixels:
            return histogram


def add_prior(histogram, share, seed):
    """Gives a share of the weight to colours near those that occur.

    A few hundred images have some colours by chance; k-means spends entries on
    those, and other images miss theirs. The prior is what the pixels would be
    with normal noise, inside the colour cube.

    Args:
        histogram: int array `(2**24,)`.
        share: float. Weight of the prior.
        seed: int. Of the noise.

    Returns:
        float64 array `(2**24,)` with the sum of `histogram`.
    """
    generator = np.random.default_rng(seed)
    colours, counts = distinct_colours(histogram)
    total = counts.sum()
    drawn = generator.multinomial(PRIOR_PIXELS, counts / total)
    pixels = np.repeat(colours, drawn, axis=0)
    pixels = np.rint(generator.normal(pixels, PRIOR_DEVIATION))
    pixels = pixels[((pixels >= 0) & (pixels <= 255)).all(axis=1)]
    weights = (1 - share) * histogram
    np.add.at(weights, _indices(pixels), share * total / len(pixels))
    return weights


def distinct_colours(histogram):
    """Colours that occur, uint8 `(D, 3)`, and how often, `(D,)`."""
    indices = np.flatnonzero(histogram)
    colours = np.empty((len(indices), 3), "uint8")
    for channel, shift in enumerate((16, 8, 0)):
        colours[:, channel] = indices >> shift & 255
    return colours, histogram[indices]


def fit(settings, colours, counts):
    """The palette, and the error after each round of k-means."""
    history = []
    size = settings["vocabulary_size"]
    if len(colours) <= size:
        print(f"{len(colours)} colours occur: they are the palette.")
    else:
        print(
            f"Choosing {size} of {len(colours):,} colours to start from.",
            flush=True,
        )
    name = "mean squared error"
    progress = keras.utils.Progbar(
        settings["iterations"], stateful_metrics=[name], unit_name="iteration"
    )

    def show(iterations, error):
        history.append({"iterations": iterations, "mean_squared_error": error})
        progress.update(iterations, [(name, error)])
        interrupts.check()

    tokenizer = igpt_keras.PaletteTokenizer.fit_histogram(
        colours,
        counts,
        size,
        settings["seed"],
        max_iterations=settings["iterations"],
        on_round=show,
    )
    if history and history[-1]["iterations"] < settings["iterations"]:
        progress.update(history[-1]["iterations"], finalize=True)
    return tokenizer, history


def evaluate(tokenizer, dataset, num_images):
    """What a palette costs.

    The mean over images, pixels and channels of the squared difference, in
    levels of 0 to 255, between an image and what is left of it:
    `detokenize(tokenizer(image))`.

    Args:
        tokenizer: `PaletteTokenizer`.
        dataset: `tf.data.Dataset` of `(images, labels)`, images uint8
            `(B, R, R, 3)`.
        num_images: int. Images to measure on; the dataset must have as many.

    Returns:
        The error, and the first images before and after.
    """
    pairs = pretraining_data.tokenize(
        dataset.map(lambda images, _: (images, images)), tokenizer
    )
    progress = keras.utils.Progbar(num_images, interval=1, unit_name="image")
    before, after = [], []
    total = seen = 0
    for token_ids, images in pairs.as_numpy_iterator():
        images = images[: num_images - seen]
        decoded = tokenizer.detokenize(token_ids[: len(images)])
        decoded = keras.ops.convert_to_numpy(decoded)
        difference = decoded.astype("int64") - images
        total += int(np.square(difference).sum())
        if seen < NUM_SAMPLES:
            before.append(images)
            after.append(decoded)
        seen += len(images)
        progress.update(seen)
        interrupts.check()
        if seen == num_images:
            break
    values = num_images * math.prod(images.shape[1:])
    before, after = (np.concatenate(x)[:NUM_SAMPLES] for x in (before, after))
    return total / values, before, after


def draw_palettes(path, palettes):
    """A square for each colour, from dark to bright, a row after another."""
    grids, titles = [], []
    for name, tokenizer in palettes.items():
        luminance = tokenizer.colours @ [0.299, 0.587, 0.114]
        colours = tokenizer.colours[np.argsort(luminance, kind="stable")]
        squares = np.broadcast_to(
            colours[:, None, None], (len(colours), 15, 15, 3)
        )
        grids.append(reporting.tile(squares, SWATCH_COLUMNS))
        titles.append(f"{name}: {len(colours)} colours, by luminance")
    _draw(path, grids, titles)


def draw_samples(path, palettes, errors, samples):
    """The same images as they are and through each palette, a row each."""
    grids = [
        reporting.enlarge(reporting.tile(images, NUM_SAMPLES))
        for images in samples.values()
    ]
    titles = ["original"] + [
        f"{name}: {palettes[name].vocabulary_size} colours, "
        f"mean squared error {errors[name]:.2f}"
        for name in palettes
    ]
    _draw(path, grids, titles)


def summary(metrics, run_dir):
    """The errors side by side, and the paths of what the run left."""
    lines = [
        "",
        f"mean squared error a channel, in levels of 0 to 255, on "
        f"{metrics['evaluation_images']:,} crops of {metrics['dataset']} "
        f"{metrics['evaluation_split']} images:",
    ]
    for palette in metrics["palettes"]:
        lines.append(
            f"  {palette['name']:24}{palette['mean_squared_error']:10.3f}"
            f"   {palette['vocabulary_size']} colours"
        )
    lines += ["", f"In {run_dir}:"]
    for name, what in (
        ("palette.npy", "for --palette of the other recipes"),
        ("palette.png", "its colours from dark to bright"),
        ("samples.png", "images before and after"),
        ("metrics.json", "these numbers"),
    ):
        lines.append(f"  {name:16} {what}")
    return "\n".join(lines)


def _crops(settings, split, seed):
    """Images of a split as training sees them, without end; how many."""
    arguments = {
        "data_dir": settings["data_dir"],
        "skip_bad_images": settings["skip_bad_images"],
    }
    name, resolution = settings["dataset"], settings["input_resolution"]
    opened = igpt_keras.data.open_split(name, split, resolution, **arguments)
    if opened.is_tokens:
        raise ValueError(
            f"{name} holds tokens, which have a palette. Pass a dataset of "
            "images."
        )
    if split == "train":
        pretraining_data.print_skipped(opened)
    dataset = igpt_keras.data.image_dataset(
        name,
        split,
        resolution,
        BATCH_SIZE,
        training=True,
        seed=seed,
        **arguments,
    )
    return dataset, len(opened.labels)


def _indices(pixels):
    red, green, blue = pixels.astype("int64").T
    return red << 16 | green << 8 | blue


def _check_run_dir(run_dir):
    """Creates `run_dir`, or makes sure it is nothing that would break."""
    if (run_dir / "checkpoints").exists() or (run_dir / "config.json").exists():
        raise ValueError(
            f"{run_dir} holds a pretraining run or a model, whose own palette "
            "would be lost. Use another --run_dir."
        )
    run_setup.make_run_dir(run_dir)


def _draw(path, grids, titles):
    """Pictures under one another, with titles."""
    heights = [6 * grid.shape[0] / grid.shape[1] for grid in grids]
    figure = matplotlib.figure.Figure(
        figsize=(6, sum(heights) + 0.3 * len(grids))
    )
    all_axes = figure.subplots(
        len(grids), squeeze=False, height_ratios=heights
    )[:, 0]
    for axes, grid, title in zip(all_axes, grids, titles):
        axes.imshow(grid, interpolation="nearest")
        axes.set_title(title, fontsize="small")
        axes.axis("off")
    figure.savefig(path, dpi=150, bbox_inches="tight")
