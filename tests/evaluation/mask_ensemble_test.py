import numpy as np
import pytest

from igpt_keras.evaluation import mask_ensemble
from igpt_keras.evaluation import modal_prediction


def test_most_masks_decide():
    votes = [[4, 1, 7], [4, 2, 7], [0, 2, 7], [4, 2, 1], [3, 1, 1]]
    np.testing.assert_array_equal(modal_prediction(votes), [4, 2, 7])
    np.testing.assert_array_equal(modal_prediction([[5, 3]]), [5, 3])


def test_ties_are_drawn_evenly_and_by_the_seed():
    """Two classes of two votes each and one of one, for many images."""
    votes = np.repeat([[8], [2], [5], [2], [8]], 4000, axis=1)
    found = modal_prediction(votes, seed=1)
    assert set(found) == {2, 8}
    # Four standard errors of a fair coin.
    assert abs((found == 2).mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    np.testing.assert_array_equal(found, modal_prediction(votes, seed=1))
    assert (found != modal_prediction(votes, seed=2)).any()


def test_accuracies():
    votes = [[0, 1, 1], [0, 0, 2], [1, 1, 2]]
    found = mask_ensemble(votes, unmasked=[1, 1, 2], labels=[0, 1, 2])
    assert found["num_masks"] == 3
    np.testing.assert_allclose(found["one_mask_accuracy"], 6 / 9)
    deviation = np.std([2 / 3, 2 / 3, 2 / 3], ddof=1)
    np.testing.assert_allclose(found["one_mask_deviation"], deviation)
    assert found["ensemble_accuracy"] == 1
    np.testing.assert_allclose(found["no_mask_accuracy"], 2 / 3)
    alone = mask_ensemble(votes[:1], [0, 0, 0], [0, 1, 2])
    assert alone["one_mask_deviation"] == 0
    assert alone["ensemble_accuracy"] == alone["one_mask_accuracy"]


def test_refuses_what_is_no_vote():
    for votes in ([1, 2, 3], np.zeros((0, 4))):
        with pytest.raises(ValueError, match="must be .masks, images."):
            modal_prediction(votes)
