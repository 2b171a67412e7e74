import contextlib
import importlib
import inspect
import logging
import os
import pathlib
import re
import sys
import types

from absl import app
from absl import flags

from igpt_keras.program import interrupts
from igpt_keras.program.subprogram import DIVERGED

# What is declared here, `--help` lists as flags of the script.
flags.disclaim_key_flags()


def start(main, define_flags, stopped="Stopped."):
    """Parses the command line, runs a script and ends the process.

    What the user can mend ends with one line and status 1, training that
    diverged with status 3, and a signal (Ctrl-C, SIGTERM) with status 130, see
    `interrupts`; words that are no flags, wrong
    flags and `--help` as `absl.app` does.

    Args:
        main: function of the values of the script's flags, as attributes.
        define_flags: function that defines them with `absl.flags`.
        stopped: str. What to say after a signal.
    """
    names = _define(define_flags)
    flags.DEFINE_list(
        "import",
        [],
        "Modules of your own to import first, such as mine for ./mine.py: "
        "those that register the blocks and models that weights are of.",
    )
    for name in names:
        # Those that another recipe defines are this one's too.
        flags.declare_key_flag(name)
    _quiet_tensorflow()

    def run(argv):
        values = _values(argv, names)
        program = pathlib.Path(argv[0]).name
        with reported(program), interrupts.handled(stopped):
            for name in flags.FLAGS["import"].value:
                # Before what is installed.
                sys.path.insert(0, os.getcwd())
                importlib.import_module(name)
            main(values)

    app.run(run)


def parse(define_flags, argv):
    """The values of a script's flags, which are not defined afterwards.

    For calling a script's `main` from Python.

    Args:
        define_flags: as in `start`.
        argv: list of str, the program's name first.

    Returns:
        `types.SimpleNamespace` of the values, in the order of definition.

    Raises:
        absl.flags.Error: for flags that are wrong.
        absl.app.UsageError: for words that are no flags.
    """
    names = _define(define_flags)
    try:
        return _values(flags.FLAGS(argv), names)
    finally:
        for name in names:
            delattr(flags.FLAGS, name)


def call(function, args, **others):
    """Calls a function with the flags that its parameters are named after.

    Args:
        function: function or class of plain arguments.
        args: values of flags, as `main` gets them.
        **others: its other arguments, and those that are not the flag's value.

    Returns:
        What it returns.

    Example:
    >>> args = types.SimpleNamespace(steps=100, seed=1)
    >>> call(lambda steps, period=10: steps / period, args, period=20)
    5.0
    """
    named = vars(args).keys() & inspect.signature(function).parameters.keys()
    return function(**{name: getattr(args, name) for name in named} | others)


@contextlib.contextmanager
def reported(program):
    """Ends the program with the message of an error that the user can mend."""
    try:
        yield
    except FloatingPointError as error:
        sys.stderr.write(f"{program}: {error}\n")
        sys.exit(DIVERGED)
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"{program}: {error}")
    except Exception as error:
        # tf.data wraps what a function of ours raises, with its traceback.
        wrapped = re.search(r"^ValueError: (.*)$", str(error), re.MULTILINE)
        if wrapped is None or "tensorflow" not in type(error).__module__:
            raise
        sys.exit(f"{program}: {wrapped[1]}")


def _quiet_tensorflow():
    """Says of TensorFlow's messages what a user may want to know."""
    if "tensorflow" not in sys.modules:
        return
    # They are printed by the import, and only the environment stops them. (JAX
    # sets it to 1 where it is not set.)
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") in ("0", "1"):
        sys.stderr.write(
            "TensorFlow's lines on CUDA, oneDNN, XLA and CPU instructions are "
            "harmless; TF_CPP_MIN_LOG_LEVEL=3 hides them.\n"
        )
    # TensorFlow counts the functions of all Keras models as one function that
    # is traced again and again.
    logging.getLogger("tensorflow").addFilter(
        lambda record: "tf.function retracing" not in record.getMessage()
    )


def _define(define_flags):
    """Names of the flags that a function defines."""
    before = set(flags.FLAGS)
    define_flags()
    return [name for name in flags.FLAGS if name not in before]


def _values(argv, names):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    return types.SimpleNamespace(
        **{name: flags.FLAGS[name].value for name in names}
    )
