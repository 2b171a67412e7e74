import keras
import numpy as np
import pytest
import tiny
from keras import ops

from igpt_keras.codec import exact_network
from igpt_keras.codec.exact_network import ExactNetwork
from igpt_keras.layers import TransformerBlock


@keras.saving.register_keras_serializable(package="exact")
class OwnBlock(TransformerBlock):
    def activation(self, x):
        return ops.relu(x)


def conditionals(model, token_ids):
    """What the network gives for each position, float64 `(B, N, V)`."""
    network = ExactNetwork(model)
    network.begin(len(token_ids))
    found = [network.next()]
    found += [network.next(token) for token in token_ids.T[:-1]]
    return np.stack(found, axis=1)


@pytest.mark.parametrize("head", ["zeros", "tied"])
def test_conditionals_are_the_models(head):
    model = tiny.model(head=head)
    token_ids = tiny.token_ids()
    found = conditionals(model, token_ids)
    found /= found.sum(axis=-1, keepdims=True)
    expected = tiny.array(ops.softmax(model(token_ids)))
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bits_do_not_depend_on_the_batch():
    """Where other products are computed in another order."""
    model = tiny.model(num_heads=4, hidden_dim=64, scale=0.1)
    token_ids = tiny.token_ids(9)
    together = conditionals(model, token_ids)
    parts = [conditionals(model, rows) for rows in (token_ids[:1], token_ids)]
    np.testing.assert_array_equal(parts[0], together[:1])
    np.testing.assert_array_equal(parts[1], together)


def test_products_are_sums_in_any_order():
    """Of 4,096 products: forwards, backwards and in halves."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 4096))
    kernel = generator.normal(size=(4096, 5))
    matrix, largest = exact_network._matrix(kernel, 4096)
    found = exact_network._product(x, (matrix, largest))
    back = exact_network._product(x[:, ::-1], (matrix[::-1], largest))
    np.testing.assert_array_equal(found, back)
    halves = [
        exact_network._product(x[:, part], (matrix[part], largest))
        for part in (slice(0, 2048), slice(2048, None))
    ]
    np.testing.assert_array_equal(found, halves[0] + halves[1])
    np.testing.assert_allclose(found, x @ kernel, atol=1e-2)


def test_exponential():
    x = np.linspace(-650, 650, 100_001)
    np.testing.assert_allclose(exact_network._exp(x), np.exp(x), rtol=2e-15)
    assert np.isfinite(exact_network._exp(np.array([-1e9, 1e9]))).all()


def test_what_cannot_be_exact_is_refused():
    model = tiny.model()
    kernel = model.blocks[0].attention.query.kernel
    kernel.assign(kernel * 1e6)
    with pytest.raises(ValueError, match="too large to be summed exactly"):
        conditionals(model, tiny.token_ids())
    kernel.assign(kernel * np.nan)
    with pytest.raises(ValueError, match="finite"):
        ExactNetwork(model)
    own = tiny.model(block=OwnBlock)
    with pytest.raises(ValueError, match="from exact>OwnBlock, and a codec"):
        ExactNetwork(own)
    with pytest.raises(ValueError, match="autoregressive"):
        ExactNetwork(tiny.model("bert"))
