"""Trains a colour palette on any number of pixels, and measures it.

    python recipes/train_palette.py --dataset=imagenet2012 --pixels=10000000 \
        --compare=openai/color-clusters/kmeans_centers.npy
    python recipes/pretrain.py --dataset=imagenet2012 --preset=igpt_s \
        --palette=runs/palette/palette.npy --run_dir=runs/igpt_s

Section 3.2 of the paper: k-means over the (R, G, B) of training images as
training sees them. Ten million pixels of ImageNet take five minutes on two CPU
cores; more pixels take more time to read, and no more memory than 2 GB.
"""

import data_flags
import errors
import interrupts
from absl import app
from absl import flags

flags.adopt_module_key_flags(data_flags)
flags.DEFINE_string("dataset", None, "A dataset of images, as for pretrain.py.")
flags.DEFINE_integer(
    "input_resolution",
    None,
    "Side of the images. Defaults to 8 for digits and to 32 otherwise.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "vocabulary_size", 512, "Colours of the palette.", lower_bound=1
)
flags.DEFINE_integer(
    "pixels",
    10_000_000,
    "Pixels of training images that k-means sees.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "iterations", 50, "Iterations of k-means, at most.", lower_bound=1
)
flags.DEFINE_integer(
    "prior_images",
    30,
    "Images that a prior weighs as much as: the training pixels, their colours "
    "moved by noise. With a few hundred images it leaves some entries for the "
    "colours of others; with many thousands it changes nothing. 0 is none.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "seed", 0, "Of crops, starting colours and the prior.", lower_bound=0
)
flags.DEFINE_string(
    "compare",
    None,
    "Another palette as .npy to measure on the same images, such as OpenAI's "
    "kmeans_centers.npy.",
)
flags.DEFINE_enum(
    "evaluation_split",
    "validation",
    ["validation", "test"],
    "Split that palettes are measured on.",
)
flags.DEFINE_integer(
    "evaluation_images",
    2000,
    "Random crops of that split to measure palettes on.",
    lower_bound=1,
)
flags.DEFINE_string("run_dir", "runs/palette", "Where everything goes.")
flags.mark_flags_as_required(["dataset"])


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    # After the flags are parsed: --help need not wait for TensorFlow.
    import palette_training

    with errors.reported("train_palette.py"), interrupts.handled():
        palette_training.run(flags.FLAGS.flag_values_dict())


if __name__ == "__main__":
    app.run(main)
