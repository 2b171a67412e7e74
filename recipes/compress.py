"""Pictures in as many bits as a model's loss says, and back.

    python recipes/compress.py --model=runs/demo --dataset=digits \
        --output=runs/compressed
    python recipes/compress.py --model=runs/demo --picture=photo.jpg \
        --output=runs/compressed
    python recipes/compress.py --model=runs/demo \
        --decompress=runs/compressed/pictures.igpt --output=runs/pictures

The tokens of all pictures are coded into one file, pictures.igpt, by the
model's own conditionals, and decoded again to see that they are the same. What
the tokenizer left out, such as colours that are not in its palette, is lost;
from tokens to file and back nothing is. Beside the size stand the model's loss
and what PNG, WebP, bz2 and xz need for the same tokens.
"""

import time

import keras
import numpy as np
from absl import flags

import igpt_keras
from igpt_keras import codec
from igpt_keras import data
from igpt_keras import evaluation
from igpt_keras import generation
from igpt_keras import program
from igpt_keras import reports
from igpt_keras.program import shared_flags
from igpt_keras.storage.atomic_file import atomic_file
from igpt_keras.storage.user_path import user_path
from igpt_keras.storage.writable_directory import make_writable_directory

NAME = "pictures.igpt"
# Pictures that are tokenized or shown at a time.
BATCH = 64


def define_flags():
    shared_flags.define_weights()
    shared_flags.define_model_palette()
    flags.DEFINE_multi_string(
        "picture",
        None,
        "A picture to compress, or a folder of pictures; may be given again. "
        "Its centre square is taken, upright, over white where transparent.",
    )
    shared_flags.define_data(
        "A dataset whose pictures are compressed, as for pretrain.py.",
        required=False,
    )
    flags.DEFINE_enum("split", "test", data.SPLITS, "Split of the dataset.")
    flags.DEFINE_integer(
        "images", None, "The first so many of the dataset only.", lower_bound=1
    )
    flags.DEFINE_string(
        "decompress", None, f"A {NAME} to turn into pictures again."
    )
    flags.mark_flags_as_mutual_exclusive(
        ["picture", "dataset", "decompress"], required=True
    )
    flags.DEFINE_string("output", None, "Directory of what is written.")
    flags.mark_flag_as_required("output")


def main(args):
    opened, tokenizer = igpt_keras.open_weights(args.model, args.palette, 1)
    model = getattr(opened, "igpt", opened)
    # What is wrong is said before anything is written or takes minutes.
    codec.check_codable(model)
    resolution = generation.picture_resolution(model, tokenizer)
    if args.decompress is not None:
        content = user_path(args.decompress).read_bytes()
        codec.check_file(model, tokenizer, content)
        output = make_writable_directory(args.output, "--output")
        token_ids = codec.decompress(model, tokenizer, content, verbose=1)
        pictures = in_batches(tokenizer.detokenize, token_ids)
        left = reports.write_pictures(output, pictures)
        print(reports.files_left(output, left))
        return
    token_ids = read_tokens(args, tokenizer, resolution)
    output = make_writable_directory(args.output, "--output")
    print(
        f"{len(token_ids):,} pictures of {model.sequence_length:,} tokens",
        flush=True,
    )
    begin = time.perf_counter()
    content = codec.compress(model, tokenizer, token_ids, verbose=1)
    middle = time.perf_counter()
    with atomic_file(output / NAME) as file:
        file.write(content)
    written = (output / NAME).read_bytes()
    decoded = codec.decompress(model, tokenizer, written, verbose=1)
    end = time.perf_counter()
    if not np.array_equal(decoded, token_ids):
        raise ValueError(f"{output / NAME} decodes to other tokens.")
    losses = evaluation.token_losses(model, token_ids)
    colours = getattr(tokenizer, "colours", None)
    header = codec.HEADER_BYTES
    sizes = {
        NAME: len(content),
        f"{NAME} without its header of {header} bytes": len(content) - header,
        **codec.other_sizes(token_ids, model.vocabulary_size, colours),
    }
    nats = losses.sum() * model.sequence_length
    print(reports.compression_summary(nats, token_ids.size, sizes))
    print(
        "Decoded again: every token is the same. Pictures a second: "
        f"{len(token_ids) / (middle - begin):.1f} to the file, "
        f"{len(token_ids) / (end - middle):.1f} back."
    )
    print(reports.files_left(output, {NAME: "the tokens of all pictures"}))


def read_tokens(args, tokenizer, resolution):
    """Token ids `(M, N)` of the pictures that are given, or of a dataset."""
    if args.picture is not None:
        files = data.picture_files(args.picture)
        return in_batches(tokenizer, data.open_pictures(files, resolution))
    split = program.call(
        data.open_split,
        args,
        name=args.dataset,
        input_resolution=resolution,
        model_resolution=getattr(tokenizer, "model_resolution", resolution),
    )
    if split.skipped or split.other_files:
        print(reports.describe_splits({args.split: split}))
    split.check_tokenizer(tokenizer)
    sets = data.TokenSets(tokenizer, batch_size=BATCH)
    return sets.evaluation(split, args.images).token_ids


def in_batches(function, rows):
    found = [
        keras.ops.convert_to_numpy(function(rows[i : i + BATCH]))
        for i in range(0, len(rows), BATCH)
    ]
    return np.concatenate(found)


if __name__ == "__main__":
    program.start(main, define_flags)
