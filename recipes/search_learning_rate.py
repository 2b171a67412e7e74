"""Tries learning rates, from high to low, until the first that is worse.

    python recipes/search_learning_rate.py --run_dir=runs/search \
        --command="pretrain.py --dataset=digits --preset=igpt_nano"

Paper section 3.4: 0.01, 0.003, 0.001, ... up to the first local minimum. Each
trial is a run directory of its own, which `tensorboard --logdir=runs/search`
shows under HParams; validation decides, and a trial that diverges counts as
worse. Ctrl-C and the same command again continue the search.
"""

import json
import pathlib
import shlex

from absl import flags

from igpt_keras import program
from igpt_keras import reports
from igpt_keras import training
from igpt_keras.program import shared_flags
from igpt_keras.storage.json_file import write_json

RECIPES = pathlib.Path(__file__).parent
# Of each recipe: its flag, what it is judged by, what is better, and the rates.
ADAM = ("0.01", "0.003", "0.001", "0.0003", "0.0001", "0.00003")
SGD = ("30", "10", "3", "1", "0.3", "0.1")
KINDS = {
    "pretrain.py": ("learning_rate", "validation_nats_per_token", "min", ADAM),
    "finetune.py": ("learning_rate", "validation_accuracy", "max", ADAM),
    "linear_probe_sgd.py": (
        "learning_rates",
        "validation_accuracy",
        "max",
        SGD,
    ),
}


def define_flags():
    flags.DEFINE_string(
        "command",
        None,
        f"What to run: {', '.join(KINDS)}, with its flags but --run_dir, "
        "--dry_run, --fold_validation and the learning rate.",
        required=True,
    )
    shared_flags.define_learning_rates(
        None, "In this order. Defaults to the paper's."
    )
    flags.DEFINE_string(
        "run_dir", None, "Where trials go, and resume from.", required=True
    )


def main(args):
    recipe, words = read_command(args.command)
    flag, metric, mode, rates = KINDS[recipe]
    run = training.RunDirectory(args.run_dir)
    begin(run, flag, [recipe, *words])

    def trial(rate):
        directory = run / f"{flag}_{rate}"
        metrics, diverged = directory / "metrics.json", directory / "diverged"
        if not metrics.is_file() and not diverged.is_file():
            print(f"\nTrying --{flag}={rate}.", flush=True)
            given = [f"--{flag}={rate}", f"--run_dir={directory}"]
            if not program.run_script(RECIPES / recipe, [*words, *given]):
                diverged.touch()
        if diverged.is_file():
            return None
        return json.loads(metrics.read_text())[metric]

    best, trials = training.search_learning_rate(
        args.learning_rates or rates, trial, mode
    )
    found = {"metric": metric, "best": best, "trials": trials}
    write_json(run / "metrics.json", found)
    print(reports.search_summary(found, flag, run.path))


def read_command(command):
    """The recipe's file name, and its other words."""
    name, *words = shlex.split(command) or [""]
    recipe = pathlib.PurePath(name).name
    if recipe not in KINDS:
        raise ValueError(
            f"--command begins with {name!r}, and learning rates are searched "
            f"of {', '.join(KINDS)}."
        )
    for flag, reason in (
        (KINDS[recipe][0], "each trial has its own"),
        ("run_dir", "each trial has its own"),
        ("dry_run", "which trains nothing"),
        ("fold_validation", "so that validation could choose no rate"),
    ):
        if any(word.lstrip("-").split("=")[0] == flag for word in words):
            raise ValueError(f"--command has --{flag}: {reason}. Leave it out.")
    return recipe, words


def begin(run, flag, command):
    """Writes down what is searched, or makes sure that it is this."""
    run.make()
    path, trials = run / "config.json", list(run.path.glob(f"{flag}*_*/*"))
    saved = json.loads(path.read_text())["command"] if path.is_file() else None
    if trials and saved != command:
        raise ValueError(
            f"{run} holds trials of another --command ({saved}). Use that one, "
            "or another --run_dir."
        )
    write_json(path, {"command": command})


if __name__ == "__main__":
    program.start(main, define_flags, "Stopped. The same command continues.")
