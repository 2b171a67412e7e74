import types

import forked
import numpy as np
import pytest
from absl import app
from absl import flags

from igpt_keras import program
from igpt_keras.program import shared_flags
from igpt_keras.program.start import reported

tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize("kind", [ValueError, ImportError, OSError])
def test_ends_with_the_message(kind):
    with pytest.raises(SystemExit) as info:
        with reported("train.py"):
            raise kind("Look there.")
    assert info.value.code == "train.py: Look there."


def test_divergence_has_a_status_of_its_own(capsys):
    with pytest.raises(SystemExit) as info:
        with reported("train.py"):
            raise FloatingPointError("Look there.")
    assert info.value.code == program.DIVERGED == 3
    assert capsys.readouterr().err == "train.py: Look there.\n"


def test_ends_with_the_message_of_what_tf_data_ran():
    def fail(number):
        raise ValueError("7.png cannot be read.")

    dataset = tf.data.Dataset.range(3).map(
        lambda number: tf.numpy_function(fail, [number], tf.int64)
    )
    with pytest.raises(SystemExit) as info:
        with reported("train.py"):
            list(dataset)
    assert info.value.code == "train.py: 7.png cannot be read."


def test_errors_of_the_program_keep_their_traceback():
    with pytest.raises(KeyError):
        with reported("train.py"):
            raise KeyError("ValueError: mine")
    with pytest.raises(tf.errors.InvalidArgumentError):
        with reported("train.py"):
            tf.reshape(np.zeros(3), (2, 2))


def define_flags():
    shared_flags.define_data()
    flags.DEFINE_integer("steps", 3, "Steps.", lower_bound=1)


def test_parse_gives_the_flags_of_the_script_alone():
    for steps in (5, 7):
        argv = ["train.py", "--dataset=digits", f"--steps={steps}"]
        args = program.parse(define_flags, argv)
        assert vars(args) == {
            "dataset": "digits",
            "data_dir": None,
            "skip_bad_images": False,
            "steps": steps,
        }
        assert "steps" not in flags.FLAGS


@pytest.mark.parametrize(
    "argv, error, message",
    [
        ([], flags.Error, "dataset.*must have a value"),
        (["--dataset=x", "--steps=0"], flags.Error, "steps=0"),
        (["--dataset=x", "--stepz=1"], flags.Error, "Unknown .*stepz"),
        (["--dataset=x", "more"], app.UsageError, "Unexpected arguments"),
    ],
)
def test_parse_refuses(argv, error, message):
    with pytest.raises(error, match=message):
        program.parse(define_flags, ["train.py", *argv])
    assert "steps" not in flags.FLAGS


def test_call_passes_the_flags_that_parameters_are_named_after():
    args = types.SimpleNamespace(steps=5, seed=1, unused=None)

    def function(steps, period=10, *, seed):
        return steps, period, seed

    assert program.call(function, args) == (5, 10, 1)
    assert program.call(function, args, seed=2, period=3) == (5, 3, 2)
    with pytest.raises(TypeError, match="steps"):
        program.call(function, types.SimpleNamespace(seed=1))


def test_modules_of_the_user_are_imported_first(
    tmp_path, subprocess_environment
):
    """From the working directory, before anything else is done."""
    (tmp_path / "mine.py").write_text("print('mine is here')\n")
    script = tmp_path / "scripts" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "from igpt_keras import program\n"
        "program.start(lambda args: print(vars(args)), lambda: None)\n"
    )
    for name, status, text in (
        ("mine", 0, "mine is here\n{}\n"),
        ("yours", 1, ""),
    ):
        result = forked.run(
            [script, f"--import={name}"],
            cwd=tmp_path,
            env=subprocess_environment,
        )
        assert result.returncode == status, result.stderr
        assert result.stdout == text
    assert "script.py: No module named 'yours'" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_lists_flags_that_another_recipe_defines(
    tmp_path, subprocess_environment
):
    (tmp_path / "first.py").write_text(
        "from absl import flags\n"
        "def define_flags():\n"
        "    flags.DEFINE_integer('of_first', 1, 'One.')\n"
    )
    script = tmp_path / "second.py"
    script.write_text(
        "import first\n"
        "from igpt_keras import program\n"
        "program.start(print, first.define_flags)\n"
    )
    result = forked.run([script, "--help"], env=subprocess_environment)
    assert "--of_first: One." in result.stdout
    assert "--import: Modules of your own" in result.stdout
