"""The variables of the released TensorFlow 1 code, and ours that they are."""

import numpy as np

from igpt_keras.conversion.named_tensor import NamedTensor
from igpt_keras.models.igpt_classifier import IGPTClassifier
from igpt_keras.models.resize_positions import resize_positions


def named_tensors(model, positions):
    """Every variable of the released code's graph, and ours that it is."""
    igpt = getattr(model, "igpt", model)
    vocabulary, width = igpt.vocabulary_size, igpt.hidden_dim
    heads = (igpt.num_heads, width // igpt.num_heads, width)

    def same(array):
        return array

    def resized(array):
        return resize_positions(array, igpt.sequence_length)

    def tensor(name, shape, variable, view=same):
        return NamedTensor(f"model/{name}", shape, ((variable, view),))

    embedding = igpt.embedding
    fits = positions == igpt.sequence_length
    tensors = [
        tensor("wte", (vocabulary, width), embedding.token_embedding),
        tensor(
            "wpe",
            (positions, width),
            embedding.position_embedding,
            same if fits else resized,
        ),
        tensor("ln_f/g", (width,), igpt.final_norm.scale),
        tensor("wtet", (vocabulary, width), igpt.head.kernel, np.transpose),
    ]
    if igpt.objective == "autoregressive":
        tensors.append(tensor("sos", (width,), embedding.start_embedding))
    for i, block in enumerate(igpt.blocks):
        attention = block.attention
        out = attention.output_projection.kernel
        tensors += [
            tensor(f"h{i}/ln_1/g", (width,), block.attention_norm.scale),
            tensor(f"h{i}/ln_2/g", (width,), block.mlp_norm.scale),
            tensor(f"h{i}/attn/c_proj", heads, out),
            tensor(f"h{i}/mlp/c_fc/w", (width, 4 * width), block.mlp_up.kernel),
            tensor(
                f"h{i}/mlp/c_proj/w", (4 * width, width), block.mlp_down.kernel
            ),
        ]
        for name in ("query", "key", "value"):
            tensors.append(
                tensor(
                    f"h{i}/attn/{name[0]}_proj",
                    heads,
                    getattr(attention, name).kernel,
                    lambda array: array.transpose(2, 0, 1),
                )
            )
    if isinstance(model, IGPTClassifier):
        shape = (model.num_classes, width)
        kernel = model.class_head.kernel
        tensors.append(tensor("clf/wclf", shape, kernel, np.transpose))
    return tensors


def import_tensorflow(doing):
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            f"{doing} OpenAI's format needs TensorFlow: `pip install "
            "tensorflow`. Convert the checkpoint once with "
            "`tools/convert_checkpoint.py` where it is installed."
        ) from error
    return tf


def first_line(error):
    return str(error).strip().splitlines()[0]
