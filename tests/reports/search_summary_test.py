import pytest

from igpt_keras import reports


@pytest.mark.parametrize(
    "values, end",
    [
        ([1.0, 2.0], "highest"),
        ([3.0, 2.0, 1.0], "lowest"),
        ([3.0, 1.0, 2.0], None),
        # What diverged was tried.
        ([None, 1.0, 2.0], None),
        ([1.0], "lowest"),
    ],
)
def test_says_where_the_search_went_not_far_enough(values, end):
    rates = ["0.01", "0.003", "0.001"]
    trials = [
        {"learning_rate": rate, "value": value}
        for rate, value in zip(rates, values)
    ]
    best = rates[values.index(1.0)]
    found = {"metric": "loss", "best": best, "trials": trials}
    text = reports.search_summary(found, "learning_rate", "runs/search")
    assert f"The best run is runs/search/learning_rate_{best}.\n" in text
    if end is None:
        assert "may be better" not in text
    else:
        assert f"is the {end} that was tried: one beyond it may be" in text
