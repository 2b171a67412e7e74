import keras
import numpy as np
import pytest
import reference
from tiny import array
from tiny import check_std

from igpt_keras.layers import TransformerBlock
from igpt_keras.layers.transformer_block import quick_gelu


@pytest.mark.each_backend
def test_is_the_identity_when_both_branches_end_in_zeros():
    block = TransformerBlock(num_heads=2, num_layers=1)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32") + 5
    block(x)
    for layer in (block.attention.output_projection, block.mlp_down):
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    np.testing.assert_array_equal(array(block(x)), x)


@pytest.mark.each_backend
@pytest.mark.parametrize("scale, offset", [(1.0, 5.0), (1e-3, 0.0)])
def test_norm_is_root_mean_square_with_epsilon_1e_5(scale, offset):
    block = TransformerBlock(num_heads=2, num_layers=1)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)) * scale + offset
    x = x.astype("float32")
    block(x)
    for norm in (block.attention_norm, block.mlp_norm):
        expected = reference.rms_norm(x.astype("float64"), 1.0)
        np.testing.assert_allclose(array(norm(x)), expected, atol=1e-6)


@pytest.mark.each_backend
def test_quick_gelu():
    x = np.linspace(-4, 4, 41).astype("float32")
    expected = reference.quick_gelu(x.astype("float64"))
    np.testing.assert_allclose(array(quick_gelu(x)), expected, atol=1e-6)
    assert abs(float(quick_gelu(np.float32(1))) - 0.845795) < 1e-6


def test_mlp_starts_from_002_at_any_depth():
    block = TransformerBlock(num_heads=2, num_layers=48)
    block.build((None, 5, 128))
    check_std(block.mlp_up.kernel, 0.02)
    check_std(block.mlp_down.kernel, 0.02)


@pytest.mark.each_backend
def test_has_no_biases_and_no_dropout():
    block = TransformerBlock(num_heads=2, num_layers=1)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    np.testing.assert_array_equal(
        array(block(x, training=True)), array(block(x, training=False))
    )
    assert block.count_params() == 12 * 8**2 + 2 * 8


def test_decoding_equals_the_whole_sequence():
    block = TransformerBlock(num_heads=2, num_layers=1)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    expected = array(block(x))
    keys = values = keras.ops.zeros((2, 2, 5, 4))
    for i in range(5):
        output, keys, values = block.decode(x[:, i : i + 1], keys, values, i)
        np.testing.assert_allclose(
            array(output)[:, 0], expected[:, i], atol=1e-5
        )


@pytest.mark.each_backend
def test_config_round_trip():
    block = TransformerBlock(num_heads=2, num_layers=5, causal=False)
    copy = TransformerBlock.from_config(block.get_config())
    assert copy.get_config() == block.get_config()
