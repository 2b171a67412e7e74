"""What a Hugging Face Image GPT directory holds, and where ours is in it."""

import json

import numpy as np

from igpt_keras.conversion.named_tensor import NamedTensor
from igpt_keras.models.igpt_classifier import IGPTClassifier
from igpt_keras.models.resize_positions import resize_positions

CONFIG = "config.json"
PROCESSOR = "preprocessor_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# `ImageGPTConfig`'s defaults: what a key that is left out means.
_DEFAULTS = {
    "vocab_size": 513,
    "n_positions": 1024,
    "n_embd": 512,
    "n_layer": 24,
    "n_head": 8,
}
# The settings under which Hugging Face's network is Image GPT's.
_REQUIRED = {
    "activation_function": "quick_gelu",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": False,
}


def read_sizes(directory):
    path = directory / CONFIG
    config = read_json(path)
    if config.get("model_type") != "imagegpt":
        raise ValueError(
            f"{path} has the model_type {config.get('model_type')!r}, expected "
            "'imagegpt'. A directory of `save_to_preset` is opened by "
            "`IGPT.from_preset`."
        )
    for key, value in _REQUIRED.items():
        if config.get(key, value) != value:
            raise ValueError(
                f"{path} sets {key}={config[key]!r}. Image GPT is the network "
                f"with {value!r}; with another value it computes something "
                "else."
            )
    sizes = {}
    for key, default in _DEFAULTS.items():
        sizes[key] = config.get(key, default)
        if not isinstance(sizes[key], int) or sizes[key] < 1:
            raise ValueError(
                f"{path}: {key} must be a positive int, is {sizes[key]!r}."
            )
    if config.get("n_inner") not in (None, 4 * sizes["n_embd"]):
        raise ValueError(
            f"{path} sets n_inner={config['n_inner']}. Image GPT's MLP is four "
            f"times as wide as n_embd={sizes['n_embd']}."
        )
    return {
        # One row of theirs is the start token.
        "vocabulary_size": sizes["vocab_size"] - 1,
        "sequence_length": sizes["n_positions"],
        "num_layers": sizes["n_layer"],
        "num_heads": sizes["n_head"],
        "hidden_dim": sizes["n_embd"],
    }


def build_config(model):
    igpt = getattr(model, "igpt", model)
    config = {
        "architectures": ["ImageGPTForCausalImageModeling"],
        "model_type": "imagegpt",
        "vocab_size": igpt.vocabulary_size + 1,
        "n_positions": igpt.sequence_length,
        "n_embd": igpt.hidden_dim,
        "n_layer": igpt.num_layers,
        "n_head": igpt.num_heads,
        # Image GPT has no dropout; theirs defaults to 0.1.
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        **_REQUIRED,
    }
    if isinstance(model, IGPTClassifier):
        names = {i: f"LABEL_{i}" for i in range(model.num_classes)}
        config["architectures"] = ["ImageGPTForImageClassification"]
        config["id2label"] = names
        config["label2id"] = {name: i for i, name in names.items()}
    return config


def named_tensors(model, positions):
    """Every tensor of Hugging Face's network, and what of ours is in it."""
    igpt = getattr(model, "igpt", model)
    vocabulary, width = igpt.vocabulary_size, igpt.hidden_dim
    embedding = igpt.embedding

    def tensor(name, shape, *parts):
        return NamedTensor(name, shape, parts)

    def same(array):
        return array

    def rows(start, stop):
        return lambda array: array[start:stop]

    def columns(start, stop):
        return lambda array: array[:, start:stop]

    def resized(array):
        return resize_positions(array, igpt.sequence_length)

    fits = positions == igpt.sequence_length
    tensors = [
        tensor(
            "transformer.wte.weight",
            (vocabulary + 1, width),
            (embedding.token_embedding, rows(0, vocabulary)),
            (embedding.start_embedding, rows(vocabulary, vocabulary + 1)),
        ),
        tensor(
            "transformer.wpe.weight",
            (positions, width),
            (embedding.position_embedding, same if fits else resized),
        ),
        tensor(
            "transformer.ln_f.weight", (width,), (igpt.final_norm.scale, same)
        ),
        tensor(
            "lm_head.weight",
            (vocabulary, width),
            (igpt.head.kernel, np.transpose),
        ),
    ]
    for i, block in enumerate(igpt.blocks):
        attention = block.attention
        projections = tuple(
            (projection.kernel, columns(k * width, (k + 1) * width))
            for k, projection in enumerate(
                (attention.query, attention.key, attention.value)
            )
        )
        for name, shape, parts in (
            ("ln_1.weight", (width,), [(block.attention_norm.scale, same)]),
            ("ln_2.weight", (width,), [(block.mlp_norm.scale, same)]),
            ("attn.c_attn.weight", (width, 3 * width), projections),
            ("attn.c_attn.bias", (3 * width,), []),
            (
                "attn.c_proj.weight",
                (width, width),
                [(attention.output_projection.kernel, same)],
            ),
            ("attn.c_proj.bias", (width,), []),
            (
                "mlp.c_fc.weight",
                (width, 4 * width),
                [(block.mlp_up.kernel, same)],
            ),
            ("mlp.c_fc.bias", (4 * width,), []),
            (
                "mlp.c_proj.weight",
                (4 * width, width),
                [(block.mlp_down.kernel, same)],
            ),
            ("mlp.c_proj.bias", (width,), []),
        ):
            tensors.append(tensor(f"transformer.h.{i}.{name}", shape, *parts))
    if isinstance(model, IGPTClassifier):
        shape = (model.num_classes, width)
        head = (model.class_head.kernel, np.transpose)
        tensors.append(tensor("score.weight", shape, head))
    return tensors


def read_json(path):
    if not path.is_file():
        raise ValueError(f"No {path.name} in {path.parent}.")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it is no JSON object.")
    return content
