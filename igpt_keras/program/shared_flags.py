"""Groups of flags that scripts have in common."""

import math

from absl import flags

from igpt_keras.program import run_flags

# They are the script's own in its --help.
flags.disclaim_key_flags()

EVERY_DATASET = (
    "digits, placed_digits; of TFDS cifar10, cifar100, stl10, imagenet2012, "
    "imagenet_resized/32x32, downsampled_imagenet/32x32 or /64x64; folder:PATH "
    "for your own pictures; npy:PREFIX for OpenAI's tokens; tokens:DIRECTORY "
    "for what tokenize_dataset.py made. imagenet2012:0.9,folder:PATH:0.1 "
    "trains on a mixture by weights, evaluated as its first."
)
_PERIOD = (
    "Steps between validations, each with a checkpoint before it. Defaults to "
    "the steps in 8 equal parts, or fewer if 8 does not divide them; in a long "
    "run in more, for 10,000 at most."
)
_PAPER = (
    "Defaults to the preset's: the paper's (section 3.4, Table 5), or ours for "
    "igpt_nano, igpt_micro and igpt_mini."
)


def define_data(
    dataset="A dataset of images, as for pretrain.py.", required=True
):
    """`--dataset`, `--data_dir`, `--skip_bad_images`.

    Args:
        dataset: str. The help of `--dataset`.
        required: bool. Whether it has to be given. Defaults to `True`.
    """
    flags.DEFINE_string("dataset", None, dataset)
    flags.DEFINE_string(
        "data_dir",
        None,
        "Directory of prepared TFDS datasets. Defaults to TFDS's.",
    )
    flags.DEFINE_bool(
        "skip_bad_images",
        False,
        "Leave out, count and list pictures of a folder that cannot be used.",
    )
    if required:
        flags.mark_flag_as_required("dataset")


def define_weights():
    """`--model`."""
    flags.DEFINE_string(
        "model",
        None,
        "A run's directory, one of save_to_preset or of Hugging Face, or an "
        "OpenAI checkpoint: its prefix, .index file or directory; or "
        "igpt_micro_cifar10, which comes with the package. openai:, "
        "huggingface: or keras: before it says what it has to be.",
    )
    flags.mark_flag_as_required("model")


def define_input_resolution(
    default=None,
    explanation="Side of the images. Defaults to 8 for digits, to 12 for "
    "placed_digits and to 32 otherwise.",
    least=1,
):
    """`--input_resolution`.

    Args:
        default: int.
        explanation: str. Its help.
        least: int. The least that is allowed.
    """
    flags.DEFINE_integer(
        "input_resolution", default, explanation, lower_bound=least
    )


def define_palette(explanation):
    """`--palette`."""
    flags.DEFINE_string("palette", None, explanation)


def define_model_palette():
    """`--palette` of a model that may have brought its own."""
    define_palette(
        "Palette as .npy to tokenize images with. Defaults to the one that was "
        "saved with the model."
    )


def define_vocabulary_size(least):
    """`--vocabulary_size`, of at least `least`."""
    flags.DEFINE_integer(
        "vocabulary_size", 512, "Colours of the palette.", lower_bound=least
    )


def define_tokenizer():
    """`--vocabulary_size`, `--palette` and `--tokenizer` of training."""
    define_vocabulary_size(2)
    define_palette(
        "A palette as .npy, such as OpenAI's kmeans_centers.npy. Defaults to "
        "that of given weights or of tokens:DIRECTORY, or else to k-means over "
        "the training images."
    )
    define_vq_vae()


def define_vq_vae():
    """`--tokenizer`."""
    flags.DEFINE_string(
        "tokenizer",
        None,
        "vq_vae:DIRECTORY, a preset of train_vq_vae.py: codes in place of a "
        "palette's colours, and its --input_resolution.",
    )


def define_masks(mask_rate):
    """`--mask_rate` of BERT, which defaults to `mask_rate`."""
    flags.DEFINE_float(
        "mask_rate",
        mask_rate,
        "BERT: share of tokens that are hidden.",
        lower_bound=0,
        upper_bound=1,
    )


def define_learning_rate(default, explanation):
    """`--learning_rate`."""
    flags.DEFINE_float("learning_rate", default, explanation, lower_bound=0)
    flags.register_validator(
        "learning_rate",
        lambda rate: rate is None or math.isfinite(rate),
        message="must be finite",
    )


def define_learning_rates(default, explanation):
    """`--learning_rates`, which the script gets as a list of str."""
    flags.DEFINE_list("learning_rates", default, explanation)
    flags.register_validator(
        "learning_rates",
        lambda rates: rates is None or _are_learning_rates(rates),
        message="expected numbers above 0, such as --learning_rates=0.01,0.003",
    )


def _are_learning_rates(rates):
    try:
        numbers = [float(rate) for rate in rates]
    except ValueError:
        return False
    return len(numbers) > 0 and all(0 < x < math.inf for x in numbers)


def define_adam(beta_1, beta_2):
    """`--beta_1`, `--beta_2`, `--weight_decay`; betas with these defaults."""
    flags.DEFINE_float("beta_1", beta_1, "Adam's first decay.")
    flags.DEFINE_float("beta_2", beta_2, "Adam's second decay.")
    flags.DEFINE_float(
        "weight_decay",
        0.0,
        "Decoupled weight decay, of all but gains. The paper's is 0.",
        lower_bound=0,
    )
    flags.DEFINE_float(
        "clip_norm",
        None,
        "Norm of the gradient that is scaled down to if it is more. The paper "
        "does not.",
        lower_bound=0.0,
    )


def define_schedule(beta_1, beta_2):
    """`--steps`, `--batch_size`, `--learning_rate`, `--warmup_steps`, Adam's.

    Args:
        beta_1: float. Default of `--beta_1`.
        beta_2: float. Default of `--beta_2`.
    """
    flags.DEFINE_integer(
        "steps", None, f"Training steps. {_PAPER}", lower_bound=1
    )
    flags.DEFINE_integer(
        "batch_size", None, f"Images in a batch. {_PAPER}", lower_bound=1
    )
    define_learning_rate(None, f"Peak learning rate. {_PAPER}")
    flags.DEFINE_integer(
        "warmup_steps",
        None,
        "Steps of linear warm-up. Defaults to one epoch (section 3.4), but at "
        "most a tenth of the steps.",
        lower_bound=0,
    )
    define_adam(beta_1, beta_2)


def define_masks_of_evaluation(num_masks, mask_rate):
    """`--mask_rate` and `--num_masks` of BERT, with these defaults."""
    define_masks(mask_rate)
    flags.DEFINE_integer(
        "num_masks",
        num_masks,
        "BERT: masks drawn for each image; where it classifies, the modal "
        "prediction is taken (section 4.6).",
        lower_bound=1,
    )


def define_selection(patience):
    """`--patience`, `--fold_validation`: weights to keep.

    Args:
        patience: str. The help of the first.
    """
    flags.DEFINE_integer("patience", None, patience, lower_bound=1)
    flags.DEFINE_bool(
        "fold_validation",
        False,
        "Train on the validation images too, for the final run after all "
        "choices are made. The last weights are kept, since validation no "
        "longer chooses.",
    )
    flags.register_multi_flags_validator(
        ["fold_validation", "patience"],
        lambda values: (
            not values["fold_validation"] or values["patience"] is None
        ),
        message="--fold_validation trains on the validation images, so that "
        "they cannot say when to stop. Leave out --patience.",
    )


def define_finetuning():
    """`--steps`, `--batch_size`, `--patience`, `--input_resolution`, ..."""
    define_input_resolution(None, "Side of the images. Defaults to --model's.")
    run_flags.define_interpolate_positions("--model")
    flags.DEFINE_integer(
        "steps",
        None,
        "Training steps at most. Defaults to 40 periods; if given, a period "
        "defaults to an eighth of them.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "batch_size",
        None,
        "Images in a batch. Defaults to 128, or to all if there are fewer.",
        lower_bound=1,
    )
    define_selection(
        "Stop after so many periods without a better validation accuracy. "
        "Defaults to 5. The weights with the best one are kept."
    )
    flags.register_multi_flags_validator(
        ["fold_validation", "steps"],
        lambda values: (
            not values["fold_validation"] or values["steps"] is not None
        ),
        message="--fold_validation needs --steps, those that training with "
        "validation stopped after: nothing says when to stop.",
    )


def define_numbers(name, explanation, expected, default=(), least=1):
    """A flag of whole numbers, which the script gets as a list of str.

    Args:
        name: str. Of the flag.
        explanation: str. For `--help`.
        expected: str. For the message if they are none.
        default: list of str, or `None`. Defaults to no numbers.
        least: int. The lowest number. Defaults to 1.
    """
    flags.DEFINE_list(name, default, explanation)
    flags.register_validator(
        name,
        lambda numbers: all(
            n.isdecimal() and int(n) >= least for n in numbers or ()
        ),
        message=f"expected {expected}",
    )


def define_milestones():
    """`--milestones`."""
    define_numbers(
        "milestones",
        "Steps whose checkpoints are kept, to draw loss against accuracy: the "
        "first checkpoint at or after each. Defaults to powers of two of a "
        "thousand steps (Figure 3); --milestones= keeps none.",
        "steps, such as --milestones=1000,4000",
        default=None,
        least=0,
    )


def define_probes():
    """`--probe_datasets`, `--probe_every`, `--probe_layers`, ..."""
    flags.DEFINE_list(
        "probe_datasets",
        None,
        "Datasets to probe while training, such as cifar10,stl10,folder:PATH, "
        "each with its own splits and classes. Defaults to the dataset that "
        "is trained on.",
    )
    flags.DEFINE_integer(
        "probe_every",
        None,
        "Steps between probes, a multiple of the period. Defaults to the "
        "period, or to an eighth of the steps if that is not given.",
        lower_bound=1,
    )
    define_numbers(
        "probe_layers",
        "Layers to probe while training, such as 0,6,12. Defaults to all.",
        "layers, such as --probe_layers=0,6,12",
        default=None,
        least=0,
    )
    flags.DEFINE_integer(
        "probe_neighbors",
        None,
        "Nearest neighbours whose vote to score too, such as 20.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "probe_images",
        10_000,
        "Labelled training images that probes are fitted and chosen on, at "
        "most, of each class its share. 0: no probes.",
        lower_bound=0,
    )


def define_layers():
    """`--layers`; see `layer_numbers`."""
    flags.DEFINE_list(
        "layers", ["all"], "Layers to probe, such as 0,6,12, or all."
    )
    flags.register_validator(
        "layers",
        lambda layers: layers == ["all"] or all(n.isdecimal() for n in layers),
        message="expected all, or layers such as --layers=0,6,12",
    )


def layer_numbers(layers):
    """The value of `--layers` as a list of int, `None` for all."""
    return None if layers == ["all"] else [int(layer) for layer in layers]


def define_pictures():
    """`--pictures`."""
    flags.DEFINE_integer(
        "pictures",
        None,
        "Steps between samples and completions for TensorBoard, a multiple of "
        "the period. Defaults to those between probes; 0: none.",
        lower_bound=0,
    )


def define_evaluation():
    """`--evaluation_images`."""
    flags.DEFINE_integer(
        "evaluation_images",
        None,
        "Validation and test images, each at most. Defaults to all.",
        lower_bound=1,
    )


def define_seed(of):
    """`--seed`.

    Args:
        of: str. What is drawn with it.
    """
    flags.DEFINE_integer(
        "seed", 0, f"Of {of}.", lower_bound=0, upper_bound=2**31 - 1
    )


def define_run(seed_of, period=_PERIOD, run_dir=None):
    """`--period`, `--seed`, `--strategy`, `--run_dir`.

    Args:
        seed_of: str. What is drawn with the seed.
        period: str. The help of `--period`.
        run_dir: str. Default of `--run_dir`.
    """
    flags.DEFINE_integer("period", None, period, lower_bound=1)
    define_seed(seed_of)
    run_flags.define_devices()
    run_flags.define_checkpoints()
    flags.DEFINE_string(
        "run_dir", run_dir, "Where everything goes, and resumes from."
    )
