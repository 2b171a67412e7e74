"""The study, of runs in this process and of made-up ones."""

import inspect
import json
import math

import pytest
import recipe
from absl import flags as absl_flags

pytest.importorskip("tensorflow")

import igpt_keras  # noqa: E402
from igpt_keras import reproduction  # noqa: E402
from igpt_keras import training  # noqa: E402
from igpt_keras.reproduction import run as runs  # noqa: E402

COMMAND = (
    "pretrain.py --dataset=digits --preset=igpt_nano --input_resolution=4 "
    "--vocabulary_size=5 --batch_size=8"
)
STUDY = {
    "budgets": "1e9,3e9,9e9",
    "sizes": 4,
    "min_layers": 1,
    "max_layers": 4,
    "aspect_ratio": 8,
    "command": COMMAND,
}


def parsed(words):
    return dict(word[2:].partition("=")[::2] for word in words)


@pytest.fixture
def trained(monkeypatch):
    """Names of the runs that were trained, by made-up scripts.

    What the optimal size is grows as the square root of the budget, and that
    of accuracy is outside the sizes; the largest run of all diverges.
    """
    names = []

    def run_script(path, words):
        found = parsed(words)
        directory = runs.pathlib.Path(found["run_dir"])
        names.append(directory.name)
        directory.mkdir(parents=True, exist_ok=True)
        if path.stem == "train_palette":
            palette = igpt_keras.PaletteTokenizer(
                [[x] * 3 for x in (-1.0, 0.0, 1.0)]
            )
            palette.save_palette(directory / "palette.npy")
            return True
        assert (directory.parent / "palette" / "palette.npy").is_file()
        assert found["palette"] == f"{directory.parent}/palette/palette.npy"
        if directory.name == "budget_9e+09_layers_4":
            return False
        budget = float(directory.name.split("_")[1])
        depth = int(found["num_layers"])
        best = math.log(2) + math.log(budget / 3e9) / 6
        nats = 2 + (math.log(depth) - best) ** 2
        row = {"layer": 0, "validation_accuracy": 0.1 * depth}
        metrics = {
            "validation_nats_per_token": nats,
            "test_nats_per_token": nats,
            "probe": [{**row, "test_accuracy": 0.1}],
            "probes": {},
            "chosen_layer": 0,
        }
        (directory / "metrics.json").write_text(json.dumps(metrics))
        return True

    monkeypatch.setattr(runs, "run_script", run_script)
    return names


def test_plans_trains_fits_and_trains_nothing_twice(trained, tmp_path, capsys):
    study = {**STUDY, "run_dir": tmp_path / "runs", "output": tmp_path / "page"}
    recipe.run("isoflop", **study, dry_run=True, throughput=1e9)
    *plan, note = capsys.readouterr().out.splitlines()
    assert note.startswith("Of ") and "palette may have fewer" in note
    assert not list(tmp_path.iterdir()) and not trained
    assert len(plan) == 14 and plan[1].split()[:4] == ["1e+09", "1", "x", "8"]
    # Twelve runs of 52 seconds together.
    assert "100.0 %" in plan[-1] and plan[-1].endswith("52 seconds")
    recipe.run("isoflop", **study)
    assert len(trained) == 13 and trained[0] == "palette"
    # Steps are of the three colours that the palette has.
    planned = capsys.readouterr().out
    page = json.loads((tmp_path / "page" / "isoflop.json").read_text())
    point = page["points"][0]
    assert f"{point['flops']:.4g}" in planned
    token = 6 * (12 * 64 + 3 * 8) + 12 * 16 * 8
    assert point["flops"] == point["steps"] * 8 * 16 * token
    by_nats = page["fits"]["validation_nats"]
    assert [curve["sizes"] for curve in by_nats["curves"]] == [4, 4, 3]
    assert [curve["reason"] for curve in by_nats["curves"]] == [None] * 3
    # Parameters grow with the depth's third power, nearly.
    assert 0.4 < by_nats["parameters"]["exponent"] < 0.6
    by_accuracy = page["fits"]["validation_accuracy"]
    assert by_accuracy["parameters"]["exponent"] is None
    text = (tmp_path / "page" / "isoflop.md").read_text()
    assert "# IsoFLOP curves of digits at 4x4" in text
    assert "- 9e+09 FLOPs, 4 x 32: diverged." in text
    assert "- validation accuracy of the probe, 1e+09 FLOPs: " in text
    assert text.count("recipes/pretrain.py") == 12
    assert (tmp_path / "page" / "isoflop.png").stat().st_size > 10_000

    recipe.run("isoflop", **study)
    assert len(trained) == 13
    again = json.loads((tmp_path / "page" / "isoflop.json").read_text())
    assert again == page
    changed = {**study, "command": f"{COMMAND} --seed=1"}
    with pytest.raises(ValueError, match="palette is of another command"):
        recipe.run("isoflop", **changed)
    # Another budget is added, and what is there stays.
    recipe.run("isoflop", **{**study, "budgets": "1e9,3e9,9e9,2e10"})
    assert len(trained) == 17


def test_a_run_that_fails_leaves_the_rest_drawn(trained, tmp_path, monkeypatch):
    made_up = runs.run_script

    def run_script(path, words):
        if "--num_layers=3" in words:
            raise ValueError("ended with status 1")
        return made_up(path, words)

    monkeypatch.setattr(runs, "run_script", run_script)
    study = {**STUDY, "run_dir": tmp_path / "runs", "output": tmp_path / "page"}
    with pytest.raises(ValueError, match="ended with status 1"):
        recipe.run("isoflop", **study)
    text = (tmp_path / "page" / "isoflop.md").read_text()
    assert text.count(": not over.") == 10
    assert "sizes trained: 2, and a parabola needs 3" in text
    assert "budgets with an optimum: 0" in text


def test_too_small_a_budget_trains_no_palette(trained, tmp_path):
    study = {**STUDY, "run_dir": tmp_path / "runs", "output": tmp_path / "page"}
    with pytest.raises(ValueError, match="budget"):
        recipe.run("isoflop", **{**study, "budgets": "1e9,10"})
    assert not trained and not list(tmp_path.iterdir())


class Stop(Exception):
    pass


def test_runs_are_what_was_planned(trained, tmp_path, monkeypatch):
    """The recipe itself is asked, up to where it would train."""
    made_up, found = runs.run_script, {}

    def fit(model, steps, period, **others):
        found.update(model=model, steps=steps, period=period)
        raise Stop

    # `program.call` reads the names of its parameters.
    fit.__signature__ = inspect.signature(training.fit)
    monkeypatch.setattr(training, "fit", fit)
    asked = []

    def run_script(path, words):
        if path.stem == "pretrain":
            with pytest.raises(Stop):
                recipe.run("pretrain", **parsed(words))
            model = found["model"]
            assert model.vocabulary_size == 3
            shape = (model.num_layers, model.num_heads, model.hidden_dim)
            asked.append((*shape, model.count_params(), found["steps"]))
            assert found["period"] == found["steps"]
        return made_up(path, words)

    monkeypatch.setattr(runs, "run_script", run_script)
    study = {**STUDY, "budgets": "1e8", "sizes": 2, "max_layers": 3}
    study["command"] += " --probe_images=0 --evaluation_images=8"
    directories = {"run_dir": tmp_path / "runs", "output": tmp_path / "page"}
    recipe.run("isoflop", **study, **directories)
    page = json.loads((tmp_path / "page" / "isoflop.json").read_text())
    planned = [
        (
            *(point["num_layers"], point["num_layers"], point["hidden_dim"]),
            *(point["parameters"], point["steps"]),
        )
        for point in page["points"]
    ]
    assert asked == planned and len(planned) == 2


@pytest.mark.large
def test_trains_and_probes_at_the_end(tmp_path, monkeypatch):
    """All of it, by the recipes themselves."""

    def run_script(path, words):
        recipe.run(path.stem, **parsed(words))
        return True

    monkeypatch.setattr(runs, "run_script", run_script)
    monkeypatch.setattr(reproduction.isoflop, "_PIXELS_PER_COLOUR", 300)
    recipe.run(
        "isoflop",
        budgets="6e6",
        sizes=2,
        min_layers=1,
        max_layers=2,
        aspect_ratio=8,
        command=f"{COMMAND} --evaluation_images=40 --probe_images=60",
        run_dir=tmp_path / "runs",
        output=tmp_path / "page",
    )
    page = json.loads((tmp_path / "page" / "isoflop.json").read_text())
    for point in page["points"]:
        directory = tmp_path / "runs" / point["run"]
        metrics = json.loads((directory / "metrics.json").read_text())
        assert metrics["steps"] == point["steps"]
        assert metrics["validation_nats_per_token"] == point["validation_nats"]
        chosen = metrics["probe"][metrics["chosen_layer"]]
        assert point["validation_accuracy"] == chosen["validation_accuracy"]
        # At the end alone.
        progress = json.loads((directory / "progress.json").read_text())
        steps = [probe["step"] for probe in progress["probes"]]
        assert steps == [point["steps"]]
    files = [
        (tmp_path / "runs" / x / "palette.npy").read_bytes()
        for x in ("palette", *(point["run"] for point in page["points"]))
    ]
    assert len(files) == 3 and len(set(files)) == 1


@pytest.mark.parametrize("budgets", ["1e9,x", "-1", "0", "1e9,1000000000", ""])
def test_refuses_budgets(budgets):
    with pytest.raises(absl_flags.Error, match="expected FLOPs that differ"):
        recipe.parse("isoflop", command=COMMAND, budgets=budgets)
