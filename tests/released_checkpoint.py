"""Writes checkpoints as the released TensorFlow 1 code's Saver does."""

import numpy as np
import tensorflow as tf

SIZE = {"vocabulary": 11, "length": 16, "layers": 3, "heads": 3, "width": 15}


def variables(bert=False, classes=None, seed=0, size=SIZE):
    """Random variables by name, with the released code's names and shapes."""
    width, heads = size["width"], size["heads"]
    projection = (heads, width // heads, width)
    shapes = {
        "wpe": (size["length"], width),
        "wte": (size["vocabulary"], width),
        "wtet": (size["vocabulary"], width),
        "ln_f/g": (width,),
    }
    if not bert:
        shapes["sos"] = (width,)
    if classes:
        shapes["clf/wclf"] = (classes, width)
    for i in range(size["layers"]):
        for name in ("k", "q", "v", "c"):
            shapes[f"h{i}/attn/{name}_proj"] = projection
        shapes[f"h{i}/ln_1/g"] = shapes[f"h{i}/ln_2/g"] = (width,)
        shapes[f"h{i}/mlp/c_fc/w"] = (width, 4 * width)
        shapes[f"h{i}/mlp/c_proj/w"] = (4 * width, width)
    generator = np.random.default_rng(seed)

    def draw(name, shape):
        values = 0.3 * generator.standard_normal(shape, "float32")
        return values + 1 if name.endswith("/g") else values

    return {f"model/{name}": draw(name, s) for name, s in shapes.items()}


def adam_slots(weights):
    """What a training run adds to its checkpoint."""
    slots = {"global_step": np.int64(7), "beta1_power": np.float32(0.9)}
    for name, value in weights.items():
        slots[f"{name}/Adam"] = slots[f"{name}/Adam_1"] = np.ones_like(value)
    return slots


def write(prefix, weights, shards=1):
    """Writes `PREFIX.index` and `shards` data files."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    names = list(weights)
    parts = []
    for shard in range(shards):
        part = f"{prefix}_temp/part-{shard:05d}-of-{shards:05d}"
        chosen = names[shard::shards]
        tf.raw_ops.SaveV2(
            prefix=part,
            tensor_names=chosen,
            shape_and_slices=[""] * len(chosen),
            tensors=[tf.constant(weights[name]) for name in chosen],
        )
        parts.append(part)
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(prefix)
    )
    return prefix
