import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import recipe
import tiny

pytest.importorskip("tensorflow")

from igpt_keras import program  # noqa: E402


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Probes by SGD of a tiny model, which take little."""
    preset = tiny.save_preset(tmp_path_factory.mktemp("model") / "preset")
    return (
        f"recipes/linear_probe_sgd.py --model={preset} --dataset=digits "
        "--layers=0 --steps=2 --period=1 --batch_size=8 --evaluation_images=20"
    )


def test_tries_until_the_first_that_is_worse(
    command, tmp_path, capfd, forked_scripts
):
    """A rate that diverges, one that trains, and one that was tried before."""
    run = tmp_path / "search"
    flags = {
        "command": command,
        "learning_rates": "1e38,0.3,0.1,0.01",
        "run_dir": run,
    }
    over = run / "learning_rates_0.1" / "metrics.json"
    over.parent.mkdir(parents=True)
    over.write_text(json.dumps({"validation_accuracy": -1.0}))
    words = ["linear_probe_sgd.py", *command.split()[1:]]
    (run / "config.json").write_text(json.dumps({"command": words}))
    found = recipe.run("search_learning_rate", **flags)
    values = [trial["value"] for trial in found["trials"]]
    assert values[0] is None and values[1] > values[2] == -1
    assert found["best"] == "0.3"
    assert found["metric"] == "validation_accuracy"
    trial = run / "learning_rates_0.3"
    config = json.loads((trial / "config.json").read_text())
    assert config["learning_rates"] == ["0.3"]
    metrics = json.loads((trial / "metrics.json").read_text())
    assert metrics["validation_accuracy"] == values[1]
    # HParams and the losses of a trial.
    assert list((trial / "logs").rglob("events*"))
    out = capfd.readouterr().out
    assert out.count("Trying") == 2 and "<- best" in out and "diverged" in out
    assert recipe.run("search_learning_rate", **flags) == found
    assert "Trying" not in capfd.readouterr().out
    changed = {**flags, "command": f"{command} --seed=1"}
    with pytest.raises(ValueError, match="holds trials of another --command"):
        recipe.run("search_learning_rate", **changed)
    # Also where all that there is diverged, before a checkpoint.
    shutil.rmtree(trial)
    shutil.rmtree(over.parent)
    with pytest.raises(ValueError, match="holds trials of another --command"):
        recipe.run("search_learning_rate", **changed)


def test_what_fails_is_no_trial(tmp_path, capfd, forked_scripts):
    with pytest.raises(ValueError, match="ended with status 1"):
        recipe.run(
            "search_learning_rate",
            command="pretrain.py --dataset=none --preset=igpt_nano",
            run_dir=tmp_path,
        )
    assert "Unknown dataset" in capfd.readouterr().err
    assert not (tmp_path / "learning_rate_0.01" / "diverged").exists()


@pytest.mark.parametrize(
    "command, message",
    [
        ("evaluate.py", "are searched of pretrain.py, finetune.py"),
        ("", "are searched of"),
        ("pretrain.py --run_dir=x", "--command has --run_dir"),
        ("pretrain.py --learning_rate=1", "--command has --learning_rate"),
        ("linear_probe_sgd.py -learning_rates 1", "has --learning_rates"),
        ("finetune.py --fold_validation", "validation could choose no rate"),
    ],
)
def test_refuses_commands(command, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        recipe.run("search_learning_rate", command=command, run_dir=tmp_path)


@pytest.mark.large
def test_a_signal_stops_the_trial_too(command, tmp_path):
    """SIGTERM, which the trial does not get from a terminal."""
    command = command.replace("--steps=2", "--steps=100000")
    search = subprocess.Popen(
        [sys.executable]
        + recipe.program_of(
            "search_learning_rate",
            f"--command={command}",
            f"--run_dir={tmp_path}",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoints = tmp_path / "learning_rates_30" / "checkpoints"
    deadline = time.monotonic() + 120
    while not checkpoints.is_dir() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert checkpoints.is_dir()
    os.kill(search.pid, signal.SIGTERM)
    # Pipes close when the trial has ended too.
    _, error = search.communicate(timeout=120)
    assert search.returncode == 130
    assert "Stopped. The same command continues." in error


def test_scripts_end_as_they_say(tmp_path):
    script = tmp_path / "script.py"
    for status, expected in ((0, True), (program.DIVERGED, False)):
        script.write_text(f"import sys; sys.exit({status})")
        assert program.run_script(script, []) is expected
    script.write_text("import sys; sys.exit(130)")
    with pytest.raises(KeyboardInterrupt):
        program.run_script(script, [])
