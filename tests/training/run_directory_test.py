import json

import pytest

from igpt_keras import training
from igpt_keras.data.order import ORDER_FORMAT
from igpt_keras.storage.checkpoint_directory import write_checkpoint

CONFIG = {"seed": 0, "quantizers": ("ema",), "run_dir": "x", "dry_run": False}


@pytest.fixture
def run(tmp_path):
    return training.RunDirectory(tmp_path / "run")


def checkpoint(run, below=""):
    directory = run / below / "checkpoints"
    directory.mkdir(parents=True)
    write_checkpoint(directory / "step_0000000001", {}, {"config": run.config})


def test_begins_and_goes_on(run):
    assert not run.started
    assert not run.begin(CONFIG, "abc")
    saved = json.loads((run / "config.json").read_text())
    assert saved.pop("image_order") == ORDER_FORMAT
    assert saved == {"seed": 0, "quantizers": ["ema"], "images": "abc"}
    # Without a checkpoint nothing is continued, and settings may change.
    assert not run.begin({**CONFIG, "seed": 1}, "abd")
    checkpoint(run)
    assert run.started
    assert run.begin({**CONFIG, "seed": 1, "run_dir": "y"}, "abd")
    with pytest.raises(ValueError, match="seed: 1 then, 0 here"):
        run.begin(CONFIG, "abd")
    with pytest.raises(ValueError, match="a run on other training images"):
        run.begin({**CONFIG, "seed": 1}, "abc")


def test_checkpoints_a_level_below(run):
    run.begin(CONFIG, "abc")
    checkpoint(run, "ema")
    assert run.started


def test_runs_below_are_others(run):
    """As below `runs`, where somebody begins one."""
    other = training.RunDirectory(run / "other")
    other.begin({**CONFIG, "seed": 1}, "abd")
    checkpoint(other)
    assert not run.started
    assert not run.begin(CONFIG, "abc")
    checkpoint(run)
    assert run.begin(CONFIG, "abc")
    (run / "config.json").unlink()
    assert run.begin(CONFIG, "abc")


@pytest.mark.parametrize("saved", [{}, {"image_order": 1}])
def test_a_run_of_another_order_cannot_go_on(run, saved):
    run.begin(CONFIG, "abc")
    checkpoint(run)
    config = json.loads((run / "config.json").read_text())
    del config["image_order"]
    (run / "config.json").write_text(json.dumps(config | saved))
    with pytest.raises(ValueError, match="took images in another order"):
        run.begin(CONFIG, "abc")


def test_the_order_of_tokens_is_of_a_run(run):
    run.begin({**CONFIG, "order": "raster"}, "abc")
    checkpoint(run)
    with pytest.raises(ValueError, match="order: 'raster' then, 'columns' her"):
        run.begin({**CONFIG, "order": "columns"}, "abc")


def test_keys_that_come_and_go_are_named(run):
    run.begin(CONFIG, "abc")
    checkpoint(run)
    with pytest.raises(ValueError, match="steps: None then, 5 here"):
        run.begin({**CONFIG, "steps": 5}, "abc")


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    run = training.RunDirectory(tmp_path / "file" / "run")
    with pytest.raises(ValueError, match="--run_dir cannot be written"):
        run.begin(CONFIG, "abc")
    run = training.RunDirectory(None)
    assert not run.started
    with pytest.raises(ValueError, match="--run_dir says where"):
        run.begin(CONFIG, "abc")


def test_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = training.RunDirectory("~/run")
    run.make()
    assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize("name", ["checkpoints", "config.json"])
def test_results_do_not_go_where_a_run_is(name, run):
    run.make_for_results()
    (run / name).mkdir()
    with pytest.raises(ValueError, match="holds a pretraining run"):
        run.make_for_results()


@pytest.mark.parametrize("text", [None, "", "{", "[]"])
def test_a_lost_config_is_found_in_the_checkpoints(text, run, capsys):
    """And other flags are not taken for the run's."""
    run.begin(CONFIG, "abc")
    checkpoint(run)
    if text is None:
        (run / "config.json").unlink()
    else:
        (run / "config.json").write_text(text)
    with pytest.raises(ValueError, match="seed: 0 then, 1 here"):
        run.begin({**CONFIG, "seed": 1}, "abc")
    assert "config.json cannot be read" in capsys.readouterr().out
    assert run.begin(CONFIG, "abc")
    assert json.loads((run / "config.json").read_text())["seed"] == 0


def test_a_config_that_is_lost_everywhere(run):
    run.begin(CONFIG, "abc")
    checkpoint(run)
    (run / "config.json").unlink()
    for path in run.path.rglob("manifest.json"):
        path.write_text("")
    with pytest.raises(ValueError, match="no whole checkpoint in"):
        run.begin(CONFIG, "abc")


def test_what_may_change_is_recorded(run):
    config = {**CONFIG, "learning_rate": 0.1}
    run.begin(config, "abc")
    checkpoint(run)
    lower = {**config, "learning_rate": 0.01}
    with pytest.raises(
        ValueError, match="--allow_config_change=learning_rate lets that be"
    ):
        run.begin(lower, "abc")
    allowed = {**lower, "allow_config_change": ["learning_rate"]}
    assert run.begin(allowed, "abc")
    saved = json.loads((run / "config.json").read_text())
    assert saved["learning_rate"] == 0.01
    change = {"key": "learning_rate", "from": 0.1, "to": 0.01}
    assert saved["changes"] == [change]
    # From then on it is the run's, and the change stays on record.
    assert run.begin(lower, "abc")
    saved = json.loads((run / "config.json").read_text())
    assert saved["changes"] == [change]
    with pytest.raises(ValueError, match="seed would be another run"):
        run.begin({**lower, "allow_config_change": ["seed"]}, "abc")


def test_what_must_stay_is_said_beside_what_may_change(run):
    """More steps have a longer period, where none is given."""
    run.begin({**CONFIG, "steps": 8, "period": 1}, "abc")
    checkpoint(run)
    longer = {**CONFIG, "steps": 16, "period": 2}
    hint = "=steps lets that be. The rest must stay: --period=1."
    with pytest.raises(ValueError, match=hint):
        run.begin(longer, "abc")
    allowed = {**longer, "allow_config_change": ["steps"]}
    with pytest.raises(ValueError, match=hint):
        run.begin(allowed, "abc")
    assert run.begin({**allowed, "period": 1}, "abc")


def test_a_bucket_is_no_directory():
    run = training.RunDirectory("gs://bucket/run")
    with pytest.raises(ValueError, match="is no directory of this machine"):
        run.begin(CONFIG, "abc")
