import numpy as np
import pytest

from igpt_keras.probes.labels import check_labels


@pytest.mark.parametrize(
    "labels",
    [
        [3, 0, 7],
        (3.0, 0.0, 7.0),
        np.array([3, 0, 7], "uint64"),
        np.array([3, 0, 7], "float16"),
    ],
)
def test_whole_numbers_of_any_kind(labels):
    checked = check_labels(labels)
    assert checked.dtype == np.int32
    assert checked.tolist() == [3, 0, 7]


def test_booleans_are_two_classes():
    assert check_labels(np.array([True, False])).tolist() == [1, 0]


@pytest.mark.parametrize(
    "labels, message",
    [
        (["cat", "dog"], "must be integers, received <U3"),
        ([0.0, 1.5], "whole numbers, .* received 1.5"),
        ([0.0, np.nan], "whole numbers, .* received nan"),
        ([0, 2**31], "must fit int32, received 0 to 2147483648"),
        (np.array([0, -(2**40)]), "must fit int32"),
        ([None, 1], "must be integers, received object"),
        (np.eye(3), r"received shape \(3, 3\)"),
        (3, r"received shape \(\)"),
    ],
)
def test_refuses_what_would_be_cut_to_something_else(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels)
