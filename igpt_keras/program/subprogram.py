import subprocess
import sys

# Exit status of a script whose training diverged, see `start`.
DIVERGED = 3


def run_script(path, words):
    """Runs a script as a process of its own, to its end.

    It writes where this one writes. A signal that stops this program stops it
    too, in its own way: training ends with a checkpoint, which is waited for.

    Args:
        path: path of the script.
        words: list of str, its flags.

    Returns:
        bool. Whether it came to its end; `False` if training diverged.

    Raises:
        ValueError: if it failed for another reason.
        KeyboardInterrupt: if it was stopped.
    """
    child = subprocess.Popen([sys.executable, str(path), *words])
    stopped = False
    while True:
        try:
            status = child.wait()
            break
        except KeyboardInterrupt:
            # At once, so that it is one with a Ctrl-C that reached it already.
            child.terminate()
            stopped = True
    if stopped or status == 130:
        raise KeyboardInterrupt
    if status not in (0, DIVERGED):
        raise ValueError(
            f"{path} {' '.join(words)} ended with status {status}. What it "
            "said stands above."
        )
    return status == 0
