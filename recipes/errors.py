"""One line in place of a traceback, for what the user can mend."""

import contextlib
import re
import sys


@contextlib.contextmanager
def reported(program):
    """Ends the program with such an error's message and status 1."""
    try:
        yield
    except (ValueError, ImportError, OSError, FloatingPointError) as error:
        sys.exit(f"{program}: {error}")
    except Exception as error:
        # tf.data wraps what a function of ours raises, with its traceback.
        wrapped = re.search(r"^ValueError: (.*)$", str(error), re.MULTILINE)
        if wrapped is None or "tensorflow" not in type(error).__module__:
            raise
        sys.exit(f"{program}: {wrapped[1]}")
