"""Attention by blocks against NumPy, and against attention at once."""

import gradients
import keras
import numpy as np
import pytest
from keras import ops
from tiny import array

from igpt_keras.layers import blocked_attention

BLOCK = 4
# One position, less than a block, whole blocks, and a rest.


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocked_attention, "block_size", lambda length: BLOCK)
    monkeypatch.setattr(
        blocked_attention, "attends_by_kernel", lambda *_: False
    )


def draw(length):
    """Queries, keys, values and a gradient `(4, B, N, H, K)`."""
    shape = (4, 2, length, 3, 5)
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def in_numpy(queries, keys, values, upstream, causal):
    """Attention in float64, and the gradients of its product with `upstream`.

    By the softmax's Jacobian, row by row.
    """
    q, k, v, u = (
        x.astype("float64").swapaxes(1, 2)
        for x in (queries, keys, values, upstream)
    )
    scale = q.shape[-1] ** -0.5
    scores = q @ k.swapaxes(2, 3) * scale
    if isinstance(causal, np.ndarray):
        scores = np.where(causal, scores, -np.inf)
    elif causal:
        length = q.shape[2]
        seen = np.tril(np.ones((length, length), bool))
        scores = np.where(seen, scores, -np.inf)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p = p / p.sum(axis=-1, keepdims=True)
    jacobian = p[..., None] * np.eye(p.shape[-1])
    jacobian = jacobian - p[..., None] * p[..., None, :]
    of_scores = np.einsum("bhnij,bhnj->bhni", jacobian, u @ v.swapaxes(2, 3))
    found = (
        p @ v,
        of_scores @ k * scale,
        of_scores.swapaxes(2, 3) @ q * scale,
        p.swapaxes(2, 3) @ u,
    )
    return [x.swapaxes(1, 2) for x in found]


def attend(tensors, upstream, causal, dtype="float32", **options):
    """The same of the layer's function; gradients in float32."""

    def attended(tensors):
        queries, keys, values = (ops.cast(tensors[i], dtype) for i in range(3))
        return blocked_attention.attend(
            queries, keys, values, causal, **options
        )

    def product(tensors):
        return ops.sum(ops.cast(attended(tensors), "float32") * upstream)

    found = attended(ops.convert_to_tensor(tensors))
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    return [
        array(ops.cast(found, "float32")),
        *gradients.gradient(product, tensors),
    ]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "length", [1, 3, 8, pytest.param(11, marks=pytest.mark.each_backend)]
)
def test_outputs_and_gradients_are_those_of_numpy(length, causal):
    *tensors, upstream = draw(length)
    expected = in_numpy(*tensors, upstream, causal)
    found = attend(np.stack(tensors), upstream, causal)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_is_what_attending_at_once_is(causal):
    *tensors, _ = draw(11)
    tensors = [ops.convert_to_tensor(x) for x in tensors]
    np.testing.assert_allclose(
        array(blocked_attention.attend(*tensors, causal)),
        array(ops.dot_product_attention(*tensors, is_causal=causal)),
        atol=1e-6,
    )


@pytest.mark.each_backend
def test_a_prefix_sees_itself_whole():
    *tensors, upstream = draw(11)
    lengths = np.array([0, 6], "int32")
    positions = np.arange(11)
    seen = positions <= np.maximum(lengths[:, None], positions)[..., None]
    expected = in_numpy(*tensors, upstream, seen[:, None])
    found = attend(np.stack(tensors), upstream, True, prefix_length=lengths)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=2e-6)
    at_once = ops.dot_product_attention(
        *map(ops.convert_to_tensor, tensors), mask=seen[:, None]
    )
    np.testing.assert_allclose(found[0], array(at_once), atol=1e-6)


@pytest.mark.parametrize("dtype, bits", [("bfloat16", 8), ("float16", 11)])
def test_half_types_are_right_to_their_rounding(dtype, bits):
    *tensors, upstream = draw(6)
    tensors = array(ops.cast(ops.cast(np.stack(tensors), dtype), "float32"))
    expected = in_numpy(*tensors, upstream, True)
    found = attend(tensors, upstream, True, dtype)
    for one, other in zip(found, expected):
        error = np.abs(one - other).max() / np.abs(other).max()
        assert error < 4 * 2.0**-bits


@pytest.mark.compiled
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="others have no graphs"
)
@pytest.mark.parametrize("compiled", [False, True])
def test_in_a_graph_and_under_xla(compiled):
    import tensorflow as tf

    *tensors, upstream = draw(11)

    @tf.function(jit_compile=compiled)
    def run(tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            found = blocked_attention.attend(*tf.unstack(tensors), True)
            product = tf.reduce_sum(found * upstream)
        return found, *tf.unstack(tape.gradient(product, tensors))

    expected = in_numpy(*tensors, upstream, True)
    for one, other in zip(run(tf.stack(tensors)), expected):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.compiled
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="others have whole batches"
)
def test_of_no_image_and_of_unknown_sizes():
    import tensorflow as tf

    # A replica's share of a last batch.
    found = attend(np.zeros((3, 0, 11, 3, 5), "float32"), 1.0, True)
    assert [x.shape for x in found] == [(0, 11, 3, 5)] * 4

    *tensors, _ = draw(11)
    for shape in ((None, 11, 3, 5), (None, None, 3, 5)):
        run = tf.function(
            lambda *x: blocked_attention.attend(*x, True),
            input_signature=[tf.TensorSpec(shape)] * 3,
        )
        np.testing.assert_allclose(
            run(*tensors),
            blocked_attention.attend(*tensors, True),
            atol=1e-6,
        )
