import pytest

from igpt_keras.training import search_learning_rate

RATES = (0.01, 0.003, 0.001, 0.0003, 0.0001)


@pytest.mark.parametrize(
    "values, mode, best, tried",
    [
        # The first minimum, not the least of all.
        ([None, 2.3, 2.1, 2.2, 2.0], "min", 0.001, 4),
        ([2.3, float("nan"), 2.0, 2.0, 2.0], "min", 0.01, 2),
        ([float("nan"), 0.1, 0.2, 0.1, 0.3], "max", 0.001, 4),
        ([2.0, 2.1, 1.0, 1.0, 1.0], "min", 0.01, 2),
        # Divergence is worse, also after a better one.
        ([2.0, None, 1.0, 1.0, 1.0], "min", 0.01, 2),
        ([None] * 5, "min", None, 5),
        # As good is no worse.
        ([2.0, 2.0, 1.0, 1.0, 1.0], "min", 0.001, 5),
        ([0.1, 0.1, 0.05, 0.9, 0.9], "max", 0.01, 3),
        ([5.0, 4.0, 3.0, 2.0, 1.0], "min", 0.0001, 5),
        ([0.5, 0.7, 0.6, 0.9, 0.9], "max", 0.003, 3),
        ([None, 0.0, 0.1, 0.05, 0.9], "max", 0.001, 4),
    ],
)
def test_stops_at_the_first_optimum(values, mode, best, tried):
    asked = []

    def trial(rate):
        asked.append(rate)
        return values[RATES.index(rate)]

    found, trials = search_learning_rate(RATES, trial, mode)
    assert found == best and asked == list(RATES[:tried])
    values = [None if value != value else value for value in values]
    expected = zip(RATES[:tried], values)
    assert trials == [{"learning_rate": r, "value": v} for r, v in expected]
