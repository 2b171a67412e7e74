import numpy as np
import pytest

from igpt_keras.data.split_assignment import assign_splits


def counts(sizes, test_share=0.2, validation_share=0.1):
    """Test and validation images of each class."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(0).shuffle(labels)
    splits = assign_splits(labels, test_share, validation_share)
    return [
        np.bincount(labels[splits == split], minlength=len(sizes))
        for split in ("test", "validation")
    ]


def test_classes_large_enough_round_their_own_shares():
    test, validation = counts([50, 57, 100])
    assert test.tolist() == [10, 11, 20]
    assert validation.tolist() == [4, 5, 8]


@pytest.mark.parametrize(
    "sizes",
    [[10] + 100 * [2], 100 * [2] + [10], 50 * [6], 300 * [1] + 2 * [5], [9, 1]],
)
def test_small_classes_give_their_share_together(sizes):
    test, validation = counts(sizes)
    total = sum(sizes)
    assert abs(test.sum() - 0.2 * total) <= 0.5
    assert abs(validation.sum() - 0.1 * (total - test.sum())) <= 0.5
    assert (test + validation <= sizes).all()
    assert abs(test - 0.2 * np.array(sizes)).max() <= 1


def test_classes_too_small_for_any_are_split_as_one():
    test, validation = counts(40 * [4])
    assert (test.sum(), validation.sum()) == (32, 13)


def test_no_share_and_no_examples():
    assert set(assign_splits(np.zeros(9), 0, 0)) == {"train"}
    assert len(assign_splits(np.zeros(0), 0.2, 0.1)) == 0
