"""Trains a VQ-VAE, whose codes stand for images of 96 or 192 pixels.

    python recipes/train_vq_vae.py --dataset=imagenet2012 --run_dir=runs/vq_vae
    python recipes/pretrain.py --dataset=imagenet2012 --preset=igpt_s \
        --tokenizer=vq_vae:runs/vq_vae/ema/preset --run_dir=runs/igpt_s

Paper sections 3.2 and A.2; defaults are the paper's where it gives them. With
several `--quantizers` each is trained in turn on the same images and all are
compared. Ctrl-C and the same command again continue the run.
"""

import data_flags
import errors
import interrupts
from absl import app
from absl import flags

flags.adopt_module_key_flags(data_flags)
flags.DEFINE_string("dataset", None, "A dataset of images, as for pretrain.py.")
flags.DEFINE_integer(
    "input_resolution", 96, "Side of the images.", lower_bound=2
)
flags.DEFINE_integer(
    "model_resolution", 48, "Side of the grid of codes.", lower_bound=1
)
flags.DEFINE_integer(
    "vocabulary_size",
    4096,
    "Codes of the codebook. fsq has 4096 always.",
    lower_bound=2,
)
flags.DEFINE_multi_enum(
    "quantizers",
    ["ema"],
    ["ema", "ema_without_revival", "fsq"],
    "What to train; give it again for another. ema: the paper's codebook of "
    "moving averages. fsq: finite scalar quantization.",
)
flags.DEFINE_enum("loss", "l2", ["l2", "l1"], "Of the reconstructions.")
flags.DEFINE_float(
    "commitment_cost", 0.02, "Weight of the commitment loss.", lower_bound=0
)
flags.DEFINE_float("learning_rate", 1e-4, "Of Adam.", lower_bound=0)
flags.DEFINE_integer(
    "steps", 100_000, "Training steps; the paper gives none.", lower_bound=1
)
flags.DEFINE_integer("batch_size", 128, "Images in a batch.", lower_bound=1)
flags.DEFINE_integer(
    "period",
    None,
    "Steps between validations, pictures and checkpoints. Defaults to a tenth "
    "of the steps.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "evaluation_images",
    None,
    "Validation and test images, each at most. Defaults to all.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Of weights, order, crops and revived codes.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_enum(
    "strategy",
    "none",
    ["none", "mirrored"],
    "mirrored: one replica on each GPU of this machine (tf.distribute).",
)
flags.DEFINE_string(
    "run_dir", "runs/vq_vae", "Where everything goes, and resumes from."
)
flags.mark_flags_as_required(["dataset"])


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    # After the flags are parsed: --help need not wait for TensorFlow.
    import vq_vae_training

    with (
        errors.reported("train_vq_vae.py"),
        interrupts.handled("Stopped. The same command continues."),
    ):
        vq_vae_training.run(
            vq_vae_training.resolve(flags.FLAGS.flag_values_dict())
        )


if __name__ == "__main__":
    app.run(main)
