"""Recipes in this process, and what they leave."""

import contextlib
import importlib
import json
import pathlib

import forked

from igpt_keras import program


def run(name, **flags):
    """Runs `recipes/NAME.py` with flags; `None` leaves one out.

    Returns:
        What it wrote to `metrics.json`, if it has a `run_dir` and wrote it.
    """
    script = importlib.import_module(name)
    script.main(parse(name, **flags))
    if flags.get("run_dir") is not None:
        path = pathlib.Path(flags["run_dir"]) / "metrics.json"
        return json.loads(path.read_text()) if path.exists() else None


def parse(name, **flags):
    """The values of a recipe's flags, as its `main` gets them."""
    script = importlib.import_module(name)
    return program.parse(script.define_flags, [name, *as_words(flags)])


def as_words(flags):
    words = []
    for name, value in flags.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        for one in values:
            if isinstance(one, bool):
                words.append(f"--{name}" if one else f"--no{name}")
            elif one is not None:
                words.append(f"--{name}={one}")
    return words


def command(name, *words, **options):
    """Runs `recipes/NAME.py` as a process of its own, to its end."""
    return forked.run(program_of(name, *words), **options)


def program_of(name, *words):
    """The words of that command."""
    path = pathlib.Path(__file__).parent.parent / "recipes" / f"{name}.py"
    return [str(path), *words]


@contextlib.contextmanager
def stopped_at(step, monkeypatch):
    """Inside, training is interrupted before a step, counted from 0.

    As by a signal that is not waited with: no checkpoint of that step.
    """
    from igpt_keras.training.tensorflow_step import TensorFlowStep

    train, taken = TensorFlowStep.__call__, []

    def interrupted(self, iterator, stop):
        if len(taken) == step:
            raise KeyboardInterrupt
        taken.append(True)
        return train(self, iterator, stop)

    with monkeypatch.context() as patch:
        patch.setattr(TensorFlowStep, "__call__", interrupted)
        yield
