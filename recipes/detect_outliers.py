"""How well a model's loss tells its own kind of images from others.

    python recipes/detect_outliers.py --model=igpt_micro_cifar10 \
        --small=runs/small --dataset=cifar10 --output=runs/outliers

Beside the test images of the dataset stand digits, noise, and the same images
upside down and with their pixels shuffled. Scores are the loss, the loss less a
smaller model's, and the loss less the size under a general codec; the table has
the area under the ROC curve of each.
"""

import math
import pathlib

import keras
import numpy as np
from absl import flags

import igpt_keras
from igpt_keras import codec
from igpt_keras import data
from igpt_keras import evaluation
from igpt_keras import program
from igpt_keras import reports
from igpt_keras.program import shared_flags
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.writable_directory import make_writable_directory
from igpt_keras.terminal import command_line


def define_flags():
    shared_flags.define_weights()
    flags.DEFINE_string(
        "small",
        None,
        "A smaller model of the same tokens, whose loss is taken off. Defaults "
        "to none, and no such score.",
    )
    shared_flags.define_model_palette()
    shared_flags.define_data("The dataset that the model learned from.")
    flags.DEFINE_list(
        "others", ["digits"], "Datasets of outliers, as for --dataset."
    )
    for name, default, least, explanation in (
        ("images", 1000, 2, "Images of each, at most."),
        ("batch_size", 32, 1, "Images at a time; the result is the same."),
    ):
        flags.DEFINE_integer(name, default, explanation, lower_bound=least)
    shared_flags.define_seed("noise, and of the order of shuffled pixels")
    flags.DEFINE_string("output", None, "Directory of table and picture.")
    flags.mark_flag_as_required("output")


def main(args):
    model, tokenizer = open_model(args.model, args.palette)
    small = None
    if args.small is not None:
        small, other = open_model(args.small, args.palette)
        if other.fingerprint != tokenizer.fingerprint:
            raise ValueError(
                f"--small={args.small} has other tokens than --model="
                f"{args.model}, so that their losses cannot be compared. Train "
                "it with the same --palette or --tokenizer."
            )
        if small.sequence_length != model.sequence_length:
            raise ValueError(
                f"--small has {small.sequence_length} tokens an image, not "
                f"{model.sequence_length} as --model: pass one of as many."
            )
    if args.dataset in args.others:
        print(f"Leaving {args.dataset} out of --others: it is --dataset.")
    output = make_writable_directory(args.output, "--output")
    colours = getattr(tokenizer, "colours", None)
    found = read_sets(args, model, tokenizer)
    # Of all sets at once: each network is compiled once.
    token_ids = np.concatenate([*found.values()])
    print(f"{len(token_ids):,} images of {', '.join(found)}", flush=True)
    losses = loss(model, token_ids, args.batch_size)
    scores = evaluation.outlier_scores(
        losses,
        codec.least_sizes(token_ids, tokenizer.vocabulary_size, colours),
        None if small is None else loss(small, token_ids, args.batch_size),
    )
    ends = np.cumsum([len(x) for x in found.values()])[:-1]
    nats = dict(zip(found, np.split(losses / token_ids.shape[1], ends)))
    columns = [np.split(column, ends) for column in scores.values()]
    own, *others = (dict(zip(scores, parts)) for parts in zip(*columns))
    sets = {
        name: {"images": len(cost), "nats_per_token": float(cost.mean())}
        for name, cost in nats.items()
    }
    for name, part in zip(list(found)[1:], others):
        sets[name]["auroc"] = evaluation.outlier_auroc(own, part)
    rows = reports.outlier_rows(sets, args.dataset)
    print(reports.table(rows))
    reports.draw_losses(output / "outliers.png", nats)
    title = f"{pathlib.Path(args.model).name}: what is like {args.dataset}"
    reports.write_outlier_page(
        output / "outliers.md", title, rows, command_line(), "outliers.png"
    )
    write_json(output / "outliers.json", {"model": args.model, "sets": sets})
    left = {"outliers.md": "the table", "outliers.json": "the numbers"}
    left["outliers.png"] = "nats per token of each set, as a histogram"
    print(reports.files_left(output, left))


def open_model(path, palette):
    """An autoregressive `IGPT` and its tokenizer."""
    opened, tokenizer = igpt_keras.open_weights(path, palette, 1)
    model = getattr(opened, "igpt", opened)
    igpt_keras.check_tokenizer(tokenizer, model)
    if model.objective != "autoregressive":
        raise ValueError(
            f"{path} is a BERT model, whose loss is of hidden tokens and is no "
            "image's likelihood. Pass an autoregressive one."
        )
    return model, tokenizer


def read_sets(args, model, tokenizer):
    """Token ids `(M, N)` of each set by name, the dataset's own first."""
    side = math.isqrt(model.sequence_length)
    sets = data.TokenSets(tokenizer, batch_size=256)
    found, images = {}, None
    for name in (args.dataset, *args.others):
        split = program.call(
            data.open_split,
            args,
            name=name,
            split="test",
            input_resolution=getattr(tokenizer, "input_resolution", side),
            model_resolution=side,
        )
        examples = sets.evaluation(split, args.images)
        found[name] = examples.token_ids
        if images is None:
            images = examples.first_images(args.images)
    for name, pictures in data.altered_images(images, args.seed).items():
        found[name] = keras.ops.convert_to_numpy(tokenizer(pictures))
    return found


def loss(model, token_ids, batch_size):
    """Nats of each image, float64 `(M,)`."""
    (losses,) = evaluation.token_losses(model, token_ids, batch_size, verbose=1)
    return losses * token_ids.shape[1]


if __name__ == "__main__":
    program.start(main, define_flags)
