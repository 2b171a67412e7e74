"""Network sizes and the paper's training settings, as plain data.

Sizes: `igpt_s`, `igpt_m`, `igpt_l` are the released networks. `igpt_xl` was
never released and its head count never published: 32 heads keep the head
width of `igpt_l` (96). The others are ours, named by size, for CPUs and small
images.

All sizes are given for 32x32 images on the 512-colour palette; override
`sequence_length` and `vocabulary_size` for anything else.
"""

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

# Section 3.4 and Table 5. `igpt_xl` follows the second version of the paper
# in batch size and steps; its learning rate is not published, so the one of
# `igpt_l` stands in. The small sizes' learning rates are ours.
_PAPER = {"batch_size": 128, "steps": 1_000_000}
PRETRAINING = {
    "igpt_nano": {
        "batch_size": 64,
        "steps": 1_200,
        "learning_rate": {"autoregressive": 5e-3, "bert": 5e-3},
    },
    "igpt_micro": {
        "batch_size": 64,
        "steps": 2_400,
        "learning_rate": {"autoregressive": 3e-3, "bert": 3e-3},
    },
    "igpt_mini": {
        "batch_size": 128,
        "steps": 8_000,
        "learning_rate": {"autoregressive": 3e-3, "bert": 3e-3},
    },
    "igpt_s": {
        **_PAPER,
        "learning_rate": {"autoregressive": 3e-3, "bert": 1e-2},
    },
    "igpt_m": {
        **_PAPER,
        "learning_rate": {"autoregressive": 3e-3, "bert": 3e-3},
    },
    "igpt_l": {
        **_PAPER,
        "learning_rate": {"autoregressive": 1e-3, "bert": 1e-3},
    },
    "igpt_xl": {
        "batch_size": 64,
        "steps": 2_000_000,
        "learning_rate": {"autoregressive": 1e-3, "bert": 1e-3},
    },
}

# What the README of the released code reports for the checkpoints of step
# 1,000,000 on `imagenet_teX.npy`.
RELEASED_NATS_PER_TOKEN = {
    "igpt_s": 2.0895,
    "igpt_m": 2.0614,
    "igpt_l": 2.0466,
}

# Section 3.4, the same for every size.
ADAM_BETA_1 = 0.9
ADAM_BETA_2 = 0.95
BERT_MASK_RATE = 0.15


def count_parameters(
    *,
    vocabulary_size: int,
    sequence_length: int,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    objective: str = "autoregressive",
) -> int:
    """Number of weights of an `IGPT`, without building it.

    `L (12 D^2 + 2 D) + D + N D + 2 V D`, and `D` more for the start token of
    the autoregressive objective. `num_heads` does not matter; it is taken so
    that a preset can be passed whole.
    """
    blocks = num_layers * (12 * hidden_dim**2 + 2 * hidden_dim)
    tables = (sequence_length + 2 * vocabulary_size) * hidden_dim
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
    """
    matrices = 12 * num_layers * hidden_dim**2 + vocabulary_size * hidden_dim
    attention = 12 * num_layers * sequence_length * hidden_dim
    return (6 * matrices + attention) * float(batch_size * sequence_length)


def estimate_training_memory(
    *,
    vocabulary_size: int,
    sequence_length: int,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    batch_size: int,
) -> int:
    """Bytes that training in float32 without rematerialisation needs, roughly.

    16 bytes a weight (weight, gradient, two Adam moments); per image, layer
    and token about 24 vectors of width `D` and, as attention materialises
    them, three `heads x N` rows of scores; logits and their gradient. An
    estimate to choose a batch size by: allocators add to it.
    """
    weights = 16 * count_parameters(
        vocabulary_size=vocabulary_size,
        sequence_length=sequence_length,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
    )
    per_token = num_layers * (24 * hidden_dim + 3 * num_heads * sequence_length)
    activations = (
        4 * batch_size * sequence_length * (per_token + 3 * vocabulary_size)
    )
    return weights + activations
