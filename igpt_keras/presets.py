"""Network sizes and the paper's training settings, as plain data.

Sizes: `igpt_s`, `igpt_m`, `igpt_l` are the released networks. `igpt_xl` was
never released and its head count never published: 32 heads keep the head
width of `igpt_l` (96). The others are ours, named by size, for CPUs and small
images.

All sizes are given for 32x32 images on the 512-colour palette; override
`sequence_length` and `vocabulary_size` for anything else.
"""

import math
import pathlib

from igpt_keras.storage.user_path import user_path

_PALETTE_32 = {"vocabulary_size": 512, "sequence_length": 1024}

# Section 2.2 of the paper and the released hyperparameters.
IGPT = {
    "igpt_nano": {"num_layers": 8, "num_heads": 4, "hidden_dim": 48},
    "igpt_micro": {"num_layers": 8, "num_heads": 4, "hidden_dim": 96},
    "igpt_mini": {"num_layers": 12, "num_heads": 8, "hidden_dim": 256},
    "igpt_s": {"num_layers": 24, "num_heads": 8, "hidden_dim": 512},
    "igpt_m": {"num_layers": 36, "num_heads": 8, "hidden_dim": 1024},
    "igpt_l": {"num_layers": 48, "num_heads": 16, "hidden_dim": 1536},
    "igpt_xl": {"num_layers": 60, "num_heads": 32, "hidden_dim": 3072},
}
IGPT = {name: {**_PALETTE_32, **size} for name, size in IGPT.items()}

# Trained weights in this package, with their tokenizer; the README.md beside
# each says of what, how and how good.
PRETRAINED = ("igpt_micro_cifar10",)

# Section 3.4. `igpt_xl` follows the second version of the paper in batch size
# and steps. Learning rates here are of the sizes that are ours.
_PAPER = {"batch_size": 128, "steps": 1_000_000}
PRETRAINING = {
    "igpt_nano": {"batch_size": 64, "steps": 1_200, "learning_rate": 5e-3},
    "igpt_micro": {"batch_size": 64, "steps": 2_400, "learning_rate": 3e-3},
    "igpt_mini": {"batch_size": 128, "steps": 8_000, "learning_rate": 3e-3},
    "igpt_s": _PAPER,
    "igpt_m": _PAPER,
    "igpt_l": _PAPER,
    "igpt_xl": {"batch_size": 64, "steps": 2_000_000},
}

# Table 5: learning rates by size, objective and input resolution.
LEARNING_RATES = {
    ("igpt_s", "autoregressive"): {32: 3e-3},
    ("igpt_m", "autoregressive"): {32: 3e-3},
    ("igpt_l", "autoregressive"): {32: 1e-3, 48: 1e-2, 96: 3e-3, 192: 1e-2},
    ("igpt_s", "bert"): {32: 1e-2},
    ("igpt_m", "bert"): {32: 3e-3},
    ("igpt_l", "bert"): {32: 1e-3},
}

# What the README of the released code reports for the checkpoints of step
# 1,000,000 on `imagenet_teX.npy`.
RELEASED_NATS_PER_TOKEN = {
    "igpt_s": 2.0895,
    "igpt_m": 2.0614,
    "igpt_l": 2.0466,
}

# The temperature of samples at 96x96; those of a palette are drawn at 1.
VQ_VAE_TEMPERATURE = 0.98

# Section 3.4, the same for every size.
ADAM_BETA_1 = 0.9
ADAM_BETA_2 = 0.95
BERT_MASK_RATE = 0.15


def preset_path(preset):
    """Directory of a preset: in the package if it is one of `PRETRAINED`.

    Args:
        preset: a name of `PRETRAINED`, or a path.

    Raises:
        ValueError: if it is a name, and a preset's directory here too.
    """
    path = user_path(preset)
    if preset not in PRETRAINED:
        return path
    if (path / "config.json").is_file():
        raise ValueError(
            f"{preset!r} comes with igpt_keras, and is a directory here. Pass "
            f"'./{preset}' for the directory."
        )
    return pathlib.Path(__file__).parent / "pretrained" / preset


def architecture(
    preset: str,
    vocabulary_size: int,
    model_resolution: int,
    objective: str,
    num_layers: int | None = None,
    num_heads: int | None = None,
    hidden_dim: int | None = None,
) -> dict:
    """Constructor arguments of an `IGPT` of a size, for other tokens.

    Args:
        preset: key of `IGPT`.
        vocabulary_size: int. Tokens.
        model_resolution: int. Side of the grid of tokens.
        objective: `"autoregressive"` or `"bert"`.
        num_layers: int. In place of the preset's, as the next two.
        num_heads: int. Divides `hidden_dim`.
        hidden_dim: int.

    Raises:
        ValueError: if it does not.
    """
    given = {
        "num_layers": num_layers,
        "num_heads": num_heads,
        "hidden_dim": hidden_dim,
    }
    size = {
        **IGPT[preset],
        **{key: value for key, value in given.items() if value is not None},
    }
    if size["hidden_dim"] % size["num_heads"]:
        raise ValueError(
            f"hidden_dim={size['hidden_dim']} is not divisible by num_heads="
            f"{size['num_heads']}. Choose another --hidden_dim or --num_heads."
        )
    return {
        **size,
        "vocabulary_size": vocabulary_size,
        "sequence_length": model_resolution**2,
        "objective": objective,
    }


def choose_learning_rate(
    preset: str, objective: str, input_resolution: int
) -> tuple[float, str]:
    """The peak learning rate to pretrain with, and where it is from.

    Table 5 of the paper has few cells. Where it is silent the nearest
    resolution of the same size and objective stands in, and for `igpt_xl`,
    whose rate is not published, `igpt_l`.

    Args:
        preset: key of `IGPT`.
        objective: `"autoregressive"` or `"bert"`.
        input_resolution: int. Side of the images.

    Returns:
        `(learning_rate, source)`: float, and what to say of it.
    """
    if "learning_rate" in PRETRAINING[preset]:
        return PRETRAINING[preset]["learning_rate"], f"ours for {preset}"
    size = "igpt_l" if preset == "igpt_xl" else preset
    cells = LEARNING_RATES[size, objective]
    nearest = min(cells, key=lambda r: abs(math.log(r / input_resolution)))
    cell = f"{size}, {objective}, {nearest} pixels"
    if (size, nearest) == (preset, input_resolution):
        return cells[nearest], f"Table 5: {cell}"
    wanted = f"{preset}, {objective}, {input_resolution} pixels"
    return cells[nearest], f"{cell}, as Table 5 has none of {wanted}"


def released_nats_per_token(model) -> float | None:
    """What is reported for the released checkpoint of this size, or `None`.

    Args:
        model: an `IGPT`, or anything with its sizes and objective.
    """
    for name, nats in RELEASED_NATS_PER_TOKEN.items():
        size = {**IGPT[name], "objective": "autoregressive"}
        if all(getattr(model, key) == value for key, value in size.items()):
            return nats
    return None


def count_parameters(
    *,
    vocabulary_size: int,
    sequence_length: int,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    objective: str = "autoregressive",
    head: str = "zeros",
) -> int:
    """Number of weights of an `IGPT`, without building it.

    `L (12 D^2 + 2 D) + D + N D + 2 V D`, and `D` more for the start token of
    the autoregressive objective; `V D` less if the head is tied.

    Args:
        vocabulary_size: int, `V`.
        sequence_length: int, `N`.
        num_layers: int, `L`.
        num_heads: int, which does not matter: a preset can be passed whole.
        hidden_dim: int, `D`.
        objective: as of `IGPT`. Defaults to `"autoregressive"`.
        head: as of `IGPT`. Defaults to `"zeros"`.
    """
    blocks = num_layers * (12 * hidden_dim**2 + 2 * hidden_dim)
    matrices = 1 if head == "tied" else 2
    tables = (sequence_length + matrices * vocabulary_size) * hidden_dim
    start = hidden_dim if objective == "autoregressive" else 0
    return blocks + hidden_dim + tables + start


def count_training_flops(
    *,
    vocabulary_size: int,
    sequence_length: int,
    num_layers: int,
    hidden_dim: int,
    batch_size: int,
) -> float:
    """Floating-point operations of one training step.

    Six per matrix weight and token (forward and backward), and the full
    `N x N` attention products: `6 (12 L D^2 + V D) + 12 L N D` per token.
    Kernels that skip the masked half of causal attention do less.

    Args:
        vocabulary_size: int, `V`.
        sequence_length: int, `N`.
        num_layers: int, `L`.
        hidden_dim: int, `D`.
        batch_size: int. Images in a batch.
    """
    matrices = 12 * num_layers * hidden_dim**2 + vocabulary_size * hidden_dim
    attention = 12 * num_layers * sequence_length * hidden_dim
    return (6 * matrices + attention) * float(batch_size * sequence_length)
