import contextlib
import sys

_said = set()


@contextlib.contextmanager
def only_shows(path):
    """Inside, files are written that no run depends on.

    What cannot be written, for want of space for example, is said once for each
    path, and the program goes on.

    Args:
        path: what is written, for the message.
    """
    failures = [OSError]
    if "tensorflow" in sys.modules:
        failures.append(sys.modules["tensorflow"].errors.OpError)
    try:
        yield
    except tuple(failures) as error:
        if str(path) not in _said:
            _said.add(str(path))
            first = str(error).partition("\n")[0]
            sys.stderr.write(
                f"\n{path} cannot be written ({first}). It only shows how the "
                "run goes, which goes on.\n"
            )
