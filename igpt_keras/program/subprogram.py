import subprocess
import sys

# Exit status of a script whose training diverged, see `start`.
DIVERGED = 3


def run_script(path, words):
    """Runs a script as a process of its own, to its end.

    It writes where this one writes. A signal that stops this program stops it
    too.

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
    try:
        status = child.wait()
    except KeyboardInterrupt:
        try:
            # Ctrl-C reached it already; SIGTERM did not.
            child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            child.terminate()
            child.wait()
        raise
    if status == 130:
        raise KeyboardInterrupt
    if status not in (0, DIVERGED):
        raise ValueError(
            f"{path} {' '.join(words)} ended with status {status}. What it "
            "said stands above."
        )
    return status == 0
