import pathlib
import shlex
import sys


def verbosity(verbose=1):
    """Keras's `verbose` for where standard output goes.

    A progress bar goes back over its line, which a file takes for text. (Keras
    3.15 takes every output of Linux for a terminal.)

    Args:
        verbose: 0 or 1. Whether to show progress. Defaults to 1.

    Returns:
        0, or 1 for bars, on terminals and in notebooks, or 2 for lines.
    """
    if not verbose:
        return 0
    return 1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2


def command_line():
    """This process's command, without where its script lies on the machine."""
    script = "/".join(pathlib.Path(sys.argv[0]).parts[-2:])
    return shlex.join(["python", script, *sys.argv[1:]])
