"""Trains a colour palette on any number of pixels, and measures it.

    python recipes/train_palette.py --dataset=imagenet2012 --pixels=10000000 \
        --compare=openai/color-clusters/kmeans_centers.npy
    python recipes/pretrain.py --dataset=imagenet2012 --preset=igpt_s \
        --palette=runs/palette/palette.npy --run_dir=runs/igpt_s

Section 3.2 of the paper: k-means over the (R, G, B) of training images as
training sees them. Ten million pixels of ImageNet take five minutes on two CPU
cores; more pixels take more time to read, and no more memory than 2 GB.
"""

import math
import pathlib

import numpy as np
from absl import flags

import igpt_keras
from igpt_keras import data
from igpt_keras import evaluation
from igpt_keras import program
from igpt_keras import reports
from igpt_keras import training
from igpt_keras.program import interrupts
from igpt_keras.program import shared_flags
from igpt_keras.storage.json_file import write_json
from igpt_keras.tokenizers import colour_histogram

BATCH_SIZE = 128
# The crops to measure on are the same whatever the seed of the palette.
EVALUATION_SEED = 0
NUM_PICTURES = 10
FILES = ("palette.npy", "palette.png", "samples.png", "metrics.json")


def define_flags():
    shared_flags.define_data()
    shared_flags.define_input_resolution()
    shared_flags.define_vocabulary_size(least=1)
    for name, default, least, explanation in (
        ("pixels", 10_000_000, 1, "Training pixels that k-means sees."),
        ("iterations", 50, 1, "Iterations of k-means, at most."),
        (
            "prior_images",
            30,
            0,
            "Images that a prior weighs as much as: colours near those that "
            "occur, for other images, where there are a few hundred. 0: none.",
        ),
        ("evaluation_images", 2000, 1, "Random crops to measure palettes on."),
    ):
        flags.DEFINE_integer(name, default, explanation, lower_bound=least)
    flags.DEFINE_enum(
        "evaluation_split", "validation", data.SPLITS[1:], "Of these crops."
    )
    flags.DEFINE_string(
        "compare",
        None,
        "Another palette as .npy to measure on the same images, such as "
        "OpenAI's kmeans_centers.npy.",
    )
    shared_flags.define_seed("crops, starting colours and the prior")
    flags.DEFINE_string("run_dir", "runs/palette", "Where everything goes.")
    flags.register_multi_flags_validator(
        ["pixels", "vocabulary_size"],
        lambda values: values["pixels"] >= values["vocabulary_size"],
        message="fewer pixels than colours; use a thousand times as many",
    )


def main(args):
    palettes = {}
    if args.compare is not None:
        name = pathlib.Path(args.compare).name
        palettes[name] = igpt_keras.PaletteTokenizer(args.compare)
    splits = program.call(data.open_splits, args)
    train, held_out = splits["train"], splits[args.evaluation_split]
    train.check_images()
    run = training.RunDirectory(args.run_dir)
    run.make_for_results()
    print(reports.describe_splits(splits))

    print(f"Counting the colours of {args.pixels:,} pixels.", flush=True)
    histogram = colour_histogram.count_colours(
        crops_of(train, args.seed), args.pixels, verbose=1
    )
    num_colours = int(np.count_nonzero(histogram))
    num_images = math.ceil(args.pixels / train.input_resolution**2)
    num_images = min(num_images, len(train))
    if num_colours <= args.vocabulary_size:
        print(f"{num_colours} colours occur: they are the palette.")
    else:
        print(f"Choosing {args.vocabulary_size} of {num_colours:,} colours.")
        share = args.prior_images / (args.prior_images + num_images)
        histogram = colour_histogram.add_prior(histogram, share, args.seed)
    tokenizer, history = colour_histogram.fit_palette(
        histogram,
        args.vocabulary_size,
        args.seed,
        args.iterations,
        on_round=interrupts.check,
        verbose=1,
    )
    # What is left there would be of another palette.
    for name in FILES:
        (run / name).unlink(missing_ok=True)
    tokenizer.save_palette(run / "palette.npy")

    palettes, errors = {"trained": tokenizer, **palettes}, {}
    for name, palette in palettes.items():
        print(f"Measuring {name} on {args.evaluation_images:,} crops.")
        crops = crops_of(held_out, EVALUATION_SEED)
        errors[name] = evaluation.palette_error(
            palette, crops, args.evaluation_images, verbose=1
        )
    images = next(crops_of(held_out, EVALUATION_SEED))[:NUM_PICTURES]
    reports.draw_palettes(run.path, palettes, errors, images)
    metrics = {
        "dataset": args.dataset,
        "input_resolution": train.input_resolution,
        "seed": args.seed,
        "prior_images": args.prior_images,
        "images": num_images,
        "pixels": args.pixels,
        "distinct_colours": num_colours,
        "k_means": history,
        "evaluation_split": args.evaluation_split,
        "evaluation_images": args.evaluation_images,
        "palettes": [
            {
                "name": name,
                "vocabulary_size": palette.vocabulary_size,
                "mean_squared_error": errors[name],
            }
            for name, palette in palettes.items()
        ],
    }
    write_json(run / "metrics.json", metrics)
    print(reports.palette_summary(metrics, run.path))


def crops_of(split, seed):
    """Images as training sees them, without end."""
    dataset = split.batches(BATCH_SIZE, training=True, seed=seed)
    return interrupts.checked(x for x, _ in dataset.as_numpy_iterator())


if __name__ == "__main__":
    program.start(main, define_flags)
