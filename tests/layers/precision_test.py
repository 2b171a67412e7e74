"""Statistics of norms and softmax are float32 under mixed policies."""

import keras
import numpy as np
import pytest
import reference
from tiny import array

from igpt_keras.layers import TransformerBlock
from igpt_keras.layers.self_attention import SelfAttention

TYPES = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def rounded(x, dtype):
    """To the values of a type, in float32."""
    return array(keras.ops.cast(keras.ops.cast(x, dtype), "float32"))


@pytest.mark.parametrize("policy, dtype", TYPES.items())
def test_norm_rounds_once(policy, dtype):
    """Its output is the exact one to the nearest number of the type."""
    block = TransformerBlock(num_heads=2, num_layers=1, dtype=policy)
    block.build((None, 5, 256))
    x = np.random.default_rng(0).normal(size=(4, 5, 256)) * 3
    x = rounded(x.astype("float32"), dtype)
    exact = reference.rms_norm(x.astype("float64"), 1.0).astype("float32")
    nearest = rounded(exact, dtype)
    # What the type itself would make of it.
    square = rounded(x * x, dtype)
    mean = rounded(square.mean(axis=-1, keepdims=True), dtype)
    rough = rounded(x * rounded(1 / np.sqrt(mean), dtype), dtype)
    assert (rough == nearest).mean() < 0.9
    for norm in (block.attention_norm, block.mlp_norm):
        found = norm(keras.ops.cast(x, dtype))
        assert keras.backend.standardize_dtype(found.dtype) == dtype
        assert (rounded(found, "float32") == nearest).mean() > 0.999


def test_norm_does_not_overflow():
    """Squares of 300 are more than float16 has."""
    block = TransformerBlock(num_heads=2, num_layers=1, dtype="mixed_float16")
    block.build((None, 5, 8))
    x = keras.ops.full((1, 5, 8), 300, dtype="float16")
    np.testing.assert_array_equal(array(block.mlp_norm(x)), np.ones((1, 5, 8)))


@pytest.mark.parametrize("policy, dtype", TYPES.items())
def test_softmax_of_scores_that_the_type_has_not(policy, dtype):
    """Whole scores, times `3 ** -0.5`."""
    layer = SelfAttention(1, 1, causal=False, dtype=policy)
    layer.build((None, 16, 3))
    for i, projection in enumerate((layer.query, layer.key, layer.value)):
        # Of the input's number i, and zeros.
        kernel = np.zeros((3, 1, 3))
        kernel[i, 0, 0] = 1
        projection.kernel.assign(kernel)
    layer.output_projection.kernel.assign(np.eye(3)[None])
    most = 255 if dtype == "bfloat16" else 2047
    scores = (most - np.arange(16)).astype("float32")
    values = np.where(np.arange(16) % 2, 1, -1).astype("float32")
    x = np.stack([np.ones(16), scores, values], axis=-1)[None]
    np.testing.assert_array_equal(rounded(x, dtype), x)

    def attend(scores):
        share = np.exp(scores - scores.max())
        return (share * values).sum() / share.sum()

    expected = attend(scores * 3**-0.5)
    assert abs(attend(rounded(scores * 3**-0.5, dtype)) - expected) > 0.05
    found = array(layer(keras.ops.cast(x, dtype))).astype("float32")
    np.testing.assert_allclose(found[0, :, 0], expected, atol=0.005)
