import gc
import multiprocessing.util
import os
import pathlib
import shutil
import sys
import tempfile
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# pytest-xdist has a process for every core. Threads that wait for each other
# spin, and stand still where a machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# Set by `jax_backend_test.py`: the package must live without these.
if os.environ.get("IGPT_TEST_BLOCK_TENSORFLOW"):
    for module in ("tensorflow", "tensorflow_datasets", "keras_cv"):
        sys.modules[module] = None

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# Have tests of a minute or two, which begun last would keep a process waiting.
LONG = (
    "distribution_test.py",
    "jax_backend_test.py",
    "layouts_test.py",
    "readme_test.py",
    "sharding_test.py",
    "variants_test.py",
)
SHARED = ROOT.parent / "shared"

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "recipes"))
sys.path.insert(0, str(ROOT / "tools"))


def pytest_addoption(parser):
    parser.addoption(
        "--run_large", action="store_true", help="Also run slow tests."
    )


def pytest_configure(config):
    """All that tests and their processes leave is in a directory that goes.

    TensorFlow writes a file for every function that it traces. `--basetemp`
    keeps what the tests themselves wrote.
    """
    if hasattr(config, "workerinput"):
        # A worker of pytest-xdist has the directory of its controller.
        return
    directory = tempfile.mkdtemp(prefix="igpt_keras-tests-")
    os.environ["TMPDIR"] = directory
    tempfile.tempdir = None
    # After `multiprocessing` has removed its own, which has priority -100.
    multiprocessing.util.Finalize(
        None, shutil.rmtree, [directory, True], exitpriority=-200
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One more than cores: a tenth of the time a test waits, for files say."""
    return os.cpu_count() + 1


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: item.path.name not in LONG)
    if config.getoption("--run_large"):
        return
    skip = pytest.mark.skip(reason="slow; runs with --run_large")
    for item in items:
        if "large" in item.keywords:
            item.add_marker(skip)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Nothing is traced but in tests that are marked `compiled`.

    Tracing a training step takes as long as a hundred steps of a tiny network.
    Before fixtures, which train too.
    """
    # Not at the top: pytest-xdist's controller runs no test.
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        eager = item.get_closest_marker("compiled") is None
        tf.config.run_functions_eagerly(eager)


@pytest.fixture(autouse=True, scope="module")
def little_garbage():
    """Collections, of which Keras asks for many, see a module's objects only.

    What is left of the modules before it, and TensorFlow's own, are a million
    objects, which take a second each time.
    """
    import keras

    keras.utils.clear_session()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed():
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture
def shared():
    """Reference data kept beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data at {SHARED}")
    return SHARED


@pytest.fixture
def forked_scripts(monkeypatch):
    """Scripts that a program starts are forks, which import no TensorFlow."""
    import subprocess

    import forked

    from igpt_keras.program import subprogram

    class Script:
        """What `subprogram` uses of `subprocess.Popen`, but for signals."""

        def __init__(self, words):
            self.process = forked.Process(words[1:])

        def wait(self):
            output, errors = self.process.communicate()
            os.write(1, output.encode())
            os.write(2, errors.encode())
            return self.process.returncode

    patched = {**vars(subprocess), "Popen": Script}
    monkeypatch.setattr(
        subprogram, "subprocess", types.SimpleNamespace(**patched)
    )


@pytest.fixture
def subprocess_environment():
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{before}"}
