"""What is left out is said, and what is drawn is what was fitted."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from igpt_keras import evaluation
from igpt_keras import reports


def points(budgets=(1e12, 9e12), sizes=5):
    found = []
    for budget in budgets:
        best = 5 + 0.5 * np.log10(budget / 3e12)
        for place, size in enumerate(np.geomspace(1e4, 1e6, sizes)):
            distance = (np.log10(size) - best) ** 2
            found.append(
                {
                    "budget": budget,
                    "num_layers": place + 1,
                    "hidden_dim": 8 * (place + 1),
                    "parameters": round(size),
                    "steps": 1000,
                    "tokens": round(budget / 6 / size),
                    "flops": budget,
                    "state": "over",
                    "validation_nats": 2 + 0.1 * distance,
                    "test_nats": 2.0,
                    "chosen_layer": 1,
                    "validation_accuracy": 0.4 - 0.05 * distance,
                    "test_accuracy": 0.3456,
                    "seconds": 90.0,
                }
            )
    return found


def fits(runs):
    found = {}
    for name, mode in (
        ("validation_nats", "min"),
        ("validation_accuracy", "max"),
    ):
        over = [run for run in runs if run[name] is not None]
        names = ("budget", "parameters", "tokens", name)
        columns = [[run[key] for run in over] for key in names]
        found[name] = evaluation.fit_isoflop(*columns, mode, draws=50)
    return found


def page(directory, runs):
    path = directory / "isoflop.md"
    commands = ["python recipes/isoflop.py", "python recipes/pretrain.py"]
    reports.write_isoflop_page(
        path, "A study", runs, fits(runs), 1800.0, "2 cores", commands
    )
    return path.read_text()


def test_page_of_a_whole_study(tmp_path):
    text = page(tmp_path, points())
    assert "Nothing: all runs are on curves" in text
    assert "| validation nats per token | 2 of 2 | 0.500 | 0.5" in text
    assert "| 1e+12 | 1 x 8 | 10,000 | 1,000 | 16,666,667 | 1e+12 |" in text
    assert "34.6" in text and "30.0 minutes in all, on 2 cores" in text
    assert text.count("python recipes/") == 2


def test_page_of_a_study_with_gaps(tmp_path):
    runs = points(sizes=3)
    none = dict.fromkeys(("validation_nats", "test_nats", "chosen_layer"))
    none |= dict.fromkeys(("validation_accuracy", "test_accuracy"))
    runs[0] |= {**none, "state": "diverged"}
    runs[1] |= {**none, "state": "not over", "seconds": None}
    text = page(tmp_path, runs)
    assert "- 1e+12 FLOPs, 1 x 8: diverged." in text
    assert "- 1e+12 FLOPs, 2 x 16: not over." in text
    assert (
        "- validation nats per token, 1e+12 FLOPs: sizes trained: 1, and a "
        "parabola needs 3." in text
    )
    assert (
        "- validation accuracy of the probe, exponent of N: budgets with an "
        "optimum: 1, and a line needs 2." in text
    )
    assert "| not known |" in text and "1 of 2" in text


@pytest.fixture
def drawn(monkeypatch):
    """Figures instead of files."""
    found = []
    monkeypatch.setattr(Figure, "savefig", lambda f, path, dpi: found.append(f))
    return found


def test_curves_go_through_points_and_optima(drawn):
    runs = points()
    reports.draw_isoflop("x.png", runs, fits(runs))
    axes = drawn[0].axes
    marks, curve, star = axes[0].lines[:3]
    np.testing.assert_allclose(
        marks.get_ydata(), [run["validation_nats"] for run in runs[:5]]
    )
    low = np.argmin(curve.get_ydata())
    best = star.get_xdata()[0]
    assert abs(np.log10(curve.get_xdata()[low] / best)) < 0.02
    assert "N ~ C^0.50 (0.50 to 0.50)" in axes[2].lines[1].get_label()
    assert "D ~ C^0.50" in axes[3].lines[1].get_label()


def test_curves_off_the_line_are_dotted_and_have_no_star(drawn):
    runs = points(budgets=(1e12, 9e12, 1e17))
    reports.draw_isoflop("x.png", runs, fits(runs))
    curves, lines = drawn[0].axes[0], drawn[0].axes[2]
    labels = [text.get_text() for text in curves.get_legend().get_texts()]
    assert labels[2] == "1e+17 FLOPs, not on the line"
    styles = [line.get_linestyle() for line in curves.lines]
    assert styles.count(":") == 1 and len(curves.lines) == 8
    assert len(lines.lines[1].get_xdata()) == 2


def test_nothing_at_all_is_drawn_too(drawn):
    reports.draw_isoflop("x.png", [], fits([]))
    assert len(drawn[0].axes) == 4


def test_plan():
    rows = reports.isoflop_plan(points(), throughput=1e12)
    shares = [float(row[-2].rstrip(" %")) for row in rows[1:]]
    np.testing.assert_allclose(sum(shares[:-1]), 100)
    assert shares[-1] == 100 and rows[-1][-1] == "50 seconds"
    assert len({len(row) for row in rows}) == 1
    assert "time" not in reports.isoflop_plan(points())[0]
