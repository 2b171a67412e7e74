import numpy as np
import pytest

from igpt_keras.probes import hold_out
from igpt_keras.probes import why_no_probe


def test_every_image_is_in_one_part_and_every_class_keeps_its_share():
    generator = np.random.default_rng(0)
    labels = generator.choice([2, 30, 500], size=900, p=[0.7, 0.2, 0.1])
    fit, held_out = hold_out(labels)
    assert sorted([*fit, *held_out]) == list(range(900))
    for label in (2, 30, 500):
        count = (labels == label).sum()
        assert (labels[held_out] == label).sum() == round(count / 3)


def test_is_a_random_sample_of_each_class():
    """Sorted images: neither the first nor the last of a class."""
    labels = np.repeat([0, 1], 3000)
    _, held_out = hold_out(labels)
    for start in (0, 3000):
        places = held_out[(held_out >= start) & (held_out < start + 3000)]
        # Uniform on 0 to 2999: mean 1499.5, standard error 866 / sqrt(1000).
        assert abs(places.mean() - start - 1499.5) < 4 * 866 / np.sqrt(1000)


def test_depends_on_labels_fraction_and_seed_alone():
    labels = np.arange(60) % 4
    np.random.seed(1)
    first = hold_out(labels)
    np.random.seed(2)
    np.testing.assert_array_equal(first[1], hold_out(labels)[1])
    assert not np.array_equal(first[1], hold_out(labels, seed=1)[1])
    assert len(hold_out(labels, fraction=0.2)[1]) == 12


@pytest.mark.parametrize("images", [1, 2, 3, 4])
def test_small_classes_are_fitted_on_first(images):
    labels = np.array([0] * 9 + [1] * images)
    fit, held_out = hold_out(labels)
    assert (labels[fit] == 1).sum() == max(1, images - 1)
    assert (labels[held_out] == 1).sum() == min(1, images - 1)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_no_part_is_empty(fraction):
    labels = np.arange(20) % 5
    for part in hold_out(labels, fraction=fraction):
        assert set(labels[part]) == set(range(5))


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 1],  # a class with one image
        [0, 0, 5, 5],  # classes without any in between
        [7, 7, 990, 990],  # ids of a larger label set, few images
    ],
)
def test_small_and_absent_classes_can_be_probed(labels):
    assert why_no_probe(labels) is None
    hold_out(labels)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([], "there are none"),
        ([-1, -1, -1], "3 of 3 have no label"),
        ([0, 1, -1, 1], "1 of 4 have no label"),
        ([3, 3, 3], "at least two classes, and all 3 have class 3"),
        ([5, 2, 9], "one image of each of 3 classes"),
    ],
)
def test_says_why_not(labels, message):
    assert message in why_no_probe(labels)
    with pytest.raises(ValueError, match=message):
        hold_out(labels)


def test_sets_labelled_differently():
    assert why_no_probe([0, 0, 1], [1, 1, 4]) is None
    assert "None of the 2 images" in why_no_probe([0, 0, 1], [2, 3])


def test_refuses_a_fraction_that_leaves_nothing():
    for fraction in (0, 1, 1.5):
        with pytest.raises(ValueError, match="fraction must be in"):
            hold_out([0, 0, 1, 1], fraction=fraction)
