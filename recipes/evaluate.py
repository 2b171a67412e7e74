"""Generative loss of any weights on any dataset.

    python recipes/evaluate.py --model=runs/demo/preset --dataset=digits
    python recipes/evaluate.py --model=openai/checkpoints/igpt-s/1000000 \
        --dataset=npy:openai/datasets/imagenet

The second prints what the released code reports for the released checkpoints:
2.0895 (S), 2.0614 (M) and 2.0466 (L) nats per token.
"""

import math
import pathlib

import numpy as np
from absl import flags

import igpt_keras
from igpt_keras import data
from igpt_keras import evaluation
from igpt_keras import presets
from igpt_keras import program
from igpt_keras import reports
from igpt_keras.program import shared_flags
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path

TOKEN_FILES = {"train": "trX", "validation": "vaX", "test": "teX"}


def define_flags():
    shared_flags.define_weights()
    shared_flags.define_data(
        "What pretrain.py takes. A PREFIX of npy: that ends in .npy is the "
        "file itself, whatever the --split."
    )
    flags.DEFINE_enum("split", "test", data.SPLITS, "Split of the dataset.")
    shared_flags.define_model_palette()
    for name, default, explanation in (
        ("batch_size", 8, "Images at a time; the result is the same."),
        ("images", None, "Evaluate the first so many images only."),
    ):
        flags.DEFINE_integer(name, default, explanation, lower_bound=1)
    shared_flags.define_masks_of_evaluation(1, presets.BERT_MASK_RATE)
    flags.DEFINE_integer("seed", 0, "BERT: seed of the masks.", lower_bound=0)
    for name, what in (
        ("output", "write the numbers to this JSON file."),
        ("surprise", "draw what the tokens of 8 pictures cost to this PNG."),
    ):
        flags.DEFINE_string(name, None, f"Also {what}")


def main(args):
    if args.output is not None and user_path(args.output).is_dir():
        raise ValueError(f"--output={args.output} is a directory.")
    opened, tokenizer = igpt_keras.open_weights(args.model, args.palette, 1)
    model = getattr(opened, "igpt", opened)
    evaluation.check_masks(model, args.num_masks, args.mask_rate)
    token_ids, labels, classes, source = read_tokens(args, opened, tokenizer)
    available = len(token_ids)
    token_ids = token_ids[: args.images]
    print(
        f"{args.model}: {model.objective}, {model.count_params():,} "
        "parameters\n"
        f"{source}: {len(token_ids):,} images of {model.sequence_length:,} "
        "tokens",
        flush=True,
    )
    if args.surprise is not None:
        igpt_keras.check_tokenizer(tokenizer, model)
        nats = evaluation.token_surprise(model, token_ids[:8])
        pictures = tokenizer.detokenize(np.asarray(token_ids[:8], "int32"))
        reports.draw_surprise(user_path(args.surprise), pictures, nats)
    losses = program.call(
        evaluation.token_losses,
        args,
        model=model,
        token_ids=token_ids,
        verbose=1,
    )
    is_palette = not isinstance(tokenizer, igpt_keras.VQVAETokenizer)
    metrics = {
        "model": str(args.model),
        "dataset": source,
        "objective": model.objective,
        **evaluation.average_losses(losses, is_palette),
        "classes": None,
    }
    if opened is not model and classes != opened.num_classes:
        print(
            f"Classes are not scored: the head knows {opened.num_classes}, and "
            f"the images have {classes or 'none'}."
        )
    elif opened is not model:
        metrics["classes"] = program.call(
            evaluation.class_scores,
            args,
            classifier=opened,
            token_ids=token_ids,
            labels=labels[: len(token_ids)],
            verbose=1,
        )
    if model.objective == "bert":
        for name in ("num_masks", "mask_rate", "seed"):
            metrics[name] = getattr(args, name)
    metrics["released_nats_per_token"] = None
    is_whole = len(token_ids) == available
    if is_whole and pathlib.Path(source).name == "imagenet_teX.npy":
        released = presets.released_nats_per_token(model)
        metrics["released_nats_per_token"] = released
    print(reports.loss_summary(metrics, evaluation.RELEASED_BATCH))
    if args.output is not None:
        path = user_path(args.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, metrics)


def read_tokens(args, opened, tokenizer):
    """Token ids `(M, N)`, labels `(M,)`, classes, and what they are of."""
    name, model = args.dataset, getattr(opened, "igpt", opened)
    side = math.isqrt(model.sequence_length)
    if name.startswith("npy:"):
        path = str(user_path(name.removeprefix("npy:")))
        if not path.endswith(".npy"):
            path = f"{path}_{TOKEN_FILES[args.split]}.npy"
        token_ids = data.load_token_file(
            path, model.vocabulary_size, model.sequence_length
        )
        if opened is model or name.endswith(".npy"):
            return token_ids, None, 0, path
        split = data.open_split(name, args.split, side)
        return token_ids, split.labels, split.num_classes, path
    igpt_keras.check_tokenizer(tokenizer, model)
    split = program.call(
        data.open_split,
        args,
        name=name,
        input_resolution=getattr(tokenizer, "input_resolution", side),
        model_resolution=side,
    )
    if split.skipped or split.other_files:
        print(reports.describe_splits({args.split: split}))
    sets = data.TokenSets(tokenizer, batch_size=256)
    examples = sets.evaluation(split, args.images)
    source = f"{name} {args.split}"
    return examples.token_ids, examples.labels, split.num_classes, source


if __name__ == "__main__":
    program.start(main, define_flags)
