"""Converts weights between OpenAI's, Hugging Face's and this package's format.

    python tools/convert_checkpoint.py --from=openai --to=keras \
        --input=openai/checkpoints/igpt-s/1000000 --output=igpt_s_1000000 \
        --palette=openai/color-clusters/kmeans_centers.npy
    python tools/convert_checkpoint.py --from=keras --to=huggingface \
        --input=runs/demo/preset --output=runs/demo/huggingface

Opens what it wrote again and compares both models on random tokens.
"""

import gc
import pathlib
import sys

import numpy as np
from absl import app
from absl import flags

FORMATS = ("openai", "huggingface", "keras")
# Weights are copied bit by bit; the rest is rounding of logits of some tens.
TOLERANCE = 1e-4


def define_flags():
    flags.DEFINE_enum("from", None, FORMATS, "Format of --input.")
    flags.DEFINE_enum("to", None, FORMATS, "Format of --output.")
    flags.DEFINE_string(
        "input",
        None,
        "Directory of save_to_preset or of Hugging Face, or an OpenAI "
        "checkpoint: its prefix, .index file or directory.",
    )
    flags.DEFINE_string(
        "output",
        None,
        "Directory to write; for openai the checkpoint's prefix.",
    )
    flags.DEFINE_string(
        "palette",
        None,
        "Palette as .npy to save along. Defaults to the one in --input.",
    )
    flags.mark_flags_as_required(["from", "to", "input", "output"])


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    values = flags.FLAGS.flag_values_dict()
    try:
        convert(
            values["from"],
            values["to"],
            values["input"],
            values["output"],
            values["palette"],
        )
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"convert_checkpoint.py: {error}")


def convert(source, target, path, output, palette=None):
    """Converts, checks and reports.

    Returns:
        The maximum absolute difference of the two models' logits and features.
    """
    import igpt_keras
    from igpt_keras.conversion.open_weights import weight_format

    if weight_format(path) != source:
        raise ValueError(
            f"{path} is of the format {weight_format(path)}, and --from says "
            f"{source}."
        )
    output = pathlib.Path(output)
    if output.exists():
        raise ValueError(f"{output} exists. Choose another --output.")
    print(f"Reading {path} ({source}).", flush=True)
    model, tokenizer = igpt_keras.open_weights(path, verbose=1)
    if palette is not None:
        tokenizer = igpt_keras.PaletteTokenizer(palette)
    igpt = getattr(model, "igpt", model)
    print(f"Writing {output} ({target}).", flush=True)
    if target == "openai":
        igpt_keras.save_openai_checkpoint(model, output, verbose=1)
    elif target == "huggingface":
        is_palette = isinstance(tokenizer, igpt_keras.PaletteTokenizer)
        igpt_keras.save_huggingface(
            model, output, tokenizer if is_palette else None, verbose=1
        )
    else:
        model.save_to_preset(output, tokenizer)

    summary = {
        "objective": igpt.objective,
        "layers x width, heads": f"{igpt.num_layers} x {igpt.hidden_dim}, "
        f"{igpt.num_heads}",
        "tokens per image": igpt.sequence_length,
        "vocabulary": igpt.vocabulary_size,
        "classes": getattr(model, "num_classes", "no class head"),
        "parameters": f"{model.count_params():,}",
        "tokenizer": _tokenizer_note(target, tokenizer),
        "size": f"{_bytes(output) / 2**20:,.1f} MiB",
    }
    print("Comparing on random tokens.", flush=True)
    expected = _outputs(model)
    # One of the two in memory at a time; Keras models are reference cycles.
    del model, igpt
    gc.collect()
    copy, _ = igpt_keras.open_weights(output, verbose=1)
    found = _outputs(copy)
    # Not Python's max, which may drop a NaN.
    difference = np.max([abs(expected[k] - found[k]).max() for k in expected])
    for key, value in summary.items():
        print(f"{key:24}{value}")
    print(f"{'largest difference':24}{difference:.3g} (logits and features)")
    if not difference <= TOLERANCE:
        raise ValueError(
            f"The outputs of {output} differ by {difference:.3g} from those of "
            f"{path}, at most {TOLERANCE} was expected. Do not use it."
        )
    return difference


def _outputs(model):
    """Logits and last features by name; equal sizes get equal tokens."""
    import keras

    igpt = getattr(model, "igpt", model)
    generator = np.random.default_rng(0)
    shape = (2, igpt.sequence_length)
    inputs = generator.integers(0, igpt.vocabulary_size, shape, "int32")
    if igpt.objective == "bert":
        inputs = {"token_ids": inputs, "mask": generator.random(shape) < 0.15}
    outputs = model.output
    if not isinstance(outputs, dict):
        outputs = {"token_logits": outputs}
    # A model that was not trained has a head of zeros, and logits that say
    # nothing of the rest.
    outputs = {**outputs, "features": igpt.final_norm.output}
    return keras.Model(igpt.input, outputs).predict(
        inputs, batch_size=1, verbose=0
    )


def _tokenizer_note(target, tokenizer):
    if tokenizer is None:
        return "none"
    is_palette = hasattr(tokenizer, "palette")
    if target == "openai" or (target == "huggingface" and not is_palette):
        return f"not saved: the {target} format has no place for it"
    kind = "colours" if is_palette else "codes of a VQ-VAE"
    return f"{tokenizer.vocabulary_size} {kind}"


def _bytes(path):
    files = (
        path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.name}.*")
    )
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    define_flags()
    app.run(main)
