import json
import shlex

import pytest

from igpt_keras.reproduction import Run
from igpt_keras.reproduction import copy_results
from igpt_keras.reproduction import execute
from igpt_keras.reproduction import in_order
from igpt_keras.reproduction import read_results

TRAINED = Run("trained", "pretrain", {"steps": 3, "fold_validation": True})
PROBED = Run("probed", "probe", {"model": "{trained}/preset"}, (TRAINED,))

SCRIPT = """
import json, pathlib, sys
words = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
directory = pathlib.Path(words["run_dir"])
(directory / "preset").mkdir(parents=True)
(directory / "metrics.json").write_text(json.dumps(words))
sys.exit(STATUS)
"""


@pytest.fixture
def recipes(tmp_path):
    def write(status):
        for name in ("pretrain", "probe"):
            script = SCRIPT.replace("STATUS", str(status))
            (tmp_path / f"{name}.py").write_text(script)
        return tmp_path

    return write


def test_words_of_a_command(tmp_path):
    assert TRAINED.words(tmp_path, data_dir="d") == [
        "--steps=3",
        "--fold_validation",
        "--data_dir=d",
        f"--run_dir={tmp_path}/trained",
    ]
    expected = f"python recipes/probe.py --model={tmp_path}/trained/preset"
    assert PROBED.command(tmp_path).startswith(expected)
    search = Run("search", "search", {"command": "pretrain.py --steps=3"})
    words = search.words(tmp_path, data_dir="d")
    assert words[0] == "--command=pretrain.py --steps=3 --data_dir=d"
    words = search.words(tmp_path, data_dir="my {sets}")
    assert shlex.split(words[0].removeprefix("--command="))[-1] == (
        "--data_dir=my {sets}"
    )


def test_runs_come_after_what_they_need():
    names = [run.name for run in in_order([PROBED, TRAINED, PROBED])]
    assert names == ["trained", "probed"]


def test_a_run_that_is_over_is_not_run_again(recipes, tmp_path):
    root = tmp_path / "runs"
    for _ in range(2):
        for run in in_order([PROBED]):
            # The script fails where its directory exists.
            execute(run, root, recipes(0), {"data_dir": "d"})
    results = read_results([TRAINED, PROBED], root)
    assert results["trained"]["steps"] == "3"
    assert results["probed"]["model"] == f"{root}/trained/preset"
    record = results["probed"]["record"]
    assert not record["diverged"] and record["seconds"] > 0
    assert "cores" in record["hardware"]
    assert record["command"] == PROBED.command(root, data_dir="d")
    with pytest.raises(ValueError, match="is of another command"):
        execute(PROBED, root, recipes(0), {"data_dir": "elsewhere"})
    runs, copies = [TRAINED, PROBED], tmp_path / "copies"
    copy_results(runs, root, copies)
    assert read_results(runs, copies) == results
    assert not (copies / "probed" / "preset").exists()
    (root / "probed" / "reproduce.json").unlink()
    copy_results(runs, root, tmp_path / "others")
    assert list(read_results(runs, tmp_path / "others")) == ["trained"]
    assert list(read_results([TRAINED, PROBED], root)) == ["trained"]


def test_numbers_without_weights_are_not_enough(recipes, tmp_path):
    root = tmp_path / "runs"
    execute(TRAINED, root, recipes(0), {})
    copies = tmp_path / "copies"
    copy_results([TRAINED], root, copies)
    with pytest.raises(ValueError, match="needs the weights of trained"):
        execute(PROBED, copies, recipes(0), {})
    assert list(read_results([TRAINED, PROBED], copies)) == ["trained"]


def test_divergence_is_a_result_and_failure_is_none(recipes, tmp_path):
    root = tmp_path / "runs"
    execute(TRAINED, root, recipes(3), {})
    record = json.loads((root / "trained" / "reproduce.json").read_text())
    assert record["diverged"]
    with pytest.raises(ValueError, match="ended with status 1"):
        execute(PROBED, root, recipes(1), {})
    assert list(read_results([TRAINED, PROBED], root)) == ["trained"]


def test_time_adds_up_over_what_was_stopped(tmp_path, monkeypatch):
    """Half an hour until it was stopped, and a minute."""
    clock = iter([0.0, 1800.0, 5000.0, 5060.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))

    def stopped(path, words):
        (tmp_path / "trained").mkdir()
        raise KeyboardInterrupt

    name = "igpt_keras.reproduction.run.run_script"
    monkeypatch.setattr(name, stopped)
    with pytest.raises(KeyboardInterrupt):
        execute(TRAINED, tmp_path, tmp_path, {})
    assert read_results([TRAINED], tmp_path) == {}
    monkeypatch.setattr(name, lambda path, words: True)
    execute(TRAINED, tmp_path, tmp_path, {})
    record = read_results([TRAINED], tmp_path)["trained"]["record"]
    assert record["seconds"] == 1860
