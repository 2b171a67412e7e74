"""Pretrains an Image GPT and probes every layer as it trains.

    python recipes/pretrain.py --dataset=digits --preset=igpt_nano \
        --run_dir=runs/digits

Ctrl-C and the same command again continue the run. Paper sections 3.1 to 3.4;
defaults are those of Table 5 for the chosen preset. What the run leaves in
`--run_dir` is listed when it ends; curves: `tensorboard --logdir=RUN_DIR`.
"""

import data_flags
import errors
import interrupts
from absl import app
from absl import flags

from igpt_keras import presets

_PAPER = "Defaults to the preset's (Table 5)."

flags.adopt_module_key_flags(data_flags)
flags.DEFINE_string(
    "dataset",
    None,
    "digits; of TFDS cifar10, cifar100, stl10, imagenet2012, "
    "imagenet_resized/32x32, downsampled_imagenet/32x32 or /64x64; folder:PATH "
    "for your own pictures; npy:PREFIX for OpenAI's tokens; tokens:DIRECTORY "
    "for what tokenize_dataset.py made.",
)
flags.DEFINE_integer(
    "input_resolution",
    None,
    "Side of the images. Defaults to 8 for digits and to 32 otherwise.",
    lower_bound=2,
)
flags.DEFINE_enum("preset", None, list(presets.IGPT), "Size of the network.")
flags.DEFINE_enum(
    "objective",
    "autoregressive",
    ["autoregressive", "bert"],
    "Next-token prediction, or predicting hidden tokens.",
)
flags.DEFINE_float(
    "mask_rate",
    presets.BERT_MASK_RATE,
    "Share of tokens that the BERT objective hides.",
    lower_bound=0,
    upper_bound=1,
)
flags.DEFINE_integer(
    "vocabulary_size", 512, "Colours of the palette.", lower_bound=2
)
flags.DEFINE_string(
    "palette",
    None,
    "A palette as .npy, such as OpenAI's kmeans_centers.npy. Defaults to "
    "k-means over the training images.",
)
flags.DEFINE_string(
    "tokenizer",
    None,
    "vq_vae:DIRECTORY, a preset of train_vq_vae.py: codes in place of a "
    "palette's colours, and its --input_resolution.",
)
flags.DEFINE_integer("steps", None, f"Training steps. {_PAPER}", lower_bound=1)
flags.DEFINE_integer(
    "batch_size", None, f"Images in a batch. {_PAPER}", lower_bound=1
)
flags.DEFINE_float(
    "learning_rate", None, f"Peak learning rate. {_PAPER}", lower_bound=0
)
flags.DEFINE_integer(
    "warmup_steps",
    None,
    "Steps of linear warm-up. Defaults to one epoch (section 3.4), but at most "
    "a tenth of the steps.",
    lower_bound=0,
)
flags.DEFINE_float("beta_1", presets.ADAM_BETA_1, "Adam's first decay.")
flags.DEFINE_float("beta_2", presets.ADAM_BETA_2, "Adam's second decay.")
flags.DEFINE_enum(
    "dtype", "float32", ["float32", "mixed_bfloat16"], "Keras dtype policy."
)
flags.DEFINE_integer(
    "period",
    None,
    "Steps between validations, probes, pictures and checkpoints. Defaults to "
    "an eighth of the steps.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "patience",
    None,
    "Stop after so many periods without a lower validation loss. Defaults to "
    "never. The weights with the lowest validation loss are kept either way.",
    lower_bound=1,
)
flags.DEFINE_bool(
    "fold_validation",
    False,
    "Train on the validation images too, for the final run after all choices "
    "are made. The last weights are kept, since validation no longer chooses.",
)
flags.DEFINE_integer(
    "probe_images",
    10_000,
    "Labelled training images that probes are fitted on, at most.",
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
    "Of weights, palette, order, augmentation, masks and samples.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_enum(
    "strategy",
    "none",
    ["none", "mirrored"],
    "mirrored: one replica on each GPU of this machine (tf.distribute).",
)
flags.DEFINE_string("run_dir", None, "Where everything goes, and resumes from.")
flags.DEFINE_bool(
    "dry_run", False, "Print settings, size and cost, and train nothing."
)
flags.mark_flags_as_required(["dataset", "preset"])


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    # After the flags are parsed: --help need not wait for TensorFlow.
    import pretraining

    with (
        errors.reported("pretrain.py"),
        interrupts.handled("Stopped. The same command continues."),
    ):
        settings = pretraining.resolve(flags.FLAGS.flag_values_dict())
        if flags.FLAGS.dry_run:
            print(pretraining.describe(settings))
            return
        if settings.run_dir is None:
            raise ValueError("--run_dir says where the run goes: give one.")
        pretraining.run(settings)


if __name__ == "__main__":
    app.run(main)
