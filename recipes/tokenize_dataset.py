"""Tokenizes a dataset once, for training that then reads tokens alone.

    python recipes/tokenize_dataset.py --dataset=imagenet2012 --crops=10 \
        --palette=openai/color-clusters/kmeans_centers.npy --output=tokens
    python recipes/pretrain.py --dataset=tokens:tokens --preset=igpt_s \
        --run_dir=runs/igpt_s

Validation and test are the pictures that evaluation sees. Stopped and given
again, the command continues.
"""

import keras
from absl import flags

import igpt_keras
from igpt_keras import data
from igpt_keras import program
from igpt_keras import reports
from igpt_keras import terminal
from igpt_keras import training
from igpt_keras.program import interrupts
from igpt_keras.program import shared_flags


def define_flags():
    shared_flags.define_data()
    shared_flags.define_input_resolution(
        explanation="Side of the images. Defaults to 32, or to the VQ-VAE's."
    )
    shared_flags.define_palette("A palette as .npy.")
    shared_flags.define_vq_vae()
    flags.mark_flags_as_mutual_exclusive(
        ["palette", "tokenizer"], required=True
    )
    flags.DEFINE_integer(
        "crops",
        1,
        "Random crops of each training image, a new one for each epoch that is "
        "to see it anew. 0 takes the one picture that evaluation sees.",
        lower_bound=0,
    )
    shared_flags.define_seed("the random crops")
    flags.DEFINE_string("output", None, "Directory to write, or to continue.")
    flags.mark_flag_as_required("output")


def main(args):
    if args.tokenizer is not None:
        tokenizer = training.open_vq_vae(args.tokenizer, args.input_resolution)
        args.input_resolution = tokenizer.input_resolution
    else:
        tokenizer = igpt_keras.PaletteTokenizer(args.palette)
        args.input_resolution = args.input_resolution or 32
    # All before anything is written: a wrong --dataset leaves nothing behind.
    splits = program.call(data.open_splits, args)
    print(reports.describe_splits(splits))
    cache = program.call(
        data.write_token_cache,
        args,
        directory=args.output,
        splits=splits,
        tokenizer=tokenizer,
    )
    bars = {}
    for split, done, rows in interrupts.checked(cache):
        if split not in bars:
            print(f"{split}: {len(splits[split]):,} images", flush=True)
            bars[split] = keras.utils.Progbar(
                rows, unit_name="image", verbose=terminal.verbosity()
            )
        bars[split].update(done)
    print(f"Train on it with --dataset=tokens:{args.output}")


if __name__ == "__main__":
    program.start(main, define_flags, "Stopped. The same command continues.")
