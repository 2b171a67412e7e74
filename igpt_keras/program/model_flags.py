"""Flags that say what network is trained."""

import re

from absl import flags

from igpt_keras.program import run_flags
from igpt_keras.program import shared_flags

# They are the script's own in its --help.
flags.disclaim_key_flags()

_ORDER = re.compile("raster|columns|reversed|spiral|z_curve|random:[0-9]+")
_ATTENTION = re.compile("causal|none|prefix_causal|block_causal:[1-9][0-9]*")
SIZE = {
    "num_layers": "Blocks",
    "num_heads": "Attention heads, which divide the width",
    "hidden_dim": "Width",
}


def define_size():
    """`--num_layers`, `--num_heads`, `--hidden_dim`."""
    for name, what in SIZE.items():
        flags.DEFINE_integer(
            name,
            None,
            f"{what}, in place of --preset's; all else is as for that.",
            lower_bound=1,
        )


def define_dtype():
    """`--dtype`, `--remat`."""
    flags.DEFINE_enum(
        "dtype",
        "float32",
        ["float32", "mixed_bfloat16", "mixed_float16"],
        "Keras dtype policy; mixed_float16 scales the loss.",
    )
    flags.DEFINE_bool(
        "remat",
        False,
        "Compute each block again in the backward pass, to keep its inputs "
        "alone: less memory, a third more arithmetic, the same gradients.",
    )


def define_dropout():
    """`--dropout`."""
    flags.DEFINE_float(
        "dropout",
        0.0,
        "Share of the embeddings and of each residual branch that training "
        "drops.",
        lower_bound=0,
        upper_bound=0.99,
    )


def define_variant():
    """`--head`, `--depth_scaled_mlp`, `--dropout`, `--order`, `--attention`."""
    flags.DEFINE_enum(
        "head",
        "zeros",
        ["zeros", "normal", "tied"],
        "The head over tokens: one that starts at zero, or from a normal, or "
        "the token embedding (section A.1).",
    )
    flags.DEFINE_bool(
        "depth_scaled_mlp",
        False,
        "Scale the start of the MLP's projections by depth too, as the paper's "
        "text has it and the released code has not.",
    )
    define_dropout()
    flags.DEFINE_string(
        "order",
        "raster",
        "What tokens are predicted in (section 2.1): raster, columns, "
        "reversed, spiral, z_curve, or random:SEED, a permutation drawn from "
        "the seed.",
    )
    flags.register_validator(
        "order",
        _ORDER.fullmatch,
        message="expected an order, such as --order=columns or random:0",
    )
    flags.DEFINE_string(
        "attention",
        None,
        "causal, prefix_causal to see a prefix of a random length from both "
        "sides (AIM), or block_causal:K to predict squares of K x K tokens at "
        "once (XTRA). Defaults to causal, and to none for BERT.",
    )
    flags.register_validator(
        "attention",
        lambda value: value is None or _ATTENTION.fullmatch(value),
        message="expected causal, none, prefix_causal or block_causal:K, with "
        "a K such as 2",
    )


def define_model(sizes, mask_rate):
    """`--preset`, `--num_layers`, `--init`, `--objective`, `--dtype`, ...

    Args:
        sizes: names of presets.
        mask_rate: float. Default of `--mask_rate`.
    """
    flags.DEFINE_enum(
        "preset",
        None,
        list(sizes),
        "Size of the network. Defaults to that of --init.",
    )
    define_size()
    run_flags.define_init()
    for name in SIZE:
        flags.register_multi_flags_validator(
            [name, "init"],
            lambda values: None in values.values(),
            message=f"--{name} is of fresh weights, and those of --init have "
            "their own size. Leave it out.",
        )
    flags.DEFINE_enum(
        "objective",
        "autoregressive",
        ["autoregressive", "bert"],
        "Next-token prediction, or predicting hidden tokens.",
    )
    shared_flags.define_masks(mask_rate)
    flags.register_multi_flags_validator(
        ["objective", "mask_rate"],
        lambda values: values["objective"] != "bert" or values["mask_rate"] > 0,
        message="--mask_rate=0 hides no token, and BERT learns from those that "
        "are hidden. Choose one above 0.",
    )
    define_variant()
    define_dtype()
