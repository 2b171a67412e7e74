import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from igpt_keras.data import mask_tokens  # noqa: E402

TOKEN_IDS = np.arange(64 * 100, dtype="int32").reshape(64, 100)


def masks(count=4, **arguments):
    dataset = tf.data.Dataset.from_tensors((TOKEN_IDS, np.zeros(64)))
    batches = mask_tokens(dataset.repeat(count), **arguments)
    result = []
    for inputs, targets in batches.as_numpy_iterator():
        np.testing.assert_array_equal(inputs["token_ids"], TOKEN_IDS)
        np.testing.assert_array_equal(targets, TOKEN_IDS)
        result.append(inputs["mask"])
    return np.array(result)


def test_rate_and_independence():
    drawn = masks(mask_rate=0.15)
    assert drawn.dtype == np.int32 and drawn.shape == (4, 64, 100)
    error = np.sqrt(0.15 * 0.85 / drawn.size)
    assert abs(drawn.mean() - 0.15) < 4 * error
    # Steps, images and both halves of a batch (two replicas) differ.
    assert len(np.unique(drawn.reshape(256, 100), axis=0)) == 256


def test_seed_and_step_fix_the_mask():
    drawn = masks(seed=1)
    np.testing.assert_array_equal(drawn, masks(seed=1))
    np.testing.assert_array_equal(drawn[2:], masks(2, seed=1, start_step=2))
    assert not np.array_equal(drawn, masks(seed=2))


def test_edges_and_bad_rates():
    assert not masks(mask_rate=0.0).any()
    assert masks(mask_rate=1.0).all()
    with pytest.raises(ValueError, match=r"mask_rate must be in \[0, 1\]"):
        masks(mask_rate=1.5)
