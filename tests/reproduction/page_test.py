import numpy as np
import pytest

from igpt_keras.reproduction.page import number
from igpt_keras.reproduction.page import percent
from igpt_keras.reproduction.page import trend


@pytest.mark.parametrize(
    "one, other, images, verdict",
    [
        # Two binomial standard errors of 10,000 images are 1.4 points.
        ([0.52], [0.50], 10_000, "shown"),
        ([0.51], [0.50], 10_000, "cannot be told"),
        ([0.48], [0.50], 10_000, "not shown"),
        ([0.52], [], 10_000, "not measured"),
        ([0.9], [0.5], None, "one seed"),
        # Seeds that differ by more than what is claimed.
        ([0.40, 0.60], [0.45, 0.50], 10_000, "cannot be told"),
        ([2.31, 2.32, 2.33], [2.20, 2.21, 2.22], None, "shown"),
    ],
)
def test_a_trend_needs_two_standard_errors(one, other, images, verdict):
    found = trend("more", one, other, images)
    assert (found["statement"], found["verdict"]) == ("more", verdict)
    if other:
        difference = np.mean(one) - np.mean(other)
        np.testing.assert_allclose(found["difference"], difference)


def test_the_larger_error_counts():
    binomial = np.sqrt((0.6 * 0.4 + 0.5 * 0.5) / 100)
    found = trend("more", [0.6, 0.6], [0.5, 0.5], 100)
    np.testing.assert_allclose(found["standard_error"], binomial)
    found = trend("more", [0.3, 0.9], [0.5, 0.5], 100)
    seeds = np.std([0.3, 0.9], ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(found["standard_error"], seeds)


def test_cells():
    assert percent([]) is None and number([]) is None
    assert percent([0.4567]) == "45.7"
    assert percent([-0.0002]) == "0.0"
    assert percent([0.4, 0.5, 0.6]) == "50.0 +- 10.0"
    assert number([2.0, 2.2]) == "2.1000 +- 0.1414"
