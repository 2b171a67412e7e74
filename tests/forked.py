"""Programs in processes of their own, without waiting for TensorFlow again.

Importing TensorFlow takes longer than most of these programs. Here they are
forks of a process that has imported it and not used it.
"""

import multiprocessing
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import types

# Not the package itself: a fork imports that of its working directory or path.
PRELOADED = ["tensorflow", "keras", "sklearn.linear_model", "matplotlib.figure"]


def run(words, *, cwd=None, env=None):
    """As `subprocess.run([sys.executable, *words])`, with what it writes.

    On another backend than TensorFlow it is just that.

    Args:
        words: `"-c"` and a program, or a path; then arguments.
        cwd, env: As in `subprocess.run`.
    """
    backend = (os.environ if env is None else env).get("KERAS_BACKEND")
    if backend not in (None, "tensorflow"):
        return subprocess.run(
            [sys.executable, *words],
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
        )
    process = Process(words, cwd=cwd, env=env)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(
        words, process.returncode, output, errors
    )


class Process:
    """As `subprocess.Popen([sys.executable, *words])`, with what it writes."""

    def __init__(self, words, *, cwd=None, env=None):
        # Goes with all that tests leave.
        directory = pathlib.Path(tempfile.mkdtemp())
        self._paths = [directory / "out", directory / "err"]
        for path in self._paths:
            path.touch()
        words = [str(word) for word in words]
        environment = dict(os.environ if env is None else env)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(
            target=_main,
            args=(words, str(cwd or os.getcwd()), environment, *self._paths),
        )
        self._process.start()

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def output(self):
        """What it wrote to its standard output so far."""
        return self._paths[0].read_text()

    def send_signal(self, number):
        if self._process.exitcode is None:
            os.kill(self._process.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout=None):
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it does not end"
        return self._process.exitcode

    def communicate(self, timeout=None):
        self.wait(timeout)
        return tuple(path.read_text() for path in self._paths)


def _main(words, cwd, environment, output, errors):
    for path, descriptor in ((output, 1), (errors, 2)):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        # Keras and `inspect` look up the module of a class.
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), module.__dict__)
    else:
        sys.argv = words
        sys.path.insert(0, str(pathlib.Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
