"""Tokenizes a dataset once, for training that then reads tokens alone.

    python recipes/tokenize_dataset.py --dataset=imagenet2012 --crops=10 \
        --palette=openai/color-clusters/kmeans_centers.npy --output=tokens
    python recipes/pretrain.py --dataset=tokens:tokens --preset=igpt_s \
        --run_dir=runs/igpt_s

Validation and test are the pictures that evaluation sees. Stopped and given
again, the command continues.
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
    "Side of the images. Defaults to 32, or to the VQ-VAE's.",
    lower_bound=1,
)
flags.DEFINE_string("palette", None, "A palette as .npy.")
flags.DEFINE_string(
    "tokenizer",
    None,
    "vq_vae:DIRECTORY, a preset of train_vq_vae.py, in place of a palette.",
)
flags.DEFINE_integer(
    "crops",
    1,
    "Random crops of each training image, a new one for each epoch that is to "
    "see it anew. 0 takes the one picture that evaluation sees.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Of the random crops.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_string("output", None, "Directory to write, or to continue.")
flags.mark_flags_as_required(["dataset", "output"])
flags.mark_flags_as_mutual_exclusive(["palette", "tokenizer"], required=True)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    # After the flags are parsed: --help need not wait for TensorFlow.
    import dataset_tokenization

    names = (
        "dataset",
        "data_dir",
        "skip_bad_images",
        "input_resolution",
        "palette",
        "tokenizer",
        "crops",
        "seed",
        "output",
    )
    with (
        errors.reported("tokenize_dataset.py"),
        interrupts.handled("Stopped. The same command continues."),
    ):
        dataset_tokenization.run(
            {name: flags.FLAGS[name].value for name in names}
        )


if __name__ == "__main__":
    app.run(main)
