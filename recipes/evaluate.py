"""Generative loss of any weights on any dataset.

    python recipes/evaluate.py --model=runs/demo/preset --dataset=digits
    python recipes/evaluate.py --model=openai/checkpoints/igpt-s/1000000 \
        --dataset=npy:openai/datasets/imagenet

The second prints what the released code reports for the released checkpoints:
2.0895 (S), 2.0614 (M) and 2.0466 (L) nats per token.
"""

import data_flags
import errors
import interrupts
from absl import app
from absl import flags

from igpt_keras import presets

flags.adopt_module_key_flags(data_flags)
flags.DEFINE_string(
    "model",
    None,
    "A directory of save_to_preset or of Hugging Face, or an OpenAI "
    "checkpoint: its prefix, .index file or directory.",
)
flags.DEFINE_string(
    "dataset",
    None,
    "What pretrain.py takes. A PREFIX of npy: that ends in .npy is the file "
    "itself, whatever the --split.",
)
flags.DEFINE_enum(
    "split", "test", ["train", "validation", "test"], "Split of the dataset."
)
flags.DEFINE_string(
    "palette",
    None,
    "Palette as .npy to tokenize images with. Defaults to the one that was "
    "saved with the model.",
)
flags.DEFINE_integer(
    "batch_size", 8, "Images at a time; the result is the same.", lower_bound=1
)
flags.DEFINE_integer(
    "images", None, "Evaluate the first so many images only.", lower_bound=1
)
flags.DEFINE_integer(
    "num_masks", 1, "BERT: masks drawn for each image.", lower_bound=1
)
flags.DEFINE_float(
    "mask_rate",
    presets.BERT_MASK_RATE,
    "BERT: share of tokens that are hidden.",
    lower_bound=0,
    upper_bound=1,
)
flags.DEFINE_integer("seed", 0, "BERT: seed of the masks.", lower_bound=0)
flags.DEFINE_string("output", None, "Also write the numbers to this JSON file.")
flags.mark_flags_as_required(["model", "dataset"])


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    # After the flags are parsed: --help need not wait for TensorFlow.
    import evaluation

    with errors.reported("evaluate.py"), interrupts.handled():
        evaluation.run(flags.FLAGS.flag_values_dict())


if __name__ == "__main__":
    app.run(main)
