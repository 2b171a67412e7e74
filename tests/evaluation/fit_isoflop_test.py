"""Curves of budgets and lines through them, against made-up truth."""

import numpy as np
import pytest

from igpt_keras.evaluation import fit_isoflop

SIZES = np.geomspace(1e4, 1e6, 5)
BUDGETS = (1e12, 3e12, 9e12)


def study(exponent=0.4, noise=0.0, seed=0, budgets=BUDGETS, sizes=SIZES):
    """Columns of a study whose optimal size grows as C^exponent."""
    generator = np.random.default_rng(seed)
    rows = []
    for budget in budgets:
        best = 5 + exponent * np.log10(budget / 3e12)
        lowest = 2 - 0.1 * np.log10(budget)
        for size in sizes:
            loss = lowest + 0.1 * (np.log10(size) - best) ** 2
            loss += noise * generator.normal()
            rows.append((budget, size, budget / (6 * size), loss))
    return np.array(rows).T


@pytest.mark.parametrize("mode, sign", [("min", 1), ("max", -1)])
@pytest.mark.parametrize("exponent", [0.4, 0.7])
def test_exponents_come_back(exponent, mode, sign):
    *columns, losses = study(exponent)
    found = fit_isoflop(*columns, sign * losses, mode, draws=50)
    np.testing.assert_allclose(found["parameters"]["exponent"], exponent)
    np.testing.assert_allclose(found["tokens"]["exponent"], 1 - exponent)
    for curve, budget in zip(found["curves"], BUDGETS):
        assert (curve["budget"], curve["sizes"]) == (budget, 5)
        best = 1e5 * (budget / 3e12) ** exponent
        np.testing.assert_allclose(curve["parameters"], best)
        np.testing.assert_allclose(curve["tokens"], budget / (6 * best))
        lowest = 2 - 0.1 * np.log10(budget)
        np.testing.assert_allclose(curve["value"], sign * lowest)
        np.testing.assert_allclose(
            np.polyval(curve["coefficients"], np.log10(SIZES)),
            sign * losses[columns[0] == budget],
        )
        assert curve["reason"] is None
    # The line goes through the optima.
    line = found["parameters"]
    on_line = line["intercept"] + exponent * np.log10(3e12)
    np.testing.assert_allclose(on_line, 5)
    assert found["parameters"]["reason"] is found["tokens"]["reason"] is None


@pytest.mark.parametrize("noise", [0.001, 0.01])
def test_intervals_cover_the_truth(noise):
    """95 of a hundred, but that so few residuals are not all there are."""
    covered, optima, widths = [], [], []
    for seed in range(100):
        found = fit_isoflop(*study(0.4, noise, seed), draws=300, seed=seed)
        for what, truth in (("parameters", 0.4), ("tokens", 0.6)):
            low, high = found[what]["interval"]
            covered.append(low <= truth <= high)
        widths.append(high - low)
        for curve in found["curves"]:
            low, high = curve["parameters_interval"]
            best = 1e5 * (curve["budget"] / 3e12) ** 0.4
            optima.append(low <= best <= high)
    assert 0.87 <= np.mean(covered) <= 0.99
    assert 0.87 <= np.mean(optima) <= 0.99
    # They say something: a tenth of noise has an interval a tenth as wide.
    assert np.mean(widths) < 30 * noise


def test_intervals_are_of_the_seed():
    columns = study(noise=0.003)
    one, again, other = (
        fit_isoflop(*columns, draws=100, seed=seed) for seed in (1, 1, 2)
    )
    assert one == again
    assert one["parameters"]["interval"] != other["parameters"]["interval"]
    assert one["parameters"]["exponent"] == other["parameters"]["exponent"]


def test_the_order_of_runs_does_not_matter():
    columns = study()
    shuffled = columns[:, np.random.default_rng(0).permutation(15)]
    for one, other in zip(
        fit_isoflop(*columns)["curves"], fit_isoflop(*shuffled)["curves"]
    ):
        np.testing.assert_allclose(one["parameters"], other["parameters"])
        np.testing.assert_allclose(one["tokens"], other["tokens"])


def test_what_has_no_optimum_is_said_and_left_out():
    budgets, parameters, tokens, losses = study(
        budgets=(1e11, 1e12, 3e12, 9e12)
    )
    # The first opens downwards.
    losses[:5] = 4 - losses[:5]
    found = fit_isoflop(budgets, parameters, tokens, losses)
    reasons = [curve["reason"] for curve in found["curves"]]
    assert reasons == ["no minimum: the curve opens downwards", *[None] * 3]
    assert found["curves"][0]["parameters"] is None
    np.testing.assert_allclose(found["parameters"]["exponent"], 0.4)
    found = fit_isoflop(budgets, parameters, tokens, -losses, "max")
    reason = found["curves"][0]["reason"]
    assert reason == "no maximum: the curve opens upwards"


def test_a_minimum_outside_the_sizes_is_left_out():
    columns = study(budgets=(1e12, 3e12, 1e16))
    found = fit_isoflop(*columns)
    reason = found["curves"][2]["reason"]
    assert "the minimum, at 2.57e+06 parameters, is outside" in reason
    assert "(10,000 to 1,000,000)" in reason
    np.testing.assert_allclose(found["parameters"]["exponent"], 0.4)


@pytest.mark.parametrize(
    "reverse, end", [(False, "smallest"), (True, "largest")]
)
def test_an_end_that_is_the_best_shows_no_optimum(reverse, end):
    """Where the parabola that fits these has its vertex inside."""
    losses = np.array([2.46, 2.64, 3.02, 3.43])
    if reverse:
        losses = losses[::-1]
    sizes = np.array([6208, 30912, 92544, 209536])
    if reverse:
        sizes = 6208 * 209536 / sizes[::-1]
    found = fit_isoflop([1e12] * 4, sizes, 1e12 / sizes, losses)
    reason = found["curves"][0]["reason"]
    assert reason == f"the {end} size is the best: none beyond it is worse"


def test_few_sizes_and_few_budgets():
    columns = study(sizes=SIZES[:2])
    found = fit_isoflop(*columns)
    assert (
        found["curves"][0]["reason"]
        == "sizes trained: 2, and a parabola needs 3"
    )
    assert found["curves"][0]["coefficients"] is None
    reason = found["parameters"]["reason"]
    assert reason == "budgets with an optimum: 0, and a line needs 2"
    assert found["parameters"]["exponent"] is None
    # Parabolas through three points leave nothing to draw from.
    found = fit_isoflop(*study(sizes=SIZES[::2]))
    np.testing.assert_allclose(found["parameters"]["exponent"], 0.4)
    assert found["parameters"]["interval"] is None
    assert "no budget has more than 3 sizes" in found["tokens"]["reason"]
    found = fit_isoflop(*study(budgets=[1e12]))
    assert "budgets with an optimum: 1" in found["tokens"]["reason"]
    assert found["curves"][0]["parameters"] is not None
    empty = fit_isoflop([], [], [], [])
    assert empty["curves"] == [] and empty["tokens"]["exponent"] is None


def test_noise_that_hides_the_curves_has_no_interval():
    found = None
    for seed in range(50):
        found = fit_isoflop(*study(noise=0.3, seed=seed), draws=200)
        if all(curve["reason"] is None for curve in found["curves"]):
            break
    assert found["parameters"]["exponent"] is not None
    assert found["parameters"]["interval"] is None
    assert "of the draws a curve has no optimum" in found["tokens"]["reason"]
    assert found["curves"][0]["parameters_interval"] is None


def test_refuses():
    with pytest.raises(ValueError, match="neither 'min' nor 'max'"):
        fit_isoflop(*study(), "least")
    with pytest.raises(ValueError, match="a size twice"):
        fit_isoflop(*np.repeat(study(), 2, axis=1))
