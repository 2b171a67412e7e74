"""Tiny models with weights far from their initial values, for tests."""

import keras
import numpy as np
from PIL import Image

import igpt_keras

# Three heads of width five: a transposed head axis cannot go unnoticed.
SIZE = {
    "vocabulary_size": 11,
    "sequence_length": 16,
    "num_layers": 3,
    "num_heads": 3,
    "hidden_dim": 15,
}


def model(objective="autoregressive", scale=0.3, **overrides):
    """A model with random weights; gains spread around one."""
    built = igpt_keras.IGPT(**{**SIZE, **overrides}, objective=objective)
    generator = np.random.default_rng(1)
    for variable in built.weights:
        value = generator.normal(size=variable.shape) * scale
        is_gain = variable.path.endswith("scale")
        variable.assign(value + 1 if is_gain else value)
    return built


def grey_palette(count=SIZE["vocabulary_size"]):
    """A tokenizer of as many greys."""
    greys = np.repeat(np.linspace(-1, 1, count)[:, None], 3, axis=1)
    return igpt_keras.PaletteTokenizer(greys)


def save_preset(directory, objective="autoregressive"):
    """Saves a `model` of 4x4 images in greys; returns the directory."""
    model(objective).save_to_preset(directory, tokenizer=grey_palette())
    return directory


def save_pictures(directory):
    """Makes a folder of pictures of another size than that preset's."""
    directory.mkdir()
    generator = np.random.default_rng(0)
    for name, mode in (("one", "RGB"), ("two", "L")):
        pixels = generator.integers(0, 256, (9, 12, 3), "uint8")
        picture = Image.fromarray(pixels).convert(mode)
        picture.save(directory / f"{name}.png")
    return directory


def token_ids(batch=4, seed=2, size=SIZE):
    generator = np.random.default_rng(seed)
    shape = (batch, size["sequence_length"])
    return generator.integers(0, size["vocabulary_size"], shape).astype("int32")


def mask(batch=4, seed=3, rate=0.3):
    shape = (batch, SIZE["sequence_length"])
    return np.random.default_rng(seed).random(shape) < rate


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def numpy_weights(built):
    """Weights as `reference.forward` takes them, in float64."""

    def get(variable):
        return array(variable).astype("float64")

    weights = {
        "wte": get(built.embedding.token_embedding),
        "wpe": get(built.embedding.position_embedding),
        "ln_f": get(built.final_norm.scale),
        "head": get(built.head.kernel),
        "blocks": [
            {
                "ln_1": get(block.attention_norm.scale),
                "q": get(block.attention.query.kernel),
                "k": get(block.attention.key.kernel),
                "v": get(block.attention.value.kernel),
                "out": get(block.attention.output_projection.kernel),
                "ln_2": get(block.mlp_norm.scale),
                "up": get(block.mlp_up.kernel),
                "down": get(block.mlp_down.kernel),
            }
            for block in built.blocks
        ],
    }
    if built.objective == "autoregressive":
        weights["sos"] = get(built.embedding.start_embedding)
    return weights


def check_std(variable, expected):
    """Within three standard errors, and not truncated."""
    values = array(variable).ravel()
    error = expected / np.sqrt(2 * values.size)
    assert abs(values.std() - expected) < 3 * error
    assert abs(values.mean()) < 3 * expected / np.sqrt(values.size)
    assert np.abs(values).max() > 3 * expected
